public import Core
internal import Storage

/// How many accounts are in which state, judged by their ends and not by what was last written down.
public struct AccountCounts: Equatable, Sendable {
    public var total = 0
    public var healthy = 0
    public var floodWait = 0
    public var blocked = 0
    public var frozen = 0
    public var disabled = 0
    public var leased = 0
    /// Those that come back by themselves.
    public var recovering = 0
    public var nextRecovery: Timestamp?
    public var oldestLease: Timestamp?
    public var usedToday: [ActionType: Int] = [:]

    public init() {}

    public var healthPercentage: Double {
        total == 0 ? 100 : (Double(healthy) / Double(total) * 1000).rounded() / 10
    }

    /// As the health of the service and the statistics of recovery show it.
    public var json: JSONValue {
        [
            "total_accounts": JSONValue(total), "healthy_accounts": JSONValue(healthy),
            "health_percentage": .double(healthPercentage), "flood_wait_active": JSONValue(floodWait),
            "blocked_active": JSONValue(blocked), "recovery_queue_size": JSONValue(recovering),
        ]
    }
}

extension SQLAccountStore {
    /// The state of an account at `now`, in SQL.
    private func status(at now: Timestamp) -> SQL {
        """
        CASE WHEN disabled_reason IS NOT NULL THEN 'disabled' WHEN frozen_until > \(now) THEN 'frozen'
            WHEN blocked_until > \(now) THEN 'blocked' WHEN flood_wait_until > \(now) THEN 'flood_wait'
            ELSE 'active' END
        """
    }

    /// All accounts, or those of a user.
    public func counts(of user: Int64? = nil, at now: Timestamp) async throws -> AccountCounts {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        let day = now.day.number
        let row = try await database.run(
            """
            SELECT count(*) AS total, count(*) FILTER (WHERE state = 'active') AS healthy,
                count(*) FILTER (WHERE state = 'flood_wait') AS flood_wait,
                count(*) FILTER (WHERE state = 'blocked') AS blocked,
                count(*) FILTER (WHERE state = 'frozen') AS frozen,
                count(*) FILTER (WHERE state = 'disabled') AS disabled,
                count(*) FILTER (WHERE locked AND locked_until > \(now)) AS leased,
                min(CASE WHEN locked AND locked_until > \(now) THEN locked_at END) AS oldest_lease,
                count(*) FILTER (WHERE state <> 'disabled' AND ends < \(Int64.farAway)) AS recovering,
                min(CASE WHEN state <> 'disabled' AND ends < \(Int64.farAway) THEN ends END) AS next_recovery,
                CAST(COALESCE(sum(CASE WHEN usage_day >= \(day) THEN used_invites_today END), 0) AS BIGINT) AS invites,
                CAST(COALESCE(sum(CASE WHEN usage_day >= \(day) THEN used_messages_today END), 0) AS BIGINT) AS messages,
                CAST(COALESCE(sum(CASE WHEN usage_day >= \(day) THEN contacts_today END), 0) AS BIGINT) AS contacts
            FROM (
                SELECT locked, locked_until, locked_at, usage_day, used_invites_today, used_messages_today,
                    contacts_today, \(status(at: now)) AS state,
                    CASE WHEN frozen_until > \(now) THEN frozen_until WHEN blocked_until > \(now) THEN blocked_until
                        WHEN flood_wait_until > \(now) THEN flood_wait_until ELSE \(Int64.farAway) END AS ends
                FROM telegram_sessions WHERE is_active AND \(mine)
            ) AS account
            """,
            timeout: .seconds(30)
        ).first
        var counts = AccountCounts()
        guard let row else { return counts }
        counts.total = try row.int("total")
        counts.healthy = try row.int("healthy")
        counts.floodWait = try row.int("flood_wait")
        counts.blocked = try row.int("blocked")
        counts.frozen = try row.int("frozen")
        counts.disabled = try row.int("disabled")
        counts.leased = try row.int("leased")
        counts.oldestLease = try row.optionalTimestamp("oldest_lease")
        counts.recovering = try row.int("recovering")
        counts.nextRecovery = try row.optionalTimestamp("next_recovery")
        counts.usedToday = [
            .invite: try row.int("invites"), .message: try row.int("messages"),
            .addContact: try row.int("contacts"),
        ]
        return counts
    }

    /// A page of accounts, by id, without their usage.
    public func accounts(
        of user: Int64?, status wanted: AccountStatus? = nil, offset: Int, limit: Int, at now: Timestamp
    ) async throws -> (accounts: [StoredAccount], total: Int) {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        let state: SQL = wanted.map { "\(status(at: now)) = \($0.rawValue)" } ?? "TRUE"
        let rampUp = rampUp
        return try await database.transaction { transaction in
            let total =
                try transaction.run(
                    "SELECT count(*) AS accounts FROM telegram_sessions WHERE is_active AND \(mine) AND \(state)"
                ).first?.int("accounts") ?? 0
            let rows = try transaction.run(
                """
                SELECT * FROM telegram_sessions WHERE is_active AND \(mine) AND \(state)
                ORDER BY user_id, id LIMIT \(limit) OFFSET \(offset)
                """)
            return (try rows.map { try $0.session(rampUp) }, total)
        }
    }

    /// A page of a user's accounts with all that a verdict needs: four statements, however many there are.
    public func candidates(
        of user: Int64, offset: Int = 0, limit: Int, at now: Timestamp
    ) async throws -> (accounts: [StoredAccount], total: Int) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            let total =
                try transaction.run(
                    "SELECT count(*) AS accounts FROM telegram_sessions WHERE is_active AND user_id = \(user)"
                ).first?.int("accounts") ?? 0
            var sessions = try transaction.run(
                """
                SELECT * FROM telegram_sessions WHERE is_active AND user_id = \(user)
                ORDER BY id LIMIT \(limit) OFFSET \(offset)
                """
            ).map { try $0.session(rampUp) }
            try transaction.loadUsage(ofMany: &sessions, of: user, at: now)
            return (sessions, total)
        }
    }

    /// Who recovers when, by SQL: the truth behind the queue.
    func recoveries(limit: Int, at now: Timestamp) async throws -> [(account: AccountID, at: Timestamp)] {
        try await database.run(
            """
            SELECT id, flood_wait_until, blocked_until, frozen_until FROM telegram_sessions
            WHERE status <> 'active' AND status <> 'disabled' ORDER BY user_id, id LIMIT \(limit)
            """
        ).compactMap { row in
            let ends = try [
                row.optionalTimestamp("flood_wait_until"), row.optionalTimestamp("blocked_until"),
                row.optionalTimestamp("frozen_until"),
            ].compactMap { $0 }.filter { $0.milliseconds < .farAway }
            guard let first = ends.min() else { return nil }
            return (try row.account("id"), first)
        }
    }

    /// Leases that run, for the fast view; the newest first.
    func runningLeases(limit: Int, at now: Timestamp) async throws -> [(account: AccountID, lease: Lease)] {
        let rampUp = rampUp
        return try await database.run(
            """
            SELECT * FROM telegram_sessions WHERE locked AND locked_until > \(now)
            ORDER BY locked_at DESC LIMIT \(limit)
            """
        ).compactMap { row in
            let session = try row.session(rampUp)
            return session.lease.map { (session.id, $0) }
        }
    }

    /// Puts yesterday's counters to nothing in SQL, a portion at a time. Nothing depends on it.
    func tidyCounters(limit: Int = 5_000, of user: Int64? = nil, at now: Timestamp) async throws -> Int {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        return try await database.run(
            """
            UPDATE telegram_sessions
            SET used_invites_today = 0, used_messages_today = 0, contacts_today = 0, usage_day = \(now.day.number),
                last_limit_reset = \(now)
            WHERE id IN (
                SELECT id FROM telegram_sessions
                WHERE usage_day < \(now.day.number)
                    AND (used_invites_today > 0 OR used_messages_today > 0 OR contacts_today > 0) AND \(mine)
                LIMIT \(limit) \(raw: database.dialect.skipLocked))
            """
        ).affected
    }
}

extension Transaction {
    fileprivate func loadUsage(ofMany sessions: inout [StoredAccount], of user: Int64, at now: Timestamp)
        throws
    {
        guard !sessions.isEmpty else { return }
        var overrides: [String: [LimitsOverride]] = [:]
        for row in try run(
            """
            SELECT scope, subject, setting, value FROM account_limits
            WHERE scope IN ('everybody', 'configuration') OR (scope = 'user' AND subject = \(String(user)))
                OR (scope = 'account' AND subject IN \(list: sessions.map { $0.id.description }))
            """)
        {
            guard let setting = try LimitSetting(name: row.text("setting")),
                let override = try? LimitsOverride([setting: try row.int("value")])
            else { continue }
            let subject = try row.text("scope") == "account" ? row.text("subject") : ""
            overrides[subject, default: []].append(override)
        }
        for index in sessions.indices {
            sessions[index].candidate.limits = Limits.tightest(
                (overrides[""] ?? []) + (overrides[sessions[index].id.description] ?? []))
        }
        let reach =
            sessions.flatMap { session in
                ActionType.allCases.map { Usage.horizon(of: session.candidate.limits[$0], at: now) }
            }.min() ?? now
        let ids = sessions.map(\.id)
        var records: [AccountID: [ActionType: [ActionRecord]]] = [:]
        for row in try run(
            """
            SELECT account_id, action, channel, success, at FROM account_ledger
            WHERE account_id IN \(list: ids) AND at >= \(reach)
            """)
        {
            guard let action = try ActionType(row.text("action")) else { continue }
            records[try row.account("account_id"), default: [:]][action, default: []].append(
                try row.actionRecord())
        }
        var permits: [AccountID: [Permit]] = [:]
        for row in try run(
            """
            SELECT id, account_id, action, channel, reserved_at FROM account_permits
            WHERE account_id IN \(list: ids) AND expires_at > \(now) AND state = 'open'
            """)
        {
            guard let action = try ActionType(row.text("action")) else { continue }
            let account = try row.account("account_id")
            permits[account, default: []].append(
                Permit(
                    id: try row.text("id"), account: account, action: action,
                    channel: try row.optionalText("channel").map(ChannelKey.init(stored:)),
                    reservedAt: try row.timestamp("reserved_at")))
        }
        for index in sessions.indices {
            let id = sessions[index].id
            if sessions[index].channels == nil { sessions[index].channels = try channelsFromLedger(id) }
            sessions[index].permits = permits[id] ?? []
            for action in ActionType.allCases {
                sessions[index].candidate.usage[action] = Usage(
                    records: records[id]?[action] ?? [],
                    permits: (permits[id] ?? []).filter { $0.action == action }.map(\.hold),
                    channelTotals: action == .invite ? sessions[index].channels?.totals : [:])
            }
        }
    }
}
