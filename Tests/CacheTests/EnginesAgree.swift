import Cache
import Core
import TestServers
import Testing

/// Redis and the memory are given the same random commands and scripts, one after another, and must give the
/// same answers and end with the same content.
@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(2))) struct `Redis and the memory` {
    @Test(arguments: 1...12 as ClosedRange<UInt64>)
    func `agree on random commands and scripts`(seed: UInt64) async throws {
        let luck = Luck(SeededRandom(seed: seed))
        let (redis, memory) = (try await Engine.redis.cache(), try await Engine.memory.cache())
        for step in 0..<250 {
            let (name, run) = luck.step()
            let (one, other) = (await outcome(redis, run), await outcome(memory, run))
            #expect(agree(one, other), "seed \(seed), step \(step), \(name): \(one) against \(other)")
            if !agree(one, other) { return }
        }
        for key in Luck.keys {
            for look in Luck.looks(at: key) {
                let (one, other) = (await outcome(redis, look), await outcome(memory, look))
                #expect(agree(one, other), "seed \(seed), \(key): \(one) against \(other)")
            }
        }
        await redis.close()
    }

    @Test func `agree on the digest of a script, so that Redis knows it the second time`() async throws {
        let metrics = Metrics()
        let location = try #require(RedisLocation(try await TestServers.redis().url))
        let cache = RedisCache(location, limit: .seconds(60), metrics: metrics)
        for length in [0, 1, 52, 53, 54, 60, 61, 200] {
            // A text nobody sent before, of a length around the digest's block borders.
            let text = "return ARGV[1] -- \(SystemRandom().next())" + String(repeating: "x", count: length)
            let script = CacheScript("echo", lua: text) { _, _, arguments in .bytes(arguments[0]) }
            for _ in 0..<3 {
                #expect(try await cache.run(script, keys: [], arguments: ["hi"]) == .text("hi"))
            }
        }
        #expect(metrics.text.contains("cache_scripts_loaded_total 8\n"))
    }

    private typealias Run = Luck.Run

    private func outcome(_ cache: any Cache, _ run: Run) async -> Result<CacheReply, Failure> {
        do { return .success(try await run(cache)) } catch { return .failure(Failure(kind: kind(of: error))) }
    }

    struct Failure: Error, Equatable { let kind: String }

    /// Equal, but for the time that passes between asking one and the other.
    private func agree(_ one: Result<CacheReply, Failure>, _ other: Result<CacheReply, Failure>) -> Bool {
        switch (one, other) {
        case (.success(let one), .success(let other)): agree(one, other)
        case (.failure(let one), .failure(let other)): one == other
        default: false
        }
    }

    private func agree(_ one: CacheReply, _ other: CacheReply) -> Bool {
        switch (one, other) {
        case (.integer(let one), .integer(let other)) where one > Luck.shortest && other > Luck.shortest:
            abs(one - other) < Luck.shortest / 2
        case (.array(let one), .array(let other)):
            one.count == other.count && zip(one, other).allSatisfy { agree($0, $1) }
        default: one == other
        }
    }
}

/// Draws commands that meet often: few keys, few members, few values.
private struct Luck: Sendable {
    typealias Run = @Sendable (any Cache) async throws -> CacheReply

    static let keys: [CacheBytes] = ["a", "b", "c", "d", "e"]
    /// Of all times to live, in ms, so that a slow machine does not tell the engines apart.
    static let shortest: Int64 = 3_600_000
    private static let members: [CacheBytes] = ["", "m1", "m2", "m3", "\u{0}x", "zz"]
    private static let values: [CacheBytes] = ["", "0", "7", "-3", "x", "9223372036854775807", "1.5"]
    private static let scores: [Double] = [-.infinity, -2.5, 0, 0.1, 1, 1, 3, 1e20, 1.0 / 3, .infinity]
    private static let now = Timestamp(seconds: 1_756_036_800)

    private let random: SeededRandom
    init(_ random: SeededRandom) { self.random = random }

    static func looks(at key: CacheBytes) -> [Run] {
        let commands: [CacheCommand] = [
            .get(key), .timeToLive(key), .hashCount(key),
            .sortedRange(key, from: 0, through: -1, descending: false),
        ]
        return commands.map(asked) + [sortedHash(key)]
    }

    private static func asked(_ command: CacheCommand) -> Run {
        { try await $0.run(command) }
    }

    private static func sortedHash(_ key: CacheBytes) -> Run {
        { cache in
            let fields = try await cache.hashGetAll(key).sorted { $0.key < $1.key }
            return .array(fields.flatMap { [.bytes($0.key), .bytes($0.value)] })
        }
    }

    private func one<Item>(_ items: [Item]) -> Item { items[random.int(in: 0...items.count - 1)] }
    private func few<Item>(_ items: [Item]) -> [Item] { (0...random.int(in: 0...2)).map { _ in one(items) } }
    private func small() -> Int64 { Int64(random.int(in: -4...6)) }
    private func duration() -> Duration { .milliseconds(Self.shortest * Int64(random.int(in: 2...40))) }
    private func range() -> ScoreRange {
        ScoreRange(
            from: one(Self.scores), to: one(Self.scores), excludesLower: one([true, false]),
            excludesUpper: one([true, false]))
    }

    func step() -> (name: String, run: Run) {
        let key = one(Self.keys)
        switch random.int(in: 0...9) {
        case 0: return ("hash of \(key)", Self.sortedHash(key))
        case 1:
            let pattern = one(["*", "[a-c]", "?", "[^b]", "a*", "x"] as [CacheBytes])
            return ("keys", { .array(try await $0.keys(matching: pattern).map { .bytes($0) }) })
        case 2...4:
            let (script, keys, arguments) = script(key)
            return (
                "\(script.name) \(keys) \(arguments)",
                { try await $0.run(script, keys: keys, arguments: arguments) }
            )
        default:
            let command = command(key)
            return ("\(command)", { try await $0.run(command) })
        }
    }

    private func script(_ key: CacheBytes) -> (CacheScript, [CacheBytes], [CacheBytes]) {
        let limit = CacheBytes(small())
        let milliseconds = CacheBytes(duration().milliseconds)
        let now = CacheBytes((Self.now + .minutes(Int64(random.int(in: 0...500)))).milliseconds)
        switch random.int(in: 0...3) {
        case 0:
            return (.fixedWindow, [key], [limit, milliseconds, CacheBytes(max(1, small()))])
        case 1: return (.slidingWindow, [key], [limit, milliseconds, now, one(Self.members)])
        case 2: return (.compareAndDelete, [key], [one(Self.values)])
        default: return (.compareAndExpire, [key], [one(Self.values), milliseconds])
        }
    }

    private func command(_ key: CacheBytes) -> CacheCommand {
        switch random.int(in: 0...29) {
        case 0: .get(key)
        case 1: .getMany(few(Self.keys))
        case 2, 3:
            .set(
                key, one(Self.values), expiry: one([.never, .after(duration()), .kept]),
                condition: one([.any, .any, .absent, .present]))
        case 4: .getAndDelete(key)
        case 5: .delete(few(Self.keys))
        case 6: .exists(few(Self.keys))
        case 7: .increment(key, by: one([small(), .max, .min]))
        case 8, 9:
            .expire(
                key, after: one([duration(), duration(), .zero, .seconds(-1)]),
                condition: one([.always, .none, .some, .later, .earlier]))
        case 10: .persist(key)
        case 11: .timeToLive(key)
        case 12: .hashGet(key, one(Self.members))
        case 13: .hashGetMany(key, few(Self.members))
        case 14, 15: .hashSet(key, few(Self.members).map { .init($0, one(Self.values)) })
        case 16: .hashDelete(key, few(Self.members))
        case 17: .hashIncrement(key, one(Self.members), by: one([small(), .max]))
        case 18: .sortedRank(key, one(Self.members))
        case 19, 20:
            .sortedAdd(
                key, few(Self.members).map { .init($0, one(Self.scores)) },
                condition: one([.always, .absent, .present, .higher, .lower]))
        case 21: .sortedRemove(key, few(Self.members))
        case 22: .sortedScore(key, one(Self.members))
        case 23: .sortedIncrement(key, one(Self.members), by: one(Self.scores))
        case 24: .sortedCountByScore(key, range())
        case 25: .sortedRange(key, from: small(), through: small(), descending: one([true, false]))
        case 26: .sortedRangeByScore(key, range(), limit: one([nil, 0, 2]))
        case 27: .sortedRemoveByScore(key, range())
        case 28: .sortedRemoveByRank(key, from: small(), through: small())
        default: .sortedPopLowest(key, count: random.int(in: 0...3))
        }
    }
}
