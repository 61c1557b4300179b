import Contracts
import Core
import Storage

/// The two writes that every invitation costs, each as one statement that does nothing unless all is still as it
/// was when the target was claimed. Where it is not, nil: then the transaction decides, with a closer look.
///
/// On PostgreSQL alone: each statement there is a journey and each commit waits for the disk. SQLite has neither
/// journeys nor another writer, and no data-changing `WITH`.
extension InviteStore {
    /// `begin` of a task without a pace, unchanged since it was read.
    func beginAtOnce(
        _ attempt: InviteAttempt, of task: InviteTask, by worker: String, at now: Timestamp
    ) async throws -> SendPermission? {
        guard database.dialect == .postgres, !task.settings.isPaced, !attempt.isTest else { return nil }
        // A pause that is being written down is waited for, and then found: the share is taken of the newest row,
        // and who changes a task's state locks it whole.
        let begun = try await database.gather(
            """
            WITH running AS (
                SELECT id FROM invite_tasks
                WHERE id = \(task.id) AND status = 'in_progress' AND version = \(task.version) FOR KEY SHARE),
            taken AS (
                UPDATE invite_targets SET status = 'sending', attempt_id = \(attempt.id),
                    account_id = \(attempt.accountID), held_until = \(now + Self.hold), updated_at = \(now)
                FROM running
                WHERE invite_targets.id = \(attempt.targetID) AND invite_targets.status = 'claimed'
                    AND held_by = \(worker)
                RETURNING invite_targets.id)
            INSERT INTO invite_attempts (target_id, id, task_id, user_id, run, action, account_id, channel,
                lease_id, fencing_token, permit_id, content, is_test, started_at)
            SELECT taken.id, \(attempt.id), \(attempt.taskID), \(attempt.userID), \(attempt.run),
                \(attempt.action.rawValue), \(attempt.accountID), CAST(\(attempt.channel) AS TEXT),
                \(attempt.leaseID), \(attempt.fencingToken), CAST(\(attempt.permitID) AS TEXT),
                \(attempt.content), FALSE, \(now)
            FROM taken
            """)
        return begun.affected == 1 ? .granted : nil
    }

    /// `finish` of an attempt that came to its target's end and to nothing else: no stop-list, no way back.
    func finishAtOnce(
        _ attempt: InviteAttempt, _ result: SendResult, _ step: NextStep, of target: InviteTarget,
        in task: InviteTask, isRecorded: Bool, at now: Timestamp
    ) async throws -> Bool? {
        let who = target.identity
        guard database.dialect == .postgres, step.suppression == .none, !who.isErased else { return nil }
        let end: TargetEnd
        switch step.target {
        case .invited: end = TargetEnd(.invited, .inviteSuccessful, nil)
        case .failed(let reason): end = TargetEnd(.failed, .inviteFailed, reason)
        case .skipped(let reason): end = TargetEnd(.skipped, .inviteSkipped, reason)
        case .back, .toAnother, .backAsMessage, .inDoubt: return nil
        }
        let (code, detail) = (result.code, result.originalWords)
        var more: SQL = ""
        var isAlone: SQL = "TRUE"
        if case .sent(let sent) = result, end.stage == .invited {
            more = """
                , invited_at = \(now), is_member = CAST(\(sent.isMember) AS BOOLEAN),
                verify_at = CAST(\(task.verification(of: target, attempt.action, at: now)) AS BIGINT)
                """
            if let person = sent.targetUserID, target.identity.platformID == nil {
                more = "\(more), platform_id = \(person)"
                // Two targets that turn out to be one person are sorted out by the transaction.
                isAlone = """
                    NOT EXISTS (SELECT 1 FROM invite_targets AS other
                        WHERE other.task_id = \(task.id) AND other.platform_id = \(person))
                    """
            }
        }
        let details = LogDetails.of(attempt, target: who, words: detail)
        do {
            // Whoever was erased meanwhile has another identity by now, and must not come back with the log.
            let done = try await database.gather(
                """
                WITH own AS (
                    UPDATE invite_targets SET status = \(end.stage.rawValue), error_code = \(end.reason?.code),
                        error_detail = \(end.reason == nil ? nil : detail), held_by = NULL, held_until = NULL,
                        updated_at = \(now), attempts = attempts + \(step.count == .none ? 0 : 1) \(more)
                    WHERE id = \(target.id) AND attempt_id = \(attempt.id)
                        AND status IN ('sending', 'in_doubt')
                        AND username IS NOT DISTINCT FROM CAST(\(who.username) AS TEXT)
                        AND phone IS NOT DISTINCT FROM CAST(\(who.phone) AS TEXT)
                        AND platform_id IS NOT DISTINCT FROM CAST(\(who.platformID) AS BIGINT)
                        AND \(isAlone)
                        AND EXISTS (SELECT 1 FROM invite_attempts
                            WHERE id = \(attempt.id) AND counts = 'open')
                    RETURNING id),
                closed AS (
                    UPDATE invite_attempts SET counts = \(step.count.rawValue), code = \(code),
                        is_recorded = \(isRecorded), finished_at = \(now)
                    FROM own WHERE invite_attempts.id = \(attempt.id))
                INSERT INTO invite_logs (target_id, task_id, user_id, account_id, action, code, details, at)
                SELECT own.id, \(task.id), \(task.userID), \(attempt.accountID), \(end.action.rawValue),
                    CAST(\(end.reason?.code) AS TEXT), \(details), \(now)
                FROM own
                """)
            return done.affected == 1 ? true : nil
        } catch StorageError.uniqueViolation {
            // Found out about two targets at the same moment.
            return nil
        }
    }
}

private struct TargetEnd {
    let stage: TargetStage
    let action: LogAction
    let reason: TargetReason?

    init(_ stage: TargetStage, _ action: LogAction, _ reason: TargetReason?) {
        self.stage = stage
        self.action = action
        self.reason = reason
    }
}

extension SendResult {
    /// The one word of a refusal.
    var code: String? { if case .refused(let refusal, _, _, _) = self { refusal.rawValue } else { nil } }

    /// What Telegram said, as much of it as is kept.
    var originalWords: String? {
        if case .refused(_, let original, _, _) = self { String(original.prefix(300)) } else { nil }
    }
}

extension InviteTask {
    /// Somebody who is in may leave again, and who got a link may come: when they are looked for.
    func verification(of target: InviteTarget, _ action: LimitedAction, at now: Timestamp) -> Timestamp? {
        let isWanted = target.inviteLink != nil || settings.verifiesMembership && action == .invite
        return isWanted ? now + .hours(1) : nil
    }
}

extension PersonIdentity {
    /// Whether they have been forgotten since they were listed.
    var isErased: Bool { keys.isEmpty }
}

/// What a line of the log says beside its words: of somebody who was erased, nothing that names them.
enum LogDetails {
    static func of(_ target: PersonIdentity) -> JSONValue {
        target.isErased ? [:] : ["target": .string(target.displayName)]
    }

    static func of(_ attempt: InviteAttempt, target: PersonIdentity, words: String?) -> JSONValue {
        .object(present: [
            "target": target.isErased ? nil : .string(target.displayName),
            "original_error": target.isErased ? nil : words.map { .string($0) },
            "action": .string(attempt.action.rawValue),
        ])
    }
}
