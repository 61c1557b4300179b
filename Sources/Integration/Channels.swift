public import Core
public import Storage

/// What Telegram says of a community.
public struct ChannelFacts: Equatable, Sendable {
    public var chatID: Int64
    /// `channel`, `supergroup`, `group`.
    public var kind: String
    public var title: String
    public var username: String?
    public var memberCount: Int64?
    /// A channel's discussion group.
    public var discussionChatID: Int64?
    /// Whether the account that looked may invite there.
    public var mayInvite: Bool?

    public init(
        chatID: Int64, kind: String, title: String, username: String? = nil, memberCount: Int64? = nil,
        discussionChatID: Int64? = nil, mayInvite: Bool? = nil
    ) {
        self.chatID = chatID
        self.kind = kind
        self.title = title
        self.username = username
        self.memberCount = memberCount
        self.discussionChatID = discussionChatID
        self.mayInvite = mayInvite
    }
}

/// A group or channel a user works with.
public struct Channel: Equatable, Sendable {
    public let id: UniqueID
    public let userID: Int64
    /// Through which account it was looked up last.
    public let accountID: UniqueID?
    public let facts: ChannelFacts
    /// As its owner wrote it.
    public let link: String
    public let note: String
    public let createdAt: Timestamp
    public let updatedAt: Timestamp
    public let checkedAt: Timestamp
}

extension Channel: JSONEncodable {
    public var json: JSONValue {
        [
            "id": id.json, "user_id": .int(userID), "account_id": accountID?.json ?? .null,
            "chat_id": .int(facts.chatID), "kind": .string(facts.kind), "title": .string(facts.title),
            "username": JSONValue(facts.username), "link": .string(link),
            "member_count": JSONValue(facts.memberCount),
            "discussion_chat_id": JSONValue(facts.discussionChatID),
            "may_invite": facts.mayInvite.map { .bool($0) } ?? .null, "note": .string(note),
            "created_at": createdAt.json, "updated_at": updatedAt.json, "checked_at": checkedAt.json,
        ]
    }
}

public struct ChannelStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }

    public func add(
        _ id: UniqueID, of user: Int64, _ facts: ChannelFacts, link: String, note: String, account: UniqueID?,
        at now: Timestamp
    ) async throws -> Channel {
        let rows = try await database.run(
            """
            INSERT INTO telegram_channels (id, user_id, account_id, chat_id, kind, title, username, link,
                member_count, discussion_chat_id, may_invite, note, created_at, updated_at, checked_at)
            VALUES (\(id), \(user), \(account), \(facts.chatID), \(facts.kind), \(facts.title), \(facts.username),
                \(link), \(facts.memberCount), \(facts.discussionChatID), \(facts.mayInvite), \(note), \(now), \(now),
                \(now))
            ON CONFLICT (user_id, chat_id) DO NOTHING RETURNING *
            """)
        guard let row = rows.first else { throw IntegrationError.channelTaken }
        return try Channel(row)
    }

    public func channel(_ id: UniqueID, of user: Int64) async throws -> Channel {
        let rows = try await database.run(
            "SELECT * FROM telegram_channels WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw IntegrationError.unknownChannel }
        return try Channel(row)
    }

    public func channels(of user: Int64, offset: Int, limit: Int) async throws -> (
        items: [Channel], total: Int
    ) {
        let rows = try await database.run(
            """
            SELECT * FROM telegram_channels WHERE user_id = \(user) ORDER BY created_at, id
            LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run(
            "SELECT count(*) AS total FROM telegram_channels WHERE user_id = \(user)")
        return (try rows.map { try Channel($0) }, try total.first?.int("total") ?? 0)
    }

    public func annotate(_ id: UniqueID, of user: Int64, note: String, at now: Timestamp) async throws
        -> Channel
    {
        let rows = try await database.run(
            """
            UPDATE telegram_channels SET note = \(note), updated_at = \(now)
            WHERE id = \(id) AND user_id = \(user) RETURNING *
            """)
        guard let row = rows.first else { throw IntegrationError.unknownChannel }
        return try Channel(row)
    }

    /// What Telegram says now.
    public func refresh(
        _ id: UniqueID, of user: Int64, _ facts: ChannelFacts, account: UniqueID?, at now: Timestamp
    ) async throws -> Channel {
        let rows = try await database.run(
            """
            UPDATE telegram_channels SET kind = \(facts.kind), title = \(facts.title), username = \(facts.username),
                member_count = \(facts.memberCount), discussion_chat_id = \(facts.discussionChatID),
                may_invite = \(facts.mayInvite), account_id = \(account), updated_at = \(now), checked_at = \(now)
            WHERE id = \(id) AND user_id = \(user) RETURNING *
            """)
        guard let row = rows.first else { throw IntegrationError.unknownChannel }
        return try Channel(row)
    }

    public func remove(_ id: UniqueID, of user: Int64) async throws {
        let removed = try await database.run(
            "DELETE FROM telegram_channels WHERE id = \(id) AND user_id = \(user)")
        guard removed.affected == 1 else { throw IntegrationError.unknownChannel }
    }
}

extension Channel {
    init(_ row: Row) throws {
        id = try row.uuid("id")
        userID = try row.int64("user_id")
        accountID = try row.optionalUUID("account_id")
        facts = ChannelFacts(
            chatID: try row.int64("chat_id"), kind: try row.text("kind"), title: try row.text("title"),
            username: try row.optionalText("username"), memberCount: try row.optionalInt64("member_count"),
            discussionChatID: try row.optionalInt64("discussion_chat_id"),
            mayInvite: try row.optionalBool("may_invite"))
        link = try row.text("link")
        note = try row.text("note")
        createdAt = try row.timestamp("created_at")
        updatedAt = try row.timestamp("updated_at")
        checkedAt = try row.timestamp("checked_at")
    }
}
