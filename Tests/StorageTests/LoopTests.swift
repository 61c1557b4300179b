import Core
import Foundation
import Storage
import TestServers
import Testing

/// What single statements, on one loop for all connections, and transactions, each on its connection's thread,
/// do to each other.
@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(10)))
struct `A pool whose connections go between a loop and their threads` {
    @Test func `answers every call with its own outcome, whatever is cancelled beside it`() async throws {
        let metrics = Metrics()
        let settings = PoolSettings(connections: 3, waiting: .minutes(5), patience: .minutes(5))
        try await Engine.postgres.withDatabase(settings, metrics: metrics) { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            let long = String(repeating: "x", count: 20_000)
            let (certain, perhaps) = try await withThrowingTaskGroup(of: ([Int], [Int]).self) { group in
                for worker in 0..<12 {
                    group.addTask {
                        let random = SeededRandom(seed: UInt64(worker))
                        var (certain, perhaps): ([Int], [Int]) = ([], [])
                        for round in 0..<30 {
                            let id = worker * 1000 + round
                            switch random.int(in: 0...5) {
                            case 0:
                                let call = Task { try await database.runForever() }
                                call.cancel()
                                await #expect(throws: CancellationError.self) { try await call.value }
                            case 1:
                                let call = Task { try await database.run("INSERT INTO item VALUES (\(id))") }
                                for _ in 0..<random.int(in: 0...40) { await Task.yield() }
                                call.cancel()
                                do {
                                    #expect(try await call.value.affected == 1)
                                    certain.append(id)
                                } catch is CancellationError {
                                    perhaps.append(id)
                                }
                            case 2:
                                let found = try await database.transaction { transaction in
                                    try transaction.run("INSERT INTO item VALUES (\(id))")
                                    return try transaction.run("SELECT id FROM item WHERE id = \(id)")
                                }
                                #expect(try found.map { try $0.int("id") } == [id])
                                certain.append(id)
                            case 3:
                                let text = "\(id)" + long
                                let answer = try await database.run("SELECT \(text)::text AS words")
                                #expect(try answer.first?.text("words") == text)
                            default:
                                let answer = try await database.run(
                                    "INSERT INTO item VALUES (\(id)) RETURNING id")
                                #expect(try answer.first?.int("id") == id)
                                certain.append(id)
                            }
                        }
                        return (certain, perhaps)
                    }
                }
                return try await group.reduce(into: ([Int](), [Int]())) {
                    $0.0 += $1.0
                    $0.1 += $1.1
                }
            }
            let stored = Set(try await database.run("SELECT id FROM item").map { try $0.int("id") })
            #expect(stored.isSuperset(of: certain))
            #expect(stored.subtracting(certain).isSubset(of: perhaps))
            try await until("all connections are free") {
                metrics.gauges("storage_connections_in_use", "Connections at work", labels: ["database"])[
                    "test"
                ].value == 0
            }
            #expect(
                metrics.gauges(
                    "storage_waiting_calls", "Calls that wait for a connection", labels: ["database"])[
                        "test"
                    ].value == 0)
        }
    }

    @Test func `is closed when what runs has been answered, and the rest is refused`() async throws {
        let location = DatabaseLocation.postgres(Secret(try await TestServers.postgres()))
        let observer = location.open("observer", PoolSettings(connections: 2))
        try await observer.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
        let database = location.open("closing", PoolSettings(connections: 3, waiting: .minutes(5)))
        let answers = Count()
        let calls = (0..<300).map { id in
            Task {
                defer { answers.up() }
                try await database.run("INSERT INTO item VALUES (\(id))")
            }
        }
        try await until("some are answered") { answers.value >= 50 }
        await database.close()

        var acknowledged: [Int] = []
        for (id, call) in calls.enumerated() {
            do {
                try await call.value
                acknowledged.append(id)
            } catch StorageError.unavailable(_, mayHaveRun: false) {}
        }
        let stored = try await observer.run("SELECT id FROM item ORDER BY id").map { try $0.int("id") }
        #expect(stored == acknowledged, "what was answered has run, what was refused has not")
        await #expect {
            try await database.run("SELECT 1")
        } throws: { error in
            if case StorageError.unavailable(_, mayHaveRun: false) = error { true } else { false }
        }
        try await until("its loop and its threads have ended") {
            try !threadNames().contains { $0.hasPrefix("pg-closing") }
        }
        await observer.close()
    }

    @Test func `takes a statement of any size, among short ones and before them`() async throws {
        let metrics = Metrics()
        let settings = PoolSettings(connections: 1, waiting: .minutes(5))
        try await Engine.postgres.withDatabase(settings, metrics: metrics) { database async throws in
            let waiting = metrics.gauges(
                "storage_waiting_calls", "Calls that wait for a connection", labels: ["database"])["test"]
            // More than the socket takes at once, in both directions.
            for size in [1, 16 << 10, 17 << 10, 300_000, 8 << 20] {
                let words = String(repeating: "w", count: size)
                try await database.run("SELECT 1")
                let alone = try await database.run("SELECT \(words)::text AS words")
                #expect(try alone.first?.text("words") == words)
                var calls: [Task<Rows, any Error>] = []
                try await whileHoldingConnection(of: database) {
                    for number in 0..<6 {
                        calls.append(
                            Task {
                                number.isMultiple(of: 2)
                                    ? try await database.run("SELECT \("\(number)")::text AS words")
                                    : try await database.run("SELECT \("\(number)" + words)::text AS words")
                            })
                        try await until("it waits") { waiting.value == Double(number + 1) }
                    }
                }
                for (number, call) in calls.enumerated() {
                    let expected = "\(number)" + (number.isMultiple(of: 2) ? "" : words)
                    #expect(try await call.value.first?.text("words") == expected)
                }
            }
        }
    }

    @Test func `replaces what the server has ended while nobody used it, before anybody does`() async throws {
        let location = DatabaseLocation.postgres(Secret(try await TestServers.postgres()))
        let metrics = Metrics()
        let database = location.open(
            "ended", PoolSettings(connections: 4, waiting: .minutes(5)), metrics: metrics)
        let observer = location.open("observer", PoolSettings(connections: 2))

        /// Has all four connections at work at the same time, and tells who serves them.
        func useAll() async throws -> Set<Int> {
            var calls: [Task<Rows, any Error>] = []
            try await whileHoldingConnection(of: observer, after: "SELECT 1 FROM pg_advisory_xact_lock(1)") {
                calls = (0..<4).map { _ in
                    Task {
                        try await database.run(
                            "SELECT pg_backend_pid() AS id FROM pg_advisory_xact_lock_shared(1)")
                    }
                }
                try await until("all wait") {
                    try await observer.run(
                        """
                        SELECT 1 FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event = 'advisory'
                        """
                    ).count == 4
                }
            }
            var servers: Set<Int> = []
            for call in calls { servers.insert(try #require(try await call.value.first?.int("id"))) }
            return servers
        }

        // The first time each is on its thread, where it was opened; from the second on they are the loop's.
        let first = try await useAll()
        #expect(try await useAll() == first)
        let reconnects = metrics.counters(
            "storage_reconnects_total", "Connections that broke", labels: ["database"])["ended"]
        #expect(reconnects.value == 0)
        for server in first { try await observer.run("SELECT pg_terminate_backend(\(server))") }
        try await until("the loop has noticed all") { reconnects.value == 4 }
        #expect(try await useAll().isDisjoint(with: first))
        #expect(reconnects.value == 4)
        await database.close()
        await observer.close()
    }

    @Test func `serves tasks that live on loops of their own there, and takes every connection along`()
        async throws
    {
        let location = DatabaseLocation.postgres(Secret(try await TestServers.postgres()))
        let database = location.open("moving", PoolSettings(connections: 1, waiting: .minutes(5)))
        try await database.run("CREATE TABLE visit (loop BIGINT, round BIGINT)")
        let first = try await database.backend()
        // Only one loop has something to do at a time, so each finds the connection where another left it.
        for round in 0..<5 {
            for number in 0..<2 {
                let loop = EventLoop(name: "own-\(number)")
                let server = try await withTaskExecutorPreference(loop) {
                    try await onItsLoop {
                        #expect(loop.isCurrent)
                        try await database.run("INSERT INTO visit VALUES (\(number), \(round))")
                        #expect(loop.isCurrent, "whoever lives on a loop goes on there")
                        return try await database.backend()
                    }
                }
                #expect(server == first, "the connection has moved, no other was made")
            }
            #expect(try await database.backend() == first)
            let inTransaction = try await database.transaction {
                try $0.run("SELECT pg_backend_pid() AS id").first?.int("id")
            }
            #expect(inTransaction == first)
        }
        let visits = try await database.run("SELECT count(*) AS n FROM visit")
        #expect(try visits.first?.int("n") == 10)
        await database.close()
        try await until("all loops and threads have ended") {
            try !threadNames().contains { $0.hasPrefix("pg-moving") || $0.hasPrefix("own-") }
        }
    }

    @Test func `answers many tasks on several loops and on none, with fewer connections than tasks`()
        async throws
    {
        let settings = PoolSettings(connections: 3, waiting: .minutes(5))
        try await Engine.postgres.withDatabase(settings) { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            let loops = (0..<2).map { EventLoop(name: "several-\($0)") }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<12 {
                    group.addTask(executorPreference: worker % 3 < 2 ? loops[worker % 3] : nil) {
                        for round in 0..<40 {
                            let id = worker * 1000 + round
                            if round % 8 == 7 {
                                let call = Task { try await database.runForever() }
                                call.cancel()
                                await #expect(throws: CancellationError.self) { try await call.value }
                                try await database.transaction {
                                    try $0.run("INSERT INTO item VALUES (\(id))")
                                }
                                continue
                            }
                            let row = try await database.run("INSERT INTO item VALUES (\(id)) RETURNING id")
                            #expect(try row.first?.int("id") == id)
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await database.run("SELECT count(*) AS n FROM item").first?.int("n") == 480)
        }
    }

    @Test func `gives up a call that is cancelled while its connection is being made`() async throws {
        let listener = try SilentListener()
        let database = DatabaseLocation.postgres(Secret("postgres://nobody@127.0.0.1:\(listener.port)/none"))
            .open("silent", PoolSettings(connections: 1, waiting: .minutes(30), patience: .minutes(30)))
        let answers = Count()
        let call = Task {
            defer { answers.up() }
            try await database.run("SELECT 1")
        }
        try await until("it connects") { listener.hasCaller() }
        call.cancel()
        listener.hangUp()
        try await until("it is answered") { answers.value == 1 }
        await #expect(throws: CancellationError.self) { try await call.value }
        await database.close()
    }
}

extension Database {
    fileprivate func backend() async throws -> Int? {
        try await run("SELECT pg_backend_pid() AS id").first?.int("id")
    }
}

/// What has no actor runs on the loop that its task prefers.
@concurrent private func onItsLoop<Result: Sendable>(
    _ body: @Sendable () async throws -> Result
) async throws -> Result { try await body() }

private func threadNames() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").compactMap {
        try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)
    }
}

/// Takes calls and says nothing.
private final class SilentListener {
    let port: Int
    private let listener: Int32
    private var callers: [Int32] = []

    init() throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, size) == 0 && listen(listener, 8) == 0
                    && getsockname(listener, $0, &size) == 0
            }
        }
        port = Int(UInt16(bigEndian: address.sin_port))
        try #require(isBound)
    }

    func hasCaller() -> Bool {
        let caller = accept(listener, nil, nil)
        if caller >= 0 { callers.append(caller) }
        return !callers.isEmpty
    }

    func hangUp() {
        close(listener)
        for caller in callers { close(caller) }
    }
}
