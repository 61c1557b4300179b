public import Core
import Storage

/// What a campaign has come to: counts, and the lines of its log.
extension InviteStore {
    public func counts(of tasks: [Int64]) async throws -> [Int64: TargetCounts] {
        guard !tasks.isEmpty else { return [:] }
        var counts: [Int64: TargetCounts] = [:]
        for row in try await database.run(
            """
            SELECT task_id, status, COUNT(*) AS count FROM invite_targets WHERE task_id IN \(list: tasks)
            GROUP BY task_id, status
            """)
        {
            guard let stage = TargetStage(rawValue: try row.text("status")) else { continue }
            counts[try row.int64("task_id"), default: TargetCounts()].add(stage, try row.int("count"))
        }
        return counts
    }

    public func counts(of task: Int64) async throws -> TargetCounts {
        try await counts(of: [task])[task] ?? TargetCounts()
    }

    public func attemptCounts(of tasks: [Int64]) async throws -> [Int64: AttemptCounts] {
        guard !tasks.isEmpty else { return [:] }
        var counts: [Int64: AttemptCounts] = [:]
        for row in try await database.run(
            """
            SELECT task_id, counts, COUNT(*) AS count FROM invite_attempts WHERE task_id IN \(list: tasks)
            GROUP BY task_id, counts
            """)
        {
            let count = try row.int("count")
            let task = try row.int64("task_id")
            switch NextStep.Count(rawValue: try row.text("counts")) {
            case .accepted?:
                counts[task, default: AttemptCounts()].accepted += count
                counts[task, default: AttemptCounts()].attempted += count
            case .refused?:
                counts[task, default: AttemptCounts()].refused += count
                counts[task, default: AttemptCounts()].attempted += count
            case .unknown?: counts[task, default: AttemptCounts()].attempted += count
            // What was not the target's fault, or is not known yet.
            case .none?, nil: break
            }
        }
        for row in try await database.run(
            """
            SELECT task_id, COUNT(*) AS count FROM invite_targets
            WHERE task_id IN \(list: tasks) AND status = 'invited' AND is_member = TRUE GROUP BY task_id
            """)
        {
            counts[try row.int64("task_id"), default: AttemptCounts()].verified = try row.int("count")
        }
        return counts
    }

    /// Notes how far a task is, for lists that are sorted by it.
    public func noteProgress(_ task: Int64, _ counts: TargetCounts) async throws {
        try await database.run(
            "UPDATE invite_tasks SET progress = \(counts.progress) WHERE id = \(task)")
    }

    /// How many Telegram has taken since then.
    public func acceptedSince(_ moment: Timestamp, of task: Int64) async throws -> Int {
        try await database.run(
            """
            SELECT COUNT(*) AS count FROM invite_attempts
            WHERE task_id = \(task) AND started_at >= \(moment) AND counts = 'accepted'
            """
        ).first?.int("count") ?? 0
    }

    public func linkCounts(of task: Int64) async throws -> (links: Int, joined: Int) {
        let row = try await database.run(
            """
            SELECT COUNT(*) AS links, COALESCE(SUM(joined), 0) AS joined FROM invite_targets
            WHERE task_id = \(task) AND invite_link IS NOT NULL
            """
        ).first
        return (try row?.int("links") ?? 0, try row?.int("joined") ?? 0)
    }

    /// How many of those to come are on the stop-list now.
    public func suppressedCount(in task: InviteTask) async throws -> Int {
        let list = try await database.run(
            """
            SELECT digest FROM invite_suppressions
            WHERE user_id = \(task.userID) AND community IN ('', \(task.community))
            """)
        let stopped = Set(try list.map { try $0.text("digest") })
        guard !stopped.isEmpty else { return 0 }
        var count = 0
        try await streamTargets(of: task.id, user: task.userID, TargetQuery(statusName: "PENDING")) {
            targets in
            count += targets.count { target in
                digests.digests(target.identity).contains { stopped.contains($0) }
            }
        }
        return count
    }

    // MARK: - Log

    public func logs(
        of task: Int64, after id: Int64 = 0, action: LogAction? = nil, offset: Int = 0, limit: Int,
        newestFirst: Bool = true
    ) async throws -> [LogEntry] {
        var filter: SQL = "task_id = \(task) AND id > \(id)"
        if let action { filter = "\(filter) AND action = \(action.rawValue)" }
        let direction: StaticString = newestFirst ? "DESC" : "ASC"
        return try await database.run(
            """
            SELECT * FROM invite_logs WHERE \(filter) ORDER BY id \(raw: direction)
            LIMIT \(limit) OFFSET \(offset)
            """
        ).map { try LogEntry($0) }
    }

    public func logCount(of task: Int64, action: LogAction? = nil) async throws -> Int {
        var filter: SQL = "task_id = \(task)"
        if let action { filter = "\(filter) AND action = \(action.rawValue)" }
        return try await database.run("SELECT COUNT(*) AS count FROM invite_logs WHERE \(filter)")
            .first?.int("count") ?? 0
    }
}
