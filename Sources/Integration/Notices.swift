public import Core
public import Storage

/// What account-manager has to hear of an account. It is written with the change itself, so none is
/// forgotten; hearing one twice does no harm.
public enum Notice: Equatable, Sendable {
    case connected(phone: String)
    case disconnected
    case lost(reason: String)
    case frozen(until: Timestamp, appeal: String?)

    var kind: String {
        switch self {
        case .connected: "connected"
        case .disconnected: "disconnected"
        case .lost: "lost"
        case .frozen: "frozen"
        }
    }

    var body: JSONValue {
        switch self {
        case .connected(let phone): ["phone": .string(phone)]
        case .disconnected: [:]
        case .lost(let reason): ["reason": .string(reason)]
        case .frozen(let until, let appeal): ["until": until.json, "appeal_link": JSONValue(appeal)]
        }
    }

    init?(kind: String, _ body: JSONValue) {
        switch kind {
        case "connected": self = .connected(phone: body["phone"]?.stringValue ?? "")
        case "disconnected": self = .disconnected
        case "lost": self = .lost(reason: body["reason"]?.stringValue ?? "unknown")
        case "frozen":
            guard let until = body["until"]?.stringValue.flatMap({ Timestamp($0) }) else { return nil }
            self = .frozen(until: until, appeal: body["appeal_link"]?.stringValue)
        default: return nil
        }
    }
}

public struct PendingNotice: Equatable, Sendable {
    public let id: UniqueID
    public let accountID: UniqueID
    public let userID: Int64
    public let notice: Notice
    public let attempts: Int
}

public struct NoticeStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }

    /// Those that are due, the oldest of each account only: what happened later is told later.
    public func due(at now: Timestamp, limit: Int = 100) async throws -> [PendingNotice] {
        try await database.run(
            """
            SELECT * FROM telegram_notices AS notice WHERE not_before <= \(now) AND NOT EXISTS (
                SELECT 1 FROM telegram_notices AS earlier
                WHERE earlier.account_id = notice.account_id AND earlier.position < notice.position)
            ORDER BY not_before, id LIMIT \(limit)
            """
        ).compactMap { row in
            guard let notice = Notice(kind: try row.text("kind"), try row.json("body")) else { return nil }
            return PendingNotice(
                id: try row.uuid("id"), accountID: try row.uuid("account_id"),
                userID: try row.int64("user_id"),
                notice: notice, attempts: try row.int("attempts"))
        }
    }

    public func delivered(_ id: UniqueID) async throws {
        try await database.run("DELETE FROM telegram_notices WHERE id = \(id)")
    }

    public func postpone(_ id: UniqueID, until moment: Timestamp) async throws {
        try await database.run(
            "UPDATE telegram_notices SET attempts = attempts + 1, not_before = \(moment) WHERE id = \(id)")
    }
}

extension Transaction {
    func note(_ notice: Notice, of account: LinkedAccount, id: UniqueID, at now: Timestamp) throws {
        try run(
            """
            INSERT INTO telegram_notices (id, account_id, user_id, kind, body, not_before, position)
            VALUES (\(id), \(account.id), \(account.userID), \(notice.kind), \(notice.body), \(now),
                (SELECT coalesce(max(position), 0) + 1 FROM telegram_notices WHERE account_id = \(account.id)))
            """)
    }
}
