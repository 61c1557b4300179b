import Core

// Facts about groups, and coming in and out of them.
extension TelegramClient {
    /// All that this account may know of a group it has seen.
    public func community(_ chat: ChatID) async throws -> Community {
        try await community(try await askLocally(.getChat(chat)))
    }

    func community(_ chat: JSONValue) async throws -> Community {
        let id = ChatID(rawValue: chat.int("id"))
        switch id.kind {
        case .supergroup(let number):
            let group = try await askLocally(.getSupergroup(number))
            let full = try await ask(.getSupergroupFullInfo(number))
            return Community(chat, supergroup: group, full: full)
        case .basicGroup(let number):
            let group = try await askLocally(.getBasicGroup(number))
            let full = try await ask(.getBasicGroupFullInfo(number))
            return Community(chat, basicGroup: group, full: full)
        case .person:
            throw TelegramFailure(
                .wrongKindOfChat, code: 400, message: "Chat is not a supergroup or a channel",
                method: "getChat")
        }
    }

    /// This account's own standing, from memory: the cheap look before acting.
    public func standing(in chat: ChatID) async throws -> Membership {
        switch chat.kind {
        case .supergroup(let number):
            return Membership(try await askLocally(.getSupergroup(number))["status"] ?? .null)
        case .basicGroup(let number):
            return Membership(try await askLocally(.getBasicGroup(number))["status"] ?? .null)
        case .person:
            throw TelegramFailure(
                .wrongKindOfChat, code: 400, message: "Chat is not a supergroup or a channel",
                method: "getChat")
        }
    }

    /// Public groups and channels by words of their title. Few by Telegram's design, and none the account is
    /// in already.
    public func searchCommunities(_ query: String, _ filter: PublicChatFilter = .all) async throws -> [ChatID]
    {
        try await ask(.searchPublicChats(query, filter)).chats("chat_ids").filter { $0.rawValue < 0 }
    }

    /// Groups and channels the account is in, by words of their title, which a search among the public leaves out.
    public func searchOwnCommunities(_ query: String, limit: Int = 50) async throws -> [ChatID] {
        try await loadChats(limit: 100)
        return try await askLocally(.searchChats(query, limit: limit)).chats("chat_ids").filter {
            $0.rawValue < 0
        }
    }

    /// The chats the account is in, at most `limit`.
    public func chats(limit: Int = 100) async throws -> [ChatID] {
        try await loadChats(limit: limit)
        return try await askLocally(.getChats(limit: limit)).chats("chat_ids")
    }

    private func loadChats(limit: Int) async throws {
        do {
            _ = try await ask(.loadChats(limit: limit))
        } catch let failure as TelegramFailure where failure.code == 404 {
            // All are loaded.
        }
    }

    public func preview(link: String) async throws -> InvitePreview {
        InvitePreview(try await ask(.checkInviteLink(link)))
    }

    public func join(_ chat: ChatID) async throws -> JoinOutcome {
        JoinOutcome(try await ask(.joinChat(chat)), chat)
    }

    public func join(link: String) async throws -> JoinOutcome {
        JoinOutcome(try await ask(.joinChat(link: link)), nil)
    }

    public func leave(_ chat: ChatID) async throws { _ = try await ask(.leaveChat(chat)) }

    /// While a big group is open its updates come at once.
    public func open(_ chat: ChatID) async throws { _ = try await askLocally(.openChat(chat)) }
    public func close(_ chat: ChatID) async throws { _ = try await askLocally(.closeChat(chat)) }

    // MARK: - Links

    public func createInviteLink(for chat: ChatID, _ link: NewInviteLink) async throws -> InviteLink {
        InviteLink(try await ask(.createInviteLink(chat, link)))
    }

    /// How many came in through a link, and how many ask to.
    public func inviteLink(_ link: String, of chat: ChatID) async throws -> InviteLink {
        InviteLink(try await ask(.getInviteLink(chat, link)))
    }

    public func editInviteLink(_ link: String, of chat: ChatID, to wanted: NewInviteLink) async throws
        -> InviteLink
    {
        InviteLink(try await ask(.editInviteLink(chat, link, wanted)))
    }

    public func revokeInviteLink(_ link: String, of chat: ChatID) async throws {
        _ = try await ask(.revokeInviteLink(chat, link))
    }

    /// Who came in through a link, page by page.
    public func joins(through link: String, of chat: ChatID) -> Pages<LinkMember> {
        Pages { [self] (last: JSONValue?) in
            let answer = try await ask(.getInviteLinkMembers(chat, link, after: last, limit: 100))
            let members = answer.list("members")
            return (members.map { LinkMember($0) }, members.last)
        }
    }

    /// Who asks to be let in, through one link or any.
    public func joinRequests(for chat: ChatID, link: String? = nil) -> Pages<JoinRequest> {
        Pages { [self] (last: JSONValue?) in
            let answer = try await ask(.getJoinRequests(chat, link: link ?? "", after: last, limit: 100))
            let requests = answer.list("requests")
            return (requests.map { JoinRequest($0) }, requests.last)
        }
    }

    public func answerJoinRequest(of person: UserID, in chat: ChatID, approve: Bool) async throws {
        _ = try await ask(.processJoinRequest(chat, person, approve: approve))
    }
}

extension Community {
    init(_ chat: JSONValue, supergroup: JSONValue, full: JSONValue) {
        self.chat = ChatID(rawValue: chat.int("id"))
        kind = supergroup.flag("is_channel") ? .channel : .supergroup
        title = chat.text("title")
        usernames = activeUsernames(supergroup["usernames"])
        let count = max(full.int("member_count"), supergroup.int("member_count"))
        memberCount = count > 0 ? Int(count) : nil
        description = full.text("description")
        standing = Membership(supergroup["status"] ?? .null)
        permissions = ChatPermissions(chat["permissions"])
        let linked = full.int("linked_chat_id")
        linkedChat = linked == 0 ? nil : ChatID(rawValue: linked)
        canListMembers = full.flag("can_get_members")
        hidesMembers = full.flag("has_hidden_members")
        needsApproval = supergroup.flag("join_by_request")
        isForum = supergroup.flag("is_forum")
        slowMode = .seconds(full.int("slow_mode_delay"))
        let verification = supergroup["verification_status"] ?? .null
        isScam = verification.flag("is_scam") || verification.flag("is_fake")
        upgradedTo = nil
        isActive = true
    }

    init(_ chat: JSONValue, basicGroup: JSONValue, full: JSONValue) {
        self.chat = ChatID(rawValue: chat.int("id"))
        kind = .basicGroup
        title = chat.text("title")
        usernames = []
        memberCount = Int(basicGroup.int("member_count"))
        description = full.text("description")
        standing = Membership(basicGroup["status"] ?? .null)
        permissions = ChatPermissions(chat["permissions"])
        linkedChat = nil
        canListMembers = standing.isMember
        hidesMembers = false
        needsApproval = false
        isForum = false
        slowMode = .zero
        isScam = false
        let upgraded = basicGroup.int("upgraded_to_supergroup_id")
        upgradedTo = upgraded == 0 ? nil : ChatID(supergroup: upgraded)
        isActive = basicGroup.flag("is_active")
    }
}

extension JoinOutcome {
    init(_ json: JSONValue, _ chat: ChatID?) {
        switch json.type {
        case "chatJoinResultRequestSent": self = .requested
        case "chatJoinResultDeclined": self = .declined
        case "chatJoinResultGuardBotApprovalRequired": self = .needsBotApproval
        default:
            let joined = json.int("chat_id")
            self = .joined(joined == 0 ? chat ?? 0 : ChatID(rawValue: joined))
        }
    }
}

extension InvitePreview {
    init(_ json: JSONValue) {
        let id = json.int("chat_id")
        chat = id == 0 ? nil : ChatID(rawValue: id)
        kind =
            switch json["type"]?.type {
            case "inviteLinkChatTypeBasicGroup": .basicGroup
            case "inviteLinkChatTypeChannel": .channel
            default: .supergroup
            }
        title = json.text("title")
        description = json.text("description")
        memberCount = Int(json.int("member_count"))
        needsApproval = json.flag("creates_join_request")
        isPublic = json.flag("is_public")
    }
}

extension LinkMember {
    init(_ json: JSONValue) {
        person = json.int("user_id")
        joinedAt = Timestamp(seconds: json.int("joined_chat_date"))
        let approver = json.int("approver_user_id")
        approvedBy = approver == 0 ? nil : approver
    }
}

extension JoinRequest {
    init(_ json: JSONValue) {
        person = json.int("user_id")
        askedAt = Timestamp(seconds: json.int("date"))
        bio = json.text("bio")
    }
}
