import Core

/// One statement as a connection runs it.
struct Statement {
    let sql: SQL
    let limit: Duration
    /// Whose it is, so that an interruption from outside meets the right one.
    let ticket: Ticket
}

/// A connection that blocks the thread it is called on. Not to be shared: whoever owns it says where it runs.
///
/// What it throws is a `StorageError` or a `ConnectionSignal`.
protocol BlockingConnection: AnyObject, SendableMetatype {
    associatedtype Target: Sendable
    static var dialect: Dialect { get }

    init(_ target: Target) throws

    /// False once it broke: it has to be replaced.
    var isUsable: Bool { get }
    /// Looks, without a round trip, whether the other side has gone away meanwhile.
    func notice() -> Bool
    /// What others may call while this connection works.
    var interrupter: any Interrupter { get }

    /// Runs independent statements, each atomic on its own, and reports each when its outcome is certain.
    func run(_ batch: [Statement], _ done: (Int, Result<Rows, any Error>) -> Void)

    func begin(_ isolation: Isolation, limit: Duration, _ ticket: Ticket) throws
    /// Within a transaction.
    func run(_ statement: Statement) throws -> Rows
    func script(_ text: String, limit: Duration, _ ticket: Ticket) throws
    func commit() throws
    /// Never fails: a connection that cannot roll back is not usable any more.
    func rollback()

    func openCursor(_ statement: Statement) throws -> Int
    /// The next rows, none at the end.
    func fetch(_ cursor: Int, count: Int, limit: Duration, _ ticket: Ticket) throws -> Rows
    func closeCursor(_ cursor: Int)

    func beginCopy(into table: String, columns: [String], limit: Duration, _ ticket: Ticket) throws
    func putCopy(_ rows: [[SQLValue]]) throws
    func endCopy() throws -> Int
}

/// Stops what a connection does, from any thread.
protocol Interrupter: AnyObject, Sendable {
    /// Interrupts the statement of `ticket` if that is what runs now.
    func interrupt(_ ticket: Ticket)
    /// Breaks the connection when a statement has long outlived its limit: for a server that neither answers
    /// nor goes away.
    func severIfOverdue()
}
