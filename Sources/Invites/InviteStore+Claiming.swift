public import Core
import Storage

/// What a worker gets when it asks for people to invite.
public enum TargetClaim: Equatable, Sendable {
    case claimed([InviteTarget])
    /// Nobody is due now.
    case nobody
    /// The task does not run any more.
    case stopped
}

/// The way of an invitation, as far as it is kept in SQL.
extension InviteStore {
    /// How long a worker may keep a target without a word. Integration-service answers or gives up before.
    public static let hold = Duration.minutes(3)

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

    /// Ends a claimed person to whom nothing was sent, and says why.
    func giveUp(
        _ target: InviteTarget, _ reason: TargetReason, of task: InviteTask, by worker: String,
        at now: Timestamp
    ) async throws {
        try await database.transaction { transaction in
            let rows = try transaction.run(
                """
                SELECT * FROM invite_targets
                WHERE id = \(target.id) AND status = 'claimed' AND held_by = \(worker)
                """)
            guard let found = try rows.first.map({ try InviteTarget($0) }) else { return }
            try transaction.settle(found, as: .failed, reason, at: now)
            try transaction.log(
                NewLogEntry(
                    .inviteFailed, target: found.id, code: reason.code,
                    details: LogDetails.of(found.identity)), of: task, at: now)
        }
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
}
