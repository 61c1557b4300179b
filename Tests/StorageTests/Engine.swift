import Core
import Foundation
import Storage
import Synchronization
import TestServers
import Testing

/// The engines every contract is asked of.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqliteFile = "SQLite in a file"
    case sqliteMemory = "SQLite in memory"
    case inline = "SQLite without a thread"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }
    /// Those where several connections are at work at once.
    static var concurrent: [Engine] { available.filter { $0 == .sqliteFile || $0 == .postgres } }
    /// Those whose calls can be given up from outside.
    static var threaded: [Engine] { available.filter { $0 != .inline } }

    var testDescription: String { rawValue }
    var isPostgres: Bool { self == .postgres }

    /// A fresh, empty database for one test, closed after it.
    func withDatabase(
        _ settings: PoolSettings = PoolSettings(connections: 4, waiting: .minutes(2)),
        time: any TimeSource = SystemTime(),
        metrics: Metrics = Metrics(),
        _ test: (any Database) async throws -> Void
    ) async throws {
        try await withLocation { location in
            let database =
                self == .inline
                ? DatabaseLocation.inlineSQLite(time: SystemTime(), random: SystemRandom())
                : location.open("test", settings, time: time, metrics: metrics)
            do { try await test(database) } catch {
                await database.close()
                throw error
            }
            await database.close()
        }
    }

    func withLocation(_ test: (DatabaseLocation) async throws -> Void) async throws {
        switch self {
        case .sqliteMemory, .inline: try await test(.sqlite(":memory:"))
        case .sqliteFile:
            let folder = FileManager.default.temporaryDirectory.appending(path: "convoke-\(UUID())").path
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            defer { try? FileManager.default.removeItem(atPath: folder) }
            try await test(.sqlite(folder + "/test.db"))
        case .postgres: try await test(.postgres(Secret(TestServers.postgres())))
        }
    }
}

/// A number that several closures of a test may count up.
final class Count: Sendable {
    private let count = Atomic<Int>(0)
    var value: Int { count.load(ordering: .sequentiallyConsistent) }
    @discardableResult func up() -> Int { count.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue }
}

/// Polls until `condition` holds. The limit is no measurement: it only ends a test that would wait for ever.
func until(_ what: Comment, _ condition: () async throws -> Bool) async throws {
    let time = SystemTime()
    let start = time.uptime
    while try await !condition() {
        try #require(time.uptime - start < .minutes(5), what)
        try await time.sleep(for: .milliseconds(5))
    }
}

extension Database {
    /// A statement that runs for as long as it is let.
    func runForever(timeout: Duration? = nil) async throws {
        switch dialect {
        case .postgres: try await run("SELECT 1 FROM pg_sleep(300)", timeout: timeout)
        case .sqlite:
            try await run(
                """
                WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)
                SELECT count(*) FROM n WHERE x < 0
                """, timeout: timeout)
        }
    }
}

/// Keeps a connection busy while `body` runs.
func whileHoldingConnection(
    of database: any Database, after first: SQL = "SELECT 1", _ body: () async throws -> Void
) async throws {
    let gate = Gate()
    let (held, hold) = AsyncStream<Void>.makeStream()
    let holder = Task {
        // However it ends: a test must not wait for what failed.
        defer { hold.finish() }
        try await database.transaction { transaction in
            try transaction.run(first)
            hold.yield()
            gate.wait()
        }
    }
    for await _ in held { break }
    do { try await body() } catch {
        gate.open()
        throw error
    }
    gate.open()
    try await holder.value
}
