public import Core
public import Storage

/// Who an account is at Telegram, as Telegram says.
public struct AccountProfile: Equatable, Sendable {
    public var telegramUserID: Int64
    /// Digits with a plus; empty where Telegram hides it.
    public var phone: String
    public var username: String?
    public var firstName: String
    public var lastName: String
    public var isPremium: Bool

    public init(
        telegramUserID: Int64, phone: String, username: String? = nil, firstName: String = "",
        lastName: String = "", isPremium: Bool = false
    ) {
        self.telegramUserID = telegramUserID
        self.phone = phone
        self.username = username
        self.firstName = firstName
        self.lastName = lastName
        self.isPremium = isPremium
    }
}

/// An account of a user's that was connected through Telegram's own login.
///
/// It keeps its id for good: whoever connects the same account again gets the same limits and the same
/// ledger, so logging out and in again wins nothing.
public struct LinkedAccount: Equatable, Sendable {
    public enum Status: String, Sendable, CaseIterable {
        case connected
        /// Logged out by its owner here.
        case disconnected
        /// Telegram ended the session, or its owner did in another app.
        case lost
    }

    public let id: UniqueID
    public let userID: Int64
    public var profile: AccountProfile
    public var status: Status
    /// Why the session was lost, as Telegram called it.
    public var reason: String?
    /// The session's folder and the name its key is derived for; nil once it was wiped.
    public var sessionID: UniqueID?
    /// The newest lease anybody has shown.
    public var fencingToken: Int64
    public var frozenUntil: Timestamp?
    public var appealLink: String?
    public let createdAt: Timestamp
    public var connectedAt: Timestamp
    public var lastUsedAt: Timestamp?

    public var isConnected: Bool { status == .connected && sessionID != nil }
}

extension LinkedAccount: JSONEncodable {
    public var json: JSONValue {
        [
            "id": id.json, "user_id": .int(userID), "phone": .string(profile.phone),
            "telegram_user_id": .int(profile.telegramUserID), "username": JSONValue(profile.username),
            "first_name": .string(profile.firstName), "last_name": .string(profile.lastName),
            "is_premium": .bool(profile.isPremium), "is_active": .bool(isConnected),
            "status": .string(frozenUntil == nil ? status.rawValue : "frozen"), "reason": JSONValue(reason),
            "frozen_until": JSONValue(frozenUntil), "appeal_link": JSONValue(appealLink),
            "connected_at": connectedAt.json, "created_at": createdAt.json,
            "last_used_at": JSONValue(lastUsedAt),
        ]
    }
}

public enum IntegrationError: Error, Equatable, Sendable {
    case unknownAccount
    case accountNotConnected(reason: String?)
    /// Another user here has connected this Telegram account.
    case accountTaken
    case unknownLogin
    case tooManyLogins(limit: Int)
    case unknownBot
    case botTaken
    case unknownChannel
    case channelTaken
    /// Somebody has shown a newer lease of this account.
    case leaseLost(newest: Int64)
    /// The same attempt with other contents.
    case attemptReused
    case busy
}
