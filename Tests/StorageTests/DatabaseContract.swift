import Core
import Storage
import TestServers
import Testing

/// What every database must do, asked of each engine.
@Suite struct `A database` {
    @Test(arguments: Engine.available)
    func `gives back what was stored, in every type`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run(
                database.dialect == .postgres
                    ? """
                    CREATE TABLE thing (id UUID PRIMARY KEY, whole BIGINT, small INTEGER, truth BOOLEAN,
                        number DOUBLE PRECISION, words TEXT, bytes BYTEA, details JSONB, at BIGINT)
                    """
                    : """
                    CREATE TABLE thing (id TEXT PRIMARY KEY, whole BIGINT, small INTEGER, truth BOOLEAN,
                        number DOUBLE PRECISION, words TEXT, bytes BLOB, details TEXT, at BIGINT)
                    """)
            let id = UniqueID(SeededRandom(seed: 1))
            let at = Timestamp(milliseconds: 1_756_030_530_123)
            let words = "'; DROP TABLE thing; -- \\ \" \t\n\r $1 ? é 👩‍👩‍👧 \u{FEFF}\u{202E}\u{1}\u{10FFFF}"
            let details: JSONValue = ["a": [1, 2.5, nil, true], "ключ": "\\\"\n"]
            let bytes = [UInt8](0...255)
            try await database.run(
                """
                INSERT INTO thing VALUES (\(id), \(Int64.min), \(-7), \(true), \(-0.1), \(words), \(bytes),
                    \(details), \(at))
                """)
            let row = try #require(
                try await database.run("SELECT * FROM thing WHERE id = \(id) AND truth = \(true)").first)
            #expect(try row.uuid("id") == id)
            #expect(try row.int64("whole") == .min)
            #expect(try row.int("small") == -7)
            #expect(try row.bool("truth"))
            #expect(row["truth"] == .bool(true))
            #expect(try row.double("number") == -0.1)
            #expect(try row.text("words") == words)
            #expect(try row.bytes("bytes") == bytes)
            #expect(try row.json("details") == details)
            #expect(try row.timestamp("at") == at)
        }
    }

    @Test(arguments: Engine.available)
    func `keeps null, nothing and zero apart`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run(
                "CREATE TABLE thing (words TEXT, bytes \(raw: bytesType(database)), number BIGINT)")
            let none: String? = nil
            try await database.run("INSERT INTO thing VALUES (\(none), \([UInt8]()), \(0))")
            try await database.run("INSERT INTO thing VALUES (\(""), \(SQLValue.null), \(SQLValue.null))")
            let rows = try await database.run("SELECT * FROM thing ORDER BY number IS NULL")
            #expect(try rows[0].optionalText("words") == nil)
            #expect(try rows[0].bytes("bytes") == [])
            #expect(try rows[0].optionalInt("number") == 0)
            #expect(try rows[1].text("words") == "")
            #expect(try rows[1].optionalBytes("bytes") == nil)
            #expect(try rows[1].optionalTimestamp("number") == nil)
            #expect(throws: StorageError.unexpectedColumn("number is null")) { try rows[1].int("number") }
            #expect(throws: StorageError.unexpectedColumn("number holds another type than was asked for")) {
                try rows[0].text("number")
            }
            #expect(throws: StorageError.unexpectedColumn("absent is not in the result")) {
                try rows[0].int("absent")
            }
        }
    }

    @Test(arguments: Engine.available)
    func `says how many rows a statement has touched`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY, state TEXT NOT NULL)")
            #expect(
                try await database.run("INSERT INTO item VALUES (1, 'a'), (2, 'a'), (3, 'b')").affected == 3)
            #expect(try await database.run("UPDATE item SET state = 'c' WHERE state = \("a")").affected == 2)
            #expect(try await database.run("UPDATE item SET state = 'c' WHERE state = \("x")").affected == 0)
            let returned = try await database.run("DELETE FROM item WHERE id IN \(list: [1, 3]) RETURNING id")
            #expect(try returned.map { try $0.int("id") }.sorted() == [1, 3])
            #expect(returned.affected == 2)
            #expect(try await database.run("SELECT count(*) AS n FROM item").first?.int("n") == 1)
            #expect(try await database.run("SELECT sum(id) AS n FROM item").first?.int("n") == 2)
        }
    }

    @Test(arguments: Engine.available)
    func `refuses what it could not give back unchanged`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE thing (words TEXT, number DOUBLE PRECISION)")
            await #expect(throws: StorageError.unsupportedValue(reason: "text holds a null byte")) {
                try await database.run("INSERT INTO thing (words) VALUES (\("a\0b"))")
            }
            await #expect(throws: StorageError.unsupportedValue(reason: "a number is not a number")) {
                try await database.run("INSERT INTO thing (number) VALUES (\(Double.nan))")
            }
            await #expect(throws: StorageError.unsupportedValue(reason: "text holds a null byte")) {
                try await database.transaction { try $0.run("INSERT INTO thing (words) VALUES (\("\0"))") }
            }
            await #expect(throws: StorageError.unsupportedValue(reason: "text holds a null byte")) {
                try await database.transaction {
                    try $0.copy(into: "thing", columns: ["words"], rows: [[.text("fine")], [.text("a\0")]])
                }
            }
            #expect(try await database.run("SELECT 1 FROM thing").isEmpty)
        }
    }

    @Test(arguments: Engine.available)
    func `names the violated rule alike on every engine`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE owner (id BIGINT PRIMARY KEY)")
            try await database.run(
                """
                CREATE TABLE account (id BIGINT PRIMARY KEY, owner BIGINT NOT NULL REFERENCES owner (id),
                    name TEXT NOT NULL, age BIGINT, UNIQUE (owner, name), CONSTRAINT adult CHECK (age >= 18))
                """)
            try await database.run("INSERT INTO owner VALUES (1)")
            try await database.run("INSERT INTO account VALUES (1, 1, 'anna', 20)")
            await #expect(throws: StorageError.uniqueViolation(constraint: "account.id")) {
                try await database.run("INSERT INTO account VALUES (1, 1, 'bert', 20)")
            }
            await #expect(throws: StorageError.uniqueViolation(constraint: "account.owner, account.name")) {
                try await database.transaction { try $0.run("INSERT INTO account VALUES (2, 1, 'anna', 20)") }
            }
            await #expect(throws: StorageError.checkViolation(constraint: "adult")) {
                try await database.run("INSERT INTO account VALUES (2, 1, 'bert', \(17))")
            }
            await #expect(throws: StorageError.notNullViolation(column: "account.name")) {
                try await database.run("INSERT INTO account VALUES (2, 1, \(SQLValue.null), 20)")
            }
            await #expect {
                try await database.run("INSERT INTO account VALUES (2, 9, 'bert', 20)")
            } throws: { error in
                if case StorageError.foreignKeyViolation = error { true } else { false }
            }
            await #expect {
                try await database.run("SELECT nothing FROM nowhere")
            } throws: { error in
                if case StorageError.statement = error { true } else { false }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `rolls back whatever is thrown`(engine: Engine) async throws {
        struct Refused: Error {}
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            await #expect(throws: Refused.self) {
                try await database.transaction { transaction in
                    try transaction.run("INSERT INTO item VALUES (1)")
                    throw Refused()
                }
            }
            #expect(try await database.run("SELECT id FROM item").isEmpty)
            let seen = try await database.transaction { transaction in
                try transaction.run("INSERT INTO item VALUES (2)")
                return try transaction.run("SELECT id FROM item").map { try $0.int("id") }
            }
            #expect(seen == [2])
            #expect(try await database.run("SELECT id FROM item").map { try $0.int("id") } == [2])
        }
    }

    @Test(arguments: Engine.available)
    func `does not commit what a failed statement was part of, even if the failure is swallowed`(
        engine: Engine
    ) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            try await database.run("INSERT INTO item VALUES (1)")
            await #expect(throws: StorageError.uniqueViolation(constraint: "item.id")) {
                try await database.transaction { transaction in
                    try transaction.run("INSERT INTO item VALUES (2)")
                    _ = try? transaction.run("INSERT INTO item VALUES (1)")
                }
            }
            #expect(try await database.run("SELECT id FROM item").count == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `keeps single statements atomic on their own when they go out together`(engine: Engine) async throws
    {
        try await engine.withDatabase(PoolSettings(connections: 1, waiting: .minutes(2))) {
            database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            let refused = Count()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<200 {
                    group.addTask {
                        do {
                            // Every second one meets the row of the one before it, in the batch or not.
                            try await database.run("INSERT INTO item VALUES (\(index / 2))")
                        } catch StorageError.uniqueViolation {
                            refused.up()
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(refused.value == 100)
            #expect(try await database.run("SELECT count(*) AS n FROM item").first?.int("n") == 100)
        }
    }

    @Test(arguments: Engine.concurrent)
    func `gives each row to one claimant under contention`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run(
                "CREATE TABLE job (id BIGINT PRIMARY KEY, claims BIGINT NOT NULL, holder BIGINT)")
            try await database.transaction {
                try $0.copy(
                    into: "job", columns: ["id", "claims"],
                    rows: (0..<300).map { [.integer($0), .integer(0)] })
            }
            let claimed = try await withThrowingTaskGroup(of: [Int].self) { group in
                for worker in 0..<12 {
                    group.addTask {
                        var mine: [Int] = []
                        while true {
                            let rows = try await database.run(
                                """
                                UPDATE job SET claims = claims + 1, holder = \(worker) WHERE id = (
                                    SELECT id FROM job WHERE claims = 0 ORDER BY id LIMIT 1
                                    \(raw: database.dialect.skipLocked))
                                RETURNING id
                                """)
                            guard let row = rows.first else { return mine }
                            mine.append(try row.int("id"))
                        }
                    }
                }
                return try await group.reduce(into: [Int]()) { $0 += $1 }
            }
            #expect(claimed.sorted() == Array(0..<300))
            #expect(try await database.run("SELECT 1 FROM job WHERE claims <> 1").isEmpty)
        }
    }

    @Test func `claims past a row that another transaction holds`() async throws {
        guard TestServers.areAvailable else { return }
        try await Engine.postgres.withDatabase { database async throws in
            try await database.run("CREATE TABLE job (id BIGINT PRIMARY KEY)")
            try await database.run("INSERT INTO job VALUES (1), (2)")
            try await whileHoldingConnection(
                of: database, after: "SELECT id FROM job WHERE id = 1 FOR UPDATE"
            ) {
                let rows = try await database.run(
                    "SELECT id FROM job ORDER BY id LIMIT 1 \(raw: database.dialect.skipLocked)",
                    timeout: .seconds(5))
                #expect(try rows.first?.int("id") == 2)
            }
        }
    }

    @Test(arguments: Engine.concurrent)
    func `runs a transaction again that lost to another`(engine: Engine) async throws {
        try await engine.withDatabase(PoolSettings(connections: 6, waiting: .minutes(2), attempts: 40)) {
            database async throws in
            try await database.run("CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)")
            try await database.run("INSERT INTO account VALUES (1, 0)")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<6 {
                    group.addTask {
                        for _ in 0..<10 {
                            try await database.transaction(isolation: .serializable) { transaction in
                                let balance = try transaction.run("SELECT balance FROM account WHERE id = 1")[
                                    0
                                ]
                                .int("balance")
                                try transaction.run(
                                    "UPDATE account SET balance = \(balance + 1) WHERE id = 1")
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            #expect(try await database.run("SELECT balance FROM account").first?.int("balance") == 60)
        }
    }

    @Test(arguments: Engine.concurrent)
    func `gets out of a deadlock`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            if engine.isPostgres { try await database.run("SELECT 1") }
            try await database.run("CREATE TABLE account (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL)")
            try await database.run("INSERT INTO account VALUES (1, 0), (2, 0)")
            let meeting = Meeting(2)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for order in [[1, 2], [2, 1]] {
                    group.addTask {
                        let isFirstTry = Count()
                        try await database.transaction { transaction in
                            try transaction.run(
                                "UPDATE account SET balance = balance + 1 WHERE id = \(order[0])")
                            // Both hold their first row before either asks for its second.
                            if isFirstTry.up() == 1, transaction.dialect == .postgres { meeting.arrive() }
                            try transaction.run(
                                "UPDATE account SET balance = balance + 1 WHERE id = \(order[1])")
                        }
                    }
                }
                try await group.waitForAll()
            }
            let balances = try await database.run("SELECT balance FROM account").map { try $0.int("balance") }
            #expect(balances == [2, 2])
        }
    }

    @Test(arguments: Engine.available)
    func `ends a statement at its time limit and works on`(engine: Engine) async throws {
        try await engine.withDatabase(PoolSettings(connections: 1, waiting: .minutes(2))) {
            database async throws in
            await #expect(throws: StorageError.timedOut) {
                try await database.runForever(timeout: .milliseconds(50))
            }
            #expect(try await database.run("SELECT 1 AS one").first?.int("one") == 1)
        }
    }

    @Test(arguments: Engine.threaded)
    func `ends a statement whose task is cancelled and works on`(engine: Engine) async throws {
        let metrics = Metrics()
        try await engine.withDatabase(PoolSettings(connections: 1, waiting: .minutes(2)), metrics: metrics) {
            database async throws in
            let inUse = metrics.gauges(
                "storage_connections_in_use", "Connections at work", labels: ["database"])["test"]
            for _ in 0..<3 {
                let task = Task { try await database.runForever() }
                try await until("it runs") { inUse.value == 1 }
                task.cancel()
                await #expect(throws: CancellationError.self) { try await task.value }
                #expect(try await database.run("SELECT 1 AS one").first?.int("one") == 1)
            }
            let task = Task {
                try await database.transaction { transaction in
                    try transaction.run("SELECT 1")
                    while true { try transaction.run("SELECT 2") }
                }
            }
            try await until("it runs") { inUse.value == 1 }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
            #expect(try await database.run("SELECT 1 AS one").first?.int("one") == 1)
        }
    }

    @Test(arguments: Engine.threaded)
    func `lets calls wait in order, and gives a cancelled one's place back`(engine: Engine) async throws {
        let metrics = Metrics()
        let settings = PoolSettings(connections: 1, readers: 0, waiting: .seconds(60), waitingCalls: 3)
        try await engine.withDatabase(settings, metrics: metrics) { database async throws in
            try await database.run("CREATE TABLE arrival (number BIGINT)")
            let waiting = metrics.gauges(
                "storage_waiting_calls", "Calls that wait for a connection", labels: ["database"])["test"]
            var calls: [Task<Rows, any Error>] = []
            try await whileHoldingConnection(of: database) {
                let cancelled = Task { try await database.run("INSERT INTO arrival VALUES (0)") }
                try await until("one waits") { waiting.value == 1 }
                let first = Task { try await database.run("INSERT INTO arrival VALUES (1)") }
                try await until("two wait") { waiting.value == 2 }
                let second = Task {
                    try await database.transaction { try $0.run("INSERT INTO arrival VALUES (2)") }
                }
                try await until("three wait") { waiting.value == 3 }
                await #expect(throws: StorageError.poolExhausted, "the queue is full") {
                    try await database.run("SELECT 1")
                }
                cancelled.cancel()
                await #expect(throws: CancellationError.self) { try await cancelled.value }
                #expect(waiting.value == 2)
                calls = [first, second]
            }
            for call in calls { _ = try await call.value }
            let order = try await database.run("SELECT number FROM arrival").map { try $0.int("number") }
            #expect(order == [1, 2])
        }
    }

    @Test(arguments: Engine.threaded)
    func `refuses a call that has waited for its time`(engine: Engine) async throws {
        let time = ManualTime(.epoch)
        let settings = PoolSettings(connections: 1, readers: 0, waiting: .seconds(5))
        try await engine.withDatabase(settings, time: time) { database async throws in
            try await whileHoldingConnection(of: database) {
                let answers = Count()
                let call = Task {
                    defer { answers.up() }
                    try await database.run("SELECT 1")
                }
                try await until("the call is answered") {
                    time.advance(by: .seconds(1))
                    return answers.value == 1
                }
                await #expect(throws: StorageError.poolExhausted) { try await call.value }
            }
            try await database.run("SELECT 1")
        }
    }

    /// A setting made within a transaction goes with it: the next one must not trust it.
    @Test(.timeLimit(.minutes(10)), arguments: Engine.available)
    func `keeps its time limits after a rollback`(engine: Engine) async throws {
        struct Refused: Error {}
        let settings = PoolSettings(connections: 1, statementTimeout: .minutes(5))
        try await engine.withDatabase(settings) { database async throws in
            await #expect(throws: Refused.self) {
                try await database.transaction(isolation: .readCommitted, timeout: .milliseconds(200)) {
                    transaction in
                    try transaction.run("SELECT 1")
                    throw Refused()
                }
            }
            for _ in 0..<2 {
                await #expect(throws: StorageError.timedOut) {
                    try await database.runForever(timeout: .milliseconds(200))
                }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `streams a result that is larger than what it holds at once`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY, words TEXT NOT NULL)")
            try await database.transaction { transaction in
                let words = SQLValue.text(String(repeating: "x", count: 200))
                for start in stride(from: 0, to: 100_000, by: 10_000) {
                    try transaction.copy(
                        into: "item", columns: ["id", "words"],
                        rows: (start..<start + 10_000).map { [.integer(Int64($0)), words] })
                }
            }
            var next = 0
            var largest = 0
            try await database.stream("SELECT id, words FROM item WHERE id >= \(0) ORDER BY id", chunk: 999) {
                rows throws in
                largest = max(largest, rows.count)
                for row in rows {
                    try #require(try row.int("id") == next)
                    next += 1
                }
            }
            #expect(next == 100_000)
            #expect(largest == 999)
        }
    }

    @Test(arguments: Engine.available)
    func `gives the connection back when the reader of a stream has had enough`(engine: Engine) async throws {
        struct Enough: Error {}
        try await engine.withDatabase(PoolSettings(connections: 1, readers: 1, waiting: .minutes(2))) {
            database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            try await database.transaction {
                try $0.copy(into: "item", columns: ["id"], rows: (0..<1000).map { [.integer($0)] })
            }
            for _ in 0..<3 {
                await #expect(throws: Enough.self) {
                    try await database.stream("SELECT id FROM item", chunk: 10) { _ in throw Enough() }
                }
            }
            await #expect {
                try await database.stream("SELECT nothing FROM nowhere") { _ in }
            } throws: { error in
                if case StorageError.statement = error { true } else { false }
            }
            try await database.run("DELETE FROM item")
            var calls = 0
            try await database.stream("SELECT id FROM item") { _ in calls += 1 }
            #expect(calls == 0)
        }
    }

    @Test(arguments: Engine.available)
    func `copies hostile values unharmed`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run(
                """
                CREATE TABLE thing (id BIGINT PRIMARY KEY, words TEXT, bytes \(raw: bytesType(database)),
                    number DOUBLE PRECISION, truth BOOLEAN)
                """)
            let hostile = [
                "", "\\", "\\N", "\\.", "\\.\n", "\t", "\n", "\r\n", "a\tb\\tc\\\\", "\u{8}\u{B}\u{C}\u{7F}",
                "\\x00", "'\"`",
                "ünï ☃ 👩‍👩‍👧 \u{202E}\u{FEFF}\u{10FFFF}", String(repeating: "\\\t\n", count: 50_000), "NULL",
                "$1",
            ]
            let rows: [[SQLValue]] = hostile.enumerated().map { index, words in
                [
                    .integer(Int64(index)), .text(words), .bytes(Array(words.utf8) + [0, 255, 92]),
                    index % 2 == 0 ? .double(-1.5e-300) : .null, .bool(index % 3 == 0),
                ]
            }
            let columns: [StaticString] = ["id", "words", "bytes", "number", "truth"]
            let count = try await database.copy(
                into: "thing", columns: columns,
                rows: AsyncStream<[[SQLValue]]> { stream in
                    for row in rows { stream.yield([row]) }
                    stream.yield([])
                    stream.finish()
                })
            #expect(count == hostile.count)
            let read = try await database.run("SELECT * FROM thing ORDER BY id")
            for (index, row) in read.enumerated() {
                #expect(columns.map { row[$0.description] } == rows[index])
            }
            #expect(read.count == hostile.count)
        }
    }

    @Test(arguments: Engine.available)
    func `copies all or nothing`(engine: Engine) async throws {
        struct SourceFailed: Error {}
        try await engine.withDatabase(PoolSettings(connections: 1, readers: 0, waiting: .minutes(2))) {
            database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            func numbers(_ chunks: [[Int64]], thenThrowing error: (any Error)? = nil) -> AsyncThrowingStream<
                [[SQLValue]], any Error
            > {
                AsyncThrowingStream { stream in
                    for chunk in chunks { stream.yield(chunk.map { [.integer($0)] }) }
                    stream.finish(throwing: error)
                }
            }
            await #expect(throws: SourceFailed.self) {
                try await database.copy(
                    into: "item", columns: ["id"], rows: numbers([[1], [2]], thenThrowing: SourceFailed()))
            }
            await #expect(throws: StorageError.uniqueViolation(constraint: "item.id")) {
                try await database.copy(into: "item", columns: ["id"], rows: numbers([[1], [2], [1]]))
            }
            await #expect {
                try await database.copy(into: "item", columns: ["id", "id2"], rows: numbers([[1]]))
            } throws: { error in
                if case StorageError.statement = error { true } else { false }
            }
            let (rows, source) = AsyncStream<[[SQLValue]]>.makeStream()
            let copying = Task { try await database.copy(into: "item", columns: ["id"], rows: rows) }
            source.yield([[.integer(1)]])
            copying.cancel()
            // A cancelled task's stream ends; what came in until then must not stay.
            await #expect(throws: CancellationError.self) { try await copying.value }
            #expect(try await database.run("SELECT id FROM item").isEmpty)
            #expect(try await database.copy(into: "item", columns: ["id"], rows: numbers([[1], [2]])) == 2)
            #expect(try await database.run("SELECT id FROM item").count == 2)
        }
    }

    @Test(arguments: Engine.available)
    func `refuses everything once it is closed`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.ping()
            await database.close()
            await #expect(
                throws: StorageError.unavailable(reason: "the database was closed", mayHaveRun: false)
            ) {
                try await database.ping()
            }
            await database.close()
        }
    }

    @Test(arguments: Engine.available)
    func `keeps more statements apart than it remembers the plans of`(engine: Engine) async throws {
        try await engine.withDatabase(PoolSettings(connections: 1, waiting: .minutes(2))) {
            database async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for round in 0..<2 {
                    for index in 0..<400 {
                        group.addTask {
                            var sql: SQL = "SELECT 0"
                            for _ in 0..<index { sql = "\(sql) + 1" }
                            sql = "\(sql) + \(round) AS n"
                            let row = try await database.run("\(sql)").first
                            #expect(try row?.int("n") == index + round)
                        }
                    }
                    try await group.waitForAll()
                }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `follows a schema that changes under its plans`(engine: Engine) async throws {
        try await engine.withDatabase { database async throws in
            try await database.run("CREATE TABLE item (id BIGINT PRIMARY KEY)")
            try await database.run("INSERT INTO item VALUES (1)")
            for _ in 0..<10 { #expect(try await database.run("SELECT * FROM item")[0].columns == ["id"]) }
            try await database.run("ALTER TABLE item ADD COLUMN name TEXT")
            for _ in 0..<10 {
                #expect(try await database.run("SELECT * FROM item")[0].columns == ["id", "name"])
            }
            let columns = try await database.transaction { try $0.run("SELECT * FROM item")[0].columns }
            #expect(columns == ["id", "name"])
        }
    }
}

func bytesType(_ database: any Database) -> StaticString { database.dialect == .postgres ? "BYTEA" : "BLOB" }
