import Accounts
import Core
import Simulation
import Storage
import Synchronization
import Testing

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

    /// What has to be noticed; another finding does not count.
    var symptom: String {
        switch self {
        case .none: ""
        case .trustsItsLeaseForEver: "an older lease acted after a newer one"
        case .checksWithoutReserving: "a pause of"
        case .recordsWithoutPermit: "the ledger counts too much"
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
    }
    private let state = Mutex(State())

    func granted(_ account: AccountID, _ token: Int64, until: Duration) {
        state.withLock { $0.holders[account] = (token, until) }
    }
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

/// Three accounts, four workers, eight hours around midnight, a bad network; then an hour without faults.
/// Returns what was broken.
private func world(seed: UInt64, bug: Bug = .none, clockJumps: Bool = true) throws -> [String] {
    let start = midnight - .hours(4)
    return try Simulation(seed: seed, start: start).run { world in
        let database = DatabaseLocation.inlineSQLite(time: world, random: world)
        try await database.migrate(Migration.accounts, scope: "accounts", at: start)
        let store = SQLAccountStore(database, random: world)
        let truth = Truth()
        for index in 1...3 { try await store.connect(account(index), user: 1, at: start - .days(100)) }
        let calm = Calm()
        await withTaskGroup(of: Void.self) { group in
            for index in 1...4 {
                group.addTask {
                    await world.supervise("worker \(index)") { process in
                        await Worker(
                            world: world, process: process, store: store, truth: truth, bug: bug, calm: calm
                        )
                        .run(for: .hours(9))
                    }
                }
            }
            group.addTask {
                // The upkeep, when it comes to it; and a clock that somebody sets.
                for _ in 0..<16 {
                    try? await world.sleep(for: .minutes(30))
                    _ = try? await store.tidy(at: world.now)
                    _ = try? await store.recoverDue(at: world.now)
                    if clockJumps, world.happens(0.15) { world.moveWallClock(by: .hours(3)) }
                }
                calm.begin()
            }
        }
        return try await broken(
            store: store, truth: truth, from: start, fenced: bug != .trustsItsLeaseForEver, at: world.now)
    }
}

/// Whether the faults are over.
private final class Calm: Sendable {
    private let isOn = Mutex(false)
    func begin() { isOn.withLock { $0 = true } }
    var faults: Faults { isOn.withLock { $0 } ? .none : .harsh }
}

private func broken(
    store: SQLAccountStore, truth: Truth, from start: Timestamp, fenced: Bool, at end: Timestamp
) async throws -> [String] {
    var found: [String] = []
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
    let store: SQLAccountStore
    let truth: Truth
    let bug: Bug
    let calm: Calm

    private var name: String { process.name }

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
            let account = try await store.acquire(wish, at: world.now)
            truth.granted(account.id, account.lease?.fencingToken ?? 0, until: world.uptime + duration)
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
        _ = try? await process.call(calm.faults) {
            _ = try await store.release(granted.id, lease: lease.id, by: name, at: world.now)
        }
    }

    private func act(_ id: AccountID, _ lease: Lease) async {
        if bug == .checksWithoutReserving {
            let verdict = try? await process.call(calm.faults) {
                try await store.check(id, .message, at: world.now)
            }
            guard verdict?.allowed == true else { return }
            try? await process.sleep(for: world.duration(in: .zero...(.seconds(90))))
            guard truth.act(id, token: lease.fencingToken, permit: nil, at: world.uptime, fenced: true) else {
                return
            }
            _ = try? await process.call(calm.faults) {
                try await store.record(
                    id, Report(.message, success: true, lease: lease.id, service: name), at: world.now)
            }
            return
        }
        let asked = process.uptime
        let reserved = try? await process.call(calm.faults) {
            try await store.reserve(id, .message, lease: lease.id, by: name, at: world.now).permit
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
                try await store.releasePermit(permit.id, of: id, at: world.now)
            }
            return
        }
        await report(attempt)
    }

    private func report(_ attempt: Truth.Lost) async {
        for _ in 0..<50 {
            let named = bug == .recordsWithoutPermit ? nil : attempt.permit
            let report = Report(.message, success: true, permit: named, service: name)
            let isStated: Void? = try? await process.call(calm.faults) {
                let isLate = world.now >= attempt.reservedAt + Permit.lifetime
                let isNew = try await store.record(attempt.account, report, at: world.now)
                truth.acknowledged(attempt.permit, late: isNew && isLate)
            }
            if isStated != nil { return }
            if bug == .forgetsUnansweredReports {
                truth.settled(attempt.permit)
                return
            }
        }
    }
}

@Suite struct `Accounts under a bad network` {
    @Test(arguments: 1...30 as ClosedRange<UInt64>)
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
