/// Every method of TDLib this client may call. The contract test sends each to the real library.
public enum TelegramMethod: String, Sendable, CaseIterable {
    // The client itself
    case setTdlibParameters, setOption, getOption, getAuthorizationState, close, destroy, logOut
    case setNetworkType
    // Signing in
    case requestQrCodeAuthentication, setAuthenticationPhoneNumber, checkAuthenticationCode
    case resendAuthenticationCode, checkAuthenticationPassword, setAuthenticationEmailAddress
    case checkAuthenticationEmailCode
    // People
    case getMe, searchUserByPhoneNumber, importContacts, removeContacts, getUser, getUserFullInfo
    case createPrivateChat, canSendMessageToUser, getGroupsInCommon
    // Chats and groups
    case searchPublicChat, searchPublicChats, getInternalLinkType, getMessageLinkInfo, getChat, getSupergroup
    case getSupergroupFullInfo, getBasicGroup, getBasicGroupFullInfo, getChatMessageCount, loadChats, getChats
    case searchChats
    case openChat, closeChat, joinChat, joinChatByInviteLink, checkChatInviteLink, leaveChat
    // Members
    case getChatMember, getChatAdministrators, getSupergroupMembers, searchChatMembers, addChatMember
    case addChatMembers
    // Links
    case createChatInviteLink, getChatInviteLink, editChatInviteLink, revokeChatInviteLink
    case getChatInviteLinkMembers, getChatJoinRequests, processChatJoinRequest
    // Messages
    case sendMessage, deleteMessages, getChatHistory, getMessage, getMessageThread, getMessageThreadHistory
    case getMessageProperties, searchChatMessages, getMessageLink
    // The account's own view
    case getActiveSessions

    /// Whether Telegram's world is changed by it: without an answer, whether it happened is in doubt.
    public var isWrite: Bool {
        switch self {
        case .addChatMember, .addChatMembers, .sendMessage, .joinChat, .joinChatByInviteLink, .leaveChat,
            .importContacts, .removeContacts, .createChatInviteLink, .editChatInviteLink,
            .revokeChatInviteLink,
            .processChatJoinRequest, .deleteMessages:
            true
        default: false
        }
    }
}
