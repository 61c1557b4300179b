public import Core
public import Storage

/// The rules over SQL, for whichever engine `database` is.
///
/// Whatever decides takes the account's row first (`FOR UPDATE`; SQLite has one writer anyway) and reads the
/// ledger after it, in a statement of its own: a statement that waited for the row would still see the ledger
/// as it was before the wait.
public struct SQLAccountStore: LeaseStore, LedgerStore {
    let database: any Database
    let random: any RandomSource
    let rampUp: RampUp

    public init(
        _ database: any Database, random: any RandomSource = SystemRandom(), rampUp: RampUp = .none
    ) {
        self.database = database
        self.random = random
        self.rampUp = rampUp
    }

    // MARK: - Accounts

    /// Puts an account under these rules, or under them again after it was connected anew.
    public func connect(_ account: AccountID, user: Int64, phone: String = "", at now: Timestamp) async throws
    {
        let rampUp = rampUp
        try await database.transaction { transaction in
            try transaction.run(
                """
                INSERT INTO telegram_sessions (id, user_id, phone, connected_at, per_channel_invites)
                VALUES (\(account), \(user), \(phone), \(now), '{}') ON CONFLICT (id) DO NOTHING
                """)
            var session = try transaction.session(account, rampUp, locking: true)
            session.candidate.standing.reconnected()
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(session, at: now)
        }
    }

    public func account(_ id: AccountID, at now: Timestamp) async throws -> StoredAccount {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(id, rampUp, locking: false)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            return session
        }
    }

    // MARK: - Limits

    /// Replaces the tightening of one scope. Where it matters to the choice of an account, that is found out
    /// when one is chosen; `check` knows at once.
    public func tighten(_ scope: LimitScope, to limits: LimitsOverride) async throws {
        try await database.transaction { transaction in
            try transaction.run(
                "DELETE FROM account_limits WHERE scope = \(scope.name) AND subject = \(scope.subject)")
            for (setting, value) in limits.values.sorted(by: { $0.key < $1.key }) {
                try transaction.run(
                    """
                    INSERT INTO account_limits (scope, subject, setting, value)
                    VALUES (\(scope.name), \(scope.subject), \(setting.name), \(value))
                    """)
            }
        }
    }

    // MARK: - Check, reserve, record

    public func check(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey? = nil, at now: Timestamp
    ) async throws -> Verdict {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: false)
            try transaction.loadUsage(&session, [action], at: now)
            return session.candidate.verdict(action, into: channel, at: now)
        }
    }

    public func reserve(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey? = nil, lease: String? = nil,
        by service: String, at now: Timestamp
    ) async throws -> (verdict: Verdict, permit: Permit?) {
        let id = uuid(random)
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            try transaction.loadUsage(&session, [action], at: now)
            let verdict = session.candidate.verdict(action, into: channel, at: now)
            guard verdict.allowed else { return (verdict, nil) }
            let permit = Permit(
                id: id, account: account, action: action, channel: verdict.channel, reservedAt: now)
            try transaction.run(
                """
                INSERT INTO account_permits
                    (id, account_id, action, channel, lease_id, service, reserved_at, expires_at, state)
                VALUES (\(id), \(account), \(action.rawValue), \(verdict.channel?.description), \(lease), \(service),
                    \(now), \(permit.expiresAt), 'open')
                """)
            return (verdict, permit)
        }
    }

    @discardableResult
    public func record(_ account: AccountID, _ report: Report, at now: Timestamp) async throws -> Bool {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            var moment = now
            if let id = report.permit {
                guard let at = try transaction.settle(id, of: account, at: now) else { return false }
                moment = at
            }
            let channel = report.action == .invite ? report.channel : nil
            let record = ActionRecord(at: moment, channel: channel, success: report.success)
            try transaction.loadUsage(&session, [report.action], at: now)
            try transaction.write([record], report, account)
            session.count([record], of: report.action, at: now)
            if report.success { session.candidate.standing.succeeded() }
            try transaction.saveUsage(session, report.action, at: now)
            return true
        }
    }

    @discardableResult
    public func releasePermit(_ id: String, at now: Timestamp) async throws -> Bool {
        try await database.run(
            """
            UPDATE account_permits SET state = 'released'
            WHERE id = \(id) AND state = 'open' AND expires_at > \(now)
            """
        ).affected > 0
    }

    // MARK: - Errors and recovery

    public func handle(_ error: AccountError, of account: AccountID, at now: Timestamp) async throws
        -> ErrorOutcome
    {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            let outcome = session.candidate.standing.failed(with: error, at: now)
            if outcome.endsLease {
                _ = session.candidate.leases.end()
                try transaction.saveLease(session)
            }
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(session, at: now)
            return outcome
        }
    }

    /// Tidies one account whose time may be over; true when there was something to tidy.
    @discardableResult
    public func recover(_ account: AccountID, byHand: Bool = false, at now: Timestamp) async throws -> Bool {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            let before = session.candidate.standing
            if byHand { session.candidate.standing.turnOn() }
            _ = session.candidate.standing.recover(at: now)
            guard session.candidate.standing != before else { return false }
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(session, at: now)
            return true
        }
    }

    /// Tidies up to `limit` accounts whose flood wait, block or freeze is over.
    public func recoverDue(limit: Int = 500, at now: Timestamp) async throws -> [AccountID] {
        let due = try await database.run(
            """
            SELECT id FROM telegram_sessions WHERE status <> 'active' AND status <> 'disabled'
                AND (flood_wait_until <= \(now) OR blocked_until <= \(now) OR frozen_until <= \(now))
            ORDER BY id LIMIT \(limit)
            """)
        var recovered: [AccountID] = []
        for row in due {
            let id = try row.account("id")
            if try await recover(id, at: now) { recovered.append(id) }
        }
        return recovered
    }

    // MARK: - Upkeep

    /// Marks leases that are over and forgets old permits. Nothing depends on it; returns how many of each.
    ///
    /// Whose lease it was is kept until the next one: a holder who gives it back late still reports what it
    /// did, and that has to be counted.
    public func tidy(at now: Timestamp) async throws -> (leases: Int, permits: Int) {
        let leases = try await database.run(
            """
            UPDATE telegram_sessions SET locked = FALSE WHERE locked AND locked_until <= \(now)
            """
        ).affected
        // Kept for a day: a late report still finds when its permit ended.
        let permits = try await database.run(
            "DELETE FROM account_permits WHERE expires_at < \(now - .days(1))"
        ).affected
        return (leases, permits)
    }

    /// Makes an account's counters and views anew from the ledger, whatever they say.
    public func rebuild(_ account: AccountID, at now: Timestamp) async throws {
        let rampUp = rampUp
        try await database.transaction { transaction in
            try transaction.run(
                "UPDATE telegram_sessions SET per_channel_invites = NULL WHERE id = \(account)")
            var session = try transaction.session(account, rampUp, locking: true)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            for action in ActionType.allCases {
                session.usedToday[action] = session.candidate.usage[action]?.records.count {
                    $0.at >= now.day.start
                }
            }
            for action in ActionType.allCases { try transaction.saveUsage(session, action, at: now) }
            try transaction.saveStanding(session, at: now)
        }
    }

    /// The ledger of an account, oldest first.
    public func ledger(
        of account: AccountID, from: Timestamp, to: Timestamp, limit: Int = 10_000
    ) async throws -> [AccountBook.Entry] {
        try await database.run(
            """
            SELECT action, channel, success, lease_id, permit_id, at FROM account_ledger
            WHERE account_id = \(account) AND at >= \(from) AND at < \(to) ORDER BY at, id LIMIT \(limit)
            """
        ).compactMap { row in
            guard let action = try ActionType(row.text("action")) else { return nil }
            return AccountBook.Entry(
                action: action, record: try row.actionRecord(), lease: try row.optionalText("lease_id"),
                permit: try row.optionalText("permit_id"))
        }
    }
}

extension LimitScope {
    var name: String {
        switch self {
        case .everybody: "everybody"
        case .user: "user"
        case .account: "account"
        }
    }
    var subject: String {
        switch self {
        case .everybody: ""
        case .user(let id): String(id)
        case .account(let id): id.description
        }
    }
}
