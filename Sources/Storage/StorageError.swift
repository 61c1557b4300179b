/// What can go wrong, in the words a caller can act on.
public enum StorageError: Error, Equatable, Sendable {
    /// The database cannot be reached; it is being tried again. Nothing was changed, unless `mayHaveRun`: the
    /// connection broke after the statement (or the COMMIT) had gone out and before its answer came.
    case unavailable(reason: String, mayHaveRun: Bool)
    /// No connection became free in time.
    case poolExhausted
    /// The statement took longer than it was given; it has had no effect.
    case timedOut
    /// `constraint` is the columns, `account.owner, account.name`, on both engines.
    case uniqueViolation(constraint: String)
    /// The name of the constraint on PostgreSQL; SQLite does not tell.
    case foreignKeyViolation(constraint: String)
    /// The name of the constraint.
    case checkViolation(constraint: String)
    /// `account.name` on both engines.
    case notNullViolation(column: String)
    /// Serialisation failures, deadlocks or a busy file, after all retries.
    case contended
    /// A value that cannot be stored: text with a null byte, a number that is none.
    case unsupportedValue(reason: String)
    /// The statement itself is wrong; a bug of ours.
    case statement(reason: String, code: String)
    /// A row did not hold what was read from it.
    case unexpectedColumn(String)
    /// A migration that was applied has been changed, or one is missing.
    case migration(reason: String)

    /// Whether the same call may succeed a little later, and has certainly not run yet.
    public var isTransient: Bool {
        switch self {
        case .unavailable(_, let mayHaveRun): !mayHaveRun
        case .poolExhausted, .contended: true
        default: false
        }
    }
}

/// What a connection tells the pool and no caller ever sees: all three mean that nothing was changed.
enum ConnectionSignal: Error {
    /// A serialisation failure, a deadlock or a file that others hold: worth another try after a pause.
    case conflict
    /// Interrupted from outside. The pool knows whom it meant; another statement that was hit runs again.
    case interrupted
    /// A prepared statement outlived the schema it was prepared for; it is forgotten now.
    case stalePlan
}
