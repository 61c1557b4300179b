import Cache
import Core
import Testing

/// What every cache must do, asked of each we ship.
@Suite(.timeLimit(.minutes(2))) struct `A cache` {
    @Test(arguments: Engine.available)
    func `gives back what was set, byte for byte`(engine: Engine) async throws {
        let cache = try await engine.cache()
        let all = CacheBytes((0...255).map { UInt8($0) } + [13, 10, 0])
        try await cache.set(all, to: all, for: .minutes(1))
        #expect(try await cache.get(all) == all)
        #expect(try await cache.get("missing") == nil)
        try await cache.set("", to: "", for: .minutes(1))
        #expect(try await cache.get("") == "")
        #expect(try await cache.get([all, "missing", ""]) == [all, nil, ""])
        #expect(try await cache.get([]) == [])
    }

    @Test(arguments: Engine.available)
    func `takes values of many megabytes among small ones`(engine: Engine) async throws {
        let cache = try await engine.cache()
        let large = CacheBytes([UInt8](repeating: 7, count: 20 << 20))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<40 {
                group.addTask {
                    let value = index % 20 == 0 ? large : CacheBytes(index)
                    try await cache.set("k\(index)", to: value, for: .minutes(1))
                    #expect(try await cache.get("k\(index)") == value)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test(arguments: Engine.available)
    func `lets one caller in where the key must be absent, and none where it must be present`(
        engine: Engine
    ) async throws {
        let cache = try await engine.cache()
        #expect(try await !cache.set("lock", to: "a", for: .minutes(1), if: .present))
        #expect(try await cache.get("lock") == nil)
        let winners = try await withThrowingTaskGroup(of: Bool.self) { group in
            for caller in 0..<50 {
                group.addTask {
                    try await cache.set("lock", to: CacheBytes(caller), for: .minutes(1), if: .absent)
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(winners == 1)
        #expect(try await cache.set("lock", to: "b", for: .minutes(1), if: .present))
        #expect(try await cache.getAndDelete("lock") == "b")
        #expect(try await cache.getAndDelete("lock") == nil)
    }

    @Test(arguments: Engine.available)
    func `forgets a value at its end`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await cache.set("short", to: "x", for: .milliseconds(30))
        try await cache.set("long", to: "x", for: .minutes(10))
        try await cache.set("hash-like", to: "x", expiry: .never)
        #expect(try await eventually { try await cache.get("short") == nil })
        #expect(try await cache.timeToLive("short") == .missing)
        #expect(try await cache.timeToLive("hash-like") == .forever)
        guard case .remaining(let left) = try await cache.timeToLive("long") else {
            Issue.record("the long one has no end")
            return
        }
        #expect(left > .minutes(8) && left <= .minutes(10))
    }

    @Test(arguments: Engine.available)
    func `keeps, takes away, prolongs and shortens a time to live as asked`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func minutes(_ key: CacheBytes) async throws -> Int64? {
            guard case .remaining(let left) = try await cache.timeToLive(key) else { return nil }
            return left.wholeSecondsUp / 60
        }
        try await cache.set("k", to: "1", for: .minutes(600))
        try await cache.increment("k")
        #expect(try await minutes("k") ?? 0 > 500)
        try await cache.set("k", to: "5", expiry: .kept)
        #expect(try await minutes("k") ?? 0 > 500)
        #expect(try await !cache.expire("k", after: .minutes(300), if: .later))
        #expect(try await !cache.expire("k", after: .minutes(900), if: .earlier))
        #expect(try await !cache.expire("k", after: .minutes(300), if: .none))
        #expect(try await cache.expire("k", after: .minutes(300), if: .earlier))
        #expect(try await minutes("k") ?? 999 < 400)
        #expect(try await cache.persist("k"))
        #expect(try await !cache.persist("k"))
        #expect(try await !cache.expire("k", after: .minutes(300), if: .some))
        #expect(try await !cache.expire("k", after: .minutes(300), if: .later))
        #expect(try await cache.expire("k", after: .minutes(300), if: .none))
        try await cache.set("k", to: "5", expiry: .never)
        #expect(try await cache.timeToLive("k") == .forever)
        #expect(try await cache.expire("k", after: .zero))
        #expect(try await !cache.exists("k"))
        #expect(try await !cache.expire("k", after: .minutes(1)))
    }

    @Test(arguments: Engine.available)
    func `counts without losing one of many at once`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<64 {
                group.addTask { for _ in 0..<20 { try await cache.increment("n", by: 3) } }
            }
            try await group.waitForAll()
        }
        #expect(try await cache.get("n")?.integer == 3840)
        #expect(try await cache.increment("n", by: -3841) == -1)
    }

    @Test(arguments: Engine.available)
    func `refuses arithmetic on what is no whole number, or would overflow`(engine: Engine) async throws {
        let cache = try await engine.cache()
        for value in ["", "x", "1.0", "+1", " 1", "01", "-0", "9223372036854775808"] {
            try await cache.set("n", to: CacheBytes(value), for: .minutes(1))
            await #expect(throws: CacheError.notAnInteger, "\(value)") { try await cache.increment("n") }
        }
        try await cache.set("n", to: "9223372036854775807", for: .minutes(1))
        await #expect(throws: CacheError.notAnInteger) { try await cache.increment("n") }
        #expect(try await cache.increment("n", by: .min) == -1)
    }

    @Test(arguments: Engine.available)
    func `does not take one kind of value for another`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await cache.set("plain", to: "1", for: .minutes(1))
        try await cache.hashSet("hash", ["f": "1"])
        try await cache.sortedAdd("sorted", "m", score: 1)
        await #expect(throws: CacheError.wrongType) { try await cache.get("hash") }
        await #expect(throws: CacheError.wrongType) { try await cache.hashGet("sorted", "f") }
        await #expect(throws: CacheError.wrongType) { try await cache.sortedCount("plain") }
        await #expect(throws: CacheError.wrongType) { try await cache.increment("sorted") }
        #expect(try await cache.get(["hash", "plain"]) == [nil, "1"])
        try await cache.set("hash", to: "now plain", for: .minutes(1))
        #expect(try await cache.get("hash") == "now plain")
    }

    @Test(arguments: Engine.available)
    func `holds fields in a hash until the last is gone`(engine: Engine) async throws {
        let cache = try await engine.cache()
        #expect(try await cache.hashSet("h", ["a": "1", "b": "2"]) == 2)
        #expect(try await cache.hashSet("h", ["b": "3", "c": ""]) == 1)
        #expect(try await cache.hashGet("h", "b") == "3")
        #expect(try await cache.hashGet("h", ["c", "x", "a"]) == ["", nil, "1"])
        #expect(try await cache.hashIncrement("h", "a", by: 41) == 42)
        await #expect(throws: CacheError.notAnInteger) { try await cache.hashIncrement("h", "c") }
        #expect(try await cache.hashGetAll("h") == ["a": "42", "b": "3", "c": ""])
        #expect(try await cache.hashGetAll("none") == [:])
        #expect(try await cache.hashDelete("h", "a", "b", "x") == 2)
        #expect(try await cache.hashCount("h") == 1)
        #expect(try await cache.hashDelete("h", "c") == 1)
        #expect(try await !cache.exists("h"))
    }

    @Test(arguments: Engine.available)
    func `keeps members in the order of their scores`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func members(_ range: ScoreRange, limit: Int? = nil) async throws -> [String] {
            try await cache.sortedRange("z", range, limit: limit).map(\.member.text)
        }
        let added = try await cache.sortedAdd(
            "z", [.init("c", 3), .init("a", 1), .init("b", 1), .init("low", -.infinity), .init("half", 1.5)])
        #expect(added == 5)
        #expect(try await members(.all) == ["low", "a", "b", "half", "c"])
        #expect(try await members(.through(1)) == ["low", "a", "b"])
        #expect(try await members(.below(1)) == ["low"])
        #expect(try await members(.above(1), limit: 1) == ["half"])
        #expect(try await members(.init(from: 1, to: 1.5)) == ["a", "b", "half"])
        #expect(try await members(.init(from: 2, to: 1)) == [])
        #expect(try await cache.sortedRange("z", from: -2).map(\.score) == [1.5, 3])
        #expect(
            try await cache.sortedRange("z", from: 0, through: 1, descending: true).map(\.member)
                == ["c", "half"])
        #expect(try await cache.sortedRank("z", "b") == 2)
        #expect(try await cache.sortedRank("z", "x") == nil)
        #expect(try await cache.sortedScore("z", "half") == 1.5)
        #expect(try await cache.sortedScore("z", "x") == nil)
        #expect(try await cache.sortedAdd("z", "c", score: 2, if: .higher) == 0)
        #expect(try await cache.sortedScore("z", "c") == 3)
        #expect(try await cache.sortedAdd("z", "c", score: 2, if: .lower) == 0)
        #expect(try await cache.sortedScore("z", "c") == 2)
        #expect(try await cache.sortedAdd("z", "new", score: 2, if: .present) == 0)
        #expect(try await cache.sortedIncrement("z", "c", by: 0.25) == 2.25)
        #expect(try await cache.sortedRemove("z", "low", "x") == 1)
        #expect(try await cache.sortedPopLowest("z").map(\.member) == ["a"])
        #expect(try await cache.sortedRemove("z", .through(1.5)) == 2)
        #expect(try await cache.sortedCount("z") == 1)
        #expect(try await cache.sortedRemove("z", from: 0, through: -1) == 1)
        #expect(try await !cache.exists("z"))
    }

    @Test(arguments: Engine.available)
    func `finds the keys that match a pattern, each once`(engine: Engine) async throws {
        let cache = try await engine.cache()
        for number in 0..<1200 { try await cache.set("lock:\(number)", to: "x", for: .minutes(1)) }
        try await cache.set("lock:*", to: "x", for: .minutes(1))
        try await cache.set("other", to: "x", for: .minutes(1))
        #expect(try await cache.keys(matching: "lock:*").count == 1201)
        #expect(try await cache.keys(matching: "lock:\\*") == ["lock:*"])
        #expect(try await cache.keys(matching: "lock:7?").count == 10)
        #expect(try await cache.keys(matching: "lock:[^0-8]") == ["lock:*", "lock:9"])
        #expect(try await cache.keys(matching: "[a-lm-z]ther") == ["other"])
        #expect(try await cache.count == 1202)
        #expect(try await cache.delete(["lock:1", "lock:2", "lock:2", "none"]) == 2)
    }

    @Test(arguments: Engine.available)
    func `keeps its databases apart`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<40 {
                let sibling = cache.database(caller % 5)
                group.addTask {
                    for round in 0..<20 {
                        try await sibling.set("k", to: CacheBytes(sibling.index), for: .minutes(1))
                        #expect(try await sibling.get("k") == CacheBytes(sibling.index))
                        try await sibling.increment("rounds", by: round == 0 ? 1 : 0)
                    }
                }
            }
            try await group.waitForAll()
        }
        for index in 0..<5 { #expect(try await cache.database(index).get("rounds") == "8") }
        try await cache.database(2).flush()
        #expect(try await cache.database(2).get("k") == nil)
        #expect(try await cache.database(2).database(3).get("k") == "3")
        #expect(try await cache.count == 2)
    }

    @Test(arguments: Engine.available)
    func `refuses what makes no sense`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func isRefused(_ command: CacheCommand) async -> Bool {
            do {
                _ = try await cache.run(command)
                return false
            } catch { return kind(of: error) == "command" }
        }
        #expect(await isRefused(.set("k", "v", expiry: .after(.zero), condition: .any)))
        #expect(await isRefused(.set("k", "v", expiry: .after(.days(100_000)), condition: .any)))
        #expect(await isRefused(.expire("k", after: .seconds(Int64.max), condition: .always)))
        #expect(await isRefused(.delete([])))
        #expect(await isRefused(.hashSet("h", [])))
        #expect(await isRefused(.sortedAdd("z", [.init("m", .nan)], condition: .always)))
        #expect(await isRefused(.sortedPopLowest("z", count: -1)))
        try await cache.sortedAdd("z", "m", score: .infinity)
        #expect(await isRefused(.sortedIncrement("z", "m", by: -.infinity)))
        #expect(try await cache.sortedScore("z", "m") == .infinity)
    }

    @Test(arguments: Engine.available)
    func `throws cancellation at a cancelled caller`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.cancelAll()
            group.addTask {
                await #expect(throws: CancellationError.self) {
                    try await cache.set("k", to: "v", for: .minutes(1))
                }
            }
            try await group.waitForAll()
        }
        #expect(try await cache.get("k") == nil)
    }

    @Test(arguments: Engine.available)
    func `says so after it was closed`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await cache.ping()
        await cache.close()
        await cache.close()
        await #expect(throws: CacheError.unavailable(mayHaveRun: false)) {
            try await cache.database(1).get("k")
        }
        await #expect(throws: CacheError.unavailable(mayHaveRun: false)) { try await cache.ping() }
    }
}
