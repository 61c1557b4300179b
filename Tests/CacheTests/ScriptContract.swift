import Cache
import Core
import Testing

/// The platform's scripts: what each does, asked of each engine.
@Suite(.timeLimit(.minutes(2))) struct `A limit in the cache` {
    let noon = Timestamp(seconds: 1_756_036_800)

    @Test(arguments: Engine.available)
    func `lets exactly its number pass, however many ask at once`(engine: Engine) async throws {
        let cache = try await engine.cache()
        let verdicts = try await withThrowingTaskGroup(of: LimitVerdict.self) { group in
            for _ in 0..<300 {
                group.addTask { try await cache.takeFromFixedWindow("w", limit: 50, window: .minutes(1)) }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        let allowed = verdicts.filter(\.isAllowed)
        #expect(Set(allowed.map(\.remaining)) == Set(0..<50))
        #expect(allowed.count == 50)
        for refused in verdicts where !refused.isAllowed {
            #expect(refused.remaining == 0 && refused.retryAfter > .zero && refused.retryAfter <= .minutes(1))
        }
        #expect(try await cache.get("w") == "50")
    }

    @Test(arguments: Engine.available)
    func `is whole again after its window`(engine: Engine) async throws {
        let cache = try await engine.cache()
        #expect(try await cache.takeFromFixedWindow("w", limit: 1, window: .milliseconds(40)).isAllowed)
        #expect(
            try await eventually {
                try await cache.takeFromFixedWindow("w", limit: 1, window: .milliseconds(40)).isAllowed
            })
    }

    @Test(arguments: Engine.available)
    func `takes all or nothing of an amount`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func take(_ amount: Int64) async throws -> LimitVerdict {
            try await cache.takeFromFixedWindow("w", limit: 10, window: .minutes(1), amount: amount)
        }
        #expect(try await take(7).remaining == 3)
        #expect(try await !take(4).isAllowed)
        #expect(try await take(4).remaining == 3)
        #expect(try await take(3) == LimitVerdict(isAllowed: true, remaining: 0, retryAfter: .zero))
    }

    @Test(arguments: Engine.available)
    func `gives a counter that somebody left without an end one`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await cache.set("w", to: "10", expiry: .never)
        let verdict = try await cache.takeFromFixedWindow("w", limit: 10, window: .minutes(1))
        #expect(verdict == LimitVerdict(isAllowed: false, remaining: 0, retryAfter: .minutes(1)))
        #expect(try await cache.timeToLive("w") != .forever)
    }

    @Test(arguments: Engine.available)
    func `takes nothing from who is kept out, and tells of a mark in any case`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func take() async throws -> (verdict: LimitVerdict?, isMarked: Bool) {
            try await cache.takeFromFixedWindow(
                "w", unless: "ended", noting: "filled", limit: 2, window: .minutes(1))
        }
        let first = try await take()
        #expect(first.verdict?.remaining == 1 && !first.isMarked)
        try await cache.set("ended", to: "1", expiry: .never)
        try await cache.set("filled", to: "1", expiry: .never)
        let blocked = try await take()
        #expect(blocked.verdict == nil && blocked.isMarked)
        #expect(try await cache.get("w") == "1", "who is kept out uses nothing up")
        _ = try await cache.delete(["ended"])
        let second = try await take()
        #expect(second.verdict?.remaining == 0 && second.isMarked)
        let third = try await take()
        #expect(third.verdict?.isAllowed == false && third.isMarked)
        #expect(try #require(third.verdict).retryAfter > .zero)
        try await cache.set("w", to: "many", expiry: .never)
        await #expect(throws: CacheError.self) { try await take() }
    }

    @Test(arguments: Engine.available)
    func `that slides frees a place when the oldest leaves`(engine: Engine) async throws {
        let cache = try await engine.cache()
        func take(_ member: CacheBytes, limit: Int64 = 2, at now: Timestamp) async throws -> LimitVerdict {
            try await cache.takeFromSlidingWindow(
                "s", member: member, limit: limit, window: .seconds(60), now: now)
        }
        #expect(try await take("a", at: noon).remaining == 1)
        #expect(try await take("b", at: noon + .seconds(10)).remaining == 0)
        let refused = try await take("c", at: noon + .seconds(20))
        #expect(refused == LimitVerdict(isAllowed: false, remaining: 0, retryAfter: .seconds(40)))
        #expect(try await take("b", at: noon + .seconds(20)).isAllowed, "it has its place already")
        #expect(try await !take("c", at: noon + .milliseconds(59_999)).isAllowed)
        #expect(try await take("c", at: noon + .seconds(60)).isAllowed)
        let lowered = try await take("d", limit: 1, at: noon + .seconds(61))
        #expect(lowered.retryAfter == .seconds(59), "a lowered limit waits for all but the last to leave")
        #expect(try await take("d", limit: 0, at: noon + .seconds(61)).retryAfter == .seconds(60))
    }

    @Test(arguments: Engine.available)
    func `that slides is exact when many ask at once`(engine: Engine) async throws {
        let (cache, noon) = (try await engine.cache(), noon)
        let allowed = try await withThrowingTaskGroup(of: Bool.self) { group in
            for member in 0..<200 {
                group.addTask {
                    try await cache.takeFromSlidingWindow(
                        "s", member: CacheBytes(member), limit: 20, window: .hours(1), now: noon
                    ).isAllowed
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(allowed == 20)
        #expect(try await cache.sortedCount("s") == 20)
    }
}

@Suite(.timeLimit(.minutes(2))) struct `A lock in the cache` {
    @Test(arguments: Engine.available)
    func `is given back and kept by its owner alone`(engine: Engine) async throws {
        let cache = try await engine.cache()
        try await cache.set("lock", to: "anna", for: .minutes(600), if: .absent)
        #expect(try await !cache.delete("lock", ifEqual: "bert"))
        #expect(try await !cache.expire("lock", after: .minutes(1), ifEqual: "bert"))
        guard case .remaining(let left) = try await cache.timeToLive("lock") else {
            Issue.record("the lock is gone")
            return
        }
        #expect(left > .minutes(500))
        #expect(try await cache.expire("lock", after: .minutes(1), ifEqual: "anna"))
        guard case .remaining(let shorter) = try await cache.timeToLive("lock") else {
            Issue.record("the lock is gone")
            return
        }
        #expect(shorter <= .minutes(1))
        #expect(try await cache.delete("lock", ifEqual: "anna"))
        #expect(try await !cache.delete("lock", ifEqual: "anna"))
        #expect(try await !cache.expire("lock", after: .minutes(1), ifEqual: "anna"))
    }
}
