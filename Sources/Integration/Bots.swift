public import Core
public import Storage

/// What Telegram says of a bot whose token it accepts.
public struct BotProfile: Equatable, Sendable {
    public var telegramUserID: Int64
    public var username: String
    public var name: String

    public init(telegramUserID: Int64, username: String, name: String) {
        self.telegramUserID = telegramUserID
        self.username = username
        self.name = name
    }
}

/// The token of a bot as BotFather gives it: the bot's id, a colon, and the secret.
public struct BotToken: Equatable, Sendable {
    public let secret: Secret<String>
    public let botID: Int64

    public init?(_ text: String) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let id = Int64(parts[0]), id > 0,
            parts[0].allSatisfy({ $0.isASCII && $0.isNumber }),
            (20...64).contains(parts[1].utf8.count),
            parts[1].utf8.allSatisfy({
                ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || ($0 >= 0x30 && $0 <= 0x39)
                    || $0 == UInt8(ascii: "-")
                    || $0 == UInt8(ascii: "_")
            })
        else { return nil }
        secret = Secret(text)
        botID = id
    }
}

public struct Bot: Equatable, Sendable {
    public let id: UniqueID
    public let userID: Int64
    public let profile: BotProfile
    public let description: String
    public let isActive: Bool
    public let createdAt: Timestamp
    public let updatedAt: Timestamp
    public let checkedAt: Timestamp
}

extension Bot: JSONEncodable {
    public var json: JSONValue {
        [
            "id": id.json, "user_id": .int(userID), "telegram_user_id": .int(profile.telegramUserID),
            "username": .string(profile.username), "name": .string(profile.name),
            "description": .string(description), "is_active": .bool(isActive), "created_at": createdAt.json,
            "updated_at": updatedAt.json, "checked_at": checkedAt.json,
        ]
    }
}

public struct BotStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }

    public func add(
        _ id: UniqueID, of user: Int64, _ profile: BotProfile, description: String, sealedToken: String,
        at now: Timestamp
    ) async throws -> Bot {
        let rows = try await database.run(
            """
            INSERT INTO telegram_bots (id, user_id, telegram_user_id, username, name, description, sealed_token,
                is_active, created_at, updated_at, checked_at)
            VALUES (\(id), \(user), \(profile.telegramUserID), \(profile.username), \(profile.name), \(description),
                \(sealedToken), \(true), \(now), \(now), \(now))
            ON CONFLICT (user_id, telegram_user_id) DO NOTHING RETURNING *
            """)
        guard let row = rows.first else { throw IntegrationError.botTaken }
        return try Bot(row)
    }

    public func bot(_ id: UniqueID, of user: Int64) async throws -> Bot {
        let rows = try await database.run(
            "SELECT * FROM telegram_bots WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw IntegrationError.unknownBot }
        return try Bot(row)
    }

    public func sealedToken(of id: UniqueID, user: Int64) async throws -> String {
        let rows = try await database.run(
            "SELECT sealed_token FROM telegram_bots WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw IntegrationError.unknownBot }
        return try row.text("sealed_token")
    }

    public func bots(of user: Int64, offset: Int, limit: Int) async throws -> (items: [Bot], total: Int) {
        let rows = try await database.run(
            """
            SELECT * FROM telegram_bots WHERE user_id = \(user) ORDER BY created_at, id
            LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run(
            "SELECT count(*) AS total FROM telegram_bots WHERE user_id = \(user)")
        return (try rows.map { try Bot($0) }, try total.first?.int("total") ?? 0)
    }

    /// Changes what is given and leaves the rest.
    public func change(
        _ id: UniqueID, of user: Int64, description: String? = nil, isActive: Bool? = nil,
        sealedToken: String? = nil,
        profile: BotProfile? = nil, at now: Timestamp
    ) async throws -> Bot {
        let rows = try await database.run(
            """
            UPDATE telegram_bots SET description = coalesce(\(description), description),
                is_active = coalesce(\(isActive), is_active), sealed_token = coalesce(\(sealedToken), sealed_token),
                username = coalesce(\(profile?.username), username), name = coalesce(\(profile?.name), name),
                checked_at = coalesce(\(profile.map { _ in now }), checked_at), updated_at = \(now)
            WHERE id = \(id) AND user_id = \(user) RETURNING *
            """)
        guard let row = rows.first else { throw IntegrationError.unknownBot }
        return try Bot(row)
    }

    public func remove(_ id: UniqueID, of user: Int64) async throws {
        let removed = try await database.run(
            "DELETE FROM telegram_bots WHERE id = \(id) AND user_id = \(user)")
        guard removed.affected == 1 else { throw IntegrationError.unknownBot }
    }
}

extension Bot {
    init(_ row: Row) throws {
        id = try row.uuid("id")
        userID = try row.int64("user_id")
        profile = BotProfile(
            telegramUserID: try row.int64("telegram_user_id"), username: try row.text("username"),
            name: try row.text("name"))
        description = try row.text("description")
        isActive = try row.bool("is_active")
        createdAt = try row.timestamp("created_at")
        updatedAt = try row.timestamp("updated_at")
        checkedAt = try row.timestamp("checked_at")
    }
}
