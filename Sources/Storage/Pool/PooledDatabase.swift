import Core

/// A database over pools of connections: one for PostgreSQL; for SQLite one connection that writes and some
/// that read.
struct PooledDatabase: Database {
    let writers: ConnectionPool
    let readers: ConnectionPool?
    let context: PoolContext
    private let gathering: Gathering?

    init(writers: ConnectionPool, readers: ConnectionPool?, _ context: PoolContext) {
        self.writers = writers
        self.readers = readers
        self.context = context
        let limit = context.settings.statementTimeout
        gathering =
            writers.kind is any WatchedConnection.Type
            ? Gathering(
                alone: { sql in try await again(context) { try await writers.run(sql, limit: limit) } },
                together: { batch in
                    try await writers.session(limit: limit) { connection, ticket in
                        guard let connection = connection as? any WatchedConnection else {
                            throw ConnectionSignal.interrupted
                        }
                        return try connection.run(
                            together: batch.map { Statement(sql: $0, limit: limit, ticket: ticket) })
                    }
                }) : nil
    }

    var dialect: Dialect { writers.dialect }

    func run(_ sql: SQL, timeout: Duration?) async throws -> Rows {
        // In SQLite a SELECT never writes; a reader refuses to in any case. What begins otherwise, such as a
        // WITH, may write, and the writer takes it.
        let pool = sql.text.hasPrefix("SELECT") ? readers ?? writers : writers
        return try await again(context) {
            try await pool.run(sql, limit: timeout ?? context.settings.statementTimeout)
        }
    }

    func gather(_ sql: SQL) async throws -> Rows {
        guard let gathering else { return try await run(sql, timeout: nil) }
        return try await gathering.run(sql)
    }

    func transaction<Result: Sendable>(
        isolation: Isolation, timeout: Duration?,
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result {
        let limit = timeout ?? context.settings.statementTimeout
        return try await again(context) {
            try await writers.session(limit: limit) { connection, ticket in
                try OpenTransaction.run(on: connection, isolation, limit: limit, ticket, body)
            }
        }
    }

    func stream(
        _ sql: SQL, chunk: Int, timeout: Duration?, _ body: ([Row]) async throws -> Void
    ) async throws {
        precondition(chunk > 0, "a chunk holds a row")
        let limit = timeout ?? context.settings.statementTimeout
        let pool = readers ?? writers
        let lane = try await pool.lease()
        let cursor: Int
        do {
            cursor = try await pool.perform(on: lane) { connection, ticket in
                try connection.openCursor(Statement(sql: sql, limit: limit, ticket: ticket))
            }
        } catch {
            pool.release(lane)
            throw plain(error)
        }
        do {
            while true {
                let rows = try await pool.perform(on: lane) { connection, ticket in
                    try connection.fetch(cursor, count: chunk, limit: limit, ticket)
                }
                if rows.isEmpty { break }
                try await body(Array(rows))
                if rows.count < chunk { break }
            }
        } catch {
            try? await pool.perform(on: lane, isCancellable: false) { connection, _ in
                connection.closeCursor(cursor)
            }
            pool.release(lane)
            throw plain(error)
        }
        try? await pool.perform(on: lane, isCancellable: false) { connection, _ in
            connection.closeCursor(cursor)
        }
        pool.release(lane)
    }

    func copy<Chunks: AsyncSequence>(
        into table: StaticString, columns: [StaticString], rows: Chunks
    ) async throws -> Int where Chunks.Element == [[SQLValue]] {
        let limit = context.settings.statementTimeout
        let target = CopyTarget(table, columns)
        let lane = try await writers.lease()
        do {
            try await writers.perform(on: lane) { connection, ticket in
                try connection.begin(.readCommitted, limit: limit, ticket)
            }
            let count = try await write(rows, into: target, on: lane, through: writers.kind)
            try await writers.perform(on: lane) { connection, _ in try connection.commit() }
            writers.release(lane)
            return count
        } catch {
            try? await writers.perform(on: lane, isCancellable: false) { connection, _ in
                connection.rollback()
            }
            writers.release(lane)
            throw plain(error)
        }
    }

    /// Makes a piece ready while the connection writes the one before, so that neither waits for the other.
    ///
    /// Each piece is a COPY of its own within the transaction: so the time limit is a piece's, not that of a
    /// source which may take its time.
    private func write<Chunks: AsyncSequence, Connection: BlockingConnection>(
        _ rows: Chunks, into target: CopyTarget, on lane: ConnectionPool.Lane, through _: Connection.Type
    ) async throws -> Int where Chunks.Element == [[SQLValue]] {
        let limit = context.settings.statementTimeout
        return try await withThrowingTaskGroup(of: Connection.Piece.self) { group in
            var piece = Connection.Piece()
            var isWriting = false
            var count = 0
            func write(_ full: Connection.Piece) {
                isWriting = true
                group.addTask {
                    try await writers.perform(on: lane) { connection, ticket in
                        guard let connection = connection as? Connection else {
                            preconditionFailure("a pool has connections of one kind")
                        }
                        try connection.copy(full, into: target, limit: limit, ticket)
                    }
                    return full
                }
            }
            do {
                for try await chunk in rows {
                    for row in chunk {
                        try piece.append(row, for: target)
                        count += 1
                        guard piece.isFull else { continue }
                        let written = isWriting ? try await group.next() : nil
                        write(piece)
                        piece = written ?? Connection.Piece()
                        piece.removeAll()
                    }
                }
            } catch StorageError.unsupportedValue(let reason) {
                // What is wrong with the rows before, or with the table, comes first.
                _ = try await group.next()
                write(piece)
                _ = try await group.next()
                throw StorageError.unsupportedValue(reason: reason)
            }
            if isWriting { _ = try await group.next() }
            if !piece.isEmpty {
                write(piece)
                _ = try await group.next()
            }
            return count
        }
    }

    func close() async {
        await readers?.close()
        await writers.close()
    }
}

/// Runs `work` again after a conflict, with growing pauses, until the attempts are used up.
func again<Result>(
    _ attempts: Int, _ time: any TimeSource, _ random: any RandomSource, onConflict: () -> Void = {},
    _ work: () async throws -> Result
) async throws -> Result {
    let backoff = Backoff(first: .milliseconds(5), ceiling: .milliseconds(500), jitter: 1)
    var attempt = 1
    while true {
        do {
            return try await work()
        } catch let signal as ConnectionSignal {
            onConflict()
            guard attempt < attempts else { throw plain(signal) }
            try await time.sleep(for: backoff.delay(after: attempt, random))
            attempt += 1
        }
    }
}

private func again<Result>(_ context: PoolContext, _ work: () async throws -> Result) async throws -> Result {
    try await again(
        context.settings.attempts, context.time, context.random,
        onConflict: { context.metrics.conflicts.increment() }, work)
}

/// What a caller may see of an error.
func plain(_ error: any Error) -> any Error { error is ConnectionSignal ? StorageError.contended : error }
