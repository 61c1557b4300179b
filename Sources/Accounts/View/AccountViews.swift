public import Cache
public import Core
internal import Synchronization

/// The fast view of accounts in the cache, in the documented layout:
///
/// - index 1: `account_lock:{account_id}`, who holds a lease;
/// - index 2: `account_recovery_queue`, who recovers when, and `flood:{account_id}`;
/// - index 3: `cooldown:`, `burst:` and `hourly:{account_id}:{action}` for people to look at, and
///   `view:{account_id}`, all that a verdict needs, for checks.
///
/// SQL decides; nothing here is ever needed. A view is taken out before its account changes and put back
/// after, and never replaces a newer one; what is decided from it is confirmed in SQL by the revision it
/// carries. It is believed by a check only while SQL answers (or a database that is gone would still say
/// "allowed") and while the cache is known to be the same run of the server (or an old dump would speak).
public final class AccountViews: Sendable {
    /// Bounds how long a view can be wrong after the worst: a crash between SQL and here.
    static let lifetime = Duration.seconds(60)
    /// How long SQL and the cache are believed to be what they last were.
    static let trust = Duration.seconds(1)

    private let leases: any Cache
    private let recovery: any Cache
    private let windows: any Cache
    private let rampUp: RampUp
    private let time: any TimeSource
    private let state: Mutex<State>

    private struct State {
        var databaseAnswered: Duration?
        var runVerified: Duration?
        /// The cache did not answer; nobody waits for it until then.
        var isAwayUntil: Duration?
        /// Views that may be wrong because the cache did not hear of a change.
        var missed: Set<AccountID> = []
        var hasMissedTooMany = false
        var isEmptied = true
    }

    public init(_ cache: any Cache, rampUp: RampUp = .none, time: any TimeSource) {
        let quick = cache.within(.milliseconds(500))
        leases = quick.database(1)
        recovery = quick.database(2)
        windows = quick.database(3)
        self.rampUp = rampUp
        self.time = time
        state = Mutex(State())
    }

    // MARK: - Whether it is to be believed

    /// SQL has just answered.
    func databaseAnswered() {
        let now = time.uptime
        state.withLock { $0.databaseAnswered = now }
    }

    /// Whether the cache was found emptied since this was last asked, so that leases and the recovery queue
    /// have to be made anew.
    public func wasEmptied() -> Bool {
        state.withLock { state in
            defer { state.isEmptied = false }
            return state.isEmptied
        }
    }

    private func isTrusted() async -> Bool {
        let now = time.uptime
        let (isFresh, isVerified) = state.withLock { state in
            (
                state.databaseAnswered.map { now - $0 < Self.trust } ?? false,
                state.runVerified.map { now - $0 < Self.trust } ?? false
            )
        }
        guard isFresh else { return false }
        return isVerified ? true : await verify()
    }

    /// Makes sure that the cache knows of all that this process has changed, and is no older one come back.
    public func verify() async -> Bool {
        let (missed, tooMany) = state.withLock { state in
            defer {
                state.missed = []
                state.hasMissedTooMany = false
            }
            return (state.missed, state.hasMissedTooMany)
        }
        let answer = await attempt { [windows] in
            if tooMany { try await windows.flush() }
            if !missed.isEmpty { try await windows.delete(missed.map(Self.key)) }
            return try await windows.run(.verifyRun, keys: ["account_manager:run"], arguments: []).asFlag
        }
        guard let isSame = answer else {
            state.withLock { state in
                state.missed.formUnion(missed)
                state.hasMissedTooMany = state.hasMissedTooMany || tooMany
            }
            return false
        }
        let now = time.uptime
        state.withLock { state in
            state.runVerified = now
            if !isSame { state.isEmptied = true }
        }
        return true
    }

    /// What the cache says; nil when it does not answer, and for a moment after.
    private func attempt<Answer: Sendable>(
        _ work: @Sendable () async throws -> Answer
    ) async -> Answer? {
        let now = time.uptime
        let isAway = state.withLock { state in state.isAwayUntil.map { now < $0 } ?? false }
        guard !isAway else { return nil }
        do {
            return try await work()
        } catch is CancellationError {
            return nil
        } catch {
            let until = time.uptime + .milliseconds(500)
            state.withLock { state in
                state.isAwayUntil = until
                state.runVerified = nil
            }
            return nil
        }
    }

    private func missed(_ account: AccountID) {
        state.withLock { state in
            if state.missed.count < 10_000 {
                state.missed.insert(account)
            } else {
                state.hasMissedTooMany = true
            }
        }
    }

    // MARK: - Views

    private static func key(_ account: AccountID) -> CacheBytes { CacheBytes("view:\(account)") }
    private static let limits: CacheBytes = "limits_revision"

    /// The account as it was at most a moment ago; nil where only SQL knows.
    func read(_ account: AccountID, at now: Timestamp) async -> StoredAccount? {
        guard await isTrusted() else { return nil }
        let found = await attempt { [windows] in try await windows.get([Self.key(account), Self.limits]) }
        guard let found, found.count == 2 else { return nil }
        return view(found[0], limits: found[1], account, at: now)
    }

    /// Takes the view out before its account is changed: whatever happens meanwhile, nobody reads an old one.
    func take(_ account: AccountID, at now: Timestamp) async -> StoredAccount? {
        // Tried also when the cache is not trusted: there may be a view that others would believe.
        let taken = await attempt { [windows] in
            async let limits = windows.get(Self.limits)
            async let view = windows.getAndDelete(Self.key(account))
            return try await (view: view, limits: limits)
        }
        guard let taken else {
            missed(account)
            return nil
        }
        return view(taken.view, limits: taken.limits, account, at: now)
    }

    private func view(
        _ bytes: CacheBytes?, limits: CacheBytes?, _ account: AccountID, at now: Timestamp
    ) -> StoredAccount? {
        guard let bytes, let mark = bytes.bytes.firstIndex(of: UInt8(ascii: ":")),
            let found = StoredAccount(encoded: bytes.bytes[(mark + 1)...], rampUp),
            found.id == account, limits?.integer == found.limitsRevision, found.isComplete(at: now)
        else { return nil }
        return found
    }

    /// Puts a state that SQL has confirmed where others find it, unless they know a newer one.
    func put(_ account: StoredAccount, showing actions: [ActionType] = [], at now: Timestamp) async {
        let account = account
        var keys = [Self.key(account.id), Self.limits]
        var arguments = [
            CacheBytes(account.revision), CacheBytes(Array("\(account.revision):".utf8) + account.encoded()),
            CacheBytes(Self.lifetime.components.seconds * 1000), CacheBytes(account.limitsRevision),
        ]
        for action in actions {
            for (key, value, left) in account.windows(action, at: now) {
                keys.append(key)
                arguments += [value, CacheBytes(left)]
            }
        }
        let (allKeys, allArguments) = (keys, arguments)
        let done: Void? = await attempt { [windows] in
            _ = try await windows.run(.putView, keys: allKeys, arguments: allArguments)
        }
        if done == nil { missed(account.id) }
    }

    func drop(_ accounts: [AccountID]) async {
        guard !accounts.isEmpty else { return }
        let done: Void? = await attempt { [windows] in _ = try await windows.delete(accounts.map(Self.key)) }
        if done == nil { for account in accounts { missed(account) } }
    }

    /// No view that knows older limits counts from now on.
    func limitsChanged(to revision: Int64) async {
        let done: Void? = await attempt { [windows] in
            try await windows.set(Self.limits, to: CacheBytes(revision), for: .hours(1))
        }
        if done == nil { state.withLock { $0.hasMissedTooMany = true } }
    }

    /// Takes the limits' revision away before they change: until the new one is known, SQL answers.
    func limitsWillChange() async {
        _ = await attempt { [windows] in try await windows.delete(Self.limits) }
    }

    // MARK: - Leases

    private static func lockKey(_ account: AccountID) -> CacheBytes { CacheBytes("account_lock:\(account)") }

    /// `service_name:timestamp:lease_id`
    static func lockValue(_ lease: Lease) -> CacheBytes {
        CacheBytes("\(lease.service):\(lease.grantedAt.milliseconds):\(lease.id)")
    }

    func leased(_ account: AccountID, _ lease: Lease, at now: Timestamp) async {
        let left = lease.expiresAt - now
        guard left > .zero else { return }
        _ = await attempt { [leases] in
            try await leases.run(
                .showLease, keys: [Self.lockKey(account)],
                arguments: [
                    Self.lockValue(lease), CacheBytes(left.milliseconds),
                    CacheBytes(lease.grantedAt.milliseconds),
                ])
        }
    }

    func unleased(_ account: AccountID, _ lease: Lease) async {
        _ = await attempt { [leases] in
            try await leases.delete(Self.lockKey(account), ifEqual: Self.lockValue(lease))
        }
    }

    // MARK: - Recovery

    private static let queue: CacheBytes = "account_recovery_queue"

    /// Shows when an account recovers; nil takes it out.
    func recovers(_ account: AccountID, at moment: Timestamp?) async {
        _ = await attempt { [recovery] in
            if let moment {
                try await recovery.sortedAdd(
                    Self.queue, CacheBytes(account.description), score: Double(moment.seconds))
            } else {
                try await recovery.sortedRemove(Self.queue, CacheBytes(account.description))
            }
        }
    }

    func flooded(_ account: AccountID, until end: Timestamp, seconds: Int64, at now: Timestamp) async {
        guard end > now else { return }
        let value: JSONValue = ["seconds": .int(seconds), "until": end.json, "at": now.json]
        _ = await attempt { [recovery] in
            try await recovery.set(CacheBytes("flood:\(account)"), to: CacheBytes(value.text), for: end - now)
        }
    }

    /// Who is due by what the queue says; nil when it is not there to ask.
    func queued(through moment: Timestamp, limit: Int) async -> [AccountID]? {
        await attempt { [recovery] in
            try await recovery.sortedRange(Self.queue, .through(Double(moment.seconds)), limit: limit)
                .compactMap { AccountID($0.member.text) }
        }
    }

    /// Replaces the queue by what SQL says.
    func replaceQueue(_ entries: [(account: AccountID, at: Timestamp)]) async {
        let members = entries.map {
            CacheCommand.Scored(CacheBytes($0.account.description), Double($0.at.seconds))
        }
        _ = await attempt { [recovery] in
            let known = Set(try await recovery.sortedRange(Self.queue).map(\.member))
            for start in stride(from: 0, to: members.count, by: 500) {
                let end = min(start + 500, members.count)
                try await recovery.sortedAdd(Self.queue, Array(members[start..<end]))
            }
            for gone in known.subtracting(members.map(\.member)) {
                try await recovery.sortedRemove(Self.queue, gone)
            }
        }
    }
}

extension StoredAccount {
    /// The windows of an action as people look at them: key, value, milliseconds left (0 for none).
    fileprivate func windows(
        _ action: ActionType, at now: Timestamp
    ) -> [(key: CacheBytes, value: CacheBytes, left: Int64)] {
        let limits = candidate.limits[action]
        let usage = candidate.usage[action] ?? .none
        let last = usage.last ?? .epoch
        let name = "\(id):\(action.rawValue)"
        let run = usage.run(at: now, within: limits.burstPause)
        let hour = usage.records.filter { $0.at > now - .hours(1) }
        let start = usage.records.dropLast(max(0, usage.records.count - run)).first?.at ?? now
        let burst: JSONValue = ["count": JSONValue(run), "start_time": start.json]
        let hourly: JSONValue = .array(hour.map { .int($0.at.seconds) })
        func left(_ end: Timestamp) -> Int64 { max(0, end.milliseconds - now.milliseconds) }
        return [
            (
                CacheBytes("cooldown:\(name)"), CacheBytes((last + limits.pause).seconds),
                left(last + limits.pause)
            ),
            (
                CacheBytes("burst:\(name)"), CacheBytes(burst.text),
                run > 0 ? left(last + limits.burstPause) : 0
            ),
            (
                CacheBytes("hourly:\(name)"), CacheBytes(hourly.text),
                left((hour.last?.at ?? .epoch) + .hours(1))
            ),
        ]
    }
}

extension CacheScript {
    /// Keys: where the server's run is noted. Answers 1 when it is the run noted there; else empties the
    /// database, whose contents came from a dump or are gone, and notes the run.
    static let verifyRun = CacheScript(
        "accounts-verify-run",
        lua: """
            local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
            if redis.call('GET', KEYS[1]) == run then return 1 end
            redis.call('FLUSHDB')
            redis.call('SET', KEYS[1], run, 'PX', 86400000)
            return 0
            """
    ) { store, keys, _ in
        guard let key = keys.first else { throw CacheError.command(reason: "a key is missing") }
        if try store.call(.get(key)).asBytes == "memory" { return .integer(1) }
        _ = try store.call(.flush)
        _ = try store.call(.set(key, "memory", expiry: .after(.days(1)), condition: .any))
        return .integer(0)
    }

    /// Keys: the view, the limits' revision, then windows. Arguments: revision, view, time to live in ms,
    /// limits' revision, then value and time to live of each window. Answers whether it was not too old.
    static let putView = CacheScript(
        "accounts-put-view",
        lua: """
            local held = redis.call('GETRANGE', KEYS[1], 0, 20)
            local known = tonumber(string.match(held, '^(%d+):'))
            if known and known > tonumber(ARGV[1]) then return 0 end
            redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
            local limits = tonumber(redis.call('GET', KEYS[2]))
            if not limits or limits <= tonumber(ARGV[4]) then
                redis.call('SET', KEYS[2], ARGV[4], 'PX', 3600000)
            end
            for index = 3, #KEYS do
                local left = ARGV[2 * index]
                if left == '0' then
                    redis.call('DEL', KEYS[index])
                else
                    redis.call('SET', KEYS[index], ARGV[2 * index - 1], 'PX', left)
                end
            end
            return 1
            """
    ) { store, keys, arguments in
        guard keys.count >= 2, arguments.count == 4 + 2 * (keys.count - 2),
            let revision = arguments[0].integer,
            let lifetime = arguments[2].integer, let limits = arguments[3].integer
        else { throw CacheError.command(reason: "an argument is missing") }
        if let held = try store.call(.get(keys[0])).asBytes,
            let known = CacheBytes(Array(held.bytes.prefix { $0 != UInt8(ascii: ":") })).integer,
            known > revision
        {
            return .integer(0)
        }
        func set(_ key: CacheBytes, _ value: CacheBytes, _ milliseconds: Int64) throws {
            let expiry = CacheCommand.Expiry.after(.milliseconds(milliseconds))
            _ = try store.call(.set(key, value, expiry: expiry, condition: .any))
        }
        try set(keys[0], arguments[1], lifetime)
        let known = try store.call(.get(keys[1])).asBytes?.integer
        if known == nil || known ?? 0 <= limits { try set(keys[1], arguments[3], 3_600_000) }
        for (index, key) in keys.enumerated().dropFirst(2) {
            guard let left = arguments[2 * index + 1].integer else {
                throw CacheError.command(reason: "an argument is missing")
            }
            if left == 0 {
                _ = try store.call(.delete([key]))
            } else {
                try set(key, arguments[2 * index], left)
            }
        }
        return .integer(1)
    }

    /// Keys: the lease's. Arguments: its value, time to live in ms, the moment it was granted in ms. A lease
    /// that was granted later stays: whoever comes late with an older one must not hide it.
    static let showLease = CacheScript(
        "accounts-show-lease",
        lua: """
            if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
            local held = tonumber(string.match(redis.call('GET', KEYS[1]), ':(%d+):[^:]*$'))
            if held and held > tonumber(ARGV[3]) then return 0 end
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
            return 1
            """
    ) { store, keys, arguments in
        guard let key = keys.first, arguments.count == 3, let left = arguments[1].integer,
            let at = arguments[2].integer
        else { throw CacheError.command(reason: "an argument is missing") }
        if let held = try store.call(.get(key)).asBytes {
            let parts = held.text.split(separator: ":", omittingEmptySubsequences: false)
            if parts.count >= 3, let known = Int64(parts[parts.count - 2]), known > at { return .integer(0) }
        }
        let expiry = CacheCommand.Expiry.after(.milliseconds(left))
        _ = try store.call(.set(key, arguments[0], expiry: expiry, condition: .any))
        return .integer(1)
    }
}
