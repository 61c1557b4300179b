public import Core
public import Storage

/// Answers that are given again to whoever asks with the same `Idempotency-Key`.
public struct AnswerStore: Sendable {
    let database: any Database
    private static let memory: Duration = .days(1)
    /// An unfinished one keeps others waiting for no longer than any request lasts.
    private static let patience: Duration = .seconds(120)

    public init(_ database: any Database) { self.database = database }

    public enum Known: Equatable, Sendable {
        /// The key is the caller's now.
        case begun
        case known(status: Int, answer: String)
        case otherRequest
        case underWay
    }

    public func begin(_ key: String, of user: Int64, request: String, at now: Timestamp) async throws -> Known {
        let taken = try await database.run(
            """
            INSERT INTO integration_answers (user_id, key, request, at) VALUES (\(user), \(key), \(request), \(now))
            ON CONFLICT (user_id, key) DO UPDATE SET request = excluded.request, at = excluded.at, status = NULL,
                answer = NULL
            WHERE integration_answers.at < \(now - Self.memory)
                OR (integration_answers.status IS NULL AND integration_answers.at < \(now - Self.patience))
            """)
        if taken.affected == 1 { return .begun }
        let rows = try await database.run(
            "SELECT request, status, answer FROM integration_answers WHERE user_id = \(user) AND key = \(key)")
        guard let row = rows.first else { return .underWay }
        guard try row.text("request") == request else { return .otherRequest }
        guard let status = try row.optionalInt("status") else { return .underWay }
        return .known(status: status, answer: try row.optionalText("answer") ?? "")
    }

    public func finish(_ key: String, of user: Int64, status: Int, answer: String) async throws {
        try await database.run(
            """
            UPDATE integration_answers SET status = \(status), answer = \(answer)
            WHERE user_id = \(user) AND key = \(key)
            """)
    }

    public func withdraw(_ key: String, of user: Int64) async throws {
        try await database.run(
            "DELETE FROM integration_answers WHERE user_id = \(user) AND key = \(key) AND status IS NULL")
    }

    public func tidy(at now: Timestamp) async throws {
        try await database.run("DELETE FROM integration_answers WHERE at < \(now - Self.memory)")
    }
}
