import Core
import Storage
import Synchronization
import TestServers
import Testing

@testable import Broker

@Suite(.timeLimit(.minutes(5))) struct `A broker in SQL` {
    private let noon = Timestamp(seconds: 1_750_000_000)

    private func broker(
        _ database: any Database, time: any TimeSource, isExclusive: Bool = false,
        pollInterval: Duration = .hours(1)
    ) -> SQLBroker {
        var settings = SQLBrokerSettings()
        settings.isExclusive = isExclusive
        settings.pollInterval = pollInterval
        settings.backoff = Backoff(first: .milliseconds(1), ceiling: .milliseconds(10))
        return SQLBroker(
            database, queues: [Queue("work")], settings: settings, metrics: BrokerMetrics(Metrics()),
            time: time,
            log: .testing)
    }

    private func file() async throws -> DatabaseLocation {
        .sqlite(try await TestServers.directory() + ".db")
    }

    /// Moves time on, again and again: who was about to sleep when it moved sleeps past it.
    private func pass(_ duration: Duration, of time: ManualTime, until condition: () -> Bool) async throws {
        try await eventually {
            if !condition() { time.advance(by: duration) }
            return condition()
        }
    }

    private func consume(_ broker: SQLBroker, _ seen: Collector) -> Task<Void, any Error> {
        Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                return .ack
            }
        }
    }

    @Test func `gives back at once, after a restart, what its former life held`() async throws {
        let location = try await file()
        let time = ManualTime(noon)
        let former = location.open("broker", .patient)
        let first = broker(former, time: time, isExclusive: true)
        try await first.publish(.named("m-1"), to: "work")
        try await first.publish(.named("later"), to: "work", after: .hours(1))
        let claimed = try await SQLQueueStore(database: former).claim(
            "work", isLiving: true, for: "former", count: 10, at: time.now)
        #expect(claimed.map(\.message.id) == ["m-1"])
        await former.close()

        let database = location.open("broker", .patient)
        let second = broker(database, time: time, isExclusive: true)
        let seen = Collector()
        let consumer = consume(second, seen)
        try await seen.wait(for: 1)
        #expect(seen.deliveries == [Delivery(message: .named("m-1"), queue: "work", attempt: 2)])
        try await pass(.hours(1), of: time) { seen.deliveries.count == 2 }
        #expect(seen.ids == ["m-1", "later"])
        consumer.cancel()
        try await consumer.value
        await database.close()
    }

    @Test func `serves what is due in the order in which it became so`() async throws {
        let database = try await file().open("broker", .patient)
        let time = ManualTime(noon)
        let broker = broker(database, time: time)
        try await broker.publish(.named("late"), to: "work", after: .hours(1))
        try await broker.publish(.named("soon"), to: "work", after: .minutes(1))
        try await broker.publish(.named("now"), to: "work")
        #expect(try await broker.depth(of: "work") == 1)
        time.advance(by: .minutes(1) - .milliseconds(1))
        #expect(try await broker.depth(of: "work") == 1)
        time.advance(by: .milliseconds(1))
        #expect(try await broker.depth(of: "work") == 2)
        time.advance(by: .hours(1))
        let seen = Collector()
        let consumer = Task {
            try await broker.consume(["work"], concurrency: 1) { delivery in
                seen.add(delivery)
                return .ack
            }
        }
        try await seen.wait(for: 3)
        consumer.cancel()
        try await consumer.value
        #expect(seen.ids == ["now", "soon", "late"])
        await database.close()
    }

    @Test func `wakes its consumers at once, without looking at the clock`() async throws {
        let database = try await file().open("broker", .patient)
        let time = ManualTime(noon)
        let broker = broker(database, time: time)
        let seen = Collector()
        let consumer = consume(broker, seen)
        // The heartbeat, and the wait for the next look in an hour.
        await time.waitForSleepers(2)
        try await broker.publish(.named("m-1"), to: "work")
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        await database.close()
    }

    @Test func `sees what another process has published when it looks`() async throws {
        let location = try await file()
        let (mine, theirs) = (location.open("broker", .patient), location.open("broker", .patient))
        let time = ManualTime(noon)
        let seen = Collector()
        let consumer = consume(broker(mine, time: time, pollInterval: .seconds(1)), seen)
        await time.waitForSleepers(2)
        try await broker(theirs, time: time).publish(.named("m-1"), to: "work")
        time.advance(by: .seconds(1))
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        await mine.close()
        await theirs.close()
    }

    @Test func `leaves a message with a consumer that says it lives, and takes it from one that does not`()
        async throws
    {
        let database = try await file().open("broker", .patient)
        let time = ManualTime(noon)
        let broker = broker(database, time: time)
        let store = SQLQueueStore(database: database)
        try await broker.publish(.named("m-1"), to: "work")
        try await store.sayAlive("other", until: time.now + .seconds(30))
        _ = try await store.claim("work", isLiving: true, for: "other", count: 1, at: time.now)
        let seen = Collector()
        let consumer = consume(broker, seen)
        await time.waitForSleepers(2)
        // Two heartbeats later the other one still has its lease.
        for _ in 1...2 {
            time.advance(by: .seconds(10))
            try await eventually { try await alive(database).contains(time.now + .seconds(30)) }
            await time.waitForSleepers(2)
        }
        #expect(seen.ids.isEmpty)
        time.advance(by: .seconds(11))
        try await seen.wait(for: 1)
        #expect(seen.deliveries.map(\.attempt) == [2])
        // Too late: the claim is void.
        #expect(try await !store.delete(1, of: "other"))
        consumer.cancel()
        try await consumer.value
        await database.close()
    }

    @Test func `keeps a message until its handler has decided`() async throws {
        let database = try await file().open("broker", .patient)
        let broker = broker(database, time: SystemTime())
        try await broker.publish(.named("m-1"), to: "work")
        let seen = Collector()
        let gate = Gate()
        let consumer = Task {
            try await broker.consume(["work"]) { delivery in
                seen.add(delivery)
                await gate.pass()
                return .ack
            }
        }
        try await seen.wait(for: 1)
        #expect(try await database.run("SELECT id FROM broker_message").count == 1)
        gate.open()
        try await eventually { try await database.run("SELECT id FROM broker_message").isEmpty }
        consumer.cancel()
        try await consumer.value
        await database.close()
    }

    @Test func `begins what it has claimed when the answer got lost`() async throws {
        let database = FaultyDatabase(try await file().open("broker", .patient))
        let broker = broker(database, time: SystemTime())
        try await broker.publish(.named("m-1"), to: "work")
        database.fail("UPDATE broker_message SET holder = $1", after: true)
        let seen = Collector()
        let consumer = consume(broker, seen)
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        #expect(seen.deliveries.map(\.attempt) == [1])
        #expect(database.failures == 1)
        #expect(try await broker.depth(of: "work") == 0)
        await database.close()
    }

    @Test func `writes a verdict down until it stays written`() async throws {
        let database = FaultyDatabase(try await file().open("broker", .patient))
        let broker = broker(database, time: SystemTime())
        try await broker.publish(.named("m-1"), to: "work")
        database.fail("DELETE FROM broker_message", after: false)
        let seen = Collector()
        let consumer = consume(broker, seen)
        try await seen.wait(for: 1)
        consumer.cancel()
        try await consumer.value
        #expect(database.failures == 1)
        let rows = try await database.run("SELECT id FROM broker_message")
        #expect(rows.isEmpty)
        #expect(seen.ids == ["m-1"])
        await database.close()
    }

    @Test func `tells a publisher that the database is away`() async throws {
        let database = FaultyDatabase(try await file().open("broker", .patient))
        let broker = broker(database, time: SystemTime())
        #expect(try await broker.depth(of: "work") == 0)
        database.fail("INSERT INTO broker_message", after: false)
        await #expect(throws: BrokerError.unavailable(reason: "planted", mayHaveRun: false)) {
            try await broker.publish(.named("m-1"), to: "work")
        }
        await database.close()
    }

    private func alive(_ database: any Database) async throws -> [Timestamp] {
        try await database.run("SELECT alive_until FROM broker_consumer").map {
            try $0.timestamp("alive_until")
        }
    }
}

/// A database whose next statement of a kind fails: before it runs, or after, so that the answer is lost.
private final class FaultyDatabase: Database {
    private struct Plan {
        var prefix: String?
        var isAfter = false
        var failures = 0
    }
    private let inner: any Database
    private let plan = Mutex(Plan())

    init(_ inner: any Database) { self.inner = inner }

    var dialect: Dialect { inner.dialect }
    var failures: Int { plan.withLock { $0.failures } }

    func fail(_ prefix: String, after: Bool) {
        plan.withLock {
            $0.prefix = prefix
            $0.isAfter = after
        }
    }

    func run(_ sql: SQL, timeout: Duration?) async throws -> Rows {
        let isAfter = plan.withLock { plan -> Bool? in
            guard let prefix = plan.prefix, sql.text.hasPrefix(prefix) else { return nil }
            plan.prefix = nil
            plan.failures += 1
            return plan.isAfter
        }
        guard let isAfter else { return try await inner.run(sql, timeout: timeout) }
        if isAfter { _ = try await inner.run(sql, timeout: timeout) }
        throw StorageError.unavailable(reason: "planted", mayHaveRun: isAfter)
    }

    func transaction<Result: Sendable>(
        isolation: Isolation, timeout: Duration?,
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result {
        try await inner.transaction(isolation: isolation, timeout: timeout, body)
    }

    func stream(
        _ sql: SQL, chunk: Int, timeout: Duration?, _ body: ([Row]) async throws -> Void
    ) async throws {
        try await inner.stream(sql, chunk: chunk, timeout: timeout, body)
    }

    func copy<Chunks: AsyncSequence>(
        into table: StaticString, columns: [StaticString], rows: Chunks
    ) async throws -> Int where Chunks.Element == [[SQLValue]] {
        try await inner.copy(into: table, columns: columns, rows: rows)
    }

    func close() async { await inner.close() }
}
