/// Which engine speaks, where one SQL text cannot serve both.
public enum Dialect: Sendable {
    case postgres
    case sqlite

    /// Skips rows that others hold. SQLite has one writer, so there are none.
    public var skipLocked: StaticString {
        switch self {
        case .postgres: "FOR UPDATE SKIP LOCKED"
        case .sqlite: ""
        }
    }
}

/// How much of other transactions one may see. SQLite's are always serialisable: it has one writer.
public enum Isolation: Sendable {
    case readCommitted
    case repeatableRead
    case serializable
}

/// A database of either engine. Every call has a deadline: the pool's waiting and the statement's own time.
///
/// `timeout` bounds each statement; without it the pool's settings do.
public protocol Database: Sendable {
    var dialect: Dialect { get }

    /// Runs one statement; its rows are all in memory afterwards. It is run again after a serialisation
    /// failure or a deadlock, for it had no effect then.
    @discardableResult
    func run(_ sql: SQL, timeout: Duration?) async throws -> Rows

    /// Runs one short statement, which is atomic, in a transaction that it may share with others that came at the
    /// same moment, so that they pay for one commit. Its locks last until the others are done.
    @discardableResult
    func gather(_ sql: SQL) async throws -> Rows

    /// Runs `body` in one transaction on one connection: synchronously, on the connection's own thread, so
    /// that nothing slips between its statements and no `await` holds a lock. It is run again after a
    /// serialisation failure or a deadlock, so it changes nothing but the database.
    ///
    /// Whatever is thrown rolls it back. A statement's error that `body` swallows does too, and is thrown.
    @discardableResult
    func transaction<Result: Sendable>(
        isolation: Isolation, timeout: Duration?,
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result

    /// Hands out a large result of a SELECT in chunks of rows with back-pressure, in constant memory.
    func stream(
        _ sql: SQL, chunk: Int, timeout: Duration?, _ body: ([Row]) async throws -> Void
    ) async throws

    /// Writes chunks of rows as they come, all in one transaction, with back-pressure: beside what is being
    /// written no more is asked for than goes out next. Returns the number of rows.
    @discardableResult
    func copy<Chunks: AsyncSequence>(
        into table: StaticString, columns: [StaticString], rows: Chunks
    ) async throws -> Int where Chunks.Element == [[SQLValue]]

    /// Whether the database answers, for health.
    func ping() async throws

    /// Lets what runs finish, refuses the rest, and closes the connections.
    func close() async
}

extension Database {
    @discardableResult
    public func run(_ sql: SQL) async throws -> Rows { try await run(sql, timeout: nil) }

    @discardableResult
    public func gather(_ sql: SQL) async throws -> Rows { try await run(sql, timeout: nil) }

    @discardableResult
    public func transaction<Result: Sendable>(
        isolation: Isolation = .readCommitted, _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result {
        try await transaction(isolation: isolation, timeout: nil, body)
    }

    public func stream(_ sql: SQL, chunk: Int = 500, _ body: ([Row]) async throws -> Void) async throws {
        try await stream(sql, chunk: chunk, timeout: nil, body)
    }

    public func ping() async throws { try await run("SELECT 1", timeout: .seconds(2)) }
}

/// The statements of one transaction.
public protocol Transaction {
    var dialect: Dialect { get }

    @discardableResult
    func run(_ sql: SQL) throws -> Rows

    /// Writes many rows at once: COPY on PostgreSQL, one prepared INSERT on SQLite. Returns their number.
    @discardableResult
    func copy(into table: StaticString, columns: [StaticString], rows: [[SQLValue]]) throws -> Int

    /// Runs several statements without arguments, separated by semicolons: for migrations.
    func script(_ text: StaticString) throws
}
