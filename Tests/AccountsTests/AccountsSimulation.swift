import Cache
import Core
import Simulation
import Storage
import Synchronization
import Testing

@testable import Accounts

/// Bugs that are planted on purpose: a check that no bug can fail proves nothing.
private enum Bug: String, CaseIterable {
    case none
    /// Counts its lease from the answer and never looks at it again; Telegram's side checks no token.
    case trustsItsLeaseForEver
    /// Checks, then acts, without holding the place.
    case checksWithoutReserving
    /// Repeats a report without the permit's id.
    case recordsWithoutPermit
    /// Gives a permit's place back when the answer to the report was lost.
    case forgetsUnansweredReports
    /// Takes a place on the word of the cache, and never asks SQL whether it is still true.
    case believesTheCache
    /// The upkeep frees accounts that somebody still holds.
    case freesRunningLeases
    /// The upkeep forgets what was done more than an hour ago.
    case tidiesTheLedger
    /// A flood wait is written down as if it had no end.
    case neverRecovers

    /// What has to be noticed; another finding does not count.
    var symptom: String {
        switch self {
        case .none: ""
        case .trustsItsLeaseForEver: "an older lease acted after a newer one"
        case .checksWithoutReserving: "a pause of"
        case .recordsWithoutPermit: "the ledger counts too much"
        case .believesTheCache: "a pause of"
        case .freesRunningLeases: "two hold one account"
        case .tidiesTheLedger: "an acknowledged action is not in the ledger"
        case .neverRecovers: "an account is lost for ever"
        case .forgetsUnansweredReports: "something was done that the ledger does not know"
        }
    }
}

/// What truly happened at Telegram, seen by nobody in the simulated world.
private final class Truth: Sendable {
    struct Act: Sendable { let permit: String?, account: AccountID, token: Int64, uptime: Duration }
    struct Lost: Sendable { let permit: String, account: AccountID, reservedAt: Timestamp }
    private struct State {
        var acts: [Act] = []
        var late: Set<String> = []
        var acknowledged: Set<String> = []
        var fences: [AccountID: Fence] = [:]
        /// Attempts that were begun and not settled: what a worker finds of its own after a crash.
        var begun: [String: Lost] = [:]
        /// What the store says: who may act on an account, until when in uptime.
        var holders: [AccountID: (token: Int64, until: Duration)] = [:]
        var overlaps = 0
        var doubles = 0
    }
    private let state = Mutex(State())

    /// Whoever held it before must have given it back, or let its time run out.
    func granted(_ account: AccountID, _ token: Int64, at now: Duration, until: Duration) {
        state.withLock { state in
            if let other = state.holders[account], other.until > now, other.token != token {
                state.doubles += 1
            }
            if state.holders[account]?.token ?? 0 < token { state.holders[account] = (token, until) }
        }
    }
    func released(_ account: AccountID, _ token: Int64) {
        state.withLock { state in
            if state.holders[account]?.token == token { state.holders[account]?.until = .zero }
        }
    }
    /// A lease that ended by a clock that was set forward ended; when exactly, uptime does not tell.
    func clockJumped() { state.withLock { $0.holders = [:] } }
    var doubles: Int { state.withLock { $0.doubles } }
    /// False when the fence turns it away.
    func act(_ account: AccountID, token: Int64, permit: String?, at uptime: Duration, fenced: Bool) -> Bool {
        state.withLock { state in
            var fence = state.fences[account] ?? Fence()
            guard !fenced || fence.admits(token) else { return false }
            state.fences[account] = fence
            if let newer = state.holders[account]?.token, newer > token { state.overlaps += 1 }
            state.acts.append(Act(permit: permit, account: account, token: token, uptime: uptime))
            return true
        }
    }
    func began(_ attempt: Lost) { state.withLock { $0.begun[attempt.permit] = attempt } }
    func settled(_ permit: String) { state.withLock { $0.begun[permit] = nil } }
    func acknowledged(_ permit: String, late: Bool) {
        state.withLock { state in
            state.acknowledged.insert(permit)
            state.begun[permit] = nil
            if late { state.late.insert(permit) }
        }
    }
    var inDoubt: [Lost] {
        state.withLock { Array($0.begun.values) }.sorted { $0.permit < $1.permit }
    }
    var acts: [Act] { state.withLock { $0.acts } }
    var late: Set<String> { state.withLock { $0.late } }
    var acknowledged: Set<String> { state.withLock { $0.acknowledged } }
    var overlaps: Int { state.withLock { $0.overlaps } }
}

/// Three accounts, four workers with two Account Managers between them, eight hours around midnight, a bad
/// network, a cache that is flushed, falls back to an old dump or is away, a database that is restarted; then an
/// hour without faults. Returns what was broken.
private func world(seed: UInt64, bug: Bug = .none, clockJumps: Bool = true) throws -> [String] {
    let start = midnight - .hours(4)
    return try Simulation(seed: seed, start: start).run { world in
        let inner = DatabaseLocation.inlineSQLite(time: world, random: world)
        try await inner.migrate(Migration.accounts, scope: "accounts", at: start)
        let database = Switchable(inner)
        let store = SQLAccountStore(inner, random: world)
        let truth = Truth()
        for index in 1...3 { try await store.connect(account(index), user: 1, at: start - .days(100)) }
        let cache = FaultyCache(MemoryCache(time: world))
        let managers = Managers(database: database, cache: cache, world: world)
        let calm = Calm()
        await withTaskGroup(of: Void.self) { group in
            for index in 1...4 {
                group.addTask {
                    await world.supervise("worker \(index)") { process in
                        await Worker(
                            world: world, process: process, managers: managers, index: index, database: inner,
                            truth: truth, bug: bug, calm: calm
                        )
                        .run(for: .hours(9))
                    }
                }
            }
            group.addTask {
                // The upkeep, when it comes to it; and a clock that somebody sets.
                for _ in 0..<16 {
                    try? await world.sleep(for: .minutes(30))
                    let manager = managers[world.int(in: 0...1)]
                    _ = try? await manager.store.tidy(at: world.now)
                    _ = try? await manager.recoverDue(at: world.now)
                    _ = try? await manager.watchCache(at: world.now)
                    await plant(bug, inner, at: world.now)
                    // The clock of a machine jumps where the manager is not, which asks for no time but its own.
                    if clockJumps, bug != .freesRunningLeases, world.happens(0.15) {
                        world.moveWallClock(by: .hours(3))
                        truth.clockJumped()
                    }
                }
                calm.begin()
            }
            group.addTask {
                // What happens to the servers.
                while !calm.isOn {
                    try? await world.sleep(for: world.duration(in: .minutes(2)...(.minutes(20))))
                    switch world.int(in: 0...4) {
                    case 0: await cache.flush()
                    case 1:
                        cache.isGone.set(true)
                        try? await world.sleep(for: world.duration(in: .seconds(1)...(.minutes(5))))
                        cache.isGone.set(false)
                    case 2: await cache.fallBack()
                    case 3:
                        database.isGone.withLock { $0 = true }
                        try? await world.sleep(for: world.duration(in: .seconds(1)...(.seconds(30))))
                        database.isGone.withLock { $0 = false }
                    default: managers.restart(world.int(in: 0...1))
                    }
                    await cache.dump()
                }
            }
        }
        return try await broken(
            store: store, truth: truth, from: start, fenced: bug != .trustsItsLeaseForEver, at: world.now)
    }
}

/// Does what the upkeep must not do.
private func plant(_ bug: Bug, _ database: any Database, at now: Timestamp) async {
    switch bug {
    case .freesRunningLeases:
        _ = try? await database.run(
            "UPDATE telegram_sessions SET locked = FALSE, locked_until = 0 WHERE locked_until > \(now)")
    case .tidiesTheLedger:
        _ = try? await database.run("DELETE FROM account_ledger WHERE at < \(now - .hours(1))")
    case .neverRecovers:
        _ = try? await database.run(
            """
            UPDATE telegram_sessions SET frozen_until = \(Int64.farAway), status = 'frozen',
                free_at = \(Int64.farAway), message_free_at = \(Int64.farAway)
            WHERE flood_wait_until > \(now)
            """)
    default: break
    }
}

/// Two Account Managers over one database and one cache, either of which may be started anew.
private final class Managers: Sendable {
    private let database: any Database
    private let cache: any Cache
    private let world: Simulation
    private let running: Mutex<[AccountManager]>

    init(database: any Database, cache: any Cache, world: Simulation) {
        self.database = database
        self.cache = cache
        self.world = world
        running = Mutex([])
        running.withLock { $0 = [make(), make()] }
    }

    private func make() -> AccountManager {
        AccountManager(
            store: SQLAccountStore(database, random: world), views: AccountViews(cache, time: world),
            metrics: AccountMetrics(Metrics()), random: world)
    }

    private let views = Mutex<[AccountID: StoredAccount]>([:])
    func remember(_ view: StoredAccount) { views.withLock { $0[view.id] = view } }
    func remembered(_ id: AccountID, at now: Timestamp) -> StoredAccount? {
        views.withLock { $0[id] }.flatMap { now >= $0.readAt && now < $0.readAt + .minutes(10) ? $0 : nil }
    }

    subscript(index: Int) -> AccountManager { running.withLock { $0[index] } }
    func restart(_ index: Int) {
        let new = make()
        running.withLock { $0[index] = new }
    }
}

/// A cache that is flushed, is away, or comes back as it was some time ago.
private final class FaultyCache: Cache {
    let index: Int
    let isGone: SharedFlag
    private let inner: any Cache
    private let saved: SharedDump

    convenience init(_ inner: any Cache) { self.init(inner, SharedFlag(), SharedDump()) }

    private init(_ inner: any Cache, _ isGone: SharedFlag, _ saved: SharedDump) {
        self.inner = inner
        self.isGone = isGone
        self.saved = saved
        index = inner.index
    }

    func database(_ index: Int) -> any Cache { FaultyCache(inner.database(index), isGone, saved) }
    func within(_: Duration) -> any Cache { self }
    func run(_ command: CacheCommand) async throws -> CacheReply {
        guard !isGone.value else { throw CacheError.unavailable(mayHaveRun: false) }
        return try await inner.run(command)
    }
    func run(_ script: CacheScript, keys: [CacheBytes], arguments: [CacheBytes]) async throws -> CacheReply {
        guard !isGone.value else { throw CacheError.unavailable(mayHaveRun: false) }
        return try await inner.run(script, keys: keys, arguments: arguments)
    }
    func close() async {}

    func flush() async { for index in 1...4 { try? await inner.database(index).flush() } }

    /// Notes the views as they are.
    func dump() async {
        let windows = inner.database(3)
        var views: [(key: CacheBytes, value: CacheBytes)] = []
        for key in (try? await windows.keys(matching: "*")) ?? [] where key != "account_manager:run" {
            if let value = try? await windows.get(key) { views.append((key, value)) }
        }
        let noted = views
        saved.views.withLock { $0 = noted }
    }

    /// As after a restart from an old dump: another run of the server, with what it once held.
    func fallBack() async {
        await flush()
        let windows = inner.database(3)
        for (key, value) in saved.views.withLock({ $0 }) {
            _ = try? await windows.set(key, to: value, for: .seconds(60))
        }
    }
}

private final class SharedFlag: Sendable {
    private let flag = Mutex(false)
    var value: Bool { flag.withLock { $0 } }
    func set(_ value: Bool) { flag.withLock { $0 = value } }
}

private final class SharedDump: Sendable {
    let views = Mutex<[(key: CacheBytes, value: CacheBytes)]>([])
}

/// Whether the faults are over.
private final class Calm: Sendable {
    private let flag = Mutex(false)
    var isOn: Bool { flag.withLock { $0 } }
    func begin() { flag.withLock { $0 = true } }
    var faults: Faults { isOn ? .none : .harsh }
}

private func broken(
    store: SQLAccountStore, truth: Truth, from start: Timestamp, fenced: Bool, at end: Timestamp
) async throws -> [String] {
    var found: [String] = []
    if truth.doubles > 0 { found.append("two hold one account at once") }
    if truth.overlaps > 0 && !fenced { found.append("\(truth.overlaps) acts beside a newer holder") }
    var tokens: [AccountID: Int64] = [:]
    for act in truth.acts {
        if act.token < tokens[act.account, default: 0] {
            found.append("an older lease acted after a newer one")
        }
        tokens[act.account] = max(act.token, tokens[act.account, default: 0])
    }
    var recorded: [String] = []
    var entries = 0
    for index in 1...3 {
        let ledger = try await store.ledger(of: account(index), from: start, to: .epoch + .days(40_000))
        entries += ledger.count
        recorded += ledger.compactMap(\.permit)
        // Every limit after the fact, by the reference; a report that came after its permit's end is a fact
        // that no check could have known of.
        let known = ledger.filter { !truth.late.contains($0.permit ?? "") }
        found += breaches(of: known.filter { $0.action == .message }.map(\.record))
        let view = try await store.account(account(index), at: end)
        if view.lease?.isHeld(at: end) == true { found.append("a lease is held by nobody for ever") }
    }
    if Set(recorded).count != recorded.count { found.append("a permit counts twice") }
    if !truth.acknowledged.isSubset(of: recorded) {
        found.append("an acknowledged action is not in the ledger")
    }
    let acted = truth.acts.compactMap(\.permit)
    if !Set(acted).isSubset(of: recorded) { found.append("something was done that the ledger does not know") }
    if entries > Set(acted).count + truth.acts.count(where: { $0.permit == nil }) {
        found.append("the ledger counts too much")
    }
    // A world in which nothing happens would keep every promise.
    if entries < 30 || truth.late.count > entries / 4 {
        found.append("only \(entries) done, \(truth.late.count) late")
    }
    // Liveness: with the faults over and time gone by, every account can be had.
    let later = end + .days(2)
    var free: Set<AccountID> = []
    for _ in 1...3 {
        let wish = Acquire(user: 1, purpose: .messaging, service: "audit", excluded: free)
        if let granted = try? await store.acquire(wish, at: later) { free.insert(granted.id) }
    }
    if free.count != 3 { found.append("an account is lost for ever") }
    return found
}

/// The limits of messages, each said once more over the finished ledger.
private func breaches(of records: [ActionRecord]) -> [String] {
    let times = records.map(\.at).sorted()
    var found: [String] = []
    var run = 0
    for (index, at) in times.enumerated() {
        let before = times[..<index]
        if before.count(where: { $0 > at - .hours(1) }) >= 10 {
            found.append("an eleventh message in an hour")
        }
        if before.count(where: { $0.day == at.day }) >= 30 { found.append("a thirty-first message in a day") }
        if let last = before.last, at - last < .seconds(60) { found.append("a pause of \(at - last)") }
        let isNext = before.last.map { at - $0 < .seconds(180) } ?? false
        run = isNext ? run + 1 : 1
        if run > 5 { found.append("a sixth message in a burst") }
    }
    return found
}

private struct Worker {
    let world: Simulation
    let process: SimulatedProcess
    let managers: Managers
    let index: Int
    let database: any Database
    let truth: Truth
    let bug: Bug
    let calm: Calm

    private var name: String { process.name }
    private var manager: AccountManager { managers[index % 2] }

    func run(for duration: Duration) async {
        while world.uptime < duration {
            // What an earlier self began and did not finish is stated first: whether it acted is looked up.
            for lost in truth.inDoubt where truth.acts.contains(where: { $0.permit == lost.permit }) {
                await report(lost)
            }
            await session()
            try? await process.sleep(for: world.duration(in: .seconds(5)...(.minutes(4))))
        }
    }

    private func session() async {
        let asked = process.uptime
        let duration = Duration.minutes(world.happens(0.3) ? 2 : 20)
        let wish = Acquire(user: 1, purpose: .messaging, service: name, duration: duration)
        let granted: StoredAccount? = try? await process.call(calm.faults) {
            let account = try await manager.allocate(wish, at: world.now).account
            truth.granted(
                account.id, account.lease?.fencingToken ?? 0, at: world.uptime, until: world.uptime + duration
            )
            return account
        }
        guard let granted, let lease = granted.lease else { return }
        for _ in 0..<world.int(in: 1...6) {
            // A holder counts its lease from when it asked: the answer may have been long on its way.
            let isTrusted = process.uptime - asked < duration || bug == .trustsItsLeaseForEver
            guard isTrusted else { break }
            await act(granted.id, lease)
            try? await process.sleep(for: world.duration(in: .seconds(20)...(.minutes(3))))
        }
        if !calm.isOn, world.happens(0.05) {
            let error: AccountError = world.happens(0.5) ? .floodWait(.seconds(300)) : .other
            _ = try? await process.call(calm.faults) {
                _ = try await manager.handle(error, of: granted.id, owner: 1, by: name, at: world.now)
            }
        }
        _ = try? await process.call(calm.faults) {
            // Before the answer: from here on others may have it.
            truth.released(granted.id, lease.fencingToken)
            try await manager.release(
                granted.id, owner: 1, lease: lease.id, by: name, stats: UsageStats(), at: world.now)
        }
    }

    private func act(_ id: AccountID, _ lease: Lease) async {
        if bug == .checksWithoutReserving {
            let verdict = try? await process.call(calm.faults) {
                try await manager.check(id, owner: 1, .message, into: nil, at: world.now)
            }
            guard verdict?.allowed == true else { return }
            try? await process.sleep(for: world.duration(in: .zero...(.seconds(90))))
            guard truth.act(id, token: lease.fencingToken, permit: nil, at: world.uptime, fenced: true) else {
                return
            }
            _ = try? await process.call(calm.faults) {
                _ = try await manager.record(
                    id, owner: 1, Report(.message, success: true, lease: lease.id, service: name),
                    at: world.now)
            }
            return
        }
        let asked = process.uptime
        let reserved = try? await process.call(calm.faults) { () async throws -> Permit? in
            if bug == .believesTheCache { return try await takePlaceByTheCache(id) }
            return try await manager.reserve(
                id, owner: 1, .message, into: nil, lease: lease.id, by: name, at: world.now
            ).permit
        }
        guard let permit = reserved.flatMap({ $0 }) else { return }
        // The attempt is written down before it is made, so that it can be found after a crash.
        let attempt = Truth.Lost(permit: permit.id, account: id, reservedAt: permit.reservedAt)
        truth.began(attempt)
        try? await process.sleep(for: world.duration(in: .zero...(.seconds(20))))
        guard process.uptime - asked < .seconds(60) || bug == .trustsItsLeaseForEver,
            truth.act(
                id, token: lease.fencingToken, permit: permit.id, at: world.uptime,
                fenced: bug != .trustsItsLeaseForEver)
        else {
            truth.settled(permit.id)
            _ = try? await process.call(calm.faults) {
                _ = try await manager.releasePermit(permit.id, of: id, owner: 1, at: world.now)
            }
            return
        }
        await report(attempt)
    }

    /// The planted bug: a view that was read some time ago says yes, and that is all that is asked.
    private func takePlaceByTheCache(_ id: AccountID) async throws -> Permit? {
        let now = world.now
        let known: StoredAccount
        if let view = managers.remembered(id, at: now) {
            known = view
        } else {
            known = try await manager.account(id, owner: 1, at: now)
            managers.remember(known)
        }
        guard known.candidate.verdict(.message, at: now).allowed else { return nil }
        let permit = Permit(
            id: "cache-\(world.next())", account: id, action: .message, channel: nil, reservedAt: world.now)
        try await database.run(
            """
            INSERT INTO account_permits
                (id, account_id, action, service, reserved_at, expires_at, state)
            VALUES (\(permit.id), \(id.description), 'message', 'bug', \(permit.reservedAt), \(permit.expiresAt), 'open')
            """)
        return permit
    }

    private func report(_ attempt: Truth.Lost) async {
        for _ in 0..<50 {
            let named = bug == .recordsWithoutPermit ? nil : attempt.permit
            let report = Report(.message, success: true, permit: named, service: name)
            let isStated: Void? = try? await process.call(calm.faults) {
                let isLate = world.now >= attempt.reservedAt + Permit.lifetime
                let isNew = try await manager.record(attempt.account, owner: 1, report, at: world.now).isNew
                truth.acknowledged(attempt.permit, late: isNew && isLate)
            }
            if isStated != nil { return }
            if bug == .forgetsUnansweredReports {
                truth.settled(attempt.permit)
                return
            }
            // The servers may be away for a while.
            try? await process.sleep(for: .seconds(5))
        }
    }
}

/// How many worlds are lived through: a few each time, many where there is time (`CONVOKE_LONG=1`).
private let worlds: UInt64 = Environment.process.has("CONVOKE_LONG") ? 300 : 12

@Suite struct `Accounts under a bad network` {
    @Test(arguments: 1...worlds)
    func `keep every limit and every lease`(seed: UInt64) throws {
        let broken = try world(seed: seed)
        #expect(broken.isEmpty, "seed \(seed)")
    }

    @Test(arguments: Bug.allCases.filter { $0 != .none })
    fileprivate func `are broken by a planted bug`(bug: Bug) throws {
        let found = try (1...40).first { seed in
            try world(seed: seed, bug: bug).contains { $0.contains(bug.symptom) }
        }
        #expect(found != nil)
    }

    @Test func `live the same life again with the same seed`() throws {
        func life() throws -> [String] {
            let simulation = Simulation(seed: 9, start: noon)
            return try simulation.run { world in
                let database = DatabaseLocation.inlineSQLite(time: world, random: world)
                try await database.migrate(Migration.accounts, scope: "accounts", at: noon)
                let store = SQLAccountStore(database, random: world)
                try await store.connect(account(1), user: 1, at: noon)
                await world.supervise("worker") { process in
                    for _ in 0..<20 {
                        let verdict = try? await process.call(.harsh) {
                            try await store.reserve(account(1), .message, by: "w", at: world.now).verdict
                        }
                        world.note("\(process.incarnation) \(verdict?.reason as Any)")
                    }
                }
                return world.trace
            }
        }
        #expect(try life() == life())
    }
}
