import Cache
import Core
import Testing

@Suite struct `The memory cache` {
    let time = ManualTime(Timestamp(seconds: 1_756_036_800))

    @Test func `ends a key at its moment, not a millisecond off`() async throws {
        let cache = MemoryCache(time: time)
        try await cache.set("k", to: "v", for: .milliseconds(100))
        time.advance(by: .milliseconds(99))
        #expect(try await cache.get("k") == "v")
        #expect(try await cache.timeToLive("k") == .remaining(.milliseconds(1)))
        time.advance(by: .milliseconds(1))
        #expect(try await cache.get("k") == nil)
        #expect(try await cache.set("k", to: "new", for: .minutes(1), if: .absent))
    }

    @Test func `ends many keys at one moment, before their memory is swept`() async throws {
        let cache = MemoryCache(time: time)
        for key in 0..<100 { try await cache.set(CacheBytes(key), to: "v", for: .seconds(1)) }
        time.advance(by: .seconds(1))
        #expect(try await cache.get((0..<100).map { CacheBytes($0) }).allSatisfy { $0 == nil })
        #expect(try await cache.keys(matching: "*") == [])
    }

    @Test func `is not moved by somebody setting the clock`() async throws {
        let cache = MemoryCache(time: time)
        _ = try await cache.takeFromFixedWindow("w", limit: 1, window: .hours(1))
        time.setWallClock(to: time.now + .days(400))
        #expect(try await !cache.takeFromFixedWindow("w", limit: 1, window: .hours(1)).isAllowed)
        time.setWallClock(to: .epoch)
        time.advance(by: .hours(1))
        #expect(try await cache.takeFromFixedWindow("w", limit: 1, window: .hours(1)).isAllowed)
    }

    @Test func `says exactly when a window is whole again`() async throws {
        let cache = MemoryCache(time: time)
        _ = try await cache.takeFromFixedWindow("w", limit: 1, window: .seconds(10))
        time.advance(by: .milliseconds(2500))
        let refused = try await cache.takeFromFixedWindow("w", limit: 1, window: .seconds(10))
        #expect(refused.retryAfter == .milliseconds(7500))
        time.advance(by: refused.retryAfter - .milliseconds(1))
        #expect(try await !cache.takeFromFixedWindow("w", limit: 1, window: .seconds(10)).isAllowed)
        time.advance(by: .milliseconds(1))
        #expect(try await cache.takeFromFixedWindow("w", limit: 1, window: .seconds(10)).isAllowed)
    }

    @Test func `gives the memory of ended keys back while it is used`() async throws {
        let cache = MemoryCache(time: time)
        for round in 0..<200 {
            for key in 0..<50 {
                try await cache.set("k:\(round):\(key)", to: "some value", for: .seconds(10))
            }
            time.advance(by: .seconds(1))
        }
        #expect(try await cache.count <= 50 * 12)
        #expect(cache.bytes < 50 * 12 * 300)
    }

    @Test func `gives it back also while nobody calls`() async throws {
        let cache = MemoryCache(time: time)
        for key in 0..<1000 { try await cache.set(CacheBytes(key), to: "v", for: .seconds(5)) }
        let time = time
        await withThrowingTaskGroup(of: Void.self) { group in
            let sweeper = cache.sweeper(every: .seconds(10))
            group.addTask { try await sweeper.run() }
            await time.waitForSleepers(1)
            time.advance(by: .seconds(10))
            await time.waitForSleepers(1)
            #expect(cache.bytes == 0)
            group.cancelAll()
            await #expect(throws: CancellationError.self) { try await group.waitForAll() }
        }
    }

    @Test func `does not grow by prolonging one key for ever`() async throws {
        let cache = MemoryCache(time: time)
        try await cache.set("k", to: "v", for: .minutes(1))
        let bytes = cache.bytes
        for _ in 0..<10_000 { try await cache.expire("k", after: .minutes(1)) }
        #expect(cache.bytes == bytes)
        time.advance(by: .minutes(1))
        #expect(try await cache.get("k") == nil)
    }

    @Test func `refuses to grow past its limit, and takes again what fits`() async throws {
        let cache = MemoryCache(time: time, limit: 10_000)
        let value = CacheBytes([UInt8](repeating: 1, count: 1000))
        var stored = 0
        while stored < 100, (try? await cache.set(CacheBytes(stored), to: value, for: .minutes(1))) != nil {
            stored += 1
        }
        #expect(stored > 5 && stored < 12)
        await #expect(throws: CacheError.full) { try await cache.increment("n") }
        await #expect(throws: CacheError.full) { try await cache.database(3).hashSet("h", ["f": "v"]) }
        await #expect(throws: CacheError.full) { try await cache.sortedAdd("z", "m", score: 1) }
        await #expect(throws: CacheError.full) {
            try await cache.takeFromFixedWindow("w", limit: 1, window: .hours(1))
        }
        #expect(try await cache.get("0") == value)
        try await cache.delete("0", "1")
        #expect(try await cache.increment("n") == 1)
    }

    @Test func `accounts for what it holds, and for nothing when it holds nothing`() async throws {
        let cache = MemoryCache(time: time)
        for round in 0..<100 {
            try await cache.hashSet("h", ["a": CacheBytes(round), "b": "xx"])
            try await cache.sortedAdd("z", CacheBytes(round), score: Double(round % 7))
            try await cache.set("k", to: CacheBytes(String(repeating: "x", count: round)), for: .minutes(1))
        }
        #expect(cache.bytes > 10_000)
        try await cache.hashDelete("h", "a", "b")
        try await cache.sortedRemove("z", .all)
        try await cache.delete("k")
        #expect(cache.bytes == 0)
    }

    @Test func `keeps a hundred thousand members in order`() async throws {
        let cache = MemoryCache(time: time)
        let random = SeededRandom(seed: 7)
        let members = (0..<100_000).map {
            CacheCommand.Scored(CacheBytes($0), Double(random.int(in: 0...50_000)))
        }
        try await cache.sortedAdd("z", members)
        for number in stride(from: 0, to: 100_000, by: 3) {
            try await cache.sortedRemove("z", CacheBytes(number))
        }
        let left = members.enumerated().filter { $0.offset % 3 != 0 }.map(\.element)
        let sorted = left.sorted { ($0.score, $0.member) < ($1.score, $1.member) }
        #expect(try await cache.sortedRange("z") == sorted)
        #expect(try await cache.sortedRank("z", sorted[40_000].member) == 40_000)
        #expect(try await cache.sortedPopLowest("z", count: 3) == Array(sorted.prefix(3)))
    }

    @Test func `matches no pattern for longer than its length allows`() async throws {
        let cache = MemoryCache(time: time)
        try await cache.set(CacheBytes(String(repeating: "a", count: 5000)), to: "v", for: .minutes(1))
        let pattern = CacheBytes(String(repeating: "a*", count: 500) + "b")
        #expect(try await cache.keys(matching: pattern) == [])
    }
}
