public import Core
public import Storage
internal import Synchronization

/// A decision that changed an account: one line of the integration log.
public struct AccountEvent: Sendable, Equatable {
    /// Its place in the log; 0 before it is written.
    public var id: Int64 = 0
    public let user: Int64
    public let account: AccountID?
    /// `account_allocated`, `account_error`, …
    public let action: String
    /// `success`, `warning` or `error`: how much it should worry the owner.
    public let status: String
    public let details: JSONValue
    public let at: Timestamp

    public init(
        user: Int64, account: AccountID?, _ action: String, status: String = "success", _ details: JSONValue,
        at: Timestamp
    ) {
        self.user = user
        self.account = account
        self.action = action
        self.status = status
        self.details = details
        self.at = at
    }
}

/// Gathers events and writes them in bulk, so that a log line costs a lease no statement of its own. What a
/// crash takes with it is in the ledger and on the accounts; the log is for people.
public final class AccountEventLog: Sendable {
    private let database: any Database
    private let waiting = Mutex<[AccountEvent]>([])
    /// More than a minute of the busiest service; beyond it the oldest are given up.
    private static let most = 100_000

    public init(_ database: any Database) { self.database = database }

    func note(_ event: AccountEvent) {
        waiting.withLock { waiting in
            if waiting.count >= Self.most { waiting.removeFirst(1_000) }
            waiting.append(event)
        }
    }

    /// Writes what has been noted; what cannot be written is kept for the next time.
    public func flush() async throws {
        let events = waiting.withLock { waiting in
            defer { waiting = [] }
            return waiting
        }
        guard !events.isEmpty else { return }
        do {
            try await database.transaction { transaction in
                try transaction.copy(
                    into: "account_events",
                    columns: ["user_id", "account_id", "action", "status", "details", "at"],
                    rows: events.map {
                        [
                            .integer($0.user), $0.account.map { .text($0.description) } ?? .null,
                            .text($0.action),
                            .text($0.status), .text($0.details.text), .integer($0.at.milliseconds),
                        ]
                    })
            }
        } catch {
            waiting.withLock { $0 = events + $0 }
            throw error
        }
    }

    /// The events of a user (all for nil), newest first.
    public func events(
        of user: Int64?, account: AccountID? = nil, action: String? = nil, status: String? = nil,
        from: Timestamp? = nil, to: Timestamp? = nil, offset: Int = 0, limit: Int = 20
    ) async throws -> (events: [AccountEvent], total: Int) {
        try await flush()
        let condition: SQL = """
            \(user.map { "user_id = \($0)" } ?? ("TRUE" as SQL)) AND
            \(account.map { "account_id = \($0)" } ?? ("TRUE" as SQL)) AND
            \(action.map { "action = \($0)" } ?? ("TRUE" as SQL)) AND
            \(status.map { "status = \($0)" } ?? ("TRUE" as SQL)) AND
            at >= \(from ?? .epoch) AND at < \(to ?? Timestamp(milliseconds: .farAway))
            """
        let total =
            try await database.run("SELECT count(*) AS events FROM account_events WHERE \(condition)")
            .first?.int("events") ?? 0
        let rows = try await database.run(
            """
            SELECT id, user_id, account_id, action, status, details, at FROM account_events WHERE \(condition)
            ORDER BY at DESC, id DESC LIMIT \(limit) OFFSET \(offset)
            """)
        return (
            try rows.map { row in
                var event = AccountEvent(
                    user: try row.int64("user_id"),
                    account: try row.optionalText("account_id").flatMap { AccountID($0) },
                    try row.text("action"), status: try row.text("status"), try row.json("details"),
                    at: try row.timestamp("at"))
                event.id = try row.int64("id")
                return event
            }, total
        )
    }
}
