import Core
import Storage
import Testing

@Suite struct `Migrations` {
    let now = Timestamp(seconds: 1_756_000_000)
    let steps = [
        Migration(
            1, "accounts", "CREATE TABLE account (id BIGINT PRIMARY KEY); CREATE TABLE other (id BIGINT)"),
        Migration(2, "names", "ALTER TABLE account ADD COLUMN name TEXT"),
        Migration(
            3, "bytes", postgres: "ALTER TABLE account ADD COLUMN seal BYTEA",
            sqlite: "ALTER TABLE account ADD COLUMN seal BLOB"),
    ]

    @Test(arguments: Engine.available)
    func `are applied once and in order`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            #expect(try await database.migrate(Array(steps.prefix(1)), scope: "a", at: now) == [1])
            #expect(try await database.migrate(steps, scope: "a", at: now) == [2, 3])
            #expect(try await database.migrate(steps, scope: "a", at: now) == [])
            try await database.run("INSERT INTO account (id, name, seal) VALUES (1, 'a', \([UInt8(1)]))")
            // An older replica starts again after a newer one has been here.
            #expect(try await database.migrate(Array(steps.prefix(2)), scope: "a", at: now) == [])
        }
    }

    @Test(arguments: Engine.concurrent)
    func `are safe when eight replicas start at once`(engine: Engine) async throws {
        try await engine.withLocation { location in
            let applied = try await withThrowingTaskGroup(of: [Int].self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let database = location.open(
                            "replica", PoolSettings(connections: 1, waiting: .minutes(2)))
                        let applied = try await database.migrate(steps, scope: "a", at: now)
                        await database.close()
                        return applied
                    }
                }
                return try await group.reduce(into: [Int]()) { $0 += $1 }
            }
            #expect(applied.sorted() == [1, 2, 3])
        }
    }

    @Test(arguments: Engine.available)
    func `refuse a changed past`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.migrate(steps, scope: "a", at: now)
            let changed = [
                steps[0], Migration(2, "names", "ALTER TABLE account ADD COLUMN names TEXT"), steps[2],
            ]
            await #expect(
                throws: StorageError.migration(reason: "a 2 has been changed since it was applied")
            ) { try await database.migrate(changed, scope: "a", at: now) }
            await #expect(
                throws: StorageError.migration(reason: "a 2 was applied and is not known any more")
            ) { try await database.migrate([steps[0], steps[2]], scope: "a", at: now) }
        }
    }

    @Test(arguments: Engine.available)
    func `refuse one that comes late`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.migrate([steps[0], steps[2]], scope: "a", at: now)
            await #expect(throws: StorageError.migration(reason: "a 2 is missing, but 3 was applied")) {
                try await database.migrate(steps, scope: "a", at: now)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `leave nothing of one that fails`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            let wrong = Migration(
                2, "wrong", "CREATE TABLE half (id BIGINT); CREATE TABEL other2 (id BIGINT)")
            await #expect {
                try await database.migrate([steps[0], wrong], scope: "a", at: now)
            } throws: { error in
                if case StorageError.migration = error { true } else { false }
            }
            await #expect(throws: (any Error).self) { try await database.run("SELECT 1 FROM half") }
            #expect(try await database.migrate(steps, scope: "a", at: now) == [2, 3])
        }
    }

    @Test(arguments: Engine.available)
    func `of two libraries do not meet`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            #expect(try await database.migrate(steps, scope: "a", at: now) == [1, 2, 3])
            let own = [Migration(1, "queue", "CREATE TABLE queue (id BIGINT)")]
            #expect(try await database.migrate(own, scope: "b", at: now) == [1])
        }
    }
}
