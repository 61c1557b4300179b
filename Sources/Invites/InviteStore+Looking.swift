public import Core
import Storage

/// What has to be done about a task now.
public struct TaskOutlook: Equatable, Sendable {
    public let task: InviteTask
    /// Can be claimed at once.
    public let due: Int
    /// In workers' hands.
    public let held: Int
    /// How many work on it.
    public let holders: Int
    public let inDoubt: Int
    /// Those that are to be looked up now.
    public let doubtsDue: Int
    /// The first of those that wait for their own time.
    public let nextDue: Timestamp?
    /// When the first claim or attempt of a worker that is gone runs out.
    public let nextExpiry: Timestamp?
}

/// Looking at a task: what there is to do, what it waits for, and when somebody looks again.
extension InviteStore {
    public func outlook(_ id: Int64, at now: Timestamp) async throws -> TaskOutlook? {
        guard let task = try await task(id) else { return nil }
        let row = try await database.run(
            """
            SELECT
                COUNT(CASE WHEN status = 'pending' AND not_before <= \(now) THEN 1 END) AS due,
                COUNT(CASE WHEN status IN ('claimed', 'sending') THEN 1 END) AS held,
                COUNT(DISTINCT CASE WHEN status IN ('claimed', 'sending') THEN held_by END) AS holders,
                COUNT(CASE WHEN status = 'in_doubt' THEN 1 END) AS doubted,
                COUNT(CASE WHEN status = 'in_doubt' AND not_before <= \(now) THEN 1 END) AS doubts_due,
                MIN(CASE WHEN status IN ('pending', 'in_doubt') AND not_before > \(now)
                    THEN not_before END) AS next_due,
                MIN(CASE WHEN status IN ('claimed', 'sending') THEN held_until END) AS next_expiry
            FROM invite_targets
            WHERE task_id = \(id) AND status IN ('pending', 'claimed', 'sending', 'in_doubt')
            """
        ).first
        return TaskOutlook(
            task: task, due: try row?.int("due") ?? 0, held: try row?.int("held") ?? 0,
            holders: try row?.int("holders") ?? 0, inDoubt: try row?.int("doubted") ?? 0,
            doubtsDue: try row?.int("doubts_due") ?? 0, nextDue: try row?.optionalTimestamp("next_due"),
            nextExpiry: try row?.optionalTimestamp("next_expiry"))
    }

    /// Notes what a running task waits for and when somebody looks at it again. A wish to look at once that
    /// came after `task` was read is not overwritten.
    public func wait(_ task: InviteTask, _ waiting: Waiting?, wakeAt: Timestamp, at now: Timestamp)
        async throws
    {
        try await database.transaction { transaction in
            let current = try transaction.heldTask(task.id)
            guard current.status == .inProgress else { return }
            try transaction.run(
                """
                UPDATE invite_tasks SET
                    wake_at = CASE WHEN wish = \(task.wish) THEN CAST(\(wakeAt) AS BIGINT) ELSE wake_at END,
                    next_action_at = \(waiting?.until),
                    waiting_for = \(waiting?.reason.rawValue), waiting_detail = \(waiting?.detail)
                WHERE id = \(task.id)
                """)
            if let waiting,
                waiting.reason != current.waiting?.reason || waiting.until != current.waiting?.until
            {
                try transaction.log(
                    NewLogEntry(
                        .waiting, code: waiting.reason.rawValue,
                        details: .object(present: [
                            "until": waiting.until?.json, "detail": waiting.detail.map { .string($0) },
                        ])), of: current, at: now)
            }
        }
    }

    /// Somebody is at work on a task that was waiting: it waits no more. When to look again stays as it is.
    func noteWork(on task: InviteTask) async throws {
        guard task.waiting != nil || task.nextActionAt != nil else { return }
        try await database.run(
            """
            UPDATE invite_tasks SET next_action_at = NULL, waiting_for = NULL, waiting_detail = NULL
            WHERE id = \(task.id) AND status = 'in_progress'
            """)
    }

    /// Tasks that somebody has to look at, taken for a minute: a look that is lost is asked for again.
    public func dueTasks(at now: Timestamp, limit: Int = 50) async throws -> [(
        id: Int64, priority: TaskPriority
    )] {
        // Asked several times a second by every worker, and hardly ever is there one.
        let isAny = try await database.run(
            """
            SELECT EXISTS (SELECT 1 FROM invite_tasks WHERE status = 'in_progress' AND wake_at <= \(now))
                OR EXISTS (SELECT 1 FROM invite_tasks
                    WHERE status = 'pending' AND scheduled_at IS NOT NULL AND scheduled_at <= \(now)) AS is_any
            """
        ).first?.bool("is_any")
        guard isAny == true else { return [] }
        // A send that begins is no reason to pass its task over.
        let skipHeld: StaticString = database.dialect == .postgres ? "FOR NO KEY UPDATE SKIP LOCKED" : ""
        return try await database.transaction { transaction in
            for row in try transaction.run(
                """
                SELECT id, user_id FROM invite_tasks
                WHERE status = 'pending' AND scheduled_at IS NOT NULL AND scheduled_at <= \(now) LIMIT 20
                """)
            {
                let task = try transaction.lockedTask(try row.int64("id"))
                guard task.status == .pending, task.scheduledAt.map({ $0 <= now }) == true else { continue }
                _ = try transaction.apply(.execute, to: task, at: now)
            }
            return try transaction.run(
                """
                UPDATE invite_tasks SET wake_at = \(now + .minutes(1))
                WHERE id IN (
                    SELECT id FROM invite_tasks WHERE status = 'in_progress' AND wake_at <= \(now)
                    ORDER BY wake_at LIMIT \(limit) \(raw: skipHeld))
                RETURNING id, priority
                """
            ).map { row in
                let rank = try row.int("priority")
                return (
                    try row.int64("id"), TaskPriority.allCases.first { $0.rank == rank } ?? .medium
                )
            }
        }
    }

    /// Asks that a task be looked at now. It is noted even where a look is due anyhow: whoever is looking at this
    /// moment has not seen what this is about. Lanes come to an end all at once, and share a commit.
    public func wake(_ task: Int64, at now: Timestamp) async throws {
        try await database.gather(
            """
            UPDATE invite_tasks SET wish = wish + 1,
                wake_at = CASE WHEN wake_at < \(now) THEN wake_at ELSE CAST(\(now) AS BIGINT) END
            WHERE id = \(task) AND status = 'in_progress'
            """)
    }

    /// How this run has gone so far, for the automatic pause.
    public func sample(of task: InviteTask) async throws -> (tried: Int, failed: Int) {
        guard let start = task.runStartedAt else { return (0, 0) }
        let row = try await database.run(
            """
            SELECT COUNT(*) AS tried, COUNT(CASE WHEN counts = 'refused' THEN 1 END) AS failed
            FROM invite_attempts
            WHERE task_id = \(task.id) AND started_at >= \(start) AND counts IN ('accepted', 'refused')
            """
        ).first
        return (try row?.int("tried") ?? 0, try row?.int("failed") ?? 0)
    }

    /// How much of its day a campaign has used.
    public func paceState(of task: InviteTask, at now: Timestamp) async throws -> PaceState {
        var sent = 0
        if task.settings.dailyCap != nil || task.settings.rampUp != nil {
            sent =
                try await database.run(sentSince(task.settings.dayStart(at: now), of: task.id)).first?
                .int("count") ?? 0
        }
        return PaceState(startedAt: task.startedAt, lastSentAt: task.lastSentAt, sentToday: sent)
    }

    private func sentSince(_ moment: Timestamp, of task: Int64) -> SQL {
        """
        SELECT COUNT(*) AS count FROM invite_attempts
        WHERE task_id = \(task) AND started_at >= \(moment) AND counts <> 'none'
        """
    }
}
