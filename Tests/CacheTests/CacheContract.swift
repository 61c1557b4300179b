import Cache
import Core
import Testing

/// What every cache must do, asked of each we ship.
@Suite struct `A cache` {
    @Test(arguments: Engine.available)
    func `gives back what was set, byte for byte`(engine: Engine) async throws {
        let cache = try await engine.cache()
        let all = CacheBytes((0...255).map { UInt8($0) } + [13, 10, 0])
        try await cache.set(all, to: all, for: .minutes(1))
        #expect(try await cache.get(all) == all)
        #expect(try await cache.get("missing") == nil)
        try await cache.set("", to: "", for: .minutes(1))
        #expect(try await cache.get("") == "")
    }

    @Test(arguments: Engine.available)
    func `lets exactly one of many take from a window's last place`(engine: Engine) async throws {
        let cache = try await engine.cache()
        let allowed = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<200 {
                group.addTask {
                    try await cache.takeFromFixedWindow("w", limit: 50, window: .minutes(1)).isAllowed
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(allowed == 50)
    }
}
