public import Core

/// What happens to an account without its asking.
public enum TelegramUpdate: Equatable, Sendable {
    case authorization(AuthorizationState)
    case connection(ConnectionState)
    /// Telegram froze the account: read-only, and deleted at a date unless an appeal succeeds. Nil: lifted.
    case freeze(FreezeNotice?)
    /// Words of Telegram to the account's owner.
    case serviceNotice(type: String, text: String)
    case newMessage(ChatMessage)
    /// Our own standing in a group changed, or its size.
    case standing(ChatID, Membership)
    case pendingJoinRequests(ChatID, count: Int)
}

public enum ConnectionState: String, Sendable, CaseIterable {
    case waitingForNetwork, connectingToProxy, connecting, updating, ready, unknown
}

/// Telegram's freeze notice.
public struct FreezeNotice: Equatable, Sendable {
    public let since: Timestamp?
    public let deletionDate: Timestamp?
    public let appealLink: String
}

/// Why a session ended that nobody here had ended.
public enum SessionLoss: Equatable, Sendable {
    case revoked, expired, banned, deactivated, keyDuplicated
    /// Telegram's library did not say, or said a word we do not know.
    case unknown(String?)

    init(reason: String?) {
        self =
            switch reason {
            case "SESSION_REVOKED", "AUTH_KEY_UNREGISTERED", "AUTH_KEY_INVALID": .revoked
            case "SESSION_EXPIRED": .expired
            case "USER_DEACTIVATED_BAN": .banned
            case "USER_DEACTIVATED": .deactivated
            case "AUTH_KEY_DUPLICATED": .keyDuplicated
            default: .unknown(reason)
            }
    }
}
