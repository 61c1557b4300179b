public import Contracts
public import Core
import Storage

/// Whether an attempt may go out.
public enum SendPermission: Equatable, Sendable {
    case granted
    case wait(until: Timestamp, WaitReason)
    /// Paused or cancelled meanwhile, or the claim has run out: the target is somebody else's.
    case stopped
}

/// From the decision to send to the end that is written down.
extension InviteStore {
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
}

extension Transaction {
    /// The task, whose state nobody changes until the end of the transaction: who does locks it whole. What else is
    /// noted of it, such as when to look again, waits for no send.
    fileprivate func sharedTask(_ id: Int64) throws -> InviteTask {
        try task(id, dialect == .postgres ? "FOR KEY SHARE" : "")
    }

    /// The same, and nobody else holds it so.
    func heldTask(_ id: Int64) throws -> InviteTask {
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
        case .toAnother(let reason):
            if try back(target, task, at: now) {
                try run(
                    """
                    UPDATE invite_targets SET not_before = \(now), error_code = \(reason.code),
                        error_detail = \(detail),
                        strangers = COALESCE(strangers, '') || CAST(\("\(attempt.accountID) ") AS TEXT)
                    WHERE id = \(target.id)
                    """)
            }
            try note(.accountSwitched, reason)
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
