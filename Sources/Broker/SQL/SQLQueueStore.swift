import Core
import Storage

/// The statements of `SQLBroker`, one method each. Every one stands alone, so that the storage can send what
/// queues up as one batch.
struct SQLQueueStore: Sendable {
    let database: any Database

    struct Claimed: Sendable {
        let seq: Int64
        let message: Message
        let queue: String
        /// This attempt; for a dead letter the one it died of.
        let attempt: Int
        /// How many consumers died holding it.
        let returns: Int
        let reason: String?
    }

    func migrate(at now: Timestamp) async throws {
        try await database.migrate(SQLBrokerSchema.migrations, scope: SQLBrokerSchema.scope, at: now)
    }

    func insert(_ message: Message, into queue: String, visibleAt: Timestamp) async throws {
        try await database.run(
            """
            INSERT INTO broker_message
                (queue, id, attempt, visible_at, content_type, traceparent, request_id, body)
            VALUES (\(queue), \(message.id), 0, \(visibleAt), \(message.contentType), \(message.traceparent),
                \(message.requestID), \(message.body))
            """)
    }

    /// Claims up to `count` due messages. The attempt is counted in the same moment: a consumer that dies a
    /// moment later has had it.
    func claim(
        _ queue: String, isLiving: Bool, for holder: String, count: Int, at now: Timestamp
    ) async throws -> [Claimed] {
        let rows: Rows
        switch database.dialect {
        case .postgres:
            rows = try await database.run(
                """
                WITH chosen AS MATERIALIZED (
                    SELECT seq FROM broker_message
                    WHERE queue = \(queue) AND holder IS NULL AND visible_at <= \(now)
                    ORDER BY visible_at, seq LIMIT \(count) FOR UPDATE SKIP LOCKED)
                UPDATE broker_message SET holder = \(holder), attempt = attempt + \(isLiving ? 1 : 0)
                WHERE seq IN (SELECT seq FROM chosen)
                RETURNING seq, queue, id, attempt, returns, visible_at, reason, content_type, traceparent,
                    request_id, body
                """)
        case .sqlite:
            // Plainly an UPDATE, so that the storage commits it together with the verdicts that wait.
            rows = try await database.run(
                """
                UPDATE broker_message SET holder = \(holder), attempt = attempt + \(isLiving ? 1 : 0)
                WHERE seq IN (
                    SELECT seq FROM broker_message
                    WHERE queue = \(queue) AND holder IS NULL AND visible_at <= \(now)
                    ORDER BY visible_at, seq LIMIT \(count))
                RETURNING seq, queue, id, attempt, returns, visible_at, reason, content_type, traceparent,
                    request_id, body
                """)
        }
        return try inOrder(rows)
    }

    /// What a holder has: to find claims whose answer got lost on its way.
    func held(by holder: String) async throws -> [Claimed] {
        let rows = try await database.run(
            """
            SELECT seq, queue, id, attempt, returns, visible_at, reason, content_type, traceparent,
                request_id, body
            FROM broker_message WHERE holder = \(holder)
            """)
        return try inOrder(rows)
    }

    /// When the next message that is not claimed becomes due.
    func nextDue(_ queue: String) async throws -> Timestamp? {
        // Not `min` over all queues: neither engine would find that at the index's first entry.
        try await database.run(
            """
            SELECT visible_at FROM broker_message WHERE queue = \(queue) AND holder IS NULL
            ORDER BY visible_at LIMIT 1
            """
        ).first?.timestamp("visible_at")
    }

    func depth(of queue: String, at now: Timestamp) async throws -> Int {
        try await database.run(
            """
            SELECT count(*) AS depth FROM broker_message
            WHERE queue = \(queue) AND holder IS NULL AND visible_at <= \(now)
            """
        ).first?.int("depth") ?? 0
    }

    // MARK: - The three ends of a claim; false when it was void already

    func delete(_ seq: Int64, of holder: String) async throws -> Bool {
        try await database.run("DELETE FROM broker_message WHERE seq = \(seq) AND holder = \(holder)")
            .affected > 0
    }

    func putBack(_ seq: Int64, of holder: String, visibleAt: Timestamp) async throws -> Bool {
        try await database.run(
            """
            UPDATE broker_message SET holder = NULL, visible_at = \(visibleAt), returns = 0
            WHERE seq = \(seq) AND holder = \(holder)
            """
        ).affected > 0
    }

    func bury(
        _ seq: Int64, of holder: String, in deadLetters: String, attempt: Int, reason: String,
        at now: Timestamp
    ) async throws -> Bool {
        try await database.run(
            """
            UPDATE broker_message
            SET holder = NULL, queue = \(deadLetters), attempt = \(attempt), reason = \(reason),
                visible_at = \(now)
            WHERE seq = \(seq) AND holder = \(holder)
            """
        ).affected > 0
    }

    // MARK: - Who lives

    func sayAlive(_ holder: String, until moment: Timestamp) async throws {
        try await database.run(
            """
            INSERT INTO broker_consumer (holder, alive_until) VALUES (\(holder), \(moment))
            ON CONFLICT (holder) DO UPDATE SET alive_until = excluded.alive_until
            """)
    }

    func sayGone(_ holder: String) async throws {
        try await database.transaction { transaction in
            try transaction.run("DELETE FROM broker_consumer WHERE holder = \(holder)")
            try transaction.run(
                "UPDATE broker_message SET holder = NULL, returns = returns + 1 WHERE holder = \(holder)")
        }
    }

    /// Frees what the dead held; all claims, when `everyone`. Returns whose messages those were.
    func release(everyone: Bool, at now: Timestamp) async throws -> [String] {
        try await database.transaction { transaction in
            if everyone {
                try transaction.run("DELETE FROM broker_consumer")
            } else {
                try transaction.run("DELETE FROM broker_consumer WHERE alive_until < \(now)")
            }
            return try transaction.run(
                """
                UPDATE broker_message SET holder = NULL, returns = returns + 1
                WHERE holder IS NOT NULL AND NOT EXISTS (
                    SELECT 1 FROM broker_consumer WHERE broker_consumer.holder = broker_message.holder)
                RETURNING queue
                """
            ).map { try $0.text("queue") }
        }
    }

    /// `RETURNING` promises no order.
    private func inOrder(_ rows: Rows) throws -> [Claimed] {
        try rows.map { row in
            (
                try row.int64("visible_at"),
                Claimed(
                    seq: try row.int64("seq"),
                    message: Message(
                        id: try row.text("id"), body: try row.bytes("body"),
                        contentType: try row.text("content_type"),
                        traceparent: try row.optionalText("traceparent"),
                        requestID: try row.optionalText("request_id")),
                    queue: try row.text("queue"), attempt: try row.int("attempt"),
                    returns: try row.int("returns"), reason: try row.optionalText("reason"))
            )
        }
        .sorted { ($0.0, $0.1.seq) < ($1.0, $1.1.seq) }
        .map(\.1)
    }
}

extension BrokerError {
    /// Runs `work`, translating what the storage says.
    static func translating<Result>(_ work: () async throws -> Result) async throws -> Result {
        do {
            return try await work()
        } catch let error as StorageError {
            switch error {
            case .unavailable(let reason, let mayHaveRun):
                throw BrokerError.unavailable(reason: reason, mayHaveRun: mayHaveRun)
            case .poolExhausted:
                throw BrokerError.unavailable(reason: "no connection became free", mayHaveRun: false)
            case .timedOut: throw BrokerError.timedOut
            default: throw error
            }
        }
    }
}
