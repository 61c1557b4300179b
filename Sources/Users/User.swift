public import Core

/// A person who may sign in.
public struct User: Equatable, Sendable, JSONEncodable {
    public let id: Int64
    public let email: String
    public let username: String?
    public let plan: String
    public let isActive: Bool
    public let createdAt: Timestamp

    public var json: JSONValue {
        [
            "id": .int(id), "email": .string(email), "username": JSONValue(username), "plan": .string(plan),
            "is_active": .bool(isActive), "created_at": createdAt.json,
        ]
    }
}

/// One signed-in device: a family of refresh tokens that follow each other.
public struct UserSession: Equatable, Sendable {
    public let id: String
    public let device: String
    public let address: String
    public let createdAt: Timestamp
    public let lastUsedAt: Timestamp

    public func json(isCurrent: Bool) -> JSONValue {
        [
            "id": .string(id), "device": .string(device), "address": .string(address),
            "created_at": createdAt.json,
            "last_used_at": lastUsedAt.json, "is_current": .bool(isCurrent),
        ]
    }
}

/// What a successful sign-in gives.
public struct Grant: Sendable {
    public let accessToken: Secret<String>
    public let refreshToken: Secret<String>
    public let lifetime: Duration

    public init(accessToken: Secret<String>, refreshToken: Secret<String>, lifetime: Duration) {
        self.accessToken = accessToken
        self.refreshToken = refreshToken
        self.lifetime = lifetime
    }
}

/// Why an account operation is refused.
public enum UserError: Error, Equatable, Sendable {
    case invalidEmail
    case invalidUsername
    case weakPassword(PasswordPolicy.Weakness)
    case weakNewPassword(PasswordPolicy.Weakness)
    case emailTaken
    case usernameTaken
    /// Unknown user and wrong password alike.
    case wrongCredentials
    case wrongPassword
    case tooManyFailures(until: Timestamp)
    /// Unknown, expired, revoked or used twice.
    case invalidRefreshToken
    case registrationClosed
    case invalidClaim
    case unknownSession
    case unknownUser
}
