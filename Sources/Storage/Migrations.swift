public import Core

/// One step of a schema, applied once and never changed afterwards.
public struct Migration: Sendable {
    public let number: Int
    public let name: String
    private let postgres: StaticString
    private let sqlite: StaticString

    /// One text for both engines.
    public init(_ number: Int, _ name: String, _ sql: StaticString) {
        self.init(number, name, postgres: sql, sqlite: sql)
    }

    public init(_ number: Int, _ name: String, postgres: StaticString, sqlite: StaticString) {
        precondition(number > 0, "migrations count from 1")
        self.number = number
        self.name = name
        self.postgres = postgres
        self.sqlite = sqlite
    }

    func text(for dialect: Dialect) -> StaticString {
        switch dialect {
        case .postgres: postgres
        case .sqlite: sqlite
        }
    }

    /// FNV-1a: it has to notice an edit, not an attacker.
    func checksum(for dialect: Dialect) -> Int64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text(for: dialect).description.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return Int64(bitPattern: hash)
    }
}

extension Database {
    /// Brings the schema up to date. Each migration is a transaction of its own; several replicas may do it at
    /// once, for each step is decided while holding a lock. Returns the numbers this call has applied.
    ///
    /// `scope` keeps the libraries apart that share a database. A database that is ahead of us is left alone:
    /// a newer replica has been here.
    @discardableResult
    public func migrate(
        _ migrations: [Migration], scope: String, at now: Timestamp, timeout: Duration = .minutes(10)
    ) async throws -> [Int] {
        let numbers = migrations.map(\.number)
        precondition(numbers == numbers.sorted() && Set(numbers).count == numbers.count, "migrations ascend")
        var applied: [Int] = []
        while true {
            let next = try await transaction(isolation: .readCommitted, timeout: timeout) { transaction in
                try transaction.applyNext(of: migrations, scope: scope, at: now)
            }
            guard let next else { return applied }
            applied.append(next)
        }
    }
}

extension Transaction {
    /// Applies the first migration that is missing and returns its number.
    fileprivate func applyNext(of migrations: [Migration], scope: String, at now: Timestamp) throws -> Int? {
        // SQLite's transactions have the lock already. The number is any that nobody else uses.
        if dialect == .postgres { try run("SELECT pg_advisory_xact_lock(4815162342)") }
        try run(
            """
            CREATE TABLE IF NOT EXISTS schema_migration (
                scope TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, checksum BIGINT NOT NULL,
                applied_at BIGINT NOT NULL, PRIMARY KEY (scope, number))
            """)
        let rows = try run(
            "SELECT number, name, checksum FROM schema_migration WHERE scope = \(scope) ORDER BY number")
        var known: [Int: Migration] = [:]
        for migration in migrations { known[migration.number] = migration }
        var done: Set<Int> = []
        let last = migrations.last?.number ?? 0
        for row in rows {
            let number = try row.int("number")
            done.insert(number)
            guard number <= last else { continue }
            guard let migration = known[number] else {
                throw StorageError.migration(
                    reason: "\(scope) \(number) was applied and is not known any more")
            }
            guard try migration.checksum(for: dialect) == row.int64("checksum") else {
                throw StorageError.migration(
                    reason: "\(scope) \(number) has been changed since it was applied")
            }
        }
        guard let next = migrations.first(where: { !done.contains($0.number) }) else { return nil }
        if let newest = done.max(), newest > next.number {
            throw StorageError.migration(
                reason: "\(scope) \(next.number) is missing, but \(newest) was applied")
        }
        do {
            try script(next.text(for: dialect))
        } catch StorageError.statement(let reason, let code) {
            throw StorageError.migration(reason: "\(scope) \(next.number) failed: \(reason) (\(code))")
        }
        try run(
            """
            INSERT INTO schema_migration (scope, number, name, checksum, applied_at)
            VALUES (\(scope), \(next.number), \(next.name), \(next.checksum(for: dialect)), \(now))
            """)
        return next.number
    }
}
