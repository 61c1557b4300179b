public import Core
import Storage

/// What workers that are gone left behind.
extension InviteStore {
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
}
