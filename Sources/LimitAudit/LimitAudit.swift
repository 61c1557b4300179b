public import Core
public import Storage

/// A limit that the ledger shows broken, with the entry that broke it.
public struct Breach: Equatable, Sendable, CustomStringConvertible {
    public let account: String
    public let user: Int64
    public let action: String
    /// `daily`, `hourly`, `per_channel`, `per_channel_total`, `cooldown`, `burst`, `permit`.
    public let limit: String
    public let channel: String?
    /// What the ledger holds, and what the limit allows.
    public let found: Int64
    public let allowed: Int64
    public let at: Timestamp
    public let entry: Int64

    public var description: String {
        let place = channel.map { " into \($0)" } ?? ""
        return "\(account) \(at) \(action)\(place): \(limit) \(found), allowed \(allowed) (entry \(entry))"
    }

    public var json: JSONValue {
        .object(present: [
            "account_id": .string(account), "action": .string(action), "limit": .string(limit),
            "channel": channel.map { .string($0) }, "found": .int(found), "allowed": .int(allowed),
            "at": at.json,
            "entry": .int(entry),
        ])
    }
}

/// Checks every limit after the fact, by counting in the ledger.
///
/// It is the second opinion on the Account Manager and therefore shares nothing with it: its numbers, its
/// windows and its reading of the tables are its own. Whatever wrote a row into the ledger, it is judged.
public struct LimitAudit: Sendable {
    private struct Numbers {
        var daily: Int64, hourly: Int64, channelDaily: Int64, channelTotal: Int64
        var pause: Int64, burst: Int64, burstPause: Int64
    }
    /// The table of limits, once more: seconds and counts.
    private static let shipped: [String: Numbers] = [
        "invite": Numbers(
            daily: 30, hourly: 2, channelDaily: 15, channelTotal: 200, pause: 900, burst: 3, burstPause: 900),
        "message": Numbers(
            daily: 30, hourly: 10, channelDaily: .max, channelTotal: .max, pause: 60, burst: 5,
            burstPause: 180),
        "add_contact": Numbers(
            daily: 15, hourly: 3, channelDaily: .max, channelTotal: .max, pause: 300, burst: 2,
            burstPause: 600),
    ]
    private struct Tightening {
        let setting: String
        let value: Int64
        let since: Int64
    }
    /// From `age` days after its connection on, an account may use `percent` of the daily limit.
    private struct Gentle {
        let age: Int64
        let percent: Int64
        let since: Int64
    }
    private struct Account {
        let id: String
        let user: Int64
        let connectedAt: Int64
    }
    /// What holds for one account beside the table.
    private struct Terms {
        let tightened: [Tightening]
        let rampUp: [Gentle]
        let connectedAt: Int64
    }
    private struct Entry {
        let id: Int64, action: String, channel: String?, success: Bool, at: Int64, summed: Bool
    }
    public struct Report: Sendable {
        public var accounts = 0
        public var entries = 0
        public var breaches: [Breach] = []
        public init() {}
    }

    private let database: any Database

    public init(_ database: any Database) { self.database = database }

    /// Judges what was recorded from `from` on, of all accounts (of `user`) that did something since; totals
    /// for ever are counted from the beginning.
    public func run(from: Timestamp = .epoch, user: Int64? = nil) async throws -> Report {
        var report = Report()
        let tightened = try await tightenings()
        let rampUp = tightened.flatMap { key, steps -> [Gentle] in
            guard key.hasPrefix("ramp_up/"), let age = Int64(key.dropFirst("ramp_up/".count)) else {
                return []
            }
            return steps.map { Gentle(age: age, percent: $0.value, since: $0.since) }
        }.sorted { $0.age < $1.age }
        var last = "00000000-0000-0000-0000-000000000000"
        while true {
            let accounts = try await accounts(after: last, since: from, of: user)
            guard let final = accounts.last else { return report }
            last = final.id
            for found in accounts {
                let entries = try await entries(of: found.id, from: from)
                report.accounts += 1
                report.entries += entries.count
                let own =
                    (tightened["everybody/"] ?? []) + (tightened["configuration/"] ?? [])
                    + (tightened["user/\(found.user)"] ?? []) + (tightened["account/\(found.id)"] ?? [])
                let terms = Terms(tightened: own, rampUp: rampUp, connectedAt: found.connectedAt)
                report.breaches += judge(found, entries, terms, from: from.milliseconds)
            }
        }
    }

    private func accounts(
        after last: String, since from: Timestamp, of user: Int64?
    ) async throws -> [Account] {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        return try await database.run(
            """
            SELECT id, user_id, connected_at FROM telegram_sessions
            WHERE id > \(last) AND \(mine) AND EXISTS (
                SELECT 1 FROM account_ledger WHERE account_id = telegram_sessions.id AND at >= \(from))
            ORDER BY id LIMIT 500
            """, timeout: .minutes(2)
        ).map {
            Account(
                id: try $0.text("id"), user: try $0.int64("user_id"),
                connectedAt: try $0.int64("connected_at"))
        }
    }

    /// What a window that begins before `from` may reach back to: two days, and the whole past of channels.
    private func entries(of account: String, from: Timestamp) async throws -> [Entry] {
        try await database.run(
            """
            SELECT id, action, channel, success, at, summed FROM account_ledger
            WHERE account_id = \(account) AND (at >= \(from - .days(2)) OR (success AND channel IS NOT NULL))
            ORDER BY at, id
            """, timeout: .minutes(2)
        ).map { row in
            Entry(
                id: try row.int64("id"), action: try row.text("action"),
                channel: try row.optionalText("channel"),
                success: try row.bool("success"), at: try row.int64("at"), summed: try row.bool("summed"))
        }
    }

    private func tightenings() async throws -> [String: [Tightening]] {
        var found: [String: [Tightening]] = [:]
        for row in try await database.run(
            "SELECT scope, subject, setting, value, changed_at FROM account_limits WHERE scope <> 'revision'")
        {
            let key = "\(try row.text("scope"))/\(try row.text("subject"))"
            found[key, default: []].append(
                Tightening(
                    setting: try row.text("setting"), value: try row.int64("value"),
                    since: try row.int64("changed_at")))
        }
        return found
    }

    private func numbers(_ action: String, _ terms: Terms, at moment: Int64) -> Numbers? {
        guard var numbers = Self.shipped[action] else { return nil }
        // A permit that was taken before a limit was tightened may still be recorded for two minutes.
        for one in terms.tightened where one.since + 120_000 <= moment {
            switch one.setting {
            case "\(action).daily": numbers.daily = min(numbers.daily, one.value)
            case "\(action).hourly": numbers.hourly = min(numbers.hourly, one.value)
            case "\(action).per_channel_daily": numbers.channelDaily = min(numbers.channelDaily, one.value)
            case "\(action).per_channel_total": numbers.channelTotal = min(numbers.channelTotal, one.value)
            case "\(action).pause_seconds": numbers.pause = max(numbers.pause, one.value)
            case "\(action).burst": numbers.burst = min(numbers.burst, one.value)
            case "\(action).burst_pause_seconds": numbers.burstPause = max(numbers.burstPause, one.value)
            default: break
            }
        }
        let day: Int64 = 86_400_000
        let age = max(0, moment / day - terms.connectedAt / day)
        let steps = terms.rampUp.filter { $0.since + 120_000 <= moment }
        if let step = steps.last(where: { $0.age <= age }) ?? steps.first {
            // A share is whole actions, and one at least where it is a share at all.
            let share = numbers.daily * step.percent / 100
            numbers.daily = step.percent > 0 && numbers.daily > 0 ? max(1, share) : 0
        }
        return numbers
    }

    /// One walk over the entries of an account, in the order of time.
    private func judge(
        _ account: Account, _ entries: [Entry], _ terms: Terms, from: Int64
    ) -> [Breach] {
        var breaches: [Breach] = []
        var days: [String: Int64] = [:]
        var channelDays: [String: Int64] = [:]
        var channelTotals: [String: Int64] = [:]
        // Moments of each action whose moment is known: what was told in sum happened at some time.
        var moments: [String: [Int64]] = [:]
        var latest: [String: Int64] = [:]
        var runs: [String: Int64] = [:]
        for entry in entries {
            guard let limits = numbers(entry.action, terms, at: entry.at) else { continue }
            func check(_ name: String, _ found: Int64, _ allowed: Int64) {
                guard found > allowed, entry.at >= from else { return }
                breaches.append(
                    Breach(
                        account: account.id, user: account.user, action: entry.action, limit: name,
                        channel: entry.channel,
                        found: found, allowed: allowed, at: Timestamp(milliseconds: entry.at), entry: entry.id
                    ))
            }
            let day = "\(entry.action)/\(entry.at / 86_400_000)"
            days[day, default: 0] += 1
            check("daily", days[day] ?? 0, limits.daily)
            if entry.success, let channel = entry.channel {
                channelDays["\(channel)/\(day)", default: 0] += 1
                channelTotals["\(channel)/\(entry.action)", default: 0] += 1
                check("per_channel", channelDays["\(channel)/\(day)"] ?? 0, limits.channelDaily)
                check(
                    "per_channel_total", channelTotals["\(channel)/\(entry.action)"] ?? 0, limits.channelTotal
                )
            }
            guard !entry.summed else { continue }
            var before = moments[entry.action] ?? []
            if let previous = latest[entry.action] {
                let passed = entry.at - previous
                if passed < limits.pause * 1000, entry.at >= from {
                    // Shorter is worse here, so it is told the other way round: seconds that were missing.
                    check("cooldown", limits.pause - passed / 1000, 0)
                }
                runs[entry.action] = passed < limits.burstPause * 1000 ? (runs[entry.action] ?? 1) + 1 : 1
            } else {
                runs[entry.action] = 1
            }
            check("burst", runs[entry.action] ?? 1, limits.burst)
            latest[entry.action] = entry.at
            before.append(entry.at)
            while let first = before.first, first <= entry.at - 3_600_000 { before.removeFirst() }
            check("hourly", Int64(before.count), limits.hourly)
            moments[entry.action] = before
        }
        return breaches
    }
}

extension LimitAudit {
    /// Writes breaches down, each once, and returns those that are new.
    public func note(_ breaches: [Breach], at now: Timestamp) async throws -> [Breach] {
        var new: [Breach] = []
        for breach in breaches {
            let added = try await database.run(
                """
                INSERT INTO account_alerts (user_id, account_id, limit_name, entry, details, at, found_at)
                VALUES (\(breach.user), \(breach.account), \(breach.limit), \(breach.entry), \(breach.json),
                    \(breach.at), \(now))
                ON CONFLICT (account_id, limit_name, entry) DO NOTHING
                """
            ).affected
            if added > 0 { new.append(breach) }
        }
        return new
    }

    /// Alerts of a user (of all for nil), newest first.
    public func alerts(
        of user: Int64?, offset: Int, limit: Int
    ) async throws -> (alerts: [JSONValue], total: Int) {
        let mine: SQL = user.map { "user_id = \($0)" } ?? "TRUE"
        let total =
            try await database.run("SELECT count(*) AS alerts FROM account_alerts WHERE \(mine)").first?.int(
                "alerts")
            ?? 0
        let rows = try await database.run(
            """
            SELECT details, found_at FROM account_alerts WHERE \(mine)
            ORDER BY found_at DESC, id DESC LIMIT \(limit) OFFSET \(offset)
            """)
        let alerts = try rows.map { row -> JSONValue in
            var members = try row.json("details").objectValue ?? []
            members.append(JSONMember("found_at", try row.timestamp("found_at").json))
            return .object(members)
        }
        return (alerts, total)
    }
}
