import Core

extension TelegramRequest {
    static func searchPublicChat(_ username: String) -> TelegramRequest {
        TelegramRequest(.searchPublicChat, ["username": .string(username)])
    }

    static func searchPublicChats(_ query: String, _ filter: PublicChatFilter) -> TelegramRequest {
        TelegramRequest(
            .searchPublicChats,
            [
                "query": .string(query),
                "type_filter": filter == .channels ? .typed("searchChatTypeFilterChannel") : nil,
            ])
    }

    static func searchChats(_ query: String, limit: Int) -> TelegramRequest {
        TelegramRequest(.searchChats, ["query": .string(query), "limit": .int(Int64(limit))])
    }

    static func getInternalLinkType(_ link: String) -> TelegramRequest {
        TelegramRequest(.getInternalLinkType, ["link": .string(link)])
    }

    static func getMessageLinkInfo(_ link: String) -> TelegramRequest {
        TelegramRequest(.getMessageLinkInfo, ["url": .string(link)])
    }

    static func getChat(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.getChat, ["chat_id": chat.json])
    }

    static func getSupergroup(_ id: Int64) -> TelegramRequest {
        TelegramRequest(.getSupergroup, ["supergroup_id": .int(id)])
    }

    static func getSupergroupFullInfo(_ id: Int64) -> TelegramRequest {
        TelegramRequest(.getSupergroupFullInfo, ["supergroup_id": .int(id)])
    }

    static func getBasicGroup(_ id: Int64) -> TelegramRequest {
        TelegramRequest(.getBasicGroup, ["basic_group_id": .int(id)])
    }

    static func getBasicGroupFullInfo(_ id: Int64) -> TelegramRequest {
        TelegramRequest(.getBasicGroupFullInfo, ["basic_group_id": .int(id)])
    }

    static func getChatMessageCount(_ chat: ChatID, _ filter: MessageFilter) -> TelegramRequest {
        TelegramRequest(
            .getChatMessageCount,
            ["chat_id": chat.json, "filter": .typed(filter.rawValue), "return_local": false])
    }

    static func loadChats(limit: Int) -> TelegramRequest {
        TelegramRequest(.loadChats, ["chat_list": .typed("chatListMain"), "limit": .int(Int64(limit))])
    }

    static func getChats(limit: Int) -> TelegramRequest {
        TelegramRequest(.getChats, ["chat_list": .typed("chatListMain"), "limit": .int(Int64(limit))])
    }

    static func openChat(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.openChat, ["chat_id": chat.json])
    }

    static func closeChat(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.closeChat, ["chat_id": chat.json])
    }

    static func joinChat(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.joinChat, ["chat_id": chat.json])
    }

    static func joinChat(link: String) -> TelegramRequest {
        TelegramRequest(.joinChatByInviteLink, ["invite_link": .string(link)])
    }

    static func checkInviteLink(_ link: String) -> TelegramRequest {
        TelegramRequest(.checkChatInviteLink, ["invite_link": .string(link)])
    }

    static func leaveChat(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.leaveChat, ["chat_id": chat.json])
    }

    // MARK: - Members

    static func getChatMember(_ chat: ChatID, _ person: UserID) -> TelegramRequest {
        TelegramRequest(.getChatMember, ["chat_id": chat.json, "member_id": .sender(person)])
    }

    static func getAdministrators(_ chat: ChatID) -> TelegramRequest {
        TelegramRequest(.getChatAdministrators, ["chat_id": chat.json])
    }

    static func getSupergroupMembers(
        _ id: Int64, _ filter: MemberFilter, offset: Int, limit: Int
    ) -> TelegramRequest {
        TelegramRequest(
            .getSupergroupMembers,
            [
                "supergroup_id": .int(id), "filter": filter.json, "offset": .int(Int64(offset)),
                "limit": .int(Int64(limit)),
            ])
    }

    static func searchChatMembers(_ chat: ChatID, query: String, limit: Int) -> TelegramRequest {
        TelegramRequest(
            .searchChatMembers,
            [
                "chat_id": chat.json, "query": .string(query), "limit": .int(Int64(limit)),
                "filter": .typed("chatMembersFilterMembers"),
            ])
    }

    static func addMember(_ chat: ChatID, _ person: UserID) -> TelegramRequest {
        TelegramRequest(
            .addChatMember, ["chat_id": chat.json, "user_id": .int(person), "forward_limit": 0])
    }

    static func addMembers(_ chat: ChatID, _ people: [UserID]) -> TelegramRequest {
        TelegramRequest(.addChatMembers, ["chat_id": chat.json, "user_ids": .ids(people)])
    }

    // MARK: - Links

    static func createInviteLink(_ chat: ChatID, _ link: NewInviteLink) -> TelegramRequest {
        TelegramRequest(
            .createChatInviteLink,
            [
                "chat_id": chat.json, "name": .string(link.name),
                "expiration_date": .int(link.expires?.seconds ?? 0),
                "member_limit": .int(Int64(link.createsJoinRequest ? 0 : link.memberLimit)),
                "creates_join_request": .bool(link.createsJoinRequest),
            ])
    }

    static func getInviteLink(_ chat: ChatID, _ link: String) -> TelegramRequest {
        TelegramRequest(.getChatInviteLink, ["chat_id": chat.json, "invite_link": .string(link)])
    }

    static func editInviteLink(_ chat: ChatID, _ link: String, _ wanted: NewInviteLink) -> TelegramRequest {
        TelegramRequest(
            .editChatInviteLink,
            [
                "chat_id": chat.json, "invite_link": .string(link), "name": .string(wanted.name),
                "expiration_date": .int(wanted.expires?.seconds ?? 0),
                "member_limit": .int(Int64(wanted.createsJoinRequest ? 0 : wanted.memberLimit)),
                "creates_join_request": .bool(wanted.createsJoinRequest),
            ])
    }

    static func revokeInviteLink(_ chat: ChatID, _ link: String) -> TelegramRequest {
        TelegramRequest(.revokeChatInviteLink, ["chat_id": chat.json, "invite_link": .string(link)])
    }

    static func getInviteLinkMembers(
        _ chat: ChatID, _ link: String, after last: JSONValue?, limit: Int
    ) -> TelegramRequest {
        TelegramRequest(
            .getChatInviteLinkMembers,
            [
                "chat_id": chat.json, "invite_link": .string(link), "only_with_expired_subscription": false,
                "offset_member": last, "limit": .int(Int64(limit)),
            ])
    }

    static func getJoinRequests(
        _ chat: ChatID, link: String, after last: JSONValue?, limit: Int
    ) -> TelegramRequest {
        TelegramRequest(
            .getChatJoinRequests,
            [
                "chat_id": chat.json, "invite_link": .string(link), "query": "", "offset_request": last,
                "limit": .int(Int64(limit)),
            ])
    }

    static func processJoinRequest(_ chat: ChatID, _ person: UserID, approve: Bool) -> TelegramRequest {
        TelegramRequest(
            .processChatJoinRequest,
            ["chat_id": chat.json, "user_id": .int(person), "approve": .bool(approve)])
    }
}

extension JSONValue {
    static func sender(_ person: UserID) -> JSONValue {
        ["@type": "messageSenderUser", "user_id": .int(person)]
    }
}
