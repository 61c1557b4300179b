import Cache
import Core
import Storage
import Synchronization
import Testing

@testable import Accounts

/// The cache beside the store, for tests that break it.
extension Engine {
    func withManager(
        accounts: Int = 1, _ test: (AccountManager, MemoryCache, any Database) async throws -> Void
    ) async throws {
        try await withStore(accounts: accounts) { store, database in
            let cache = MemoryCache()
            try await test(manager(store, cache), cache, database)
        }
    }
}

private func manager(_ store: SQLAccountStore, _ cache: any Cache) -> AccountManager {
    AccountManager(
        store: store, views: AccountViews(cache, time: SystemTime()), metrics: AccountMetrics(Metrics()))
}

@Suite struct `A view of an account` {
    @Test(arguments: 1...50 as ClosedRange<UInt64>)
    func `says in bytes what it says`(seed: UInt64) throws {
        let random = SeededRandom(seed: seed)
        let stored = randomAccount(random)
        let read = try #require(StoredAccount(encoded: stored.encoded()[...], .none))
        #expect(read == stored)
        // Cut off or spoiled it is refused, and never read as something else that allows more.
        let bytes = stored.encoded()
        for _ in 1...50 {
            let cut = random.int(in: 0...(bytes.count - 1))
            #expect(StoredAccount(encoded: bytes[..<cut], .none) == nil)
        }
    }

    @Test func `survives any bytes`() {
        let random = SeededRandom(seed: 7)
        for _ in 1...2_000 {
            _ = StoredAccount(encoded: random.bytes(random.int(in: 0...200))[...], .none)
        }
    }

    @Test(arguments: Engine.available)
    func `never answers otherwise than SQL`(engine: Engine) async throws {
        try await engine.withManager(accounts: 2) { manager, cache, _ in
            let random = SeededRandom(seed: 11)
            var now = noon
            var permits: [String] = []
            for step in 1...70 {
                let id = account(random.int(in: 1...2))
                let action = ActionType.allCases[random.int(in: 0...2)]
                now += .seconds(Int64([0, 30, 61, 181, 901, 4000][random.int(in: 0...5)]))
                switch random.int(in: 0...9) {
                case 0...2:
                    let taken = try await manager.reserve(
                        id, owner: nil, action, into: sales, by: "w", at: now)
                    if let permit = taken.permit { permits.append(permit.id) }
                case 3...4:
                    let permit = random.int(in: 0...1) == 0 ? permits.last : nil
                    let report = Report(
                        action, into: sales, success: random.int(in: 0...3) > 0, permit: permit, service: "w")
                    _ = try await manager.record(id, owner: nil, report, at: now)
                case 5:
                    _ = try await manager.handle(
                        .floodWait(.seconds(60)), of: id, owner: nil, by: "w", at: now)
                case 6:
                    if let permit = permits.last {
                        _ = try await manager.releasePermit(permit, of: id, owner: nil, at: now)
                    }
                case 7:
                    let limits = try tightening(["message.daily": random.int(in: 5...30)])
                    try await manager.tighten(.account(id), to: limits, by: 1, at: now)
                case 8: try await cache.database(3).flush()
                default: _ = try await manager.recover(id, owner: nil, byHand: false, at: now)
                }
                for action in ActionType.allCases {
                    let quick = try await manager.check(id, owner: nil, action, into: sales, at: now)
                    let slow = try await manager.store.check(id, action, into: sales, at: now)
                    guard quick == slow else {
                        Issue.record("step \(step): \(quick) against \(slow)")
                        return
                    }
                }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `that is old takes no permit and writes no counter`(engine: Engine) async throws {
        try await engine.withManager { manager, cache, _ in
            let id = account(1)
            let windows = cache.database(3)
            let key = CacheBytes("view:\(id)")
            _ = try await manager.check(id, owner: nil, .message, into: nil, at: noon)
            let old = try #require(try await windows.get(key))
            _ = try await manager.record(
                id, owner: nil, Report(.message, success: true, service: "w"), at: noon)
            // A dump came back, or a process was asleep: the cache says what was true before.
            try await windows.delete(key)
            try await windows.set(key, to: old, for: .minutes(1))
            let taken = try await manager.reserve(id, owner: nil, .message, into: nil, by: "w", at: noon)
            #expect(taken.permit == nil)
            #expect(taken.verdict.reason == .cooldown)
            try await windows.delete(key)
            try await windows.set(key, to: old, for: .minutes(1))
            _ = try await manager.record(
                id, owner: nil, Report(.message, success: true, service: "w"), at: noon)
            let stored = try await manager.store.account(id, at: noon)
            #expect(stored.used(.message, on: noon.day) == 2)
        }
    }

    @Test(arguments: Engine.available)
    func `is not believed when SQL is gone`(engine: Engine) async throws {
        try await engine.withStore { store, database in
            let switchable = Switchable(database)
            let time = ManualTime(noon)
            let manager = AccountManager(
                store: SQLAccountStore(switchable), views: AccountViews(MemoryCache(), time: time),
                metrics: AccountMetrics(Metrics()))
            let first = try await manager.check(account(1), owner: nil, .invite, into: nil, at: noon)
            #expect(first.allowed)
            switchable.isGone.withLock { $0 = true }
            time.advance(by: .seconds(2))
            await #expect(throws: StorageError.self) {
                _ = try await manager.check(account(1), owner: nil, .invite, into: nil, at: noon)
            }
            await #expect(throws: StorageError.self) {
                _ = try await manager.reserve(account(1), owner: nil, .invite, into: nil, by: "w", at: noon)
            }
            await #expect(throws: StorageError.self) {
                let wish = Acquire(user: 1, purpose: .parsing, service: "w")
                _ = try await manager.allocate(wish, at: noon)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `is not missed when the cache is gone`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            let manager = manager(store, GoneCache())
            for _ in 1...3 {
                let verdict = try await manager.check(account(1), owner: nil, .message, into: nil, at: noon)
                #expect(verdict.allowed)
            }
            let taken = try await manager.reserve(
                account(1), owner: nil, .message, into: nil, by: "w", at: noon)
            let permit = try #require(taken.permit)
            let report = Report(.message, success: true, permit: permit.id, service: "w")
            let recorded = try await manager.record(account(1), owner: nil, report, at: noon)
            #expect(recorded.isNew)
            let wish = Acquire(user: 1, purpose: .parsing, service: "w")
            let granted = try await manager.allocate(wish, at: noon).account
            let released = try await manager.release(
                granted.id, owner: nil, lease: granted.lease?.id, by: "w", stats: UsageStats(), at: noon)
            #expect(released)
        }
    }
}

private func randomAccount(_ random: SeededRandom) -> StoredAccount {
    let now = noon + .seconds(Int64(random.int(in: 0...100_000)))
    func moment() -> Timestamp? {
        random.int(in: 0...1) == 0 ? nil : now + .seconds(Int64(random.int(in: -9_000...9_000)))
    }
    let freezes: [Standing.Freeze?] = [nil, .untilLifted, .until(now + .days(3))]
    let disabled: [Standing.Disabled?] = [nil, .byTelegram, .loggedOut, .byOwner, .byMonitor]
    var candidate = Candidate(
        account: account(random.int(in: 1...1_000)),
        standing: Standing(
            floodWaitUntil: moment(), blockedUntil: moment(), freeze: freezes[random.int(in: 0...2)],
            disabled: disabled[random.int(in: 0...4)], errorCount: random.int(in: 0...9)))
    candidate.limits[.message].daily = random.int(in: 0...30)
    candidate.limits[.invite].pause = .seconds(Int64(random.int(in: 900...90_000)))
    candidate.connectedOn = (now - .days(Int64(random.int(in: 0...400)))).day
    candidate.lastUsed = moment()
    var channels = ChannelCounters()
    for _ in 0..<random.int(in: 0...5) {
        channels.count(
            [sales, other, channel("x\(random.int(in: 1...99))yz_abc")][random.int(in: 0...2)], on: now.day)
    }
    var stored = StoredAccount(
        user: Int64(random.int(in: 1...9)), phone: "", isActive: random.int(in: 0...1) == 0,
        candidate: candidate,
        usedToday: [.invite: random.int(in: 0...30), .message: 2, .addContact: 0], usageDay: now.day,
        channels: channels, revision: Int64(random.int(in: 0...1_000_000)), limitsRevision: 3,
        knownFrom: now.day.start, readAt: now)
    for action in ActionType.allCases {
        let records = (0..<random.int(in: 0...8)).map { _ in
            ActionRecord(
                at: now - .seconds(Int64(random.int(in: 0...9_000))),
                channel: action == .invite ? sales : nil,
                success: random.int(in: 0...1) == 0)
        }
        stored.candidate.usage[action] = Usage(
            records: records, channelTotals: action == .invite ? channels.totals : [:])
    }
    if random.int(in: 0...1) == 0 {
        stored.permits = [
            Permit(id: "permit", account: stored.id, action: .invite, channel: sales, reservedAt: now)
        ]
        stored.candidate.usage[.invite]?.hold(stored.permits[0].hold)
    }
    return stored
}

/// A cache that does not answer.
struct GoneCache: Cache {
    let index = 0
    func database(_: Int) -> any Cache { self }
    func within(_: Duration) -> any Cache { self }
    func run(_: CacheCommand) async throws -> CacheReply { throw CacheError.unavailable(mayHaveRun: false) }
    func run(_: CacheScript, keys _: [CacheBytes], arguments _: [CacheBytes]) async throws -> CacheReply {
        throw CacheError.unavailable(mayHaveRun: false)
    }
    func close() async {}
}

/// A database that a test can take away.
final class Switchable: Database {
    private let inner: any Database
    let isGone = Mutex(false)
    init(_ inner: any Database) { self.inner = inner }

    var dialect: Dialect { inner.dialect }

    private func check() throws {
        if isGone.withLock({ $0 }) { throw StorageError.unavailable(reason: "gone", mayHaveRun: false) }
    }

    func run(_ sql: SQL, timeout: Duration?) async throws -> Rows {
        try check()
        return try await inner.run(sql, timeout: timeout)
    }

    func transaction<Result: Sendable>(
        isolation: Isolation, timeout: Duration?,
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result {
        try check()
        return try await inner.transaction(isolation: isolation, timeout: timeout, body)
    }

    func stream(
        _ sql: SQL, chunk: Int, timeout: Duration?, _ body: ([Row]) async throws -> Void
    ) async throws {
        try check()
        try await inner.stream(sql, chunk: chunk, timeout: timeout, body)
    }

    func copy<Chunks: AsyncSequence>(
        into table: StaticString, columns: [StaticString], rows: Chunks
    ) async throws -> Int where Chunks.Element == [[SQLValue]] {
        try check()
        return try await inner.copy(into: table, columns: columns, rows: rows)
    }

    func close() async { await inner.close() }
}
