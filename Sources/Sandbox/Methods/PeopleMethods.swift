import Core

extension World {
    func number(_ client: Client) throws -> Int {
        guard let number = client.account else { throw Refusal(401, "Unauthorized") }
        return number
    }

    func seenUser(_ id: Int64, _ client: Client) throws -> Int64 {
        guard id > 0 else { throw Refusal(400, "Invalid user identifier") }
        guard client.seenUsers.contains(id) else { throw Refusal(400, "User not found") }
        return id
    }

    func getMe(_ client: Client) throws -> JSONValue {
        guard let shape = userShape(accounts[try number(client)].id, for: client) else {
            throw Refusal(400, "User not found")
        }
        return shape
    }

    func getUser(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let id = try seenUser(try a.int("user_id"), client)
        guard let shape = userShape(id, for: client) else { throw Refusal(400, "User not found") }
        return shape
    }

    func getUserFullInfo(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let id = try seenUser(try a.int("user_id"), client)
        let common = try groupsInCommon(Arguments(json: ["user_id": .int(id), "limit": 100]), client)
        return [
            "@type": "userFullInfo", "personal_chat_id": 0,
            "group_in_common_count": common["total_count"] ?? 0,
            "has_private_forwards": false, "uses_unofficial_app": false,
            "incoming_paid_message_star_count": 0,
            "outgoing_paid_message_star_count": .int(human(id)?.stars ?? 0),
        ]
    }

    func createPrivateChat(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let id = try seenUser(try a.int("user_id"), client)
        introduce(chat: id, to: client)
        guard let shape = chatShape(id, for: client) else { throw Refusal(400, "Chat info not found") }
        return shape
    }

    func canSendMessage(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let id = try seenUser(try a.int("user_id"), client)
        let isPremium = accounts[try number(client)].isPremium
        switch human(id)?.temper {
        case .deleted: return ["@type": "canSendMessageToUserResultUserIsDeleted"]
        case .premiumOnly where !isPremium:
            return ["@type": "canSendMessageToUserResultUserRestrictsNewChats"]
        case .paid:
            return [
                "@type": "canSendMessageToUserResultUserHasPaidMessages",
                "outgoing_paid_message_star_count": .int(human(id)?.stars ?? 0),
            ]
        default: return ["@type": "canSendMessageToUserResultOk"]
        }
    }

    func searchUserByPhone(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let phone = try a.text("phone_number").filter { $0.isASCII && $0.isNumber }
        guard phone.count >= 7, phone.count <= 15 else { throw Refusal(200, "Phone number is invalid") }
        try spendName(client)
        if let number = Account.number(ofPhone: phone), accounts.indices.contains(number) {
            introduce(user: accounts[number].id, to: client)
            return userShape(accounts[number].id, for: client) ?? .null
        }
        guard let human = Human.id(ofPhone: phone).flatMap({ human($0) }), !human.hidesFromPhone,
            let shape = userShape(human.id, for: client)
        else { throw Refusal(404, "Not Found") }
        introduce(user: human.id, to: client)
        return shape
    }

    func importContacts(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let number = try number(client)
        var found: [JSONValue] = []
        for contact in try a.list("contacts") {
            let phone = try Arguments(json: contact).text("phone_number").filter { $0.isASCII && $0.isNumber }
            guard let human = Human.id(ofPhone: phone).flatMap({ human($0) }), !human.hidesFromPhone else {
                record(client, .contact, target: 0, group: nil, outcome: "not_found", accepted: false)
                found.append(0)
                continue
            }
            make(.contact(account: number, user: human.id, isContact: true))
            record(client, .contact, target: human.id, group: nil, outcome: "added", accepted: true)
            client.seenUsers.remove(human.id)
            introduce(user: human.id, to: client)
            found.append(.int(human.id))
        }
        return [
            "@type": "importedContacts", "user_ids": .array(found),
            "importer_count": .array(found.map { $0 == 0 ? 1 : 0 }),
        ]
    }

    func removeContacts(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let number = try number(client)
        for id in try a.ids("user_ids") { make(.contact(account: number, user: id, isContact: false)) }
        return .ok
    }

    func groupsInCommon(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let me = accounts[try number(client)].id
        let other = try seenUser(try a.int("user_id"), client)
        let offset = try a.int("offset_chat_id")
        let limit = try positiveLimit(a)
        let common = groups.values.filter { $0.standing(of: me).isMember && $0.standing(of: other).isMember }
            .map(\.chatID).sorted()
        let page = common.drop { offset != 0 && $0 <= offset }.prefix(limit)
        for chat in page { introduce(chat: chat, to: client) }
        return [
            "@type": "chats", "total_count": JSONValue(common.count),
            "chat_ids": .array(page.map { .int($0) }),
        ]
    }

    // MARK: - Names

    /// About 200 names a day and account, then a day's wait.
    func spendName(_ client: Client) throws {
        guard options.strictness == .telegram else { return }
        let number = try number(client)
        let until = accounts[number].patience.namesBlockedUntil
        guard until <= now else {
            throw Refusal(429, "Too Many Requests: retry after \((until - now).wholeSecondsUp)")
        }
        accounts[number].patience.namesResolved.removeAll { $0 + .days(1) <= now }
        guard accounts[number].patience.namesResolved.count < 200 else {
            accounts[number].patience.namesBlockedUntil = now + .days(1)
            throw Refusal(429, "Too Many Requests: retry after 86400")
        }
        accounts[number].patience.namesResolved.append(now)
    }

    func searchPublicChat(_ a: Arguments, _ client: Client) throws -> JSONValue {
        var name = try a.text("username").lowercased()
        if name.hasPrefix("@") { name.removeFirst() }
        guard (3...32).contains(name.utf8.count),
            name.utf8.allSatisfy({
                $0 == UInt8(ascii: "_") || ($0 >= 0x30 && $0 <= 0x39) || ($0 >= 0x61 && $0 <= 0x7A)
            })
        else { throw Refusal(200, "Username is invalid") }
        guard !name.hasPrefix("_"), name.first?.isNumber != true else {
            throw Refusal(400, "USERNAME_INVALID")
        }
        let found: Int64?
        if let chat = usernames[name] {
            found = chat
        } else if name.hasPrefix("account_"), let number = Int(name.dropFirst(8)),
            accounts.indices.contains(number)
        {
            found = accounts[number].id
        } else {
            found = human(named: name)?.id
        }
        // What the client has seen already costs the server nothing.
        if found.map({ !client.seenChats.contains($0) }) ?? true { try spendName(client) }
        guard let found else { throw Refusal(400, "USERNAME_NOT_OCCUPIED") }
        introduce(chat: found, to: client)
        return chatShape(found, for: client) ?? .null
    }

    func searchPublicChats(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let query = try a.text("query").lowercased()
        guard query.count >= 4 else { return ["@type": "chats", "total_count": 0, "chat_ids": []] }
        let channelsOnly = try a.object("type_filter")?.type == "searchChatTypeFilterChannel"
        let me = accounts[try number(client)].id
        let found = groups.values.filter { group in
            group.isPublic && !group.standing(of: me).isMember && (!channelsOnly || group.kind == .channel)
                && (group.title.lowercased().contains(query) || group.username?.contains(query) == true)
        }.sorted { ($0.memberCount, $0.id) > ($1.memberCount, $1.id) }.prefix(20).map(\.chatID)
        for chat in found { introduce(chat: chat, to: client) }
        return [
            "@type": "chats", "total_count": JSONValue(found.count),
            "chat_ids": .array(found.map { .int($0) }),
        ]
    }

    func internalLinkType(_ a: Arguments) throws -> JSONValue {
        let link = try a.text("link")
        guard let path = pathOfLink(link) else { throw Refusal(404, "Not Found") }
        if path.hasPrefix("+") {
            return [
                "@type": "internalLinkTypeChatInvite",
                "invite_link": .string("tg:join?invite=\(path.dropFirst())"),
            ]
        }
        if path.contains("/") { return ["@type": "internalLinkTypeMessage", "url": .string(link)] }
        return [
            "@type": "internalLinkTypePublicChat", "chat_username": .string(path), "draft_text": "",
            "open_profile": false,
        ]
    }

    /// What stands behind `https://t.me/`.
    func pathOfLink(_ link: String) -> String? {
        var rest = link[...]
        for scheme in ["https://", "http://"] where rest.hasPrefix(scheme) {
            rest = rest.dropFirst(scheme.count)
        }
        for host in ["t.me/", "telegram.me/"] where rest.hasPrefix(host) {
            return String(rest.dropFirst(host.count))
        }
        return nil
    }

    func messageLinkInfo(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let parts = (pathOfLink(try a.text("url")) ?? "").split(separator: "/")
        let me = accounts[try number(client)].id
        let group: Group?
        if parts.count >= 3, parts[0] == "c", let id = Int64(parts[1]) {
            group = groups[id].flatMap { $0.standing(of: me).isMember ? $0 : nil }
        } else if parts.count >= 2 {
            group = usernames[parts[0].lowercased()].flatMap { self.group(ofChat: $0) }
        } else {
            throw Refusal(400, "Invalid message link URL")
        }
        guard let group else {
            return ["@type": "messageLinkInfo", "is_public": .bool(parts[0] != "c"), "chat_id": 0]
        }
        introduce(chat: group.chatID, to: client)
        let message = parts.last.flatMap { Int64($0) }.flatMap { self.message($0, in: group) }
        return .object(present: [
            "@type": "messageLinkInfo", "is_public": .bool(group.isPublic), "chat_id": .int(group.chatID),
            "message": message.map { shape($0, in: group.chatID, mine: me) }, "media_timestamp": 0,
            "for_album": false,
        ])
    }
}
