public import Core
import Storage

// Who works on what, and what the work leaves behind.
extension ParseStore {
    /// How long a claim holds without a sign of life.
    public static let claimDuration: Duration = .seconds(60)

    // MARK: - Claims

    /// Takes the task that is next: high before low, the user with the fewest running first, then whoever came
    /// first. One statement, so that nobody comes between choosing and taking.
    public func claim(_ token: String, by worker: String, at now: Timestamp) async throws -> ParseTask? {
        let rows = try await database.run(
            """
            UPDATE parse_tasks SET claim = \(token), claimed_by = \(worker),
                claimed_until = \(now + Self.claimDuration)
            WHERE no = (
                SELECT no FROM parse_tasks AS next
                WHERE status IN ('pending', 'running') AND deleted_at IS NULL AND not_before <= \(now)
                    AND claimed_until <= \(now)
                ORDER BY priority, (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = next.user_id AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL
                ), queued_at, no
                LIMIT 1 \(raw: database.dialect.skipLocked))
            RETURNING *
            """)
        return try rows.first.map { try ParseTask($0) }
    }

    /// A worker that starts again under its name takes up at once what it held.
    public func forgetClaims(of worker: String) async throws {
        try await database.run(
            """
            UPDATE parse_tasks SET claim = NULL, claimed_until = 0
            WHERE claimed_by = \(worker) AND claim IS NOT NULL
            """)
    }

    /// A sign of life. False where the claim is lost, because the task was stopped or somebody else has it.
    public func keepClaim(_ task: ParseTask, at now: Timestamp) async throws -> Bool {
        guard let claim = task.claim else { return false }
        return try await database.run(
            """
            UPDATE parse_tasks SET claimed_until = \(now + Self.claimDuration)
            WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL
                AND status IN ('pending', 'running')
            """
        ).affected > 0
    }

    /// The task as it is now; nil where the claim is lost.
    public func claimed(_ task: ParseTask) async throws -> ParseTask? {
        guard let claim = task.claim else { return nil }
        return try await database.run(
            "SELECT * FROM parse_tasks WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL"
        ).first.map { try ParseTask($0) }
    }

    /// Reading begins, or goes on, with this account.
    public func begin(_ task: ParseTask, with lease: AccountLease, at now: Timestamp) async throws
        -> ParseTask
    {
        try await changed(
            task,
            """
            status = 'running', started_at = coalesce(started_at, \(now)), waiting = NULL, not_before = 0,
            lease = \(lease.stored), updated_at = \(now)
            """)
    }

    /// The account was given back.
    public func forgetLease(_ task: ParseTask) async throws -> ParseTask {
        try await changed(task, "lease = NULL")
    }

    /// Gives the task back, to be taken up again not before a moment.
    public func wait(_ task: ParseTask, for waiting: Waiting, at now: Timestamp) async throws {
        try await rest(
            task,
            """
            waiting = \(waiting.stored), not_before = \(waiting.until), claim = NULL, claimed_until = 0,
            lease = NULL, updated_at = \(now)
            """)
    }

    /// Gives the task back at once, behind others of its priority.
    public func yield(_ task: ParseTask, at now: Timestamp) async throws {
        try await rest(
            task, "claim = NULL, claimed_until = 0, lease = NULL, queued_at = \(now), updated_at = \(now)")
    }

    /// The end: everything was read, or it cannot be.
    public func finish(
        _ task: ParseTask, _ failure: TaskFailure?, at now: Timestamp, keepingResultsFor retention: Duration
    ) async throws {
        try await rest(
            task,
            """
            status = \((failure == nil ? TaskStatus.completed : .failed).rawValue), failure = \(failure?.stored),
            waiting = NULL, claim = NULL, claimed_until = 0, lease = NULL, finished_at = \(now),
            updated_at = \(now), results_until = \(now + retention)
            """)
    }

    /// Nobody works on the task any more: what its people wrote is counted up to the last message.
    private func rest(_ task: ParseTask, _ assignments: SQL) async throws {
        try await database.transaction(isolation: .readCommitted, timeout: .minutes(2)) { transaction in
            try transaction.hold(task)
            try transaction.countAll(of: try transaction.change(task, assignments))
        }
    }

    private func changed(_ task: ParseTask, _ assignments: SQL) async throws -> ParseTask {
        try await database.transaction { transaction in
            try transaction.hold(task)
            return try transaction.change(task, assignments)
        }
    }

    /// An account has become free: those of its user that wait for one may look again.
    public func wakeWaiting(of user: Int64) async throws -> Int {
        try await database.run(
            """
            UPDATE parse_tasks SET not_before = 0
            WHERE user_id = \(user) AND status IN ('pending', 'running') AND deleted_at IS NULL
                AND not_before > 0 AND claim IS NULL AND waiting LIKE '%no_account%'
            """
        ).affected
    }

    /// Whether somebody waits whose turn it is more than this task's: of a higher priority, or a user who has
    /// less running.
    public func isSomebodyWaiting(behind task: ParseTask, at now: Timestamp) async throws -> Bool {
        try await database.run(
            """
            SELECT 1 FROM parse_tasks AS next
            WHERE status IN ('pending', 'running') AND deleted_at IS NULL AND not_before <= \(now)
                AND claimed_until <= \(now)
                AND (priority < \(task.priority.rank) OR priority = \(task.priority.rank) AND (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = next.user_id AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL
                ) + 1 < (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = \(task.user) AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL))
            LIMIT 1
            """
        ).count > 0
    }

    /// Whether a more urgent task of the same user waits for an account, which this one could give it.
    public func isUrgentWaiting(for task: ParseTask) async throws -> Bool {
        try await database.run(
            """
            SELECT 1 FROM parse_tasks
            WHERE user_id = \(task.user) AND priority < \(task.priority.rank)
                AND status IN ('pending', 'running') AND deleted_at IS NULL AND claim IS NULL
                AND waiting LIKE '%no_account%'
            LIMIT 1
            """
        ).count > 0
    }

    /// A stopped task's account goes back, unless somebody else has taken up the task together with it. True
    /// where it is for the caller to give it back.
    public func dropLease(_ lease: AccountLease, of task: ParseTask) async throws -> Bool {
        try await database.run(
            """
            UPDATE parse_tasks SET lease = NULL
            WHERE no = \(task.number) AND lease = \(lease.stored) AND (claim IS NULL OR claim = \(task.claim))
            """
        ).affected > 0
    }

    /// The account a task still names that nobody works on, whether it is deleted or not.
    public func leaseLeft(by task: ParseTask) async throws -> AccountLease? {
        let rows = try await database.run("SELECT lease FROM parse_tasks WHERE no = \(task.number)")
        return AccountLease(stored: try rows.first?.optionalJSON("lease"))
    }

    /// When the next task is due that is not yet; nil where none is.
    public func nextDue(after now: Timestamp) async throws -> Timestamp? {
        try await database.run(
            """
            SELECT min(CASE WHEN not_before > claimed_until THEN not_before ELSE claimed_until END) AS due
            FROM parse_tasks
            WHERE status IN ('pending', 'running') AND deleted_at IS NULL
                AND (not_before > \(now) OR claimed_until > \(now))
            """
        )[0].optionalTimestamp("due")
    }

    /// An account of the user's that reads for us just now.
    public func accountInUse(of user: Int64, at now: Timestamp) async throws -> String? {
        let rows = try await database.run(
            """
            SELECT lease FROM parse_tasks
            WHERE user_id = \(user) AND status = 'running' AND claimed_until > \(now) AND lease IS NOT NULL
                AND deleted_at IS NULL
            LIMIT 1
            """)
        return AccountLease(stored: try rows.first?.optionalJSON("lease"))?.account
    }

    // MARK: - Pace

    public func pace(of account: String) async throws -> Pace {
        try await database.run("SELECT requests FROM parse_account_pace WHERE account = \(account)").first
            .map { Pace(stored: try $0.text("requests")) } ?? Pace()
    }

    /// Before the request goes out, so that no crash lets an account ask sooner than it may.
    public func note(_ pace: Pace, of account: String, at now: Timestamp) async throws {
        try await database.run(
            """
            INSERT INTO parse_account_pace (account, requests, updated_at)
            VALUES (\(account), \(pace.stored), \(now))
            ON CONFLICT (account) DO UPDATE SET requests = excluded.requests, updated_at = excluded.updated_at
            """)
    }
}

extension Transaction {
    /// Keeps a task's row as it is until the transaction ends: it is ours, and stands as we left it.
    ///
    /// It stands otherwise where somebody was erased from it, or where a power cut took our last pages out of the
    /// database again and not out of our memory.
    func hold(_ task: ParseTask) throws {
        guard let claim = task.claim else { throw ParseError.claimLost }
        let rows = try run(
            """
            SELECT revision FROM parse_tasks
            WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL
                AND status IN ('pending', 'running')
            \(raw: dialect.locking)
            """)
        guard let row = rows.first else { throw ParseError.claimLost }
        guard try row.int64("revision") == task.revision else { throw ParseError.overtaken }
    }

    fileprivate func change(_ task: ParseTask, _ assignments: SQL) throws -> ParseTask {
        try ParseTask(
            run(
                """
                UPDATE parse_tasks SET \(assignments), revision = revision + 1
                WHERE no = \(task.number) RETURNING *
                """)[0])
    }
}
