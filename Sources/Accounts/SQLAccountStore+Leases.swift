public import Core
public import Storage

/// How many of the accounts that are free longest are compared by score. Among so many or fewer the choice is
/// exactly the best one; among more it is the best of these, so that it costs the same for ten accounts and
/// for a hundred thousand.
///
/// Written into the statement, because a limit that PostgreSQL does not know when it plans makes it plan anew
/// for every call.
private let window: StaticString = "64"

extension SQLAccountStore {
    public func acquire(_ wish: Acquire, at now: Timestamp) async throws -> StoredAccount {
        try await acquiring(wish, at: now).account
    }

    /// The lease, and with it the permit for the first action where one is wanted: who asks for both at once
    /// never has an account that refuses it.
    func acquiring(_ wish: Acquire, at now: Timestamp) async throws -> (
        account: StoredAccount, permit: Permit?
    ) {
        guard Lease.durations.contains(wish.duration) else { throw LeaseError.durationOutOfRange }
        if wish.preferred == nil, let granted = try await acquireAtOnce(wish, at: now) { return granted }
        // Others may take the whole window between our choosing and our taking; then there is a next one.
        for _ in 0..<8 {
            let (id, permit) = (uuid(random), uuid(random))
            let rampUp = rampUp
            let granted = try await database.transaction { transaction in
                try transaction.acquire(wish, id: id, permit: permit, rampUp, at: now)
            }
            if let granted { return granted }
            let refused = try await refusal(of: wish, at: now)
            guard refused.retryAt == now else { throw refused }
        }
        throw StorageError.contended
    }

    /// The usual case in one statement: the best account is really free. Nil when there is more to it.
    private func acquireAtOnce(
        _ wish: Acquire, at now: Timestamp
    ) async throws -> (account: StoredAccount, permit: Permit?)? {
        guard database.dialect == .postgres else { return nil }
        let reach = min(now.day.start, now - .hours(1))
        let (id, permitID) = (uuid(random), uuid(random))
        let row = try await database.gather(
            database.dialect.claimKnowing(wish, id: id, permit: permitID, from: reach, at: now)
        ).first
        guard let row else { return nil }
        if var session = try row.claimed(rampUp, from: reach, at: now) {
            guard let action = wish.purpose.action else { return (session, nil) }
            if session.candidate.verdict(action, into: wish.channel, at: now).allowed {
                let permit = wish.permit(permitID, for: session.id, at: now)
                // Its revision is the row's already.
                if let permit { session.note(permit) }
                return (session, permit)
            }
        }
        // What the index says may be older than a tightened limit: it is put right, and others are looked at.
        let account = try row.account("id")
        let rampUp = rampUp
        try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true)
            guard session.lease?.id == id else { return }
            if wish.reserves {
                try transaction.run(
                    "UPDATE account_permits SET state = 'released' WHERE id = \(permitID) AND state = 'open'")
            }
            _ = session.candidate.leases.end()
            try transaction.saveLease(session)
            guard let action = wish.purpose.action else { return }
            try transaction.loadUsage(&session, ActionType.allCases, at: now)
            try transaction.saveUsage(&session, action, at: now)
        }
        return nil
    }

    /// What a lease comes down to in SQL, for measuring beside others: taking the best, and giving it back.
    public func leaseStatements(_ wish: Acquire, at now: Timestamp) -> (claim: SQL, release: SQL) {
        let update = database.dialect.claim(wish, "TRUE", "TRUE", id: uuid(random), at: now)
        return (
            "\(update) RETURNING id AS account",
            """
            UPDATE telegram_sessions
            SET locked = FALSE, locked_by = NULL, locked_until = 0, lease_id = NULL, released_lease_id = lease_id,
                last_used_at = CASE WHEN last_used_at > \(now) THEN last_used_at ELSE \(now) END,
                free_at = CASE WHEN free_at < \(now.hour) THEN \(now.hour) ELSE free_at END
            """
        )
    }

    public func extend(
        _ account: AccountID, lease: String, by service: String, for duration: Duration, at now: Timestamp
    ) async throws -> Lease {
        try await extend(account, owner: nil, lease: lease, by: service, for: duration, at: now)
    }

    func extend(
        _ account: AccountID, owner: Int64?, lease: String, by service: String, for duration: Duration,
        at now: Timestamp
    ) async throws -> Lease {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            let lease = try session.candidate.leases.extend(id: lease, by: service, for: duration, at: now)
            try transaction.saveLease(session)
            return lease
        }
    }

    @discardableResult
    public func release(
        _ account: AccountID, lease: String?, by service: String, stats: UsageStats = UsageStats(),
        at now: Timestamp
    ) async throws -> LeaseBook.Release {
        try await releasing(account, lease: lease, by: service, stats: stats, at: now).release
    }

    func releasing(
        _ account: AccountID, owner: Int64? = nil, lease: String?, by service: String, stats: UsageStats,
        at now: Timestamp
    ) async throws -> (release: LeaseBook.Release, user: Int64, surplus: Int) {
        let rampUp = rampUp
        return try await database.transaction { transaction in
            var session = try transaction.session(account, rampUp, locking: true, owner: owner)
            let release = try session.candidate.leases.release(id: lease, by: service, at: now)
            guard case .released(let lease) = release else { return (release, session.user, 0) }
            session.candidate.lastUsed = max(session.candidate.lastUsed ?? now, now)
            var recorded: [ActionType: Int] = [:]
            if stats != UsageStats() {
                for row in try transaction.run(
                    """
                    SELECT action, count(*) AS actions FROM account_ledger
                    WHERE lease_id = \(lease.id)
                        OR (lease_id IS NULL AND account_id = \(account) AND at >= \(lease.grantedAt))
                    GROUP BY action
                    """)
                {
                    if let action = try ActionType(row.text("action")) {
                        recorded[action] = try row.int("actions")
                    }
                }
            }
            var written = 0
            for (action, records) in surplus(of: stats, over: recorded, at: now) {
                written += records.count
                try transaction.loadUsage(&session, ActionType.allCases, at: now)
                try transaction.write(
                    records, Report(action, success: true, lease: lease.id, service: service), account,
                    summed: true)
                session.count(records, of: action, at: now)
                try transaction.saveUsage(&session, action, at: now)
            }
            try transaction.saveLease(session)
            return (release, session.user, written)
        }
    }

    /// Why nobody is free: every account of the user under the reason that keeps it off longest, counted by
    /// the database. `retryAt` is `now` when somebody is free after all.
    func refusal(of wish: Acquire, at now: Timestamp) async throws -> NoAccountAvailable {
        let purpose = wish.purpose
        let midnight = now.day.next.start
        let total = channelTotal(wish)
        let today = channelToday(wish, now)
        let limits = try await limits(of: wish.user)
        let totalLimit = limits.invite.perChannelTotal ?? .max
        let todayLimit = limits.invite.perChannelDaily ?? .max
        let rows = try await database.run(
            """
            SELECT reason, count(*) AS accounts, min(until) AS until FROM (
                SELECT CASE
                        WHEN in_channel >= \(totalLimit) THEN 'channel_total'
                        WHEN own_end >= \(Int64.farAway) THEN own_reason
                        WHEN today_in_channel >= \(todayLimit) AND locked_until < \(midnight) AND own_end < \(midnight)
                            THEN 'channel_daily'
                        WHEN locked_until > \(now) AND locked_until >= own_end THEN 'leased'
                        ELSE own_reason END AS reason,
                    CASE
                        WHEN in_channel >= \(totalLimit) OR own_end >= \(Int64.farAway) THEN \(Int64.farAway)
                        WHEN today_in_channel >= \(todayLimit) AND locked_until < \(midnight) AND own_end < \(midnight)
                            THEN \(midnight)
                        WHEN locked_until >= own_end THEN locked_until ELSE own_end END AS until
                FROM (
                    SELECT locked_until, \(raw: purpose.freeAt) AS own_end, \(raw: purpose.reason) AS own_reason,
                        \(total) AS in_channel, \(today) AS today_in_channel
                    FROM telegram_sessions
                    WHERE user_id = \(wish.user) AND is_active AND NOT (\(wish.isExcluded))
                ) AS account
            ) AS refused GROUP BY reason
            """)
        var counts: [RefusalReason: Int] = [:]
        var retryAt: Int64?
        for row in rows {
            let until = try row.int64("until")
            if until <= now.milliseconds { retryAt = now.milliseconds }
            if let reason = try row.optionalText("reason").flatMap(RefusalReason.init) {
                counts[reason] = try row.int("accounts")
            }
            if until < .farAway { retryAt = min(retryAt ?? until, until) }
        }
        return NoAccountAvailable(
            counts: counts, retryAt: retryAt.map { Timestamp(milliseconds: max($0, now.milliseconds)) })
    }

    func channelTotal(_ wish: Acquire) -> SQL { database.dialect.channelTotal(wish) }
    func channelToday(_ wish: Acquire, _ now: Timestamp) -> SQL { database.dialect.channelToday(wish, now) }

    /// What everybody and this user may do; an account may be tightened further.
    func limits(of user: Int64) async throws -> Limits {
        let rows = try await database.run(
            """
            SELECT setting, value FROM account_limits
            WHERE scope IN ('everybody', 'configuration') OR (scope = 'user' AND subject = \(String(user)))
            """)
        return try Limits.stored(rows)
    }
}

extension Transaction {
    /// Claims the preferred account or the best, and asks the rules whether it is really free: what the index
    /// says may be older than a tightened limit. One that is not is put right and passed over.
    fileprivate func acquire(
        _ wish: Acquire, id: String, permit: String, _ rampUp: RampUp, at now: Timestamp
    ) throws -> (account: StoredAccount, permit: Permit?)? {
        var wish = wish
        let limits = try Limits.stored(
            run(
                """
                SELECT setting, value FROM account_limits
                WHERE scope IN ('everybody', 'configuration') OR (scope = 'user' AND subject = \(String(wish.user)))
                """))
        // As many as one look compares.
        for _ in 0..<64 {
            var claimed: StoredAccount?
            if let preferred = wish.preferred, !wish.excluded.contains(preferred) {
                claimed = try claim(wish, "id = \(preferred)", id: id, limits, rampUp, at: now)
            }
            if claimed == nil { claimed = try claim(wish, "TRUE", id: id, limits, rampUp, at: now) }
            guard var session = claimed else { return nil }
            try loadUsage(&session, ActionType.allCases, at: now)
            guard let action = wish.purpose.action else { return (session, nil) }
            if session.candidate.verdict(action, into: wish.channel, at: now).allowed {
                let permit = wish.permit(permit, for: session.id, at: now)
                if let permit { try hold(permit, for: &session, lease: id, by: wish.service) }
                return (session, permit)
            }
            // The token was spent, which does no harm; the lease was never anybody's.
            _ = session.candidate.leases.end()
            try saveLease(session)
            try saveUsage(&session, action, at: now)
            wish.excluded.insert(session.id)
        }
        return nil
    }

    private func claim(
        _ wish: Acquire, _ condition: SQL, id: String, _ limits: Limits, _ rampUp: RampUp, at now: Timestamp
    ) throws -> StoredAccount? {
        let channel: SQL =
            wish.purpose == .inviteCampaign && wish.channel != nil
            ? """
            \(dialect.channelTotal(wish)) < \(limits.invite.perChannelTotal ?? .max)
            AND \(dialect.channelToday(wish, now)) < \(limits.invite.perChannelDaily ?? .max)
            """ : "TRUE"
        let update = dialect.claim(wish, condition, channel, id: id, at: now)
        return try run("\(update) RETURNING *").first.map { try $0.session(rampUp) }
    }
}

extension Dialect {
    /// One statement, so that no other holder comes between choosing an account and taking it.
    func claim(_ wish: Acquire, _ condition: SQL, _ channel: SQL, id: String, at now: Timestamp) -> SQL {
        let freeAt = wish.purpose.freeAt
        let columns: StaticString = self == .postgres ? "id, revision" : "id"
        let taken: StaticString = wish.reserves && self == .postgres ? ", revision = revision + 1" : ""
        let best: SQL = """
            SELECT \(raw: columns) FROM (
                SELECT \(raw: columns), CASE WHEN usage_day >= \(now.day.number) THEN \(raw: wish.purpose.used) ELSE 0 END AS used,
                    error_count AS errors, COALESCE(last_used_at, 0) AS last_used
                FROM telegram_sessions
                WHERE user_id = \(wish.user) AND is_active AND \(raw: freeAt) <= \(now) AND locked_until <= \(now)
                    AND \(condition) AND NOT (\(wish.isExcluded)) AND \(channel)
                ORDER BY \(raw: freeAt) LIMIT \(raw: window)
            ) AS longest_free ORDER BY used, errors, last_used, id
            """
        return """
            UPDATE telegram_sessions
            SET locked = TRUE, locked_by = \(wish.service), locked_at = \(now),
                locked_until = \(now + wish.duration), lease_id = \(id), fencing_token = fencing_token + 1 \(raw: taken)
            WHERE id = (\(firstFree(of: best, freeAt, at: now)))
            """
    }

    /// The first of these that nobody has taken meanwhile. PostgreSQL goes through them one by one and locks
    /// the one it takes, so that of sixty-four only that one is looked up again. One that has changed since the
    /// statement began is passed over: what the statement sees of its permits may be older than the change.
    private func firstFree(of best: SQL, _ freeAt: StaticString, at now: Timestamp) -> SQL {
        switch self {
        case .postgres:
            """
            SELECT taken.id FROM (\(best)) AS best CROSS JOIN LATERAL (
                SELECT id FROM telegram_sessions
                WHERE id = best.id AND revision = best.revision AND locked_until <= \(now)
                    AND \(raw: freeAt) <= \(now)
                FOR UPDATE SKIP LOCKED) AS taken
            LIMIT 1
            """
        case .sqlite: "\(best) LIMIT 1"
        }
    }

    /// A channel's number as tightened for everybody and this user; an account's own is looked at afterwards.
    private func tightened(_ setting: StaticString, _ ceiling: Int, _ user: Int64) -> SQL {
        """
        LEAST(\(ceiling), (SELECT min(value) FROM account_limits WHERE setting = '\(raw: setting)'
            AND (scope IN ('everybody', 'configuration') OR (scope = 'user' AND subject = \(String(user))))))
        """
    }

    /// PostgreSQL: the claim, and all that the rules have to know of the account, at once.
    func claimKnowing(
        _ wish: Acquire, id: String, permit: String, from reach: Timestamp, at now: Timestamp
    ) -> SQL {
        var channel: SQL = "TRUE"
        if wish.purpose == .inviteCampaign, wish.channel != nil {
            let invite = Limits.ceilings.invite
            channel = """
                \(channelTotal(wish)) <
                    \(tightened("invite.per_channel_total", invite.perChannelTotal ?? .max, wish.user))
                AND \(channelToday(wish, now)) <
                    \(tightened("invite.per_channel_daily", invite.perChannelDaily ?? .max, wish.user))
                """
        }
        let claim: SQL = """
            \(claim(wish, "TRUE", channel, id: id, at: now))
            RETURNING id, user_id, phone, is_active, connected_at, locked_by, locked_at, locked_until, lease_id,
                released_lease_id, fencing_token, used_invites_today, used_messages_today, contacts_today, usage_day,
                per_channel_invites, error_count, flood_wait_until, blocked_until, frozen_until, disabled_reason,
                last_used_at, revision, (
                    SELECT json_agg(json_build_array(action, channel, success, at)) FROM account_ledger
                    WHERE account_id = telegram_sessions.id AND at >= \(reach)) AS known_records,
                (
                    SELECT json_agg(json_build_array(id, action, channel, reserved_at)) FROM account_permits
                    WHERE account_id = telegram_sessions.id AND expires_at > \(now) AND state = 'open')
                    AS known_permits,
                (
                    SELECT json_agg(json_build_array(scope, setting, value)) FROM account_limits
                    WHERE scope IN ('everybody', 'configuration', 'revision')
                        OR (scope = 'user' AND subject = \(String(wish.user)))
                        OR (scope = 'account' AND subject = CAST(telegram_sessions.id AS TEXT))) AS known_limits
            """
        guard wish.reserves, let action = wish.purpose.action else { return claim }
        let place: ChannelKey? = action == .invite ? wish.channel : nil
        return """
            WITH own AS (\(claim)), held AS (
                INSERT INTO account_permits
                    (id, action, channel, lease_id, service, reserved_at, expires_at, state, account_id)
                SELECT CAST(\(permit) AS TEXT), \(action.rawValue), CAST(\(place?.description) AS TEXT),
                    own.lease_id, own.locked_by, \(now), \(now + Permit.lifetime), 'open', own.id
                FROM own)
            SELECT * FROM own
            """
    }
}

extension Row {
    /// An account with what `claimKnowing` gave beside it; nil where that does not reach far enough back.
    fileprivate func claimed(_ rampUp: RampUp, from reach: Timestamp, at now: Timestamp) throws
        -> StoredAccount?
    {
        var session = try session(rampUp)
        var overrides: [LimitsOverride] = []
        for limit in try optionalJSON("known_limits")?.arrayValue ?? [] {
            guard let name = limit[1]?.stringValue, let value = limit[2]?.intValue else { continue }
            if limit[0] == "revision" {
                session.limitsRevision = value
            } else if let setting = LimitSetting(name: name),
                let override = try? LimitsOverride([setting: Int(clamping: value)])
            {
                overrides.append(override)
            }
        }
        session.candidate.limits = .tightest(overrides)
        session.knownFrom = reach
        session.readAt = now
        guard session.isComplete(at: now), let channels = session.channels else { return nil }
        var records: [ActionType: [ActionRecord]] = [:]
        for record in try optionalJSON("known_records")?.arrayValue ?? [] {
            guard let action = record[0]?.stringValue.flatMap({ ActionType($0) }),
                let at = record[3]?.intValue
            else { continue }
            records[action, default: []].append(
                ActionRecord(
                    at: Timestamp(milliseconds: at),
                    channel: record[1]?.stringValue.map(ChannelKey.init(stored:)),
                    success: record[2]?.boolValue ?? true))
        }
        for permit in try optionalJSON("known_permits")?.arrayValue ?? [] {
            guard let id = permit[0]?.stringValue, let at = permit[3]?.intValue,
                let action = permit[1]?.stringValue.flatMap({ ActionType($0) })
            else { continue }
            session.permits.append(
                Permit(
                    id: id, account: session.id, action: action,
                    channel: permit[2]?.stringValue.map(ChannelKey.init(stored:)),
                    reservedAt: Timestamp(milliseconds: at)))
        }
        for action in ActionType.allCases {
            session.candidate.usage[action] = Usage(
                records: records[action] ?? [],
                permits: session.permits.filter { $0.action == action }.map(\.hold),
                channelTotals: action == .invite ? channels.totals : [:])
        }
        return session
    }
}

extension Acquire {
    fileprivate var isExcluded: SQL {
        excluded.isEmpty ? "FALSE" : "id IN \(list: excluded.sorted())"
    }
}

extension Purpose {
    /// The moment from which the account's own limits allow this.
    fileprivate var freeAt: StaticString {
        switch self {
        case .inviteCampaign: "invite_free_at"
        case .messaging: "message_free_at"
        case .contacts: "contact_free_at"
        case .parsing, .maintenance: "free_at"
        }
    }
    fileprivate var reason: StaticString {
        switch self {
        case .inviteCampaign: "invite_reason"
        case .messaging: "message_reason"
        case .contacts: "contact_reason"
        case .parsing, .maintenance: "free_reason"
        }
    }
    fileprivate var used: StaticString {
        switch self {
        case .inviteCampaign: "used_invites_today"
        case .messaging: "used_messages_today"
        case .contacts: "contacts_today"
        case .parsing, .maintenance: "used_invites_today + used_messages_today + contacts_today"
        }
    }
}

extension Dialect {
    /// Successes into the channel for ever. A channel's key holds nothing that a path could be broken with.
    fileprivate func channelTotal(_ wish: Acquire) -> SQL {
        guard wish.purpose == .inviteCampaign, let channel = wish.channel?.description else { return "0" }
        switch self {
        case .postgres:
            return "COALESCE((per_channel_invites -> CAST(\(channel) AS TEXT) ->> 'total')::BIGINT, 0)"
        case .sqlite: return "COALESCE(json_extract(per_channel_invites, \("$.\"\(channel)\".total")), 0)"
        }
    }

    fileprivate func channelToday(_ wish: Acquire, _ now: Timestamp) -> SQL {
        guard wish.purpose == .inviteCampaign, let channel = wish.channel?.description else { return "0" }
        let day = now.day.description
        switch self {
        case .postgres:
            return """
                CASE WHEN per_channel_invites -> CAST(\(channel) AS TEXT) ->> 'day' = \(day)
                THEN (per_channel_invites -> CAST(\(channel) AS TEXT) ->> 'today')::BIGINT ELSE 0 END
                """
        case .sqlite:
            return """
                CASE WHEN json_extract(per_channel_invites, \("$.\"\(channel)\".day")) = \(day)
                THEN json_extract(per_channel_invites, \("$.\"\(channel)\".today")) ELSE 0 END
                """
        }
    }
}
