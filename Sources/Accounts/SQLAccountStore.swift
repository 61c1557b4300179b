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
    @discardableResult
    public func connect(_ account: AccountID, user: Int64, phone: String = "", at now: Timestamp) async throws
        -> StoredAccount
    {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            try transaction.run(
                """
                INSERT INTO telegram_sessions (id, user_id, phone, connected_at, per_channel_invites)
                VALUES (\(account), \(user), \(phone), \(now), '{}') ON CONFLICT (id) DO NOTHING
                """)
            var session = try transaction.session(account, rampUp, locking: true, owner: user)
            session.candidate.standing.reconnected()
            try transaction.run(
                """
                UPDATE telegram_sessions
                SET is_active = TRUE, phone = CASE WHEN \(phone) = '' THEN phone ELSE \(phone) END
                WHERE id = \(account)
                """)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(&session, at: now)
            return session
        }
    }

    /// Takes an account out of use. Its ledger stays: what it gave a channel counts when it comes back.
    public func disconnect(_ account: AccountID, owner: Int64? = nil, at now: Timestamp) async throws {
        let rampUp = rampUp
        try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            session.candidate.standing.disabled = session.candidate.standing.disabled ?? .byOwner
            _ = session.candidate.leases.end()
            try transaction.saveLease(session)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(&session, at: now)
            try transaction.run("UPDATE telegram_sessions SET is_active = FALSE WHERE id = \(account)")
        }
    }

    /// Forgets all accounts of a user who is gone, and returns which they were.
    @discardableResult
    public func erase(user: Int64) async throws -> [AccountID] {
        try await database.transaction { transaction in
            let accounts = try transaction.run(
                "SELECT id FROM telegram_sessions WHERE user_id = \(user) ORDER BY id"
            ).map { try $0.account("id") }
            for account in accounts {
                try transaction.run("DELETE FROM account_ledger WHERE account_id = \(account)")
                try transaction.run("DELETE FROM account_permits WHERE account_id = \(account)")
                try transaction.run(
                    "DELETE FROM account_limits WHERE scope = 'account' AND subject = \(account.description)")
            }
            try transaction.run(
                "DELETE FROM account_limits WHERE scope = 'user' AND subject = \(String(user))")
            try transaction.run("DELETE FROM account_alerts WHERE user_id = \(user)")
            try transaction.run("DELETE FROM account_events WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_sessions WHERE user_id = \(user)")
            return accounts
        }
    }

    public func account(_ id: AccountID, owner: Int64? = nil, at now: Timestamp) async throws -> StoredAccount
    {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(id, rampUp, locking: false, owner: owner)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            return session
        }
    }

    // MARK: - Limits

    /// Replaces the tightening of one scope. Where it matters to the choice of an account, that is found out
    /// when one is chosen; `check` knows at once.
    public func tighten(_ scope: LimitScope, to limits: LimitsOverride, at now: Timestamp = .epoch)
        async throws
    {
        try await database.transaction { transaction in
            // First, so that two who tighten at once do it one after the other.
            try transaction.run(
                """
                INSERT INTO account_limits (scope, subject, setting, value) VALUES ('revision', '', '', 1)
                ON CONFLICT (scope, subject, setting) DO UPDATE SET value = account_limits.value + 1
                """)
            let before = try transaction.tightening(scope)
            try transaction.run(
                "DELETE FROM account_limits WHERE scope = \(scope.name) AND subject = \(scope.subject)")
            for (setting, value) in limits.values.sorted(by: { $0.key < $1.key }) {
                // What stays as it was has been in force since it was said first.
                let since = before[setting].flatMap { $0.value == value ? $0.since : nil } ?? now
                try transaction.run(
                    """
                    INSERT INTO account_limits (scope, subject, setting, value, changed_at)
                    VALUES (\(scope.name), \(scope.subject), \(setting.name), \(value), \(since))
                    """)
            }
        }
    }

    /// Writes down the ramp-up that is in force, and since when, for whoever judges the ledger afterwards.
    public func noteRampUp(at now: Timestamp) async throws {
        let steps = rampUp.steps
        try await database.transaction { transaction in
            let known = try transaction.run(
                "SELECT subject, value FROM account_limits WHERE scope = 'ramp_up'"
            ).map { RampUp.Step(age: Int(try $0.text("subject")) ?? -1, percent: try $0.int("value")) }
            guard known.sorted(by: { $0.age < $1.age }) != steps else { return }
            try transaction.run("DELETE FROM account_limits WHERE scope = 'ramp_up'")
            for step in steps {
                // Another process with the same settings may be at it.
                try transaction.run(
                    """
                    INSERT INTO account_limits (scope, subject, setting, value, changed_at)
                    VALUES ('ramp_up', \(String(step.age)), 'daily_percent', \(step.percent), \(now))
                    ON CONFLICT (scope, subject, setting) DO NOTHING
                    """)
            }
        }
    }

    /// What an operator chose for a scope.
    public func tightening(_ scope: LimitScope) async throws -> LimitsOverride {
        let values = try await database.transaction { try $0.tightening(scope) }
        return (try? LimitsOverride(values.mapValues(\.value))) ?? .none
    }

    /// What everybody and this user may do; an account may be tightened further.
    public func limits(ofUser user: Int64) async throws -> Limits { try await limits(of: user) }

    /// Grows with every tightening.
    func limitsRevision() async throws -> Int64 {
        try await database.run("SELECT value FROM account_limits WHERE scope = 'revision'").first?
            .int64("value") ?? 0
    }

    // MARK: - Check, reserve, record

    public func check(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey? = nil, at now: Timestamp
    ) async throws -> Verdict {
        try await self.account(account, at: now).candidate.verdict(action, into: channel, at: now)
    }

    public func reserve(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey? = nil, lease: String? = nil,
        by service: String, at now: Timestamp
    ) async throws -> (verdict: Verdict, permit: Permit?) {
        let answer = try await reserving(account, action, into: channel, lease: lease, by: service, at: now)
        return (answer.verdict, answer.permit)
    }

    func reserving(
        _ account: AccountID, owner: Int64? = nil, _ action: ActionType, into channel: ChannelKey?,
        lease: String?, by service: String, at now: Timestamp
    ) async throws -> (verdict: Verdict, permit: Permit?, account: StoredAccount) {
        let id = uuid(random)
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            let verdict = session.candidate.verdict(action, into: channel, at: now)
            guard verdict.allowed else { return (verdict, nil, session) }
            let permit = Permit(
                id: id, account: account, action: action, channel: verdict.channel, reservedAt: now)
            try transaction.hold(permit, for: &session, lease: lease, by: service)
            return (verdict, permit, session)
        }
    }

    @discardableResult
    public func record(_ account: AccountID, _ report: Report, at now: Timestamp) async throws -> Bool {
        try await recording(account, report, at: now).isNew
    }

    func recording(
        _ account: AccountID, owner: Int64? = nil, _ report: Report, at now: Timestamp
    ) async throws -> (isNew: Bool, account: StoredAccount) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            var moment = now
            var report = report
            if let id = report.permit {
                switch try transaction.settle(id, of: account, at: now) {
                case .counted:
                    try transaction.loadUsage(&session, ActionType.allCases, at: now)
                    return (false, session)
                case .counts(let at): moment = at
                case .foreign: report.permit = nil
                }
            }
            // Behind `settle`: the permit no longer counts beside the record.
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            let record = session.count(report, at: moment, now: now)
            try transaction.write([record], report, account)
            try transaction.saveUsage(&session, report.action, at: now)
            return (true, session)
        }
    }

    /// Gives a permit back unused. True when there was something to give back.
    @discardableResult
    public func releasePermit(_ id: String, of account: AccountID, at now: Timestamp) async throws -> Bool {
        try await releasingPermit(id, of: account, at: now) != nil
    }

    func releasingPermit(
        _ id: String, of account: AccountID, owner: Int64? = nil, at now: Timestamp
    ) async throws -> StoredAccount? {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            let released = try transaction.run(
                """
                UPDATE account_permits SET state = 'released'
                WHERE id = \(id) AND account_id = \(account) AND state = 'open' AND expires_at > \(now)
                """
            ).affected
            guard released > 0 else { return nil }
            try transaction.run("UPDATE telegram_sessions SET revision = revision + 1 WHERE id = \(account)")
            session.revision += 1
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            return session
        }
    }

    // MARK: - Errors and recovery

    public func handle(_ error: AccountError, of account: AccountID, at now: Timestamp) async throws
        -> ErrorOutcome
    {
        try await handling(error, of: account, at: now).outcome
    }

    func handling(
        _ error: AccountError, of account: AccountID, owner: Int64? = nil, at now: Timestamp
    ) async throws -> (outcome: ErrorOutcome, account: StoredAccount, ended: Lease?) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            let outcome = session.candidate.standing.failed(with: error, at: now)
            var ended: Lease?
            if outcome.endsLease {
                ended = session.candidate.leases.end()
                try transaction.saveLease(session)
            }
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(&session, at: now)
            return (outcome, session, ended)
        }
    }

    /// Stops an account: the ledger shows more than a limit allows. What Telegram said of it stays graver.
    func stop(_ account: AccountID, at now: Timestamp) async throws -> StoredAccount {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            session.candidate.standing.disabled = session.candidate.standing.disabled ?? .byMonitor
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveStanding(&session, at: now)
            return session
        }
    }

    /// Tidies one account whose time may be over; true when there was something to tidy.
    @discardableResult
    public func recover(_ account: AccountID, byHand: Bool = false, at now: Timestamp) async throws -> Bool {
        try await recovering(account, byHand: byHand, at: now).changed
    }

    func recovering(
        _ account: AccountID, owner: Int64? = nil, byHand: Bool = false, at now: Timestamp
    ) async throws -> (changed: Bool, account: StoredAccount) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            let before = session.candidate.standing
            if byHand { session.candidate.standing.turnOn() }
            _ = session.candidate.standing.recover(at: now)
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            guard session.candidate.standing != before else { return (false, session) }
            try transaction.saveStanding(&session, at: now)
            return (true, session)
        }
    }

    /// Accounts whose flood wait, block or freeze is over and that still show it.
    func due(limit: Int, of user: Int64? = nil, at now: Timestamp) async throws -> [AccountID] {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        return try await database.run(
            """
            SELECT id FROM telegram_sessions WHERE status <> 'active' AND status <> 'disabled'
                AND (flood_wait_until <= \(now) OR blocked_until <= \(now) OR frozen_until <= \(now)) AND \(mine)
            ORDER BY id LIMIT \(limit)
            """
        ).map { try $0.account("id") }
    }

    /// Tidies up to `limit` accounts whose flood wait, block or freeze is over.
    public func recoverDue(limit: Int = 500, at now: Timestamp) async throws -> [AccountID] {
        var recovered: [AccountID] = []
        for id in try await due(limit: limit, at: now) {
            if try await recover(id, at: now) { recovered.append(id) }
        }
        return recovered
    }

    // MARK: - Upkeep

    /// Marks leases that are over and forgets old permits, of all accounts or of one user's. Nothing depends on
    /// it; returns how many of each.
    ///
    /// Whose lease it was is kept until the next one: a holder who gives it back late still reports what it
    /// did, and that has to be counted.
    public func tidy(of user: Int64? = nil, at now: Timestamp) async throws -> (leases: Int, permits: Int) {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        let leases = try await database.run(
            "UPDATE telegram_sessions SET locked = FALSE WHERE locked AND locked_until <= \(now) AND \(mine)"
        ).affected
        let theirs: SQL =
            user.map { "account_id IN (SELECT id FROM telegram_sessions WHERE user_id = \($0))" } ?? "TRUE"
        // Kept for a day: a late report still finds when its permit ended.
        let permits = try await database.run(
            "DELETE FROM account_permits WHERE expires_at < \(now - .days(1)) AND \(theirs)"
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
            session.usageDay = now.day
            for action in ActionType.allCases { try transaction.saveUsage(&session, action, at: now) }
            try transaction.saveStanding(&session, at: now)
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
        case .configuration: "configuration"
        case .everybody: "everybody"
        case .user: "user"
        case .account: "account"
        }
    }
    var subject: String {
        switch self {
        case .configuration, .everybody: ""
        case .user(let id): String(id)
        case .account(let id): id.description
        }
    }
}
