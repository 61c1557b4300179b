import Core

@testable import Telegram

/// One request of every kind the client can make, filled so that every field and nested object is there.
enum RequestSamples {
    static let session = SessionParameters(
        directory: "/nowhere/account", encryptionKey: Secret(Array(repeating: 7, count: 32)))

    static let all: [TelegramRequest] =
        sessionRequests + peopleRequests + chatRequests + memberRequests + messageRequests

    private static let sessionRequests: [TelegramRequest] = [
        .setTdlibParameters(session, .sandbox),
        .setOption("online", .flag(false)), .setOption("notification_group_count_max", .number(0)),
        .setOption("x", .text("y")), .setOption("x", .empty), .getOption("version"), .getAuthorizationState,
        .close,
        .destroy, .logOut, .setNetworkType(isOn: true), .setNetworkType(isOn: false), .requestQRCode,
        .setPhoneNumber("+15550001111"), .checkCode("11111"), .resendCode, .checkPassword("secret"),
        .setEmailAddress("a@example.org"), .checkEmailCode("123456"), .getActiveSessions,
    ]

    private static let peopleRequests: [TelegramRequest] = [
        .getMe, .searchUser(phone: "+15550001111"),
        .importContacts([NewContact(phone: "+15550001111", firstName: "Anna", lastName: "B")]),
        .removeContacts([1, 2]),
        .getUser(1), .getUserFullInfo(1), .createPrivateChat(1), .canSendMessage(to: 1),
        .groupsInCommon(with: 1, after: -1_000_000_000_005, limit: 10),
    ]

    private static let link = "https://t.me/+AbCdEfGh"
    private static let group: ChatID = -1_000_000_000_005

    private static let chatRequests: [TelegramRequest] = [
        .searchPublicChat("name"), .searchPublicChats("words", .all), .searchPublicChats("words", .channels),
        .getInternalLinkType("https://t.me/name"), .getMessageLinkInfo("https://t.me/name/5"),
        .getChat(group),
        .getSupergroup(5), .getSupergroupFullInfo(5), .getBasicGroup(5), .getBasicGroupFullInfo(5),
        .getChatMessageCount(group, .photos), .loadChats(limit: 10), .getChats(limit: 10),
        .searchChats("chess", limit: 10), .openChat(group),
        .closeChat(group), .joinChat(group), .joinChat(link: link), .checkInviteLink(link), .leaveChat(group),
        .createInviteLink(
            group, NewInviteLink(name: "n", expires: Timestamp(seconds: 1), createsJoinRequest: true)),
        .createInviteLink(group, NewInviteLink(memberLimit: 5, createsJoinRequest: false)),
        .getInviteLink(group, link), .editInviteLink(group, link, NewInviteLink()),
        .revokeInviteLink(group, link),
        .getInviteLinkMembers(
            group, link,
            after: [
                "@type": "chatInviteLinkMember", "user_id": 1, "joined_chat_date": 2,
                "via_chat_folder_invite_link": false, "approver_user_id": 3,
            ], limit: 10),
        .getJoinRequests(
            group, link: link, after: ["@type": "chatJoinRequest", "user_id": 1, "date": 2, "bio": "b"],
            limit: 10),
        .processJoinRequest(group, 1, approve: true),
    ]

    private static let memberRequests: [TelegramRequest] = [
        .getChatMember(group, 1), .getAdministrators(group),
        .getSupergroupMembers(5, .recent, offset: 0, limit: 200),
        .getSupergroupMembers(5, .administrators, offset: 0, limit: 200),
        .getSupergroupMembers(5, .bots, offset: 0, limit: 200),
        .getSupergroupMembers(5, .search("a"), offset: 0, limit: 200),
        .searchChatMembers(group, query: "a", limit: 10), .addMember(group, 1), .addMembers(group, [1, 2]),
    ]

    private static let messageRequests: [TelegramRequest] = [
        .sendMessage(group, text: "text", silent: true, sendingID: 5),
        .deleteMessages(group, [1 << 20], forAll: true),
        .getHistory(group, before: 1 << 20, limit: 100), .getMessage(group, 1 << 20),
        .getThread(group, 1 << 20),
        .getThreadHistory(group, 1 << 20, before: 0, limit: 100), .getProperties(group, 1 << 20),
        .searchMessages(group, query: "a", sender: 1, from: 0, limit: 100), .getMessageLink(group, 1 << 20),
    ]
}
