public import Core
public import Storage

/// How a task goes from one state to the next.
extension InviteStore {
    /// Applies an event to a task and writes it down. From the commit on no worker begins a send that the new
    /// state forbids: each asks in the transaction that begins it.
    @discardableResult
    public func apply(
        _ event: TaskEvent, to id: Int64, of user: Int64, at now: Timestamp, reason: WaitReason? = nil,
        endedReason: String? = nil
    ) async throws -> InviteTask {
        try await database.transaction { transaction in
            try transaction.apply(
                event, to: transaction.lockedTask(id, of: user), at: now, reason: reason,
                endedReason: endedReason)
        }
    }

    /// Those that may still be on their way at Telegram.
    public func inFlight(_ task: Int64, at now: Timestamp) async throws -> Int {
        try await database.run(
            """
            SELECT COUNT(*) AS count FROM invite_targets
            WHERE task_id = \(task) AND status = 'sending' AND held_until > \(now)
            """
        ).first?.int("count") ?? 0
    }

    /// Failed targets that are to be tried once more, of these reasons or of all that another attempt may
    /// change.
    public func retryFailed(_ id: Int64, of user: Int64, codes: [String]?, at now: Timestamp) async throws
        -> (task: InviteTask, count: Int)
    {
        try await database.transaction { transaction in
            let task = try transaction.lockedTask(id, of: user)
            do throws(TaskTransitionError) { _ = try task.status.after(.retryFailed) } catch {
                throw InviteError.transition(error)
            }
            var filter: SQL = "task_id = \(id) AND status = 'failed'"
            if let codes { filter = "\(filter) AND error_code IN \(list: codes)" }
            // A person's no is final, whoever asks again.
            let nos = ["not_mutual_contact", "user_banned_in_group"]
            filter = "\(filter) AND (error_code IS NULL OR error_code NOT IN \(list: nos))"
            let count = try transaction.run(
                """
                UPDATE invite_targets SET status = 'pending', error_code = NULL, error_detail = NULL,
                    detours = 0, looks = 0, strangers = NULL, not_before = 0, as_message = FALSE, updated_at = \(now)
                WHERE \(filter)
                """
            ).affected
            guard count > 0 else { return (task, 0) }
            return (try transaction.apply(.retryFailed, to: task, at: now), count)
        }
    }
}

extension Transaction {
    /// The task, its row held until the end of the transaction.
    func lockedTask(_ id: Int64, of user: Int64? = nil) throws -> InviteTask {
        let lock: StaticString = dialect == .postgres ? "FOR UPDATE" : ""
        let rows = try run("SELECT * FROM invite_tasks WHERE id = \(id) \(raw: lock)")
        guard let row = rows.first else { throw InviteError.unknownTask }
        let task = try InviteTask(row)
        guard user == nil || user == task.userID else { throw InviteError.unknownTask }
        return task
    }

    func apply(
        _ event: TaskEvent, to task: InviteTask, at now: Timestamp, reason: WaitReason? = nil,
        endedReason: String? = nil
    ) throws -> InviteTask {
        let status: TaskStatus
        do throws(TaskTransitionError) { status = try task.status.after(event) } catch {
            throw InviteError.transition(error)
        }
        guard status != task.status else { return task }
        let starts = status == .inProgress
        let ends = status.isFinal
        // Only a start of its own begins a new sample for the automatic pause.
        let run: Int64 = starts ? 1 : 0
        let waiting: Waiting? =
            status == .paused ? Waiting(event == .autoPaused ? reason ?? .autoPaused : .operatorPaused) : nil
        let rows = try self.run(
            """
            UPDATE invite_tasks SET status = \(status.rawValue), version = version + 1, updated_at = \(now),
                started_at = CASE WHEN \(starts) THEN COALESCE(started_at, CAST(\(now) AS BIGINT)) ELSE started_at END,
                run_started_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE run_started_at END,
                finished_at = CASE WHEN \(ends) THEN CAST(\(now) AS BIGINT) ELSE NULL END, run = run + \(run),
                wish = wish + 1,
                wake_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE NULL END,
                next_action_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE NULL END, scheduled_at = NULL,
                waiting_for = \(waiting?.reason.rawValue), waiting_detail = NULL,
                ended_reason = \(ends ? endedReason : nil)
            WHERE id = \(task.id) RETURNING *
            """)
        if status == .cancelled {
            // Whoever is on the way comes to an end of their own.
            try self.run(
                """
                UPDATE invite_targets SET status = 'skipped', error_code = 'task_cancelled',
                    updated_at = \(now), held_by = NULL, held_until = NULL
                WHERE task_id = \(task.id) AND status IN ('pending', 'claimed')
                """)
        }
        let action: LogAction =
            switch event {
            case .execute: .taskStarted
            case .resume, .retryFailed: .taskResumed
            case .pause, .autoPaused: .taskPaused
            case .cancel: .taskCancelled
            case .ended, .failed: .taskFinished
            }
        let code: String? = event == .autoPaused ? waiting?.reason.rawValue : endedReason
        try log(NewLogEntry(action, code: code), of: task, at: now)
        guard let row = rows.first else { throw InviteError.unknownTask }
        return try InviteTask(row)
    }

    func log(_ entry: NewLogEntry, of task: InviteTask, at now: Timestamp) throws {
        try log(entry, task: task.id, user: task.userID, at: now)
    }

    public func log(_ entry: NewLogEntry, task: Int64, user: Int64, at now: Timestamp) throws {
        try run(
            """
            INSERT INTO invite_logs (task_id, user_id, target_id, account_id, action, code, details, at)
            VALUES (\(task), \(user), \(entry.targetID), \(entry.accountID), \(entry.action.rawValue),
                \(entry.code), \(entry.details), \(now))
            """)
    }
}
