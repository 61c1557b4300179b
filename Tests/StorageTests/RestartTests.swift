import Core
import Foundation
import Storage
import Synchronization
import TestServers
import Testing

/// A PostgreSQL that is killed and started again while it is at work.
@Suite(.enabled(if: TestServers.areAvailable)) struct `A database server that is killed under load` {
    @Test func `loses no acknowledged write, and the calls come through again by themselves`() async throws {
        let server = try await LocalPostgres(directory: TestServers.directory()).started()
        let metrics = Metrics()
        let database = DatabaseLocation.postgres(Secret(server.url)).open(
            "restart", PoolSettings(connections: 4, waiting: .seconds(20), patience: .milliseconds(100)),
            metrics: metrics)
        try await database.run("CREATE TABLE written (id BIGINT PRIMARY KEY)")
        let outcomes = Outcomes()
        let stop = Count()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<8 {
                group.addTask {
                    var number: Int64 = 0
                    while stop.value == 0 {
                        let id = Int64(worker) << 32 + number
                        number += 1
                        do {
                            if number % 3 == 0 {
                                try await database.transaction {
                                    try $0.run("INSERT INTO written VALUES (\(id))")
                                }
                            } else {
                                try await database.run("INSERT INTO written VALUES (\(id))")
                            }
                            outcomes.note(.acknowledged, id)
                        } catch StorageError.unavailable(_, let mayHaveRun) {
                            outcomes.note(mayHaveRun ? .inDoubt : .refused, id)
                            // As a caller would, lest the refusals fill the test's memory.
                            try await SystemTime().sleep(for: .milliseconds(2))
                        }
                    }
                }
            }
            for _ in 0..<2 {
                let reached = outcomes.count(.acknowledged) + 200
                try await until("writes go through") { outcomes.count(.acknowledged) >= reached }
                await server.kill()
                let refused = outcomes.count(.refused)
                try await until("calls are refused at once") { outcomes.count(.refused) > refused + 20 }
                try await server.start()
            }
            let reached = outcomes.count(.acknowledged) + 200
            try await until("writes go through again") { outcomes.count(.acknowledged) >= reached }
            stop.up()
            try await group.waitForAll()
        }
        let stored = Set(try await database.run("SELECT id FROM written").map { try $0.int64("id") })
        #expect(outcomes.ids(.acknowledged).subtracting(stored).isEmpty, "an acknowledged write is there")
        #expect(outcomes.ids(.refused).intersection(stored).isEmpty, "what was refused has not run")
        #expect(stored.subtracting(outcomes.ids(.acknowledged)).isSubset(of: outcomes.ids(.inDoubt)))
        #expect(
            metrics.counters("storage_reconnects_total", "Connections that broke", labels: ["database"])[
                "restart"
            ].value >= 2)
        let atWork = try Usage.now(port: server.port)
        // One thread for each connection, and the loop.
        #expect(atWork.threads <= 5 && atWork.sockets <= 4, "what broke is not kept: \(atWork)")
        await database.close()
        try await until("descriptors and threads are given back") {
            let left = try Usage.now(port: server.port)
            return left.threads == 0 && left.sockets == 0
        }
        try await server.stop()
    }

    @Test func `says that a transaction is in doubt only when its COMMIT had gone out`() async throws {
        let server = try await LocalPostgres(directory: TestServers.directory()).started()
        let database = DatabaseLocation.postgres(Secret(server.url)).open(
            "doubt", PoolSettings(connections: 1))
        try await database.run("CREATE TABLE written (id BIGINT PRIMARY KEY)")
        await #expect {
            try await whileHoldingConnection(of: database, after: "INSERT INTO written VALUES (1)") {
                await server.kill()
            }
        } throws: { error in
            // The COMMIT itself meets the dead connection.
            if case StorageError.unavailable(_, mayHaveRun: true) = error { true } else { false }
        }
        try await server.start()
        try await until("it is back") { (try? await database.ping()) != nil }
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let gate = Gate()
        let transaction = Task {
            defer { begin.finish() }
            try await database.transaction { transaction in
                try transaction.run("INSERT INTO written VALUES (1)")
                begin.yield()
                gate.wait()
                try transaction.run("INSERT INTO written VALUES (2)")
            }
        }
        for await _ in begun { break }
        await server.kill()
        gate.open()
        await #expect {
            try await transaction.value
        } throws: { error in
            if case StorageError.unavailable(_, mayHaveRun: false) = error { true } else { false }
        }
        try await server.start()
        try await until("it is back") { (try? await database.ping()) != nil }
        #expect(try await database.run("SELECT id FROM written").isEmpty)
        await database.close()
        try await server.stop()
    }

    @Test func `is no matter to calls that can wait`() async throws {
        let server = try await LocalPostgres(directory: TestServers.directory()).started()
        let location = DatabaseLocation.postgres(Secret(server.url))
        // Through a pool of its own: a backend outlives its killed server for a moment and would leave what
        // it is sent in doubt.
        let before = location.open("before", PoolSettings(connections: 1))
        try await before.run("CREATE TABLE written (id BIGINT PRIMARY KEY)")
        await before.close()
        await server.kill()
        let settings = PoolSettings(connections: 2, waiting: .seconds(60), patience: .seconds(60))
        let database = location.open("patient", settings)
        async let answer = database.run("INSERT INTO written VALUES (1) RETURNING id")
        try await server.start()
        #expect(try await answer.first?.int("id") == 1)
        await database.close()
        try await server.stop()
    }

    @Test func `is told apart from an error of the statement when it sends us away`() async throws {
        let url = try await TestServers.postgres()
        let database = DatabaseLocation.postgres(Secret(url)).open("sent", PoolSettings(connections: 1))
        let other = DatabaseLocation.postgres(Secret(url)).open("sending", PoolSettings(connections: 1))
        let id = try #require(try await database.run("SELECT pg_backend_pid() AS id").first?.int("id"))
        let call = Task { try await database.runForever() }
        try await until("it runs") {
            try await !other.run(
                "SELECT 1 FROM pg_stat_activity WHERE pid = \(id) AND wait_event = 'PgSleep'"
            ).isEmpty
        }
        try await other.run("SELECT pg_terminate_backend(\(id))")
        await #expect {
            try await call.value
        } throws: { error in
            if case StorageError.unavailable(_, mayHaveRun: true) = error { true } else { false }
        }
        try await database.run("SELECT 1")
        await database.close()
        await other.close()
    }

    @Test func `is named when it was never there`() async throws {
        let port = 1
        let database = DatabaseLocation.postgres(Secret("postgres://nobody:hidden@127.0.0.1:\(port)/none"))
            .open("absent", PoolSettings(patience: .zero))
        await #expect {
            try await database.run("SELECT 1")
        } throws: { error in
            guard case StorageError.unavailable(let reason, mayHaveRun: false) = error else { return false }
            return reason.contains("refused") && !reason.contains("hidden")
        }
        await database.close()
    }
}

private enum Outcome { case acknowledged, inDoubt, refused }

private final class Outcomes: Sendable {
    private let outcomes = Mutex<[Outcome: Set<Int64>]>([:])
    func note(_ outcome: Outcome, _ id: Int64) {
        outcomes.withLock { _ = $0[outcome, default: []].insert(id) }
    }
    func ids(_ outcome: Outcome) -> Set<Int64> { outcomes.withLock { $0[outcome] ?? [] } }
    func count(_ outcome: Outcome) -> Int { outcomes.withLock { $0[outcome]?.count ?? 0 } }
}

/// What of the system's resources the driver holds: sockets to this server and threads with this pool's
/// name. Other tests run in the same process, so plain totals would tell nothing.
private struct Usage {
    let threads: Int
    let sockets: Int

    static func now(port: Int) throws -> Usage {
        let files = FileManager.default
        let tasks = try files.contentsOfDirectory(atPath: "/proc/self/task")
        let names = tasks.compactMap {
            try? String(contentsOfFile: "/proc/self/task/\($0)/comm", encoding: .utf8)
        }
        let open = Set(
            try files.contentsOfDirectory(atPath: "/proc/self/fd").compactMap {
                try? files.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")
            })
        let table = try String(contentsOfFile: "/proc/self/net/tcp", encoding: .utf8)
        let suffix = String(format: ":%04X", port)
        let inodes = table.split(separator: "\n").compactMap { line -> String? in
            let fields = line.split(separator: " ")
            return fields.count > 9 && fields[2].hasSuffix(suffix) ? "socket:[\(fields[9])]" : nil
        }
        return Usage(
            threads: names.count { $0.hasPrefix("pg-restart") }, sockets: inodes.count { open.contains($0) })
    }
}
