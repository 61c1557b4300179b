import Core

/// A connection that runs where its callers run, without a thread: for simulations, which own the order of
/// everything. Blocks the caller's thread, so nothing else should use it.
actor Inline<Connection: BlockingConnection>: Database {
    nonisolated let dialect = Connection.dialect
    private let target: Connection.Target
    private let statementTimeout: Duration
    private let time: any TimeSource
    private let random: any RandomSource
    private var opened: Connection?
    private var isClosed = false

    init(
        _ target: Connection.Target, statementTimeout: Duration, time: any TimeSource,
        random: any RandomSource
    ) {
        self.target = target
        self.statementTimeout = statementTimeout
        self.time = time
        self.random = random
    }

    func run(_ sql: SQL, timeout: Duration?) async throws -> Rows {
        try await again(12, time, random) {
            try Task.checkCancellation()
            let statement = Statement(sql: sql, limit: timeout ?? statementTimeout, ticket: Ticket())
            var outcome: Result<Rows, any Error> = .success(.none)
            try connection().run([statement]) { _, result in outcome = result }
            return try outcome.get()
        }
    }

    func transaction<Result: Sendable>(
        isolation: Isolation, timeout: Duration?,
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result {
        try await again(12, time, random) {
            try Task.checkCancellation()
            return try OpenTransaction.run(
                on: connection(), isolation, limit: timeout ?? statementTimeout, Ticket(), body)
        }
    }

    nonisolated func stream(
        _ sql: SQL, chunk: Int, timeout: Duration?, _ body: ([Row]) async throws -> Void
    ) async throws {
        precondition(chunk > 0, "a chunk holds a row")
        let (limit, ticket) = (timeout ?? statementTimeout, Ticket())
        let cursor = try await open(Statement(sql: sql, limit: limit, ticket: ticket))
        do {
            while true {
                try Task.checkCancellation()
                let rows = try await fetch(cursor, count: chunk, limit: limit, ticket)
                if rows.isEmpty { break }
                try await body(Array(rows))
            }
        } catch {
            await closeCursor(cursor)
            throw error
        }
        await closeCursor(cursor)
    }

    private func open(_ statement: Statement) throws -> Int { try connection().openCursor(statement) }
    private func fetch(_ cursor: Int, count: Int, limit: Duration, _ ticket: Ticket) throws -> Rows {
        try connection().fetch(cursor, count: count, limit: limit, ticket)
    }
    private func closeCursor(_ cursor: Int) { opened?.closeCursor(cursor) }

    nonisolated func copy<Chunks: AsyncSequence>(
        into table: StaticString, columns: [StaticString], rows: Chunks
    ) async throws -> Int where Chunks.Element == [[SQLValue]] {
        // All at once: other calls come between two chunks on this actor, and would join the transaction.
        var all: [[SQLValue]] = []
        for try await chunk in rows { all += chunk }
        let gathered = all
        return try await transaction { try $0.copy(into: table, columns: columns, rows: gathered) }
    }

    func close() async {
        isClosed = true
        opened = nil
    }

    private func connection() throws -> Connection {
        guard !isClosed else {
            throw StorageError.unavailable(reason: "the database was closed", mayHaveRun: false)
        }
        if let opened, opened.isUsable { return opened }
        let made = try Connection(target)
        opened = made
        return made
    }
}
