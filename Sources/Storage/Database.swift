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

/// What can go wrong, in the words a caller can act on.
public enum StorageError: Error, Equatable, Sendable {
    /// The database cannot be reached; it is being tried again. Nothing was changed, unless `mayHaveRun`.
    case unavailable(reason: String, mayHaveRun: Bool)
    /// No connection became free in time.
    case poolExhausted
    /// The statement took longer than it was given.
    case timedOut
    case uniqueViolation(constraint: String)
    case foreignKeyViolation(constraint: String)
    case checkViolation(constraint: String)
    /// Serialisation kept failing after all retries.
    case contended
    /// The statement itself is wrong; a bug of ours.
    case statement(reason: String, code: String)
    /// A row did not hold what was read from it.
    case unexpectedColumn(String)
    /// A migration that was applied has been changed, or one is missing.
    case migration(reason: String)
}

/// One row of a result. Columns are read by name, in the type the caller says.
public struct Row: Sendable {
    let names: ColumnNames
    let values: [SQLValue]

    public subscript(name: String) -> SQLValue? { names.index(of: name).map { values[$0] } }
}

/// The column names of a result, shared by its rows.
final class ColumnNames: Sendable {
    let names: [String]
    init(_ names: [String]) { self.names = names }
    func index(of name: String) -> Int? { names.firstIndex(of: name) }
}

/// A database of either engine. Every call has a deadline (the pool's waiting and the statement's own time).
public protocol Database: Sendable {
    var dialect: Dialect { get }

    /// Runs one statement; its rows are all in memory afterwards.
    @discardableResult
    func run(_ sql: SQL) async throws -> [Row]

    /// Runs `body` in one transaction on one connection: synchronously, on the connection's own thread, so
    /// that nothing slips between its statements and no `await` holds a lock. It is run again after a
    /// serialisation failure or a deadlock, so it changes nothing but the database.
    func transaction<Result: Sendable>(
        _ body: @escaping @Sendable (any Transaction) throws -> Result
    ) async throws -> Result

    /// Hands out a large result in chunks of rows with back-pressure, in constant memory.
    func stream(
        _ sql: SQL, chunk: Int, _ body: @escaping @Sendable ([Row]) async throws -> Void
    ) async throws

    /// Whether the database answers, for health.
    func ping() async throws

    func close() async
}

/// The statements of one transaction.
public protocol Transaction {
    var dialect: Dialect { get }

    @discardableResult
    func run(_ sql: SQL) throws -> [Row]

    /// Writes many rows at once: COPY on PostgreSQL, one prepared INSERT on SQLite. Returns their number.
    @discardableResult
    func copy(into table: StaticString, columns: [StaticString], rows: [[SQLValue]]) throws -> Int
}
