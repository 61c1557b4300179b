import Cache
import Core
import TestServers
import Testing

@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(2))) struct `A Redis that fails` {
    @Test func `by being killed under load and started again costs clear errors and nothing else`()
        async throws
    {
        let server = try await LocalRedis(directory: TestServers.directory()).started()
        let (sink, metrics) = (MemorySink(), Metrics())
        let cache = RedisCache(
            try #require(RedisLocation(server.url)), log: Log(service: "test", to: sink), metrics: metrics)
        let acknowledged = Shared<[Int: Int64]>([:])
        let failures = Shared(0)
        let isOver = Shared(false)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<32 {
                group.addTask {
                    while !isOver.withLock({ $0 }) {
                        do {
                            let count = try await cache.increment("count:\(caller)")
                            acknowledged.withLock { $0[caller] = count }
                            _ = try await cache.takeFromFixedWindow("w", limit: 1 << 40, window: .hours(1))
                        } catch CacheError.unavailable {
                            failures.withLock { $0 += 1 }
                            // Calls fail at once while it is gone; this keeps the test from doing only that.
                            try await SystemTime().sleep(for: .milliseconds(1))
                        }
                    }
                }
            }
            for _ in 0..<2 {
                let before = acknowledged.withLock { $0.values.reduce(0, +) }
                #expect(await eventually { acknowledged.withLock { $0.values.reduce(0, +) } > before + 200 })
                await server.kill()
                #expect(
                    await eventually {
                        do {
                            _ = try await cache.get("x")
                            return false
                        } catch { return error as? CacheError == .unavailable(mayHaveRun: false) }
                    })
                try await server.start()
                #expect(await eventually { (try? await cache.ping()) != nil })
                // The scripts were in its memory alone.
                #expect(
                    await eventually {
                        (try? await cache.takeFromFixedWindow("w", limit: 1 << 40, window: .hours(1))) != nil
                    })
            }
            isOver.withLock { $0 = true }
            try await group.waitForAll()
        }
        #expect(failures.withLock { $0 } > 0)
        // It writes before it answers (`appendfsync always`): no acknowledged increment may be missing.
        for (caller, count) in acknowledged.withLock({ $0 }) {
            #expect(try await cache.get("count:\(caller)")?.integer ?? 0 >= count)
        }
        #expect(sink.lines.contains { $0.contains("cache.lost") })
        #expect(sink.lines.contains { $0.contains("cache.reconnected") })
        await cache.close()
        try await server.stop()
    }

    @Test func `by forgetting its scripts and its data in mid-run fails no caller`() async throws {
        let server = try await LocalRedis(directory: TestServers.directory(), durability: .throwaway)
            .started()
        let cache = RedisCache(try #require(RedisLocation(server.url)), limit: .seconds(60))
        let isOver = Shared(false)
        let calls = Shared(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for caller in 0..<16 {
                group.addTask {
                    while !isOver.withLock({ $0 }) {
                        let verdict = try await cache.takeFromFixedWindow(
                            "w:\(caller)", limit: 1 << 40, window: .hours(1))
                        #expect(verdict.isAllowed)
                        calls.withLock { $0 += 1 }
                    }
                }
            }
            for _ in 0..<20 {
                let before = calls.withLock { $0 }
                #expect(try tell(redisAt: server.port, "SCRIPT FLUSH").hasPrefix("+OK"))
                #expect(try tell(redisAt: server.port, "FLUSHALL").hasPrefix("+OK"))
                #expect(await eventually { calls.withLock { $0 } > before + 50 })
            }
            isOver.withLock { $0 = true }
            try await group.waitForAll()
        }
        await cache.close()
        try await server.stop()
    }

    @Test func `leaves neither threads nor descriptors behind`() async throws {
        let server = try await LocalRedis(directory: TestServers.directory(), durability: .throwaway)
            .started()
        let location = try #require(RedisLocation(server.url))
        let name = "redis:\(server.port)"
        let descriptors = openDescriptors()
        for round in 0..<100 {
            let cache = RedisCache(location, limit: .seconds(60))
            try await cache.ping()
            // Also by just letting go of it.
            if round % 2 == 0 { await cache.close() }
        }
        #expect(await eventually { threads(named: name) == 0 })
        #expect(try tell(redisAt: server.port, "INFO clients").contains("connected_clients:1\r\n"))
        // Other tests of this process open some meanwhile; a leak would be 200.
        #expect(await eventually { openDescriptors() < descriptors + 100 })

        // Losing a connection and trying in vain leave nothing either.
        let cache = RedisCache(location, limit: .seconds(60))
        try await cache.ping()
        for _ in 0..<50 {
            try tell(redisAt: server.port, "CLIENT KILL TYPE normal SKIPME yes")
            #expect(await eventually { (try? await cache.ping()) != nil })
        }
        #expect(threads(named: name) == 1)
        #expect(openDescriptors() < descriptors + 100)
        await cache.close()
        try await server.stop()
    }

    @Test func `at the password says denied, and lets in who knows it`() async throws {
        let server = try await LocalRedis(directory: TestServers.directory(), durability: .throwaway)
            .started()
        try tell(redisAt: server.port, "ACL SETUSER anna on >geh@im/1 ~* +@all")
        try tell(redisAt: server.port, "CONFIG SET requirepass other")
        let sink = MemorySink()
        func answer(_ url: String) async throws -> (any Error)? {
            let cache = RedisCache(
                try #require(RedisLocation(url)), limit: .seconds(60), log: Log(service: "test", to: sink))
            defer { withExtendedLifetime(cache) {} }
            do {
                try await cache.ping()
                return nil
            } catch { return error }
        }
        let place = "127.0.0.1:\(server.port)/0"
        #expect(try await answer("redis://anna:geh%40im%2F1@\(place)") == nil)
        #expect(try await answer("redis://:other@\(place)") == nil)
        #expect(try await answer("redis://:wrong-one@\(place)") as? CacheError == .denied)
        #expect(try await answer("redis://\(place)") as? CacheError == .denied)
        #expect(!sink.lines.contains { $0.contains("wrong-one") || $0.contains("geh") })
        try await server.stop()
    }

    @Test func `by having no memory left says full, and still reads`() async throws {
        let server = try await LocalRedis(directory: TestServers.directory(), durability: .throwaway)
            .started()
        let cache = RedisCache(try #require(RedisLocation(server.url)), limit: .seconds(60))
        try await cache.set("k", to: "v", for: .hours(1))
        try tell(redisAt: server.port, "CONFIG SET maxmemory 1")
        await #expect(throws: CacheError.full) { try await cache.set("k", to: "w", for: .hours(1)) }
        await #expect(throws: CacheError.full) {
            try await cache.takeFromFixedWindow("w", limit: 1, window: .hours(1))
        }
        #expect(try await cache.get("k") == "v")
        await cache.close()
        try await server.stop()
    }
}

/// What no Redis would say: the driver must not crash, hang or mix up answers, and comes back.
@Suite(.timeLimit(.minutes(2))) struct `A server that is no good Redis` {
    private func cache(_ server: FakeRedis, limit: Duration = .milliseconds(200)) -> RedisCache {
        RedisCache(RedisLocation(host: "127.0.0.1", port: server.port), limit: limit)
    }

    @Test(arguments: [
        "\u{0}\u{1}\u{2}garbage\r\n", "$99999999999999999999\r\n", "$-7\r\nx\r\n", "*2147483648\r\n",
        "*2147483647\r\n:1\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        "$9223372036854775807\r\nx\r\n", ":notanumber\r\n", "+half", "HTTP/1.1 400 Bad Request\r\n\r\n",
        "+OK\r\n+OK\r\n+OK\r\n", ":1\r\n", "*0\r\n", "*-1\r\n", "",
    ])
    func `is answered with an error to the caller`(reply: String) async throws {
        let server = try FakeRedis { number, _ in Array((number == 0 ? "+OK\r\n" : reply).utf8) }
        let cache = cache(server)
        do {
            let value = try await cache.get("k")
            // What is well-formed by accident: no value.
            #expect(value == nil || value == "OK")
        } catch {
            let isClear =
                switch error as? CacheError {
                case .unavailable, .unexpectedReply: true
                default: false
                }
            #expect(isClear, "\(error)")
        }
        await cache.close()
    }

    @Test func `that falls silent costs a caller its limit, not for ever, and is left`() async throws {
        let isSilent = Shared(true)
        let server = try FakeRedis { number, _ in
            number > 0 && isSilent.withLock({ $0 }) ? [] : Array("+OK\r\n".utf8)
        }
        let cache = cache(server)
        await #expect(throws: CacheError.unavailable(mayHaveRun: true)) { try await cache.ping() }
        isSilent.withLock { $0 = false }
        #expect(await eventually { (try? await cache.ping()) != nil })
        #expect(server.accepted > 1)
        await cache.close()
    }

    @Test func `that is slow makes only those fail whose limit is short`() async throws {
        let gate = Gate()
        let server = try FakeRedis { number, _ in
            if number == 1 { gate.wait() }
            return Array("+OK\r\n".utf8)
        }
        let patient = cache(server, limit: .seconds(60))
        async let answer: Void = patient.ping()
        let hasty = patient.within(.milliseconds(50))
        // It waits behind the first: nothing of it has been sent.
        #expect(await eventually { gate.isWaitedFor })
        await #expect(throws: CacheError.self) { try await hasty.get("k") }
        gate.open()
        try await answer
        await patient.close()
    }

    @Test func `lets a cancelled caller go at once, and its late answer goes to nobody else`() async throws {
        let gate = Gate()
        let server = try FakeRedis { number, said in
            if number == 1 { gate.wait() }
            let count = said.split(separator: "*").count
            return Array(String(repeating: number == 1 ? "$4\r\nlate\r\n" : "+OK\r\n", count: count).utf8)
        }
        let cache = cache(server, limit: .seconds(60))
        let waiting = Task { try await cache.get("k") }
        #expect(await eventually { gate.isWaitedFor })
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        gate.open()
        for _ in 0..<10 { #expect(try await cache.run(.ping) == .ok) }
        await cache.close()
    }

    @Test func `is not there: callers are told at once, none waits`() async throws {
        let cache = RedisCache(RedisLocation(host: "127.0.0.1", port: 1), limit: .seconds(60))
        for _ in 0..<1000 {
            await #expect(throws: CacheError.unavailable(mayHaveRun: false)) { try await cache.get("k") }
        }
        await cache.close()
    }
}
