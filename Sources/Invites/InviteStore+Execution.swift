public import Contracts
public import Core
import Storage

/// One attempt as it is kept before anything goes out.
public struct InviteAttempt: Equatable, Sendable {
    public let id: String
    public let taskID: Int64
    public let targetID: Int64
    public let userID: Int64
    public let run: Int64
    public let action: LimitedAction
    public let accountID: String
    public let channel: String?
    public let leaseID: String
    public let fencingToken: Int64
    public let permitID: String?
    /// What was to be sent, for asking again under the same id.
    public let content: String
    public let isTest: Bool
    public let startedAt: Timestamp

    public init(
        id: String, target: InviteTarget, run: Int64, _ action: LimitedAction, _ lease: LeasedAccount,
        channel: String?, permit: String?, content: String, isTest: Bool = false, at now: Timestamp
    ) {
        self.init(
            id: id, taskID: target.taskID, targetID: target.id, userID: target.userID, run: run,
            action: action, accountID: lease.accountID, channel: channel, leaseID: lease.leaseID,
            fencingToken: lease.fencingToken, permitID: permit, content: content, isTest: isTest,
            startedAt: now)
    }

    init(
        id: String, taskID: Int64, targetID: Int64, userID: Int64, run: Int64, action: LimitedAction,
        accountID: String, channel: String?, leaseID: String, fencingToken: Int64, permitID: String?,
        content: String, isTest: Bool, startedAt: Timestamp
    ) {
        self.id = id
        self.taskID = taskID
        self.targetID = targetID
        self.userID = userID
        self.run = run
        self.action = action
        self.accountID = accountID
        self.channel = channel
        self.leaseID = leaseID
        self.fencingToken = fencingToken
        self.permitID = permitID
        self.content = content
        self.isTest = isTest
        self.startedAt = startedAt
    }
}

/// What a worker gets when it asks for people to invite.
public enum TargetClaim: Equatable, Sendable {
    case claimed([InviteTarget])
    /// Nobody is due now.
    case nobody
    /// The task does not run any more.
    case stopped
}

/// Whether an attempt may go out.
public enum SendPermission: Equatable, Sendable {
    case granted
    case wait(until: Timestamp, WaitReason)
    /// Paused or cancelled meanwhile, or the claim has run out: the target is somebody else's.
    case stopped
}

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

/// The way of an invitation, as far as it is kept in SQL.
extension InviteStore {
    /// How long a worker may keep a target without a word. Integration-service answers or gives up before.
    public static let hold = Duration.minutes(3)

    // MARK: - Claiming

    /// Takes people to invite, and sorts out in the same transaction who is on the stop-list. With them comes
    /// the task as it was then.
    public func claim(
        _ task: Int64, limit: Int, by worker: String, at now: Timestamp
    ) async throws -> (claim: TargetClaim, suppressed: Int, task: InviteTask?) {
        let digests = digests
        return try await database.transaction { transaction in
            let rows = try transaction.run("SELECT * FROM invite_tasks WHERE id = \(task)")
            guard let found = try rows.first.map({ try InviteTask($0) }), found.status == .inProgress else {
                return (.stopped, 0, nil)
            }
            let until = now + Self.hold
            let claimed = try transaction.run(
                """
                UPDATE invite_targets SET status = 'claimed', held_by = \(worker), held_until = \(until),
                    updated_at = \(now)
                WHERE id IN (
                    SELECT id FROM invite_targets
                    WHERE task_id = \(task) AND status = 'pending' AND not_before <= \(now)
                    ORDER BY not_before, id LIMIT \(limit) \(raw: transaction.dialect.skipLocked))
                RETURNING *
                """
            ).map { try InviteTarget($0) }.sorted { $0.id < $1.id }
            guard !claimed.isEmpty else { return (.nobody, 0, found) }
            let stopped = try transaction.suppressed(
                claimed.flatMap { digests.digests($0.identity) }, of: found.userID,
                community: found.community)
            var free: [InviteTarget] = []
            var suppressed = 0
            for target in claimed {
                guard digests.digests(target.identity).contains(where: { stopped.contains($0) }) else {
                    free.append(target)
                    continue
                }
                suppressed += 1
                try transaction.settle(target, as: .skipped, .suppressed, at: now)
                try transaction.log(
                    NewLogEntry(
                        .inviteSkipped, target: target.id, code: TargetReason.suppressed.code,
                        details: ["target": .string(target.identity.displayName)]), of: found, at: now)
            }
            return (free.isEmpty ? .nobody : .claimed(free), suppressed, found)
        }
    }

    /// Takes one person for a test, whatever the task is doing. Nil where they are somebody else's just now, or
    /// on the stop-list.
    public func claimForTest(_ target: Int64, of task: InviteTask, by worker: String, at now: Timestamp)
        async throws -> InviteTarget?
    {
        let digests = digests
        return try await database.transaction { transaction in
            let rows = try transaction.run(
                """
                UPDATE invite_targets SET status = 'claimed', held_by = \(worker),
                    held_until = \(now + Self.hold), updated_at = \(now)
                WHERE id = \(target) AND task_id = \(task.id) AND status = 'pending'
                RETURNING *
                """)
            guard let claimed = try rows.first.map({ try InviteTarget($0) }) else { return nil }
            let stopped = try transaction.suppressed(
                digests.digests(claimed.identity), of: task.userID, community: task.community)
            guard stopped.isEmpty else {
                try transaction.settle(claimed, as: .skipped, .suppressed, at: now)
                return nil
            }
            return claimed
        }
    }

    /// Gives claimed people back untouched.
    public func giveBack(_ targets: [InviteTarget], by worker: String, notBefore: Timestamp = .epoch)
        async throws
    {
        guard !targets.isEmpty else { return }
        try await database.run(
            """
            UPDATE invite_targets SET status = 'pending', held_by = NULL, held_until = NULL,
                not_before = CASE WHEN not_before > \(notBefore) THEN not_before ELSE \(notBefore) END
            WHERE id IN \(list: targets.map(\.id)) AND status = 'claimed' AND held_by = \(worker)
            """)
    }

    /// How many others are sending for a task just now.
    public func holders(of task: Int64, besides worker: String, at now: Timestamp) async throws -> Int {
        try await database.run(
            """
            SELECT COUNT(DISTINCT held_by) AS count FROM invite_targets
            WHERE task_id = \(task) AND status IN ('claimed', 'sending') AND held_until > \(now)
                AND held_by <> \(worker)
            """
        ).first?.int("count") ?? 0
    }

    // MARK: - Sending

    /// Marks a target as being sent to, with its attempt: from here on a crash leaves it in doubt. Refused
    /// where the task has been stopped since; the pause that was answered before this commit holds.
    public func begin(
        _ attempt: InviteAttempt, of task: InviteTask, by worker: String, at now: Timestamp
    ) async throws -> SendPermission {
        if let quick = try await beginAtOnce(attempt, of: task, by: worker, at: now) { return quick }
        return try await database.transaction { transaction in
            guard
                let row = try transaction.run("SELECT * FROM invite_tasks WHERE id = \(attempt.taskID)").first
            else { return .stopped }
            // Two workers must not both find the last place of the day free; without a pace of its own a task
            // is begun for by all at once, and only a pause has to wait. A share is never made into a lock of
            // one's own: two who tried would wait for each other.
            let task: InviteTask =
                try InviteTask(row).settings.isPaced
                ? try transaction.heldTask(attempt.taskID) : try transaction.sharedTask(attempt.taskID)
            guard task.status == .inProgress || attempt.isTest else { return .stopped }
            if task.settings.isPaced, !attempt.isTest {
                let today = task.settings.dayStart(at: now)
                let sent: Int =
                    task.settings.dailyCap == nil && task.settings.rampUp == nil
                    ? 0
                    : try transaction.run(
                        """
                        SELECT COUNT(*) AS count FROM invite_attempts
                        WHERE task_id = \(task.id) AND started_at >= \(today) AND counts <> 'none'
                        """
                    ).first?.int("count") ?? 0
                let state = PaceState(
                    startedAt: task.startedAt, lastSentAt: task.lastSentAt, sentToday: sent)
                if case .wait(let until, let reason) = task.settings.pace(state, at: now) {
                    return .wait(until: until, reason)
                }
                try transaction.run(
                    "UPDATE invite_tasks SET last_sent_at = \(now) WHERE id = \(task.id)")
            }
            let taken = try transaction.run(
                """
                UPDATE invite_targets SET status = 'sending', attempt_id = \(attempt.id),
                    account_id = \(attempt.accountID), held_until = \(now + Self.hold), updated_at = \(now)
                WHERE id = \(attempt.targetID) AND status = 'claimed' AND held_by = \(worker)
                """)
            guard taken.affected == 1 else { return .stopped }
            try transaction.run(
                """
                INSERT INTO invite_attempts (id, task_id, target_id, user_id, run, action, account_id,
                    channel, lease_id, fencing_token, permit_id, content, is_test, started_at)
                VALUES (\(attempt.id), \(attempt.taskID), \(attempt.targetID), \(attempt.userID),
                    \(attempt.run), \(attempt.action.rawValue), \(attempt.accountID), \(attempt.channel),
                    \(attempt.leaseID), \(attempt.fencingToken), \(attempt.permitID), \(attempt.content),
                    \(attempt.isTest), \(now))
                """)
            return .granted
        }
    }

    /// Writes down what an attempt came to: the target's state, the stop-list and one line of the log in one
    /// transaction. False where it stood there already.
    @discardableResult
    public func finish(
        _ attempt: InviteAttempt, _ result: SendResult, _ step: NextStep, of target: InviteTarget,
        in task: InviteTask, isRecorded: Bool, at now: Timestamp
    ) async throws -> Bool {
        let quick = try await finishAtOnce(
            attempt, result, step, of: target, in: task, isRecorded: isRecorded, at: now)
        if let quick { return quick }
        let digests = digests
        let random = random
        return try await database.transaction { transaction in
            if step.target != .inDoubt {
                let closed = try transaction.run(
                    """
                    UPDATE invite_attempts SET counts = \(step.count.rawValue), code = \(result.code),
                        is_recorded = \(isRecorded), finished_at = \(now)
                    WHERE id = \(attempt.id) AND counts = 'open'
                    """)
                guard closed.affected == 1 else { return false }
            }
            let lock: StaticString = transaction.dialect == .postgres ? "FOR UPDATE" : ""
            let found = try transaction.run(
                """
                SELECT * FROM invite_targets WHERE id = \(attempt.targetID) AND attempt_id = \(attempt.id)
                    AND status IN ('sending', 'in_doubt') \(raw: lock)
                """)
            guard let target = try found.first.map({ try InviteTarget($0) }) else { return false }
            guard
                let task = try transaction.run("SELECT * FROM invite_tasks WHERE id = \(attempt.taskID)")
                    .first.map({ try InviteTask($0) })
            else { return false }
            try transaction.write(
                result, step, to: target, of: task, attempt, digests: digests, random: random, at: now)
            return true
        }
    }

    public func noteRecorded(_ attempt: String) async throws {
        try await database.run(
            "UPDATE invite_attempts SET is_recorded = TRUE WHERE id = \(attempt)")
    }

    /// Attempts whose outcome is known here and that account-manager has not heard of for sure.
    public func unrecorded(before moment: Timestamp, limit: Int = 100) async throws
        -> [(attempt: InviteAttempt, isAccepted: Bool, code: String?)]
    {
        try await database.run(
            """
            SELECT * FROM invite_attempts WHERE is_recorded = FALSE AND counts <> 'open'
                AND finished_at <= \(moment) ORDER BY finished_at LIMIT \(limit)
            """
        ).map {
            (
                try InviteAttempt($0), try $0.text("counts") == NextStep.Count.accepted.rawValue,
                try $0.optionalText("code")
            )
        }
    }

    // MARK: - After a crash

    /// What workers that are gone left behind: claims go back, attempts are in doubt.
    public func releaseHeld(at now: Timestamp) async throws -> (back: Int, doubted: Int) {
        try await database.transaction { transaction in
            let back = try transaction.run(
                """
                UPDATE invite_targets SET status = 'pending', held_by = NULL, held_until = NULL,
                    updated_at = \(now)
                WHERE status = 'claimed' AND held_until <= \(now)
                """)
            let doubted = try transaction.run(
                """
                UPDATE invite_targets SET status = 'in_doubt', held_by = NULL, held_until = NULL,
                    not_before = \(now), updated_at = \(now)
                WHERE status = 'sending' AND held_until <= \(now)
                """)
            return (back.affected, doubted.affected)
        }
    }

    /// Those whose attempt has to be found out about now, taken for a while so that one worker does it.
    public func claimDoubts(of task: Int64?, limit: Int, at now: Timestamp) async throws
        -> [(target: InviteTarget, attempt: InviteAttempt)]
    {
        let scope: SQL = task.map { "task_id = \($0) AND" } ?? ""
        return try await database.transaction { transaction in
            let targets = try transaction.run(
                """
                UPDATE invite_targets SET not_before = \(now + Self.hold), looks = looks + 1
                WHERE id IN (
                    SELECT id FROM invite_targets
                    WHERE \(scope) status = 'in_doubt' AND not_before <= \(now)
                    ORDER BY not_before, id LIMIT \(limit) \(raw: transaction.dialect.skipLocked))
                RETURNING *
                """
            ).map { try InviteTarget($0) }
            return try targets.compactMap { target in
                guard let id = target.attemptID,
                    let row = try transaction.run("SELECT * FROM invite_attempts WHERE id = \(id)").first
                else { return nil }
                return (target, try InviteAttempt(row))
            }
        }
    }

    public func postpone(doubt target: Int64, until moment: Timestamp) async throws {
        try await database.run(
            """
            UPDATE invite_targets SET not_before = \(moment) WHERE id = \(target) AND status = 'in_doubt'
            """)
    }

    // MARK: - Looking at a task

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
                    next_action_at = \(waiting == nil ? wakeAt : waiting?.until),
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

    /// Asks that a task be looked at now.
    public func wake(_ task: Int64, at now: Timestamp) async throws {
        try await database.run(
            """
            UPDATE invite_tasks SET wake_at = \(now), wish = wish + 1
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

    public func setLink(_ link: String, by account: String, of target: Int64) async throws {
        try await database.run(
            """
            UPDATE invite_targets SET invite_link = \(link), link_account_id = \(account)
            WHERE id = \(target)
            """)
    }

    // MARK: - Membership, later

    /// Those who are to be looked for among the members once more.
    public func claimVerifications(limit: Int, at now: Timestamp) async throws -> [InviteTarget] {
        try await database.transaction { transaction in
            try transaction.run(
                """
                UPDATE invite_targets SET verify_at = \(now + .minutes(10))
                WHERE id IN (
                    SELECT id FROM invite_targets WHERE verify_at <= \(now)
                    ORDER BY verify_at LIMIT \(limit) \(raw: transaction.dialect.skipLocked))
                RETURNING *
                """
            ).map { try InviteTarget($0) }
        }
    }

    /// Notes how many have come in through a target's own link; nobody yet is looked for again, for a week.
    public func noteJoins(_ joined: Int, through target: InviteTarget, at now: Timestamp) async throws {
        let isWaitedFor = joined == 0 && (target.invitedAt ?? now) + .days(7) > now
        let again: Timestamp? = isWaitedFor ? now + .hours(6) : nil
        try await database.run(
            """
            UPDATE invite_targets SET joined = \(joined), verify_at = \(again),
                is_member = CASE WHEN \(joined > 0) THEN TRUE ELSE is_member END
            WHERE id = \(target.id)
            """)
    }

    /// A target whose link the operator sends by other means has come to its end with the link.
    public func noteExport(_ target: InviteTarget, by account: String, worker: String, at now: Timestamp)
        async throws
    {
        try await database.transaction { transaction in
            let done = try transaction.run(
                """
                UPDATE invite_targets SET status = 'invited', account_id = \(account), invited_at = \(now),
                    held_by = NULL, held_until = NULL, verify_at = \(now + .hours(1)), updated_at = \(now)
                WHERE id = \(target.id) AND status = 'claimed' AND held_by = \(worker)
                """)
            guard done.affected == 1 else { return }
            try transaction.log(
                NewLogEntry(
                    .inviteSuccessful, target: target.id, account: account,
                    details: ["target": .string(target.identity.displayName), "action": "link_exported"]),
                task: target.taskID, user: target.userID, at: now)
        }
    }

    /// Notes what a later look has found; nil where nobody could tell. Who has left by themselves has said no.
    public func verified(_ target: InviteTarget, isMember: Bool?, at now: Timestamp) async throws {
        let digests = digests
        let random = random
        try await database.transaction { transaction in
            let done = try transaction.run(
                """
                UPDATE invite_targets SET verify_at = NULL,
                    is_member = CASE WHEN \(isMember == nil) THEN is_member ELSE \(isMember ?? false) END
                WHERE id = \(target.id) AND verify_at IS NOT NULL RETURNING *
                """)
            // As they stand there now: they may have been erased while somebody looked.
            guard let row = done.first, let isMember, isMember != target.isMember || !isMember,
                let task = try transaction.run("SELECT * FROM invite_tasks WHERE id = \(target.taskID)").first
                    .map({ try InviteTask($0) })
            else { return }
            let identity = try InviteTarget(row).identity
            try transaction.log(
                NewLogEntry(
                    isMember ? .memberVerified : .memberLeft, target: target.id, account: target.accountID,
                    details: LogDetails.of(identity)), of: task, at: now)
            guard !isMember, target.isMember == true else { return }
            try transaction.suppress(
                NewSuppression(
                    identity, community: task.community, reason: .left, source: "task \(task.id)"),
                of: task.userID, digests, at: now, random)
        }
    }

    public func setChannel(_ channel: String, of task: Int64) async throws {
        try await database.run("UPDATE invite_tasks SET channel = \(channel) WHERE id = \(task)")
    }

    // MARK: - Rights

    /// Which accounts may invite in a community, as far as that is known and fresh.
    public func rights(of user: Int64, in community: String, at now: Timestamp) async throws -> [String: Bool]
    {
        let rows = try await database.run(
            """
            SELECT account_id, may_invite FROM invite_rights
            WHERE user_id = \(user) AND community = \(community) AND valid_until > \(now)
            """)
        return Dictionary(
            try rows.map { (try $0.text("account_id"), try $0.bool("may_invite")) },
            uniquingKeysWith: { $1 })
    }

    /// Whether an account is known to hold the right; nil where that is to be looked up.
    public func right(of account: String, user: Int64, in community: String, at now: Timestamp) async throws
        -> (mayInvite: Bool, until: Timestamp)?
    {
        try await database.run(
            """
            SELECT may_invite, valid_until FROM invite_rights
            WHERE user_id = \(user) AND community = \(community) AND account_id = \(account)
                AND valid_until > \(now)
            """
        ).first.map { (try $0.bool("may_invite"), try $0.timestamp("valid_until")) }
    }

    /// When the first of those that are left out is looked at anew, and why they are out.
    public func exclusions(of user: Int64, in community: String, at now: Timestamp) async throws -> LeftOut {
        let rows = try await database.run(
            """
            SELECT account_id, reason, valid_until FROM invite_rights
            WHERE user_id = \(user) AND community = \(community) AND valid_until > \(now)
                AND may_invite = FALSE ORDER BY valid_until
            """)
        return LeftOut(
            accounts: try rows.map { try $0.text("account_id") },
            first: try rows.first?.timestamp("valid_until"),
            reasons: Set(try rows.compactMap { try $0.optionalText("reason") }))
    }

    public func noteRight(
        _ mayInvite: Bool, of account: String, user: Int64, in community: String, reason: String?,
        until moment: Timestamp
    ) async throws {
        try await database.run(
            """
            INSERT INTO invite_rights (user_id, account_id, community, may_invite, reason, valid_until)
            VALUES (\(user), \(account), \(community), \(mayInvite), \(reason), \(moment))
            ON CONFLICT (user_id, community, account_id) DO UPDATE
                SET may_invite = excluded.may_invite, reason = excluded.reason,
                    valid_until = excluded.valid_until
            """)
    }
}

extension Transaction {
    /// The task, whose state nobody changes until the end of the transaction: who does locks it whole. What else is
    /// noted of it, such as when to look again, waits for no send.
    fileprivate func sharedTask(_ id: Int64) throws -> InviteTask {
        try task(id, dialect == .postgres ? "FOR KEY SHARE" : "")
    }

    /// The same, and nobody else holds it so.
    fileprivate func heldTask(_ id: Int64) throws -> InviteTask {
        try task(id, dialect == .postgres ? "FOR NO KEY UPDATE" : "")
    }

    private func task(_ id: Int64, _ lock: StaticString) throws -> InviteTask {
        guard let row = try run("SELECT * FROM invite_tasks WHERE id = \(id) \(raw: lock)").first else {
            throw InviteError.unknownTask
        }
        return try InviteTask(row)
    }

    /// A target's end, or its way back.
    func settle(
        _ target: InviteTarget, as stage: TargetStage, _ reason: TargetReason?, detail: String? = nil,
        at now: Timestamp
    ) throws {
        try run(
            """
            UPDATE invite_targets SET status = \(stage.rawValue), error_code = \(reason?.code),
                error_detail = \(detail), held_by = NULL, held_until = NULL, updated_at = \(now)
            WHERE id = \(target.id)
            """)
    }

    fileprivate func write(
        _ result: SendResult, _ step: NextStep, to target: InviteTarget, of task: InviteTask,
        _ attempt: InviteAttempt, digests: SuppressionDigests, random: any RandomSource, at now: Timestamp
    ) throws {
        // Erased while the attempt was on its way: what Telegram says of them now is forgotten as well.
        let isErased = target.identity.isErased
        let detail = isErased ? nil : result.originalWords
        let details = LogDetails.of(attempt, target: target.identity, words: detail)
        func note(_ action: LogAction, _ reason: TargetReason?) throws {
            try log(
                NewLogEntry(
                    action, target: target.id, account: attempt.accountID, code: reason?.code,
                    details: details), of: task, at: now)
        }
        let counts: Int64 = step.count == .none ? 0 : 1
        if counts > 0 {
            try run("UPDATE invite_targets SET attempts = attempts + 1 WHERE id = \(target.id)")
        }
        switch step.target {
        case .invited:
            var isMember: Bool?
            var person: Int64?
            if case .sent(let sent) = result { (isMember, person) = (sent.isMember, sent.targetUserID) }
            let verify = task.verification(of: target, attempt.action, at: now)
            try settle(target, as: .invited, nil, at: now)
            try run(
                """
                UPDATE invite_targets SET invited_at = \(now), is_member = \(isMember), verify_at = \(verify)
                WHERE id = \(target.id)
                """)
            if let person, target.identity.platformID == nil, !isErased {
                try learn(person, of: target, task, at: now)
            }
            try note(.inviteSuccessful, nil)
        case .failed(let reason):
            try settle(target, as: .failed, reason, detail: detail, at: now)
            try note(.inviteFailed, reason)
        case .skipped(let reason):
            try settle(target, as: .skipped, reason, detail: detail, at: now)
            try note(.inviteSkipped, reason)
        case .back(let reason, let pause):
            if try back(target, task, at: now) {
                try run(
                    """
                    UPDATE invite_targets SET detours = detours + 1, not_before = \(now + pause),
                        error_code = \(reason.code), error_detail = \(detail)
                    WHERE id = \(target.id)
                    """)
            }
            try note(step.account == .wait ? .errorOccurred : .accountSwitched, reason)
        case .backAsMessage:
            _ = try back(target, task, at: now)
            try run("UPDATE invite_targets SET as_message = TRUE WHERE id = \(target.id)")
            try note(.inviteFailed, .refused(.privacyRestricted))
        case .inDoubt:
            try run(
                """
                UPDATE invite_targets SET status = 'in_doubt', held_by = NULL, held_until = NULL,
                    not_before = \(now + DoubtPolicy.pause(beforeLook: target.looks)),
                    error_code = 'in_doubt', updated_at = \(now)
                WHERE id = \(target.id)
                """)
            if target.stage == .sending { try note(.errorOccurred, .refused(.inDoubt)) }
        }
        let community: String? = step.suppression == .community ? task.community : nil
        if step.suppression != .none, !isErased {
            let reason: SuppressionReason =
                if step.suppression == .operatorWide {
                    .blocked
                } else if case .refused(.userBannedInGroup, _, _, _) = result { .removed } else { .left }
            try suppress(
                NewSuppression(
                    target.identity, community: community, reason: reason, source: "task \(task.id)"),
                of: task.userID, digests, at: now, random)
            try log(
                NewLogEntry(
                    .suppressed, target: target.id,
                    code: attempt.action == .invite ? result.code : nil,
                    details: details), of: task, at: now)
        }
    }

    /// Back among those still to come. False for who has come to an end instead: nobody of a cancelled task is
    /// to come, and nobody who was erased could be found.
    private func back(_ target: InviteTarget, _ task: InviteTask, at now: Timestamp) throws -> Bool {
        if task.status == .cancelled {
            try settle(target, as: .skipped, .cancelled, at: now)
        } else if target.identity.isErased {
            try settle(target, as: .skipped, .erased, at: now)
        } else {
            try settle(target, as: .pending, nil, at: now)
            return true
        }
        return false
    }

    /// Telegram has told who a target is. Another one of the task that is the same person needs no invitation.
    private func learn(_ person: Int64, of target: InviteTarget, _ task: InviteTask, at now: Timestamp) throws
    {
        let known = try run(
            """
            UPDATE invite_targets SET platform_id = \(person) WHERE id = \(target.id) AND NOT EXISTS (
                SELECT 1 FROM invite_targets WHERE task_id = \(task.id) AND platform_id = \(person))
            """)
        guard known.affected == 0 else { return }
        for row in try run(
            """
            UPDATE invite_targets SET status = 'skipped', error_code = 'duplicate_person',
                updated_at = \(now)
            WHERE task_id = \(task.id) AND platform_id = \(person) AND status = 'pending' RETURNING id
            """)
        {
            try log(
                NewLogEntry(
                    .inviteSkipped, target: try row.int64("id"), code: TargetReason.duplicate.code), of: task,
                at: now)
        }
    }
}

extension InviteAttempt {
    init(_ row: Row) throws {
        self.init(
            id: try row.text("id"), taskID: try row.int64("task_id"), targetID: try row.int64("target_id"),
            userID: try row.int64("user_id"), run: try row.int64("run"),
            action: LimitedAction(rawValue: try row.text("action")) ?? .invite,
            accountID: try row.text("account_id"), channel: try row.optionalText("channel"),
            leaseID: try row.text("lease_id"), fencingToken: try row.int64("fencing_token"),
            permitID: try row.optionalText("permit_id"), content: try row.text("content"),
            isTest: try row.bool("is_test"), startedAt: try row.timestamp("started_at"))
    }
}
