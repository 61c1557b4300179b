import Core

/// One statement as a connection runs it.
struct Statement {
    let sql: SQL
    let limit: Duration
    /// Whose it is, so that an interruption from outside meets the right one.
    let ticket: Ticket
}

/// Where copied rows go.
struct CopyTarget: Sendable {
    let table: String
    let columns: [String]

    init(_ table: StaticString, _ columns: [StaticString]) {
        precondition(!columns.isEmpty, "a copy names its columns")
        self.table = table.description
        self.columns = columns.map(\.description)
    }

    var columnList: String { columns.joined(separator: ", ") }

    func check(_ row: [SQLValue]) throws {
        guard row.count == columns.count else {
            throw StorageError.unsupportedValue(
                reason: "a row has \(row.count) values for \(columns.count) columns")
        }
    }
}

/// Rows on their way, in the form that the connection writes: made ready while it writes others.
protocol CopyPiece: Sendable {
    init()
    var isEmpty: Bool { get }
    /// It is worth its way.
    var isFull: Bool { get }
    /// Leaves it as it was when the row cannot be written.
    mutating func append(_ row: [SQLValue], for target: CopyTarget) throws
    mutating func removeAll()
}

/// A connection that blocks the thread it is called on. Not to be shared: whoever owns it says where it runs.
///
/// What it throws is a `StorageError` or a `ConnectionSignal`.
protocol BlockingConnection: AnyObject, SendableMetatype {
    associatedtype Target: Sendable
    associatedtype Piece: CopyPiece
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

    /// Within a transaction: writes the rows at once and returns their number.
    func copy(_ rows: [[SQLValue]], into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws -> Int
    func copy(_ piece: Piece, into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws
}

/// A connection that can also run statements without blocking: one thread serves many of them, told by the
/// system which has something to read.
protocol WatchedConnection: BlockingConnection {
    var descriptor: Int32 { get }
    /// Whether its descriptor tells all there is to read.
    var canBeWatched: Bool { get }
    /// Prepares a batch for sending and reports what cannot be sent.
    func start(_ batch: [Statement], _ done: (Int, Result<Rows, any Error>) -> Void)
    /// Sends; false where the other side does not take all of it now, or has gone away.
    func flushAtOnce() -> Bool
    /// Runs statements in one transaction: all have happened, or none.
    func run(together statements: [Statement]) throws -> [Rows]
    /// Reads what has come; false where the connection broke.
    func takeIn() -> Bool
    /// Reports whatever statements of the batch are certain; if it `waits`, all of them.
    func goOn(waits: Bool, _ done: (Int, Result<Rows, any Error>) -> Void) -> Progress
}

/// How far a batch has come.
enum Progress {
    case finished
    /// There is nothing to do before something can be read.
    case waiting
    /// To go on is to block for a moment.
    case blocked
}

/// Stops what a connection does, from any thread.
protocol Interrupter: AnyObject, Sendable {
    /// Interrupts the statement of `ticket` if that is what runs now.
    func interrupt(_ ticket: Ticket)
    /// Called now and then: repeats an interruption that came too early to be heard, and breaks the connection
    /// when a statement has long outlived its limit, for a server that neither answers nor goes away.
    func lookAfter()
}
