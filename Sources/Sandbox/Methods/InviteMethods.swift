import Core

extension World {
    /// Adds people to a group: the order of the refusals is Telegram's, the library's own come first.
    /// A hollow one is taken by Telegram and adds nobody.
    func addMember(_ a: Arguments, _ client: Client, _ users: [Int64], isHollow: Bool) throws -> JSONValue {
        let chat = try seenChat(a, client)
        guard chat < 0, let group = group(ofChat: chat) else {
            throw Refusal(400, "Can't add members to a private chat")
        }
        let number = try number(client)
        let me = accounts[number].id
        let standing = group.standing(of: me)
        if group.kind == .basicGroup, users.count != 1 {
            throw Refusal(400, "Can't add many members at once to a basic group chat")
        }
        guard try a.int("forward_limit") >= 0 else {
            throw Refusal(400, "Can't forward negative number of messages")
        }
        for user in users { _ = try seenUser(user, client) }
        if group.upgradedTo != nil { throw Refusal(400, "Chat is deactivated") }
        let mayTry =
            standing.mayInvite || (standing.isMember && group.kind != .channel && group.membersMayWrite)
        guard mayTry else {
            for user in users {
                record(client, .addMember, target: user, group: group, outcome: "no_right", accepted: false)
            }
            throw Refusal(
                400,
                group.kind == .basicGroup
                    ? "Not enough rights to invite members to the group chat"
                    : "Not enough rights to invite members to the supergroup chat")
        }
        var refusals: [JSONValue] = []
        for user in users {
            do {
                if let refusal = try add(user, to: group, client, number, isHollow: isHollow) {
                    refusals.append(refusal)
                }
            } catch let refusal as Refusal {
                record(
                    client, .addMember, target: user, group: group, outcome: refusal.message, accepted: false)
                throw refusal
            }
        }
        return ["@type": "failedToAddMembers", "failed_to_add_members": .array(refusals)]
    }

    /// An entry of the list of refusals, or nil where Telegram took it.
    private func add(
        _ user: Int64, to group: Group, _ client: Client, _ number: Int, isHollow: Bool
    ) throws -> JSONValue? {
        try spendAdd(number, user)
        if group.kind == .channel, group.memberCount >= 200 { throw Refusal(400, "USERS_TOO_MUCH") }
        if group.isFull { throw Refusal(400, "USERS_TOO_MUCH") }
        let theirs = group.standing(of: user)
        if theirs.isMember {
            record(client, .addMember, target: user, group: group, outcome: "already", accepted: false)
            if group.kind == .basicGroup { throw Refusal(400, "USER_ALREADY_PARTICIPANT") }
            return nil
        }
        if theirs.kind == .banned { throw Refusal(400, "USER_KICKED") }
        let isPremium = accounts[number].isPremium
        if isHollow {
            record(client, .addMember, target: user, group: group, outcome: "accepted", accepted: true)
            return nil
        }
        if let human = human(user) {
            if human.hasLeft(group.id) || (theirs.kind == .left && group.standings[user] != nil) {
                throw Refusal(403, "USER_NOT_MUTUAL_CONTACT")
            }
            if blocks.contains(Pair(account: number, user: user)) { throw Refusal(403, "USER_IS_BLOCKED") }
            let knows = accounts[number].contacts.contains(user)
            switch human.temper {
            case .deleted: throw Refusal(400, "INPUT_USER_DEACTIVATED")
            case .inTooManyGroups: throw Refusal(403, "USER_CHANNELS_TOO_MUCH")
            case .groupShyBot: throw Refusal(400, "BOT_GROUPS_BLOCKED")
            case .bot where group.kind == .channel: throw Refusal(400, "USER_BOT")
            case .closed where !knows: return refuse(user, group, client, "privacy")
            case .premiumAddsOnly where !isPremium:
                return refuse(user, group, client, "premium_would_allow_invite")
            case .premiumOnly where !isPremium:
                return refuse(user, group, client, "premium_required_to_send_messages")
            case .vanishes where options.isOdd:
                // Telegram says yes, and nobody comes.
                record(client, .addMember, target: user, group: group, outcome: "accepted", accepted: true)
                return nil
            default: break
            }
        }
        make(
            .standing(
                group: group.id, user: user, kind: .member, mayInvite: false, inviter: accounts[number].id,
                at: now))
        record(client, .addMember, target: user, group: group, outcome: "member", accepted: true)
        return nil
    }

    private func refuse(_ user: Int64, _ group: Group, _ client: Client, _ why: String) -> JSONValue {
        record(client, .addMember, target: user, group: group, outcome: why, accepted: false)
        return [
            "@type": "failedToAddMember", "user_id": .int(user),
            "premium_would_allow_invite": .bool(why == "premium_would_allow_invite"),
            "premium_required_to_send_messages": .bool(why == "premium_required_to_send_messages"),
        ]
    }

    /// Telegram's patience with who adds people: waits when it goes too fast, short ones served by the library
    /// itself, and a limit when there were too many strangers. The numbers are hidden and vary.
    private func spendAdd(_ number: Int, _ user: Int64) throws {
        if accounts[number].isLimited, !accounts[number].contacts.contains(user) {
            throw Refusal(400, "PEER_FLOOD")
        }
        guard options.strictness == .telegram else { return }
        try checkWait(number)
        var patience = accounts[number].patience
        defer { accounts[number].patience = patience }
        patience.adds.removeAll { $0 + .days(1) <= now }
        let lately = patience.adds.count { $0 + .minutes(10) > now }
        let isFresh = accounts[number].kind == .fresh
        if lately >= (isFresh ? 3 : 6) + luck(seed, 20, Int64(number)).below(3) {
            patience.waits += 1
            let seconds = min(86_400, 20 << min(patience.waits, 12))
            if seconds <= 60 { throw Postponed.flood(seconds: seconds) }
            patience.addsBlockedUntil = now + .seconds(seconds)
            throw Refusal(429, "Too Many Requests: retry after \(seconds)")
        }
        let most = (isFresh ? 12 : 60) + luck(seed, 21, Int64(number)).below(isFresh ? 6 : 40)
        if patience.adds.count >= most {
            make(
                .account(
                    number: number, isFrozen: accounts[number].isFrozen, isBanned: accounts[number].isBanned,
                    isLimited: true))
            throw Refusal(400, "PEER_FLOOD")
        }
        patience.adds.append(now)
    }

    private func checkWait(_ number: Int) throws {
        let until = accounts[number].patience.addsBlockedUntil
        guard until > now else { return }
        throw Refusal(429, "Too Many Requests: retry after \((until - now).wholeSecondsUp)")
    }

    // MARK: - Links

    private func administered(_ a: Arguments, _ client: Client) throws -> Group {
        let chat = try seenChat(a, client)
        guard chat < 0, let group = group(ofChat: chat) else {
            throw Refusal(400, "Can't invite members to a private chat")
        }
        guard group.standing(of: accounts[try number(client)].id).mayInvite else {
            throw Refusal(400, "Not enough rights to manage chat invite link")
        }
        return group
    }

    private func hash(_ text: String) -> String { String((pathOfLink(text) ?? text).drop { $0 == "+" }) }

    private func linkShape(_ group: Group, _ link: Group.Link) -> JSONValue {
        [
            "@type": "chatInviteLink", "invite_link": .string(link.address), "name": .string(link.name),
            "creator_user_id": .int(link.creator), "date": .int(link.created.seconds), "edit_date": 0,
            "expiration_date": .int(link.expires), "member_limit": JSONValue(link.memberLimit),
            "member_count": JSONValue(link.joined.count), "expired_member_count": 0,
            "pending_join_request_count": JSONValue(group.joinRequests.count { $0.link == link.hash }),
            "creates_join_request": .bool(link.asksFirst), "is_primary": false,
            "is_revoked": .bool(link.isRevoked),
        ]
    }

    private func wantedLink(_ a: Arguments) throws -> (name: String, expires: Int64, limit: Int, asks: Bool) {
        let asks = try a.flag("creates_join_request")
        let limit = Int(clamping: try a.int("member_limit"))
        if asks, limit > 0 {
            throw Refusal(400, "Member limit can't be specified for links requiring administrator approval")
        }
        return (try a.text("name"), try a.int("expiration_date"), limit, asks)
    }

    func createLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        let wanted = try wantedLink(a)
        let hash = "S" + String(random.next(), radix: 36) + String(group.id, radix: 36)
        make(
            .link(
                group: group.id, hash: hash, creator: accounts[try number(client)].id, name: wanted.name,
                expires: wanted.expires, limit: wanted.limit, asks: wanted.asks, at: now))
        record(client, .linkCreated, target: 0, group: group, outcome: hash, accepted: true)
        return try shapeOfLink(group.id, hash)
    }

    private func shapeOfLink(_ group: Int64, _ hash: String) throws -> JSONValue {
        guard let group = groups[group], let link = group.links[hash] else {
            throw Refusal(400, "INVITE_HASH_INVALID")
        }
        return linkShape(group, link)
    }

    func getLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        try shapeOfLink(try administered(a, client).id, hash(try a.text("invite_link")))
    }

    func editLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        let hash = hash(try a.text("invite_link"))
        guard let link = group.links[hash] else { throw Refusal(400, "INVITE_HASH_INVALID") }
        let wanted = try wantedLink(a)
        make(
            .link(
                group: group.id, hash: hash, creator: link.creator, name: wanted.name,
                expires: wanted.expires,
                limit: wanted.limit, asks: wanted.asks, at: link.created))
        groups[group.id]?.links[hash]?.joined = link.joined
        return try shapeOfLink(group.id, hash)
    }

    func revokeLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        let hash = hash(try a.text("invite_link"))
        guard group.links[hash] != nil else { throw Refusal(400, "INVITE_HASH_INVALID") }
        make(.linkRevoked(group: group.id, hash: hash))
        return [
            "@type": "chatInviteLinks", "total_count": 1, "invite_links": [try shapeOfLink(group.id, hash)],
        ]
    }

    func linkMembers(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        guard let link = group.links[hash(try a.text("invite_link"))] else {
            throw Refusal(400, "INVITE_HASH_INVALID")
        }
        let limit = try positiveLimit(a)
        let last = try a.object("offset_member")?.int("user_id")
        let start = last.flatMap { last in link.joined.firstIndex { $0.user == last } }.map { $0 + 1 } ?? 0
        let page = link.joined.dropFirst(start).prefix(min(limit, 100))
        for entry in page { introduce(user: entry.user, to: client) }
        return [
            "@type": "chatInviteLinkMembers", "total_count": JSONValue(link.joined.count),
            "members": .array(
                page.map {
                    [
                        "@type": "chatInviteLinkMember", "user_id": .int($0.user),
                        "joined_chat_date": .int($0.at.seconds),
                        "via_chat_folder_invite_link": false, "approver_user_id": .int($0.approver),
                    ]
                }),
        ]
    }

    func joinRequests(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        let text = try a.text("invite_link")
        let wanted = text.isEmpty ? nil : hash(text)
        let all = group.joinRequests.filter { wanted == nil || $0.link == wanted }
        let last = try a.object("offset_request")?.int("user_id")
        let start = last.flatMap { last in all.firstIndex { $0.user == last } }.map { $0 + 1 } ?? 0
        let page = all.dropFirst(start).prefix(min(100, try positiveLimit(a)))
        for request in page { introduce(user: request.user, to: client) }
        return [
            "@type": "chatJoinRequests", "total_count": JSONValue(all.count),
            "requests": .array(
                page.map {
                    [
                        "@type": "chatJoinRequest", "user_id": .int($0.user), "date": .int($0.at.seconds),
                        "bio": "",
                    ]
                }),
        ]
    }

    func processJoinRequest(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try administered(a, client)
        let user = try a.int("user_id")
        guard let request = group.joinRequests.first(where: { $0.user == user }) else {
            throw Refusal(400, "HIDE_REQUESTER_MISSING")
        }
        make(.joinAnswered(group: group.id, user: user))
        if try a.flag("approve") {
            make(.standing(group: group.id, user: user, kind: .member, mayInvite: false, inviter: 0, at: now))
            make(
                .joinedByLink(
                    group: group.id, hash: request.link, user: user,
                    approver: accounts[try number(client)].id, at: now))
            record(nil, .joinedByLink, target: user, group: group, outcome: "member", accepted: true)
        }
        tellJoinRequests(of: group.id)
        return .ok
    }

    func tellJoinRequests(of id: Int64) {
        guard let group = groups[id] else { return }
        for client in clients.values.sorted(by: {
            ($0.key.link, $0.key.number) < ($1.key.link, $1.key.number)
        })
        where client.stage == .ready && client.seenChats.contains(group.chatID) {
            guard let number = client.account, group.standing(of: accounts[number].id).mayInvite else {
                continue
            }
            emit(
                client,
                [
                    "@type": "updateChatPendingJoinRequests", "chat_id": .int(group.chatID),
                    "pending_join_requests": [
                        "@type": "chatJoinRequestsInfo", "total_count": JSONValue(group.joinRequests.count),
                        "user_ids": .array(group.joinRequests.prefix(3).map { .int($0.user) }),
                    ],
                ])
        }
    }

    /// Somebody opens the link they were sent.
    func react(_ user: Int64, _ hash: String) {
        guard let group = groups.values.first(where: { $0.links[hash] != nil }), let link = group.links[hash],
            !link.isRevoked, !group.standing(of: user).isMember,
            !group.joinRequests.contains(where: { $0.user == user })
        else { return }
        if link.asksFirst {
            make(.joinAsked(group: group.id, hash: hash, user: user, at: now))
            record(nil, .joinRequest, target: user, group: group, outcome: "asked", accepted: true)
            tellJoinRequests(of: group.id)
        } else {
            make(.standing(group: group.id, user: user, kind: .member, mayInvite: false, inviter: 0, at: now))
            make(.joinedByLink(group: group.id, hash: hash, user: user, approver: 0, at: now))
            record(nil, .joinedByLink, target: user, group: group, outcome: "member", accepted: true)
        }
    }
}
