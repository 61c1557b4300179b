public import Core
import Storage

/// People of a campaign, as an operator sees and changes them.
extension InviteStore {
    /// Writes people into a task. The same person twice is one target, however written: the first row counts,
    /// and a later one that shares a username, a number or an id with it is a duplicate.
    public func add(_ targets: [NewTarget], to task: Int64, of user: Int64, at now: Timestamp) async throws
        -> AddedTargets
    {
        try await database.transaction { transaction in
            try transaction.requireOwnTask(task, of: user)
            var ids: [Int64] = []
            for target in targets {
                let rows = try transaction.run(
                    """
                    INSERT INTO invite_targets (task_id, user_id, username, phone, platform_id, email,
                        full_name, source, source_detail, consent_basis, seen_in, created_at, updated_at)
                    VALUES (\(task), \(user), \(target.identity.username), \(target.identity.phone),
                        \(target.identity.platformID), \(target.email), \(target.fullName),
                        \(target.source.rawValue), \(target.sourceDetail), \(target.consentBasis),
                        \(target.seenIn), \(now), \(now))
                    ON CONFLICT DO NOTHING RETURNING id
                    """)
                if let row = rows.first { ids.append(try row.int64("id")) }
            }
            // Whoever is new in a running task is not to wait until it looks by itself.
            if !ids.isEmpty {
                try transaction.run(
                    """
                    UPDATE invite_tasks SET updated_at = \(now), wish = wish + 1,
                        wake_at = CASE WHEN status = 'in_progress' THEN CAST(\(now) AS BIGINT) ELSE wake_at END
                    WHERE id = \(task)
                    """)
            }
            return AddedTargets(ids: ids, duplicates: targets.count - ids.count)
        }
    }

    public func target(_ id: Int64, in task: Int64, of user: Int64) async throws -> InviteTarget {
        let rows = try await database.run(
            """
            SELECT * FROM invite_targets WHERE id = \(id) AND task_id = \(task) AND user_id = \(user)
            """)
        guard let row = rows.first else { throw InviteError.unknownTarget }
        return try InviteTarget(row)
    }

    public func targets(
        of task: Int64, user: Int64, _ query: TargetQuery, offset: Int, limit: Int
    ) async throws -> (targets: [InviteTarget], total: Int) {
        let filter = filter(task, user, query)
        let rows = try await database.run(
            "SELECT * FROM invite_targets WHERE \(filter) ORDER BY id LIMIT \(limit) OFFSET \(offset)")
        let total = try await database.run("SELECT COUNT(*) AS count FROM invite_targets WHERE \(filter)")
        return (try rows.map { try InviteTarget($0) }, try total.first?.int("count") ?? 0)
    }

    /// All of a task, in constant memory: for reports and exports.
    public func streamTargets(
        of task: Int64, user: Int64, _ query: TargetQuery = TargetQuery(),
        _ body: ([InviteTarget]) async throws -> Void
    ) async throws {
        try await database.stream(
            "SELECT * FROM invite_targets WHERE \(filter(task, user, query)) ORDER BY id"
        ) { rows in
            try await body(rows.map { try InviteTarget($0) })
        }
    }

    private func filter(_ task: Int64, _ user: Int64, _ query: TargetQuery) -> SQL {
        var filter: SQL = "task_id = \(task) AND user_id = \(user)"
        if let name = query.statusName {
            filter = "\(filter) AND status IN \(list: TargetStage.stages(named: name).map(\.rawValue))"
        }
        if let code = query.errorCode { filter = "\(filter) AND error_code = \(code)" }
        if let text = query.text {
            let pattern = likePattern(text.lowercased())
            filter = """
                \(filter) AND (username LIKE \(pattern) ESCAPE '!' OR phone LIKE \(pattern) ESCAPE '!'
                    OR CAST(platform_id AS TEXT) LIKE \(pattern) ESCAPE '!'
                    OR LOWER(full_name) LIKE \(pattern) ESCAPE '!')
                """
        }
        return filter
    }

    /// Changes who a target is, while nothing has been sent to them.
    public func update(
        _ id: Int64, in task: Int64, of user: Int64, at now: Timestamp,
        _ change: @escaping @Sendable (inout InviteTarget) throws -> Void
    ) async throws -> InviteTarget {
        do {
            return try await database.transaction { transaction in
                let lock: StaticString = transaction.dialect == .postgres ? "FOR UPDATE" : ""
                let found = try transaction.run(
                    """
                    SELECT * FROM invite_targets WHERE id = \(id) AND task_id = \(task) AND user_id = \(user)
                    \(raw: lock)
                    """)
                guard let row = found.first else { throw InviteError.unknownTarget }
                var target = try InviteTarget(row)
                guard target.stage == .pending || target.stage == .failed || target.stage == .skipped else {
                    throw InviteError.targetInUse
                }
                try change(&target)
                let rows = try transaction.run(
                    """
                    UPDATE invite_targets SET username = \(target.identity.username),
                        phone = \(target.identity.phone), platform_id = \(target.identity.platformID),
                        email = \(target.email), full_name = \(target.fullName),
                        consent_basis = \(target.consentBasis), seen_in = \(target.seenIn),
                        strangers = NULL, updated_at = \(now)
                    WHERE id = \(id) RETURNING *
                    """)
                guard let row = rows.first else { throw InviteError.unknownTarget }
                return try InviteTarget(row)
            }
        } catch StorageError.uniqueViolation {
            throw InviteError.duplicateTarget
        }
    }

    public func deleteTarget(_ id: Int64, in task: Int64, of user: Int64) async throws {
        let gone = try await database.run(
            """
            DELETE FROM invite_targets WHERE id = \(id) AND task_id = \(task) AND user_id = \(user)
                AND status NOT IN ('claimed', 'sending', 'in_doubt')
            """)
        if gone.affected == 1 { return }
        _ = try await target(id, in: task, of: user)
        throw InviteError.targetInUse
    }

    public enum BulkAction: String, Sendable, CaseIterable {
        case delete = "DELETE"
        case skip = "SKIP"
        case reset = "RESET"
    }

    /// Applies an action to many at once, and says for each whether it was possible.
    public func bulk(
        _ action: BulkAction, _ ids: [Int64], in task: Int64, of user: Int64, at now: Timestamp
    ) async throws -> [Int64: Bool] {
        try await database.transaction { transaction in
            try transaction.requireOwnTask(task, of: user)
            var verdicts = Dictionary(ids.map { ($0, false) }, uniquingKeysWith: { first, _ in first })
            let mine: SQL = "task_id = \(task) AND user_id = \(user) AND id IN \(list: ids)"
            let rows: Rows =
                switch action {
                case .delete:
                    try transaction.run(
                        """
                        DELETE FROM invite_targets
                        WHERE \(mine) AND status NOT IN ('claimed', 'sending', 'in_doubt') RETURNING id
                        """)
                case .skip:
                    try transaction.run(
                        """
                        UPDATE invite_targets SET status = 'skipped', error_code = 'left_out',
                            updated_at = \(now)
                        WHERE \(mine) AND status IN ('pending', 'failed') RETURNING id
                        """)
                case .reset:
                    try transaction.run(
                        """
                        UPDATE invite_targets SET status = 'pending', error_code = NULL, error_detail = NULL,
                            detours = 0, looks = 0, strangers = NULL, not_before = 0, as_message = FALSE, updated_at = \(now)
                        WHERE \(mine) AND (status = 'failed' OR status = 'skipped'
                            AND error_code IN ('left_out', 'task_cancelled', 'suppressed')) RETURNING id
                        """)
                }
            for row in rows { verdicts[try row.int64("id")] = true }
            if action == .reset {
                try transaction.run(
                    """
                    UPDATE invite_tasks SET wake_at = \(now), wish = wish + 1
                    WHERE id = \(task) AND status = 'in_progress'
                    """)
            }
            return verdicts
        }
    }

    /// How many for each value of a column that statistics are asked for by.
    public func breakdown(of task: Int64) async throws -> TaskBreakdown {
        func count(_ sql: SQL) async throws -> [TaskBreakdown.Line] {
            try await database.run(sql).map {
                TaskBreakdown.Line(
                    key: try $0.optionalText("key"), status: try $0.text("status"),
                    count: try $0.int("count"))
            }
        }
        return TaskBreakdown(
            bySource: try await count(
                """
                SELECT source AS key, status, COUNT(*) AS count FROM invite_targets
                WHERE task_id = \(task) GROUP BY source, status ORDER BY source, status
                """),
            byError: try await count(
                """
                SELECT error_code AS key, status, COUNT(*) AS count FROM invite_targets
                WHERE task_id = \(task) AND error_code IS NOT NULL AND status <> 'pending'
                GROUP BY error_code, status ORDER BY error_code, status
                """),
            byAccount: try await count(
                """
                SELECT account_id AS key, counts AS status, COUNT(*) AS count FROM invite_attempts
                WHERE task_id = \(task) GROUP BY account_id, counts ORDER BY account_id, counts
                """),
            byDay: try await database.run(
                """
                SELECT started_at / 86400000 AS day, counts AS status, COUNT(*) AS count FROM invite_attempts
                WHERE task_id = \(task) GROUP BY started_at / 86400000, counts ORDER BY 1, 2
                """
            ).map {
                TaskBreakdown.Line(
                    key: UTCDay(number: try $0.int64("day")).description, status: try $0.text("status"),
                    count: try $0.int("count"))
            })
    }
}

/// Numbers of a campaign, cut in four ways.
public struct TaskBreakdown: Equatable, Sendable {
    public struct Line: Equatable, Sendable {
        public let key: String?
        public let status: String
        public let count: Int
    }
    public let bySource: [Line]
    public let byError: [Line]
    public let byAccount: [Line]
    public let byDay: [Line]
}

extension Transaction {
    func requireOwnTask(_ task: Int64, of user: Int64) throws {
        let rows = try run("SELECT 1 AS one FROM invite_tasks WHERE id = \(task) AND user_id = \(user)")
        guard !rows.isEmpty else { throw InviteError.unknownTask }
    }
}
