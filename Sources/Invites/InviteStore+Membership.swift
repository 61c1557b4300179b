public import Core
import Storage

/// Who has become a member, through which link, and which accounts may invite.
extension InviteStore {
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
