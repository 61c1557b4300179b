internal import Core
public import Storage

extension Int64 {
    /// The end of a refusal that no waiting ends: the last millisecond of the year 9999.
    static let farAway: Int64 = 253_402_300_799_999
}

extension Timestamp {
    /// The hour's beginning: exact enough to order thousands of accounts by how long they have been idle, and
    /// most leases then change no index, which is half of what giving one back costs.
    var hour: Timestamp { Timestamp(milliseconds: milliseconds - milliseconds % 3_600_000) }
}

extension AccountID: SQLConvertible {
    public var sqlValue: SQLValue { .text(description) }
}

extension Row {
    func account(_ name: String) throws -> AccountID {
        guard let id = try AccountID(text(name)) else {
            throw StorageError.unexpectedColumn("\(name) is no UUID")
        }
        return id
    }

    func actionRecord() throws -> ActionRecord {
        ActionRecord(
            at: try timestamp("at"), channel: try optionalText("channel").map(ChannelKey.init(stored:)),
            success: try bool("success"))
    }

    /// An account without its usage.
    func session(_ rampUp: RampUp) throws -> StoredAccount {
        let frozen: Standing.Freeze? = try optionalInt64("frozen_until").map {
            $0 >= .farAway ? .untilLifted : .until(Timestamp(milliseconds: $0))
        }
        let standing = Standing(
            floodWaitUntil: try optionalTimestamp("flood_wait_until"),
            blockedUntil: try optionalTimestamp("blocked_until"), freeze: frozen,
            disabled: try optionalText("disabled_reason").map {
                Standing.Disabled(rawValue: $0) ?? .byTelegram
            },
            errorCount: try int("error_count"))
        var lease: Lease?
        if let id = try optionalText("lease_id") {
            lease = Lease(
                id: id, service: try optionalText("locked_by") ?? "",
                fencingToken: try int64("fencing_token"),
                grantedAt: try optionalTimestamp("locked_at") ?? .epoch,
                expiresAt: try timestamp("locked_until"))
        }
        let day = UTCDay(number: try int64("usage_day"))
        var candidate = Candidate(account: try account("id"), standing: standing)
        candidate.leases = LeaseBook(
            current: lease, releasedID: try optionalText("released_lease_id"),
            fencingToken: try int64("fencing_token"))
        candidate.rampUp = rampUp
        candidate.connectedOn = try timestamp("connected_at").day
        candidate.lastUsed = try optionalTimestamp("last_used_at")
        var session = StoredAccount(
            user: try int64("user_id"), phone: try text("phone"), isActive: try bool("is_active"),
            candidate: candidate,
            usedToday: [
                .invite: try int("used_invites_today"), .message: try int("used_messages_today"),
                .addContact: try int("contacts_today"),
            ])
        session.usageDay = day
        session.revision = try int64("revision")
        session.channels = try optionalJSON("per_channel_invites").flatMap(ChannelCounters.init)
        return session
    }
}

extension Limits {
    /// Rows of `setting` and `value`. A row that a later ceiling no longer allows tightens nothing.
    static func stored(_ rows: Rows) throws -> Limits {
        tightest(
            try rows.compactMap { row in
                guard let setting = try LimitSetting(name: row.text("setting")) else { return nil }
                return try? LimitsOverride([setting: try row.int("value")])
            })
    }
}

/// `{"name": {"today": 5, "total": 150, "day": "2025-08-24"}}`
struct ChannelCounters: Equatable, Sendable {
    struct Counter: Equatable, Sendable {
        var today: Int
        var total: Int
        var day: UTCDay
    }
    private(set) var counters: [ChannelKey: Counter] = [:]

    init() {}

    init?(_ json: JSONValue) {
        guard let members = json.objectValue else { return nil }
        for member in members {
            guard let total = member.value["total"]?.intValue else { continue }
            let day = member.value["day"]?.stringValue.flatMap { UTCDay($0) } ?? UTCDay(number: 0)
            counters[ChannelKey(stored: member.name)] = Counter(
                today: Int(clamping: member.value["today"]?.intValue ?? 0), total: Int(clamping: total),
                day: day)
        }
    }

    mutating func put(_ channel: ChannelKey, _ counter: Counter) { counters[channel] = counter }

    mutating func count(_ channel: ChannelKey, on day: UTCDay) {
        var counter = counters[channel] ?? Counter(today: 0, total: 0, day: day)
        counter.total += 1
        if counter.day < day { (counter.day, counter.today) = (day, 0) }
        if counter.day == day { counter.today += 1 }
        counters[channel] = counter
    }

    var totals: [ChannelKey: Int] { counters.mapValues(\.total) }

    var json: JSONValue {
        .object(
            counters.sorted { $0.key < $1.key }.map { channel, counter in
                JSONMember(
                    channel.description,
                    [
                        "today": JSONValue(counter.today), "total": JSONValue(counter.total),
                        "day": .string(counter.day.description),
                    ])
            })
    }
}

extension StoredAccount {
    /// Adds records to the usage and the counters.
    mutating func count(_ records: [ActionRecord], of action: ActionType, at now: Timestamp) {
        if usageDay < now.day {
            usageDay = now.day
            usedToday = [:]
        }
        usedToday[action, default: 0] += records.count { $0.at >= usageDay.start }
        for record in records {
            candidate.lastUsed = max(candidate.lastUsed ?? record.at, record.at)
            candidate.usage[action, default: .none].record(record)
            if record.success, let channel = record.channel {
                channels?.count(channel, on: record.at.day)
            }
        }
    }
}

/// What a report that names a permit means.
enum PermitSettlement {
    /// It counted before.
    case counted
    /// It counts, as of that moment.
    case counts(at: Timestamp)
    /// The permit is another account's: the attempt is a fact all the same, the permit is not its.
    case foreign
}

extension StoredAccount {
    /// Counts an attempt as of `moment`, and what it means for the errors before it.
    mutating func count(_ report: Report, at moment: Timestamp, now: Timestamp) -> ActionRecord {
        let record = ActionRecord(
            at: moment, channel: report.action == .invite ? report.channel : nil, success: report.success)
        count([record], of: report.action, at: now)
        if report.success { candidate.standing.succeeded() }
        return record
    }

    /// Holds a place for whoever is about to act.
    mutating func hold(_ permit: Permit) {
        note(permit)
        revision += 1
    }

    /// The same of a permit that this revision has already.
    mutating func note(_ permit: Permit) {
        permits.append(permit)
        candidate.usage[permit.action, default: .none].hold(permit.hold)
    }
}

extension Transaction {
    func tightening(_ scope: LimitScope) throws -> [LimitSetting: (value: Int, since: Timestamp)] {
        var found: [LimitSetting: (value: Int, since: Timestamp)] = [:]
        for row in try run(
            """
            SELECT setting, value, changed_at FROM account_limits
            WHERE scope = \(scope.name) AND subject = \(scope.subject)
            """)
        {
            guard let setting = try LimitSetting(name: row.text("setting")) else { continue }
            found[setting] = (try row.int("value"), try row.timestamp("changed_at"))
        }
        return found
    }

    /// An account; one of somebody else than `owner`, where that matters, does not exist.
    func session(
        _ id: AccountID, _ rampUp: RampUp, locking: Bool, owner: Int64? = nil
    ) throws -> StoredAccount {
        let lock: SQL = locking && dialect == .postgres ? "FOR UPDATE" : ""
        guard let row = try run("SELECT * FROM telegram_sessions WHERE id = \(id) \(lock)").first else {
            throw AccountStoreError.unknownAccount
        }
        let session = try row.session(rampUp)
        guard owner == nil || owner == session.user else { throw AccountStoreError.unknownAccount }
        return session
    }

    /// Reads what the rules need for these actions, and the limits of the account, in one statement.
    func loadUsage(_ session: inout StoredAccount, _ actions: [ActionType], at now: Timestamp) throws {
        var reach = min(now.day.start, now - .hours(1))
        while true {
            let rows = try run(
                """
                SELECT 'record' AS kind, action AS name, channel, success, at, CAST(0 AS BIGINT) AS value,
                    CAST(NULL AS TEXT) AS permit
                FROM account_ledger WHERE account_id = \(session.id) AND at >= \(reach)
                UNION ALL
                SELECT 'permit', action, channel, TRUE, expires_at, reserved_at, id FROM account_permits
                WHERE account_id = \(session.id) AND expires_at > \(now) AND state = 'open'
                UNION ALL
                SELECT scope, setting, NULL, TRUE, CAST(0 AS BIGINT), value, NULL FROM account_limits
                WHERE scope IN ('everybody', 'configuration', 'revision') OR (scope = 'user' AND subject = \(String(session.user)))
                    OR (scope = 'account' AND subject = \(session.id.description))
                """)
            var records: [ActionType: [ActionRecord]] = [:]
            var permits: [Permit] = []
            var overrides: [LimitsOverride] = []
            for row in rows {
                let name = try row.text("name")
                switch try row.text("kind") {
                case "revision": session.limitsRevision = try row.int64("value")
                case "record":
                    guard let action = ActionType(name) else { continue }
                    records[action, default: []].append(try row.actionRecord())
                case "permit":
                    guard let action = ActionType(name) else { continue }
                    permits.append(
                        Permit(
                            id: try row.text("permit"), account: session.id, action: action,
                            channel: try row.optionalText("channel").map(ChannelKey.init(stored:)),
                            reservedAt: try row.timestamp("value")))
                default:
                    guard let setting = LimitSetting(name: name) else { continue }
                    // A row that a later ceiling no longer allows tightens nothing.
                    if let override = try? LimitsOverride([setting: try row.int("value")]) {
                        overrides.append(override)
                    }
                }
            }
            let limits = Limits.tightest(overrides)
            // An operator may have made a pause longer than what was read.
            let needed = actions.map { Usage.horizon(of: limits[$0], at: now) }.min() ?? reach
            guard needed >= reach else {
                reach = needed
                continue
            }
            session.candidate.limits = limits
            session.permits = permits
            session.knownFrom = reach
            session.readAt = now
            if actions.contains(.invite), session.channels == nil {
                session.channels = try channelsFromLedger(session.id)
            }
            for action in actions {
                session.candidate.usage[action] = Usage(
                    records: records[action] ?? [],
                    permits: permits.filter { $0.action == action }.map(\.hold),
                    channelTotals: action == .invite ? session.channels?.totals : [:])
            }
            return
        }
    }

    func channelsFromLedger(_ id: AccountID) throws -> ChannelCounters {
        var counters = ChannelCounters()
        for row in try run(
            """
            SELECT channel, at FROM account_ledger
            WHERE account_id = \(id) AND action = 'invite' AND success AND channel IS NOT NULL ORDER BY at
            """)
        {
            let day = try row.timestamp("at").day
            counters.count(ChannelKey(stored: try row.text("channel")), on: day)
        }
        return counters
    }

    /// Writes a permit that the rules have allowed.
    func hold(
        _ permit: Permit, for session: inout StoredAccount, lease: String?, by service: String
    ) throws {
        try run(
            """
            INSERT INTO account_permits
                (id, account_id, action, channel, lease_id, service, reserved_at, expires_at, state)
            VALUES (\(permit.id), \(permit.account), \(permit.action.rawValue), \(permit.channel?.description),
                \(lease), \(service), \(permit.reservedAt), \(permit.expiresAt), 'open')
            """)
        try run("UPDATE telegram_sessions SET revision = revision + 1 WHERE id = \(permit.account)")
        session.hold(permit)
    }

    /// Marks a permit as recorded.
    func settle(_ id: String, of account: AccountID, at now: Timestamp) throws -> PermitSettlement {
        let lock: SQL = dialect == .postgres ? "FOR UPDATE" : ""
        guard let row = try run("SELECT * FROM account_permits WHERE id = \(id) \(lock)").first,
            let action = try ActionType(row.text("action"))
        else {
            // Forgotten long ago, or never ours: the ledger alone knows whether it counted.
            let known = try run("SELECT account_id FROM account_ledger WHERE permit_id = \(id)").first
            guard let known else { return .counts(at: now) }
            return try known.account("account_id") == account ? .counted : .foreign
        }
        guard try row.account("account_id") == account else { return .foreign }
        var permit = Permit(
            id: id, account: account, action: action,
            channel: try row.optionalText("channel").map(ChannelKey.init(stored:)),
            reservedAt: try row.timestamp("reserved_at"),
            state: Permit.State(rawValue: try row.text("state")) ?? .open)
        guard let moment = permit.record(at: now) else { return .counted }
        try run("UPDATE account_permits SET state = 'recorded' WHERE id = \(id)")
        return .counts(at: moment)
    }

    /// `summed`: told in sum at a release, so that the single moments are not known.
    func write(_ records: [ActionRecord], _ report: Report, _ account: AccountID, summed: Bool = false) throws
    {
        for record in records {
            try run(
                """
                INSERT INTO account_ledger
                    (account_id, action, channel, success, error_type, lease_id, permit_id, service, at, summed)
                VALUES (\(account), \(report.action.rawValue), \(record.channel?.description), \(record.success),
                    \(report.error), \(report.lease), \(report.permit), \(report.service), \(record.at),
                    \(summed))
                """)
        }
    }

    /// Writes the counters and the views of one action.
    func saveUsage(_ session: inout StoredAccount, _ action: ActionType, at now: Timestamp) throws {
        session.revision += 1
        let (end, reason) = session.free(for: action, at: now)
        let (freeAt, freeReason): (StaticString, StaticString) =
            switch action {
            case .invite: ("invite_free_at", "invite_reason")
            case .message: ("message_free_at", "message_reason")
            case .addContact: ("contact_free_at", "contact_reason")
            }
        let channels: SQL = action == .invite ? ", per_channel_invites = \(session.channels?.json.text)" : ""
        try run(
            """
            UPDATE telegram_sessions
            SET used_invites_today = \(session.usedToday[.invite] ?? 0),
                used_messages_today = \(session.usedToday[.message] ?? 0),
                contacts_today = \(session.usedToday[.addContact] ?? 0), usage_day = \(session.usageDay.number),
                error_count = \(session.candidate.standing.errorCount), last_used_at = \(session.candidate.lastUsed),
                \(raw: freeAt) = \(end), \(raw: freeReason) = \(reason?.rawValue) \(channels),
                revision = revision + 1
            WHERE id = \(session.id)
            """)
    }

    /// Writes the standing and, as it bears on them all, the view of every action.
    func saveStanding(_ session: inout StoredAccount, at now: Timestamp) throws {
        session.revision += 1
        let standing = session.candidate.standing
        let frozen: Int64? =
            switch standing.freeze {
            case .until(let end): end.milliseconds
            case .untilLifted: .farAway
            case nil: nil
            }
        let own = session.free(for: nil, at: now)
        let invite = session.free(for: .invite, at: now)
        let message = session.free(for: .message, at: now)
        let contact = session.free(for: .addContact, at: now)
        try run(
            """
            UPDATE telegram_sessions
            SET status = \(standing.status(at: now).rawValue), error_count = \(standing.errorCount),
                flood_wait_until = \(standing.floodWaitUntil), blocked_until = \(standing.blockedUntil),
                frozen_until = \(frozen), disabled_reason = \(standing.disabled?.rawValue),
                free_at = \(own.end), free_reason = \(own.reason?.rawValue),
                invite_free_at = \(invite.end), invite_reason = \(invite.reason?.rawValue),
                message_free_at = \(message.end), message_reason = \(message.reason?.rawValue),
                contact_free_at = \(contact.end), contact_reason = \(contact.reason?.rawValue),
                revision = revision + 1
            WHERE id = \(session.id)
            """)
    }

    func saveLease(_ session: StoredAccount) throws {
        let lease = session.candidate.leases.current
        let idleSince = (session.candidate.lastUsed ?? .epoch).hour
        try run(
            """
            UPDATE telegram_sessions
            SET locked = \(lease != nil), locked_by = \(lease?.service), locked_at = \(lease?.grantedAt),
                locked_until = \(lease?.expiresAt ?? .epoch), lease_id = \(lease?.id),
                released_lease_id = \(session.candidate.leases.releasedID),
                last_used_at = \(session.candidate.lastUsed),
                free_at = CASE WHEN free_at < \(idleSince) THEN \(idleSince) ELSE free_at END
            WHERE id = \(session.id)
            """)
    }
}

extension StoredAccount {
    /// From when on the account's own limits allow `action`, and what refuses until then. Never before its
    /// last use: the index on it is also the order of idleness.
    func free(for action: ActionType?, at now: Timestamp) -> (end: Int64, reason: RefusalReason?) {
        let idleSince = candidate.lastUsed?.milliseconds ?? 0
        let refusal: Candidate.Refusal? =
            if let action {
                candidate.verdict(action, at: now).binding.map {
                    Candidate.Refusal(
                        RefusalReason($0, status: candidate.standing.status(at: now)), $0.refusal ?? .never)
                }
            } else {
                candidate.standing.refusal(at: now).map {
                    Candidate.Refusal(
                        RefusalReason(
                            LimitCheck(.status, refusal: $0), status: candidate.standing.status(at: now)), $0)
                }
            }
        guard let refusal else { return (idleSince, nil) }
        return (refusal.end.moment?.milliseconds ?? .farAway, refusal.reason)
    }
}
