import Core

extension World {
    func seenChat(_ a: Arguments, _ client: Client) throws -> Int64 {
        let chat = try a.int("chat_id")
        guard chat != 0 else { throw Refusal(400, "Invalid chat identifier specified") }
        guard client.seenChats.contains(chat) else { throw Refusal(400, "Chat not found") }
        return chat
    }

    /// A group this client has seen and may look at.
    func openGroup(_ a: Arguments, _ client: Client, reading: Bool = true) throws -> Group {
        let chat = try seenChat(a, client)
        guard let group = group(ofChat: chat) else {
            throw Refusal(400, "Chat is not a supergroup or a channel")
        }
        let standing = group.standing(of: accounts[try number(client)].id)
        if standing.kind == .banned { throw Refusal(400, "CHANNEL_PRIVATE") }
        guard group.isPublic || standing.isMember else {
            throw Refusal(400, reading ? "Can't access the chat" : "CHANNEL_PRIVATE")
        }
        return group
    }

    func getChat(_ a: Arguments, _ client: Client) throws -> JSONValue {
        guard let shape = chatShape(try seenChat(a, client), for: client) else {
            throw Refusal(400, "Chat not found")
        }
        return shape
    }

    private func group(_ a: Arguments, _ client: Client, _ method: String) throws -> Group {
        let isBasic = method.hasPrefix("getBasic")
        let id = try a.int(isBasic ? "basic_group_id" : "supergroup_id")
        guard let group = groups[id], (group.kind == .basicGroup) == isBasic,
            client.seenChats.contains(group.chatID)
        else { throw Refusal(400, isBasic ? "Group not found" : "Supergroup not found") }
        return group
    }

    func getGroup(_ a: Arguments, _ client: Client, _ method: String) throws -> JSONValue {
        groupShape(try group(a, client, method), for: client)
    }

    func getGroupFullInfo(_ a: Arguments, _ client: Client, _ method: String) throws -> JSONValue {
        let group = try group(a, client, method)
        if group.kind == .basicGroup { for member in group.members { introduce(user: member, to: client) } }
        if let linked = group.linked { introduce(chat: -1_000_000_000_000 - linked, to: client) }
        return fullShape(group, for: client)
    }

    func messageCount(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try openGroup(a, client)
        let filter = try a.object("filter")?.type ?? ""
        guard filter != "searchMessagesFilterEmpty", !filter.isEmpty else {
            throw Refusal(400, "Can't use searchMessagesFilterEmpty")
        }
        let wanted: Set<String> =
            switch filter {
            case "searchMessagesFilterPhoto": ["messagePhoto"]
            case "searchMessagesFilterVideo": ["messageVideo"]
            case "searchMessagesFilterPhotoAndVideo": ["messagePhoto", "messageVideo"]
            case "searchMessagesFilterDocument": ["messageDocument"]
            default: []
            }
        let last = group.historyCount + Int64(group.messages.count)
        let count =
            last < 1
            ? 0
            : (1...last).count {
                wanted.contains(message($0, in: group)?.content["@type"]?.stringValue ?? "")
            }
        return ["@type": "count", "count": JSONValue(count)]
    }

    func positiveLimit(_ a: Arguments) throws -> Int {
        let limit = Int(clamping: try a.int("limit"))
        guard limit > 0 else { throw Refusal(400, "Parameter limit must be positive") }
        return limit
    }

    private func ownChats(_ client: Client) -> [Int64] {
        guard let number = client.account else { return [] }
        return groups.values.filter { $0.standing(of: accounts[number].id).isMember && $0.upgradedTo == nil }
            .map(\.chatID).sorted()
    }

    func loadChats(_ client: Client) -> JSONValue {
        let new = ownChats(client).filter { !client.seenChats.contains($0) }
        for chat in new { introduce(chat: chat, to: client) }
        return new.isEmpty ? Refusal(404, "Not Found").json : .ok
    }

    func getChats(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let limit = try positiveLimit(a)
        let known = ownChats(client).filter { client.seenChats.contains($0) }.prefix(limit)
        return [
            "@type": "chats", "total_count": JSONValue(known.count),
            "chat_ids": .array(known.map { .int($0) }),
        ]
    }

    /// Among the chats the account is in, as far as it knows them; without asking the server.
    func searchChats(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let query = try a.text("query").lowercased()
        let found = ownChats(client).filter { chat in
            guard client.seenChats.contains(chat), let group = group(ofChat: chat) else { return false }
            return group.title.lowercased().contains(query) || group.username?.contains(query) == true
        }.prefix(try positiveLimit(a))
        return [
            "@type": "chats", "total_count": JSONValue(found.count),
            "chat_ids": .array(found.map { .int($0) }),
        ]
    }

    // MARK: - In and out

    func joinChat(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let chat = try seenChat(a, client)
        guard let group = group(ofChat: chat) else {
            throw Refusal(400, "Chat is not a supergroup or a channel")
        }
        guard group.isPublic else { throw Refusal(400, "CHANNEL_PRIVATE") }
        return try join(group, client, hash: nil)
    }

    private func link(_ text: String) -> (Group, Group.Link)? {
        guard let path = pathOfLink(text) else { return nil }
        let hash = path.hasPrefix("joinchat/") ? String(path.dropFirst(9)) : String(path.drop { $0 == "+" })
        for group in groups.values { if let link = group.links[hash] { return (group, link) } }
        return nil
    }

    private func isDead(_ link: Group.Link) -> Bool {
        link.isRevoked || (link.expires > 0 && link.expires <= now.seconds)
            || (link.memberLimit > 0 && link.joined.count >= link.memberLimit)
    }

    private func foundLink(_ a: Arguments) throws -> (Group, Group.Link) {
        let text = try a.text("invite_link")
        guard text.hasPrefix("https://t.me/") || text.hasPrefix("tg:") else {
            throw Refusal(400, "Wrong invite link")
        }
        guard let found = link(text) else { throw Refusal(400, "INVITE_HASH_INVALID") }
        guard !isDead(found.1) else { throw Refusal(400, "INVITE_HASH_EXPIRED") }
        return found
    }

    func joinByLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (group, link) = try foundLink(a)
        return try join(group, client, hash: link.hash)
    }

    private func join(_ group: Group, _ client: Client, hash: String?) throws -> JSONValue {
        let number = try number(client)
        let me = accounts[number].id
        let standing = group.standing(of: me)
        if standing.isMember { throw Refusal(400, "USER_ALREADY_PARTICIPANT") }
        if standing.kind == .banned { throw Refusal(400, "User is banned from the chat") }
        if group.upgradedTo != nil { throw Refusal(400, "Chat is deactivated") }
        if group.isPaid { throw Refusal(400, "STARS_PAYMENT_REQUIRED") }
        if group.isFull { throw Refusal(400, "USERS_TOO_MUCH") }
        if group.joinByRequest || hash.flatMap({ group.links[$0]?.asksFirst }) == true {
            make(.joinAsked(group: group.id, hash: hash ?? "", user: me, at: now))
            record(client, .joinRequest, target: me, group: group, outcome: "asked", accepted: true)
            tellJoinRequests(of: group.id)
            return ["@type": "chatJoinResultRequestSent"]
        }
        make(.standing(group: group.id, user: me, kind: .member, mayInvite: false, inviter: 0, at: now))
        if let hash { make(.joinedByLink(group: group.id, hash: hash, user: me, approver: 0, at: now)) }
        record(
            client, hash == nil ? .join : .joinedByLink, target: me, group: group, outcome: "member",
            accepted: true)
        introduce(chat: group.chatID, to: client)
        if let changed = groups[group.id] { tellGroup(changed, to: client) }
        return ["@type": "chatJoinResultSuccess", "chat_id": .int(group.chatID)]
    }

    func checkLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (group, link) = try foundLink(a)
        let isMember = group.standing(of: accounts[try number(client)].id).isMember
        if isMember || group.isPublic { introduce(chat: group.chatID, to: client) }
        let type =
            switch group.kind {
            case .basicGroup: "inviteLinkChatTypeBasicGroup"
            case .supergroup: "inviteLinkChatTypeSupergroup"
            case .channel: "inviteLinkChatTypeChannel"
            }
        return [
            "@type": "chatInviteLinkInfo", "chat_id": .int(isMember || group.isPublic ? group.chatID : 0),
            "accessible_for": 0, "type": ["@type": .string(type)], "title": .string(group.title),
            "accent_color_id": 0,
            "description": .string(group.about), "member_count": JSONValue(group.memberCount),
            "member_user_ids": [],
            "creates_join_request": .bool(link.asksFirst), "is_public": .bool(group.isPublic),
        ]
    }

    func leaveChat(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let chat = try seenChat(a, client)
        let me = accounts[try number(client)].id
        guard let group = group(ofChat: chat) else { throw Refusal(400, "Chat not found") }
        if group.standing(of: me).isMember {
            make(.standing(group: group.id, user: me, kind: .left, mayInvite: false, inviter: 0, at: now))
            record(client, .leave, target: me, group: group, outcome: "left", accepted: true)
            if let changed = groups[group.id] { tellGroup(changed, to: client) }
        }
        return .ok
    }

    // MARK: - Members

    func getChatMember(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try openGroup(a, client)
        let me = accounts[try number(client)].id
        if group.kind == .channel, !group.standing(of: me).isAdministrator {
            throw Refusal(400, "Member list is inaccessible")
        }
        let id = try seenUser(try a.object("member_id")?.int("user_id") ?? 0, client)
        return memberShape(group, id)
    }

    func getAdministrators(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try openGroup(a, client)
        if group.kind == .channel, !group.standing(of: accounts[try number(client)].id).isAdministrator {
            throw Refusal(400, "Member list is inaccessible")
        }
        let administrators = group.administrators
        for id in administrators { introduce(user: id, to: client) }
        return [
            "@type": "chatAdministrators",
            "administrators": .array(
                administrators.map { id in
                    [
                        "@type": "chatAdministrator", "user_id": .int(id), "custom_title": "",
                        "is_owner": .bool(group.standing(of: id).kind == .creator), "can_be_edited": false,
                    ]
                }),
        ]
    }

    func getMembers(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let id = try a.int("supergroup_id")
        guard let group = groups[id], group.kind != .basicGroup, client.seenChats.contains(group.chatID)
        else {
            throw Refusal(400, "Supergroup not found")
        }
        let offset = Int(clamping: try a.int("offset"))
        let limit = Int(clamping: try a.int("limit"))
        guard limit > 0 else { throw Refusal(400, "Parameter limit must be positive") }
        guard offset >= 0 else { throw Refusal(400, "Parameter offset must be non-negative") }
        let standing = group.standing(of: accounts[try number(client)].id)
        guard group.isPublic || standing.isMember else { throw Refusal(400, "CHANNEL_PRIVATE") }
        if group.kind == .channel, !standing.isAdministrator {
            throw Refusal(400, "Member list is inaccessible")
        }

        var listed: [Int64]
        var total = group.memberCount
        let filter = try a.object("filter")
        switch filter?.type ?? "" {
        case "supergroupMembersFilterAdministrators":
            listed = group.administrators
            total = listed.count
        case "supergroupMembersFilterBots":
            listed = group.members.filter { human($0)?.isBot == true }
            total = listed.count
        case "supergroupMembersFilterSearch":
            let query = try filter?.text("query").lowercased() ?? ""
            listed = group.members.filter { id in
                human(id).map {
                    "\($0.firstName) \($0.lastName) \($0.username ?? "")".lowercased().contains(query)
                } ?? false
            }
            total = listed.count
        default:
            listed = group.members
            if group.hidesMembers, !standing.isAdministrator {
                let administrators = Set(group.administrators)
                listed = listed.filter { administrators.contains($0) || human($0)?.isBot == true }
            }
        }
        let cap = group.kind == .channel ? 200 : 10_000
        let page = listed.prefix(cap).dropFirst(offset).prefix(min(limit, 200))
        for id in page { introduce(user: id, to: client) }
        return [
            "@type": "chatMembers", "total_count": JSONValue(total),
            "members": .array(page.map { memberShape(group, $0) }),
        ]
    }

    func searchMembers(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try openGroup(a, client)
        let query = try a.text("query").lowercased()
        let found = group.members.filter { id in
            query.isEmpty
                || human(id).map { "\($0.firstName) \($0.username ?? "")".lowercased().contains(query) }
                    ?? false
        }.prefix(min(200, try positiveLimit(a)))
        for id in found { introduce(user: id, to: client) }
        return [
            "@type": "chatMembers", "total_count": JSONValue(found.count),
            "members": .array(found.map { memberShape(group, $0) }),
        ]
    }
}
