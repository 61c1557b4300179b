import Core
import Storage
import TestServers
import Testing

/// Short statements that may share a transaction with others that come at the same moment.
@Suite struct `Gathered statements` {
    private func counted(_ database: any Database) async throws {
        try await database.run("CREATE TABLE place (id BIGINT PRIMARY KEY, visits BIGINT NOT NULL)")
        for id in 1...8 { try await database.run("INSERT INTO place VALUES (\(id), \(0))") }
    }

    @Test(arguments: Engine.available)
    func `all happen, each once, and tell their own rows`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            try await counted(database)
            let seen = try await withThrowingTaskGroup(of: [Int64].self) { group in
                for number in 0..<400 {
                    group.addTask {
                        let rows = try await database.gather(
                            """
                            UPDATE place SET visits = visits + 1 WHERE id = \(number % 8 + 1)
                            RETURNING id, visits
                            """)
                        #expect(rows.affected == 1)
                        let row = try #require(rows.first)
                        #expect(try row.int("id") == number % 8 + 1)
                        return [try row.int64("id") * 1000 + row.int64("visits")]
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
            // No number of visits was told twice.
            #expect(Set(seen).count == 400)
            let sum = try await database.run("SELECT SUM(visits) AS visits FROM place").first?.int("visits")
            #expect(sum == 400)
        }
    }

    /// Whoever fails fails alone, and hears why; what shared the transaction is not lost.
    @Test(arguments: Engine.available)
    func `fail alone`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            try await counted(database)
            let failures = await withTaskGroup(of: (any Error)?.self) { group in
                for number in 0..<300 {
                    group.addTask {
                        do {
                            switch number % 10 {
                            case 3: try await database.gather("INSERT INTO place VALUES (\(1), \(0))")
                            case 7: try await database.gather("UPDATE place SET visits = NULL WHERE id = 2")
                            default:
                                try await database.gather(
                                    "INSERT INTO place VALUES (\(1000 + number), \(0))")
                            }
                            return nil
                        } catch {
                            return error
                        }
                    }
                }
                var failures: [any Error] = []
                for await failure in group { if let failure { failures.append(failure) } }
                return failures
            }
            #expect(failures.count == 60)
            let twice = failures.count { if case StorageError.uniqueViolation = $0 { true } else { false } }
            #expect(twice == 30, "\(failures.prefix(3))")
            let count = try await database.run("SELECT COUNT(*) AS count FROM place").first?.int("count")
            #expect(count == 8 + 240)
        }
    }

    @Test(arguments: Engine.available)
    func `refuse what cannot be stored without troubling the others`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            try await database.run("CREATE TABLE word (id BIGINT PRIMARY KEY, text TEXT NOT NULL)")
            let refused = await withTaskGroup(of: Bool.self) { group in
                for number in 0..<100 {
                    group.addTask {
                        let text = number == 50 ? "a\u{0}b" : "word \(number)"
                        do {
                            try await database.gather("INSERT INTO word VALUES (\(number), \(text))")
                            return false
                        } catch {
                            return true
                        }
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            let count = try await database.run("SELECT COUNT(*) AS count FROM word").first?.int("count") ?? 0
            #expect(count == 100 - refused)
            #expect(count >= 99)
        }
    }

    /// The transaction of the others must not fall with one who goes away.
    @Test(arguments: Engine.threaded)
    func `outlive the callers that give up`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            try await counted(database)
            let tasks = (0..<200).map { number in
                Task {
                    try await database.gather(
                        "UPDATE place SET visits = visits + 1 WHERE id = \(number % 8 + 1)")
                }
            }
            for (number, task) in tasks.enumerated() where number % 3 == 0 { task.cancel() }
            var done = 0
            for (number, task) in tasks.enumerated() {
                do {
                    _ = try await task.value
                    done += 1
                } catch {
                    #expect(number % 3 == 0, "\(error)")
                }
            }
            let sum =
                try await database.run("SELECT SUM(visits) AS visits FROM place").first?.int("visits") ?? 0
            // What was given up has happened or not; nobody else's is missing.
            #expect(sum >= done)
            #expect(done >= 133)
        }
    }

    @Test func `pay for few commits when many come at once`() async throws {
        guard TestServers.areAvailable else { return }
        try await Engine.postgres.withDatabase { database in
            try await counted(database)
            let transactions = try await database.run("SELECT txid_current() AS id").first?.int64("id") ?? 0
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<600 {
                    group.addTask {
                        try await database.gather(
                            "UPDATE place SET visits = visits + 1 WHERE id = \(number % 8 + 1)")
                    }
                }
                try await group.waitForAll()
            }
            // Every transaction that writes has a number of its own.
            let after = try await database.run("SELECT txid_current() AS id").first?.int64("id") ?? 0
            #expect(after - transactions < 300, "\(after - transactions) transactions for 600 statements")
        }
    }
}
