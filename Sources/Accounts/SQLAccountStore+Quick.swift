internal import Core
internal import Storage

/// Decisions from a state that was read earlier. Each is one statement that does nothing unless the account is
/// still at the revision it was decided from, so that an old view costs a second attempt and never a limit.
extension SQLAccountStore {
    /// Takes a permit that the rules allow by `known`; false when the account or the limits have changed since.
    func take(
        _ permit: Permit, from known: StoredAccount, lease: String?, by service: String
    ) async throws -> Bool {
        let claim: SQL = """
            UPDATE telegram_sessions SET revision = revision + 1
            WHERE id = \(known.id) AND revision = \(known.revision) AND \(known.limitsRevision) =
                COALESCE((SELECT value FROM account_limits WHERE scope = 'revision'), 0)
            """
        let values: SQL = """
            CAST(\(permit.id) AS TEXT), \(permit.action.rawValue), CAST(\(permit.channel?.description) AS TEXT),
            CAST(\(lease) AS TEXT), CAST(\(service) AS TEXT), \(permit.reservedAt), \(permit.expiresAt), 'open'
            """
        let columns: StaticString =
            "id, action, channel, lease_id, service, reserved_at, expires_at, state, account_id"
        if database.dialect == .postgres {
            return try await database.gather(
                """
                WITH own AS (\(claim) RETURNING id)
                INSERT INTO account_permits (\(raw: columns)) SELECT \(values), own.id FROM own
                """
            ).affected == 1
        }
        return try await database.transaction { transaction in
            guard try transaction.run(claim).affected == 1 else { return false }
            try transaction.run(
                "INSERT INTO account_permits (\(raw: columns)) VALUES (\(values), \(known.id))")
            return true
        }
    }

    /// Writes an attempt and the counters that follow from it, and with `release` gives the lease back. `after` is
    /// the account with it counted; nil when it has changed since it was read, or the lease is not held.
    func write(
        _ record: ActionRecord, _ report: Report, from known: StoredAccount, to after: StoredAccount,
        releasing release: String?, at now: Timestamp
    ) async throws -> Written? {
        let (end, reason) = after.free(for: report.action, at: now)
        let (freeAt, freeReason): (StaticString, StaticString) =
            switch report.action {
            case .invite: ("invite_free_at", "invite_reason")
            case .message: ("message_free_at", "message_reason")
            case .addContact: ("contact_free_at", "contact_reason")
            }
        let channels: SQL =
            report.action == .invite && record.channel != nil && record.success
            ? ", per_channel_invites = \(after.channels?.json.text)" : ""
        let (given, isHeld): (SQL, SQL) =
            release.map { lease in
                (
                    """
                    , locked = FALSE, locked_by = NULL, locked_until = 0, lease_id = NULL,
                    released_lease_id = \(lease),
                    free_at = CASE WHEN free_at < \(now.hour) THEN \(now.hour) ELSE free_at END
                    """,
                    "AND lease_id = \(lease) AND locked_by = \(report.service) AND locked_until > \(now)"
                )
            } ?? ("", "")
        // A lease that ended meanwhile has moved the last use forward without another revision.
        let claim: SQL = """
            UPDATE telegram_sessions
            SET used_invites_today = \(after.usedToday[.invite] ?? 0),
                used_messages_today = \(after.usedToday[.message] ?? 0),
                contacts_today = \(after.usedToday[.addContact] ?? 0), usage_day = \(after.usageDay.number),
                error_count = \(after.candidate.standing.errorCount),
                last_used_at = CASE WHEN last_used_at > \(record.at) THEN last_used_at ELSE \(record.at) END,
                \(raw: freeAt) = \(end), \(raw: freeReason) = \(reason?.rawValue) \(channels) \(given),
                revision = revision + 1
            WHERE id = \(known.id) AND revision = \(known.revision) \(isHeld)
            """
        let columns: StaticString =
            "action, channel, success, error_type, lease_id, permit_id, service, at, account_id"
        let values: SQL = """
            \(report.action.rawValue), CAST(\(record.channel?.description) AS TEXT), CAST(\(record.success) AS BOOLEAN),
            CAST(\(report.error) AS TEXT), CAST(\(report.lease) AS TEXT), CAST(\(report.permit) AS TEXT),
            CAST(\(report.service) AS TEXT), \(record.at)
            """
        let settle: SQL = "UPDATE account_permits SET state = 'recorded' WHERE id = \(report.permit)"
        if database.dialect == .postgres {
            let settled: SQL =
                report.permit == nil ? "" : ", settled AS (\(settle) AND EXISTS (SELECT 1 FROM own))"
            return try await database.gather(
                """
                WITH own AS (\(claim) RETURNING id, fencing_token, locked_at) \(settled), noted AS (
                    INSERT INTO account_ledger (\(raw: columns)) SELECT \(values), own.id FROM own)
                SELECT fencing_token, locked_at FROM own
                """
            ).first.map { try Written($0, releasing: release, by: report.service, at: now) }
        }
        return try await database.transaction { transaction in
            guard let own = try transaction.run("\(claim) RETURNING fencing_token, locked_at").first else {
                return nil
            }
            if report.permit != nil { try transaction.run(settle) }
            try transaction.run(
                "INSERT INTO account_ledger (\(raw: columns)) VALUES (\(values), \(known.id))")
            return try Written(own, releasing: release, by: report.service, at: now)
        }
    }

    /// What `write` has done.
    struct Written: Sendable {
        /// The lease that was given back.
        let released: Lease?

        init(_ row: Row, releasing lease: String?, by service: String, at now: Timestamp) throws {
            let (token, granted) = (try row.int64("fencing_token"), try row.optionalTimestamp("locked_at"))
            released = lease.map {
                Lease(
                    id: $0, service: service, fencingToken: token, grantedAt: granted ?? .epoch,
                    expiresAt: now)
            }
        }
    }

    /// Gives back a lease that recorded all it did one by one; nil where that takes a closer look.
    func releaseAtOnce(
        _ account: AccountID, owner: Int64?, lease: String, by service: String, stats: UsageStats,
        at now: Timestamp
    ) async throws -> (lease: Lease, user: Int64)? {
        // The ledger only grows: what it holds now it still holds when the row is written.
        var isRecorded: SQL = "TRUE"
        for action in ActionType.allCases {
            let told = stats.count(of: action)
            guard told > 0 else { continue }
            isRecorded = """
                \(isRecorded) AND (SELECT count(*) FROM account_ledger
                    WHERE action = \(action.rawValue) AND (lease_id = \(lease)
                        OR (lease_id IS NULL AND account_id = \(account) AND at >= telegram_sessions.locked_at))
                    ) >= \(told)
                """
        }
        let mine: SQL = owner.map { "user_id = \($0)" } ?? "TRUE"
        let row = try await database.gather(
            """
            UPDATE telegram_sessions
            SET locked = FALSE, locked_by = NULL, locked_until = 0, lease_id = NULL,
                released_lease_id = \(lease),
                last_used_at = CASE WHEN last_used_at > \(now) THEN last_used_at ELSE \(now) END,
                free_at = CASE WHEN free_at < \(now.hour) THEN \(now.hour) ELSE free_at END
            WHERE id = \(account) AND lease_id = \(lease) AND locked_by = \(service) AND locked_until > \(now)
                AND \(mine) AND \(isRecorded)
            RETURNING user_id, fencing_token, locked_at
            """
        ).first
        guard let row else { return nil }
        return (
            Lease(
                id: lease, service: service, fencingToken: try row.int64("fencing_token"),
                grantedAt: try row.optionalTimestamp("locked_at") ?? .epoch, expiresAt: now),
            try row.int64("user_id")
        )
    }
}
