import Core
import Testing

@Suite struct `Manual time` {
    let time = ManualTime(Timestamp(seconds: 1000))

    @Test func `stands still until it is moved`() async throws {
        #expect(time.now == Timestamp(seconds: 1000))
        time.advance(by: .seconds(5))
        #expect(time.now == Timestamp(seconds: 1005))
        #expect(time.uptime == .seconds(5))
    }

    @Test func `wakes who is due and nobody else`() async throws {
        async let short: Void = time.sleep(for: .seconds(1))
        async let long: Void = time.sleep(for: .seconds(10))
        await time.waitForSleepers(2)
        time.advance(by: .seconds(1))
        try await short
        #expect(time.sleeperCount == 1)
        time.advance(by: .seconds(9))
        try await long
    }

    @Test func `lets a cancelled sleeper go at once`() async throws {
        let time = time
        let sleeper = Task { try await time.sleep(for: .seconds(1)) }
        await time.waitForSleepers(1)
        sleeper.cancel()
        await #expect(throws: CancellationError.self) { try await sleeper.value }
        #expect(time.sleeperCount == 0)
    }

    @Test func `sets the wall clock without waking anybody`() async throws {
        async let sleeper: Void = time.sleep(for: .seconds(10))
        await time.waitForSleepers(1)
        time.setWallClock(to: Timestamp(seconds: 9999))
        #expect(time.now == Timestamp(seconds: 9999))
        #expect(time.uptime == .zero)
        #expect(time.sleeperCount == 1)
        time.advance(by: .seconds(10))
        try await sleeper
    }
}

@Suite struct `Scaled time` {
    @Test func `runs as many times faster as it is told, from its origin`() {
        let origin = SystemTime().now - .seconds(10)
        let now = ScaledTime(origin: origin, scale: 1000).now
        #expect(now >= origin + .seconds(10_000))
        #expect(now < origin + .seconds(10_000) + .hours(10))
    }
}

@Suite struct `A deadline` {
    let time = ManualTime(.epoch)

    @Test func `lets work through that ends in time`() async throws {
        let value = try await withDeadline(.seconds(1), time) { 42 }
        #expect(value == 42)
        #expect(time.sleeperCount == 0)
    }

    @Test func `cancels work that does not`() async throws {
        let time = time
        let late = Task {
            try await withDeadline(.seconds(1), time) { try await time.sleep(for: .seconds(60)) }
        }
        await time.waitForSleepers(2)
        time.advance(by: .seconds(1))
        await #expect(throws: DeadlineExceeded(limit: .seconds(1))) { try await late.value }
        #expect(time.sleeperCount == 0)
    }
}

@Suite struct `A backoff` {
    let backoff = Backoff(first: .seconds(1), factor: 2, ceiling: .seconds(10), jitter: 0.5)

    @Test func `doubles up to its ceiling, with jitter below`() {
        let random = SeededRandom(seed: 7)
        for (attempt, full) in [(1, 1.0), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)] {
            for _ in 0..<100 {
                let delay = backoff.delay(after: attempt, random).inSeconds
                #expect(delay <= full && delay >= full / 2, "attempt \(attempt)")
            }
        }
    }

    @Test func `is waited out between attempts, and the last error is thrown`() async throws {
        let time = ManualTime(.epoch)
        let backoff = Backoff(first: .seconds(1), factor: 2, ceiling: .seconds(10), jitter: 0)
        struct Down: Error {}
        let result = Task {
            try await retry(attempts: 3, backoff: backoff, time: time, isWorthwhile: { _ in true }) {
                throw Down()
            }
        }
        await time.waitForSleepers(1)
        time.advance(by: .seconds(1))
        await time.waitForSleepers(1)
        time.advance(by: .seconds(2))
        await #expect(throws: Down.self) { try await result.value }
    }

    @Test func `is not spent on an error that will not pass`() async throws {
        struct Wrong: Error {}
        var calls = 0
        await #expect(throws: Wrong.self) {
            try await retry(attempts: 9, time: ManualTime(.epoch), isWorthwhile: { !($0 is Wrong) }) {
                calls += 1
                throw Wrong()
            }
        }
        #expect(calls == 1)
    }
}

@Suite struct `A seeded random source` {
    @Test func `repeats itself for the same seed and not for another`() {
        func draw(_ seed: UInt64) -> [UInt64] {
            let random = SeededRandom(seed: seed)
            return (0..<10).map { _ in random.next() }
        }
        #expect(draw(1) == draw(1))
        #expect(draw(1) != draw(2))
        #expect(SeededRandom(seed: 3).bytes(13).count == 13)
    }
}

@Suite struct `Time that can be skipped` {
    private let machine = ManualTime(Timestamp("2025-08-24T10:00:00Z") ?? .epoch)
    private let start = Timestamp("2025-08-24T10:00:00Z") ?? .epoch

    @Test func `goes on after a jump from where it has landed, and never back`() {
        let time = SkippableTime(origin: start, machine: machine)
        machine.advance(by: .seconds(2))
        #expect(time.now == start + .seconds(2))
        time.skip(.hours(1))
        #expect(time.now == start + .seconds(3602))
        machine.advance(by: .seconds(1))
        #expect(time.uptime == .seconds(3603))
        time.skip(.seconds(-10))
        #expect(time.uptime == .seconds(3603))
    }

    @Test func `wakes a sleeper whose time is skipped, and leaves the machine's time alone`() async throws {
        let time = SkippableTime(origin: start, machine: machine)
        async let slept: Void = time.sleep(for: .hours(1))
        await machine.waitForSleepers(1)
        time.skip(.hours(2))
        machine.advance(by: .milliseconds(10))
        try await slept
        #expect(time.machine.uptime == .milliseconds(10))
    }

    @Test func `lets a cancelled sleeper go`() async throws {
        let time = SkippableTime(origin: start, machine: machine)
        let sleeper = Task { try await time.sleep(for: .hours(1)) }
        await machine.waitForSleepers(1)
        sleeper.cancel()
        await #expect(throws: CancellationError.self) { try await sleeper.value }
    }
}
