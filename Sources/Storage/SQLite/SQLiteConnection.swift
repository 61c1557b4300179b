import CSQLite
import Core

struct SQLiteTarget: Sendable {
    let path: String
    let isReader: Bool
}

/// One connection to a file of SQLite's. Blocks the thread it is called on, and is closed when it is released.
final class SQLiteConnection: BlockingConnection {
    static let dialect = Dialect.sqlite

    private let pointer: OpaquePointer
    private let requests = SQLiteInterrupter()
    private var plans: [String: SQLiteStatement] = [:]
    private var clock: UInt64 = 0
    private var cursors: [Int: SQLiteStatement] = [:]
    private var nextCursor = 0

    var interrupter: any Interrupter { requests }
    let isUsable = true
    func notice() -> Bool { true }

    init(_ target: SQLiteTarget) throws {
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        let code = sqlite3_open_v2(target.path, &opened, flags, nil)
        guard let opened, code == SQLITE_OK else {
            let reason = String(cString: sqlite3_errstr(code))
            sqlite3_close_v2(opened)
            throw StorageError.unavailable(reason: reason, mayHaveRun: false)
        }
        pointer = opened
        let context = Unmanaged.passUnretained(requests).toOpaque()
        // Both contexts are ours and live as long as the connection.
        sqlite3_progress_handler(
            pointer, 1000,
            { context in
                guard let context else { return 0 }
                let requests = Unmanaged<SQLiteInterrupter>.fromOpaque(context).takeUnretainedValue()
                return requests.verdict == .goOn ? 0 : 1
            }, context)
        sqlite3_busy_handler(
            pointer,
            { context, attempt in
                guard let context else { return 0 }
                let requests = Unmanaged<SQLiteInterrupter>.fromOpaque(context).takeUnretainedValue()
                return requests.waitForLock(attempt) ? 1 : 0
            }, context)
        requests.enter(Ticket(), limit: .seconds(10))
        defer { requests.leave() }
        do {
            try execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
            if target.isReader { try execute("PRAGMA query_only = ON") }
        } catch {
            throw StorageError.unavailable(reason: errorText, mayHaveRun: false)
        }
    }

    deinit {
        cursors = [:]
        plans = [:]
        sqlite3_close_v2(pointer)
    }
}

// MARK: - Statements

extension SQLiteConnection {
    /// Several writes share one transaction and therefore one wait for the disk; a savepoint around each
    /// keeps it atomic on its own. None is reported before all are on the disk.
    func run(_ batch: [Statement], _ done: (Int, Result<Rows, any Error>) -> Void) {
        guard batch.count > 1, batch.allSatisfy({ isGroupable($0.sql.text) }) else {
            for (index, statement) in batch.enumerated() { done(index, Result { try run(statement) }) }
            return
        }
        if let results = group(batch) {
            for (index, result) in results.enumerated() { done(index, result) }
        } else {
            // The group as a whole failed and has left nothing behind: each on its own tells who was to blame.
            for (index, statement) in batch.enumerated() { done(index, Result { try run(statement) }) }
        }
    }

    private func group(_ batch: [Statement]) -> [Result<Rows, any Error>]? {
        var results: [Result<Rows, any Error>] = []
        do {
            requests.enter(batch[0].ticket, limit: batch[0].limit)
            defer { requests.leave() }
            try step("BEGIN IMMEDIATE")
        } catch {
            // Nothing has run, and whoever holds the lock would keep each of them waiting as long.
            return batch.map { _ in .failure(error) }
        }
        do {
            for statement in batch {
                try step("SAVEPOINT one")
                let result = Result { try run(statement) }
                // SQLite gives up the whole transaction after some errors, and with it what went before.
                guard sqlite3_get_autocommit(pointer) == 0 else { return nil }
                if case .failure = result { try step("ROLLBACK TO one") }
                try step("RELEASE one")
                results.append(result)
            }
            try step("COMMIT")
            return results
        } catch {
            rollback()
            return nil
        }
    }

    private func isGroupable(_ text: String) -> Bool {
        text.hasPrefix("INSERT") || text.hasPrefix("UPDATE") || text.hasPrefix("DELETE")
            || text.hasPrefix("SELECT")
    }

    func run(_ statement: Statement) throws -> Rows {
        requests.enter(statement.ticket, limit: statement.limit)
        defer { requests.leave() }
        guard !statement.ticket.isCancelled else { throw ConnectionSignal.interrupted }
        let plan = try prepared(statement.sql.text)
        defer { plan.reset() }
        let code = try plan.bind(statement.sql.arguments)
        guard code == SQLITE_OK else { throw failure(code) }
        return try rows(of: plan, upTo: .max)
    }

    private func rows(of plan: SQLiteStatement, upTo limit: Int) throws -> Rows {
        var values: [SQLValue] = []
        var count = 0
        while count < limit {
            let code = sqlite3_step(plan.pointer)
            if code == SQLITE_DONE { break }
            guard code == SQLITE_ROW else { throw failure(code) }
            if count == 0 { plan.followSchema() }
            plan.appendRow(to: &values)
            count += 1
        }
        let affected = plan.isReadOnly ? count : Int(sqlite3_changes64(pointer))
        return Rows(names: plan.names, values: values, count: count, affected: affected)
    }

    private func prepared(_ text: String) throws -> SQLiteStatement {
        clock += 1
        if let plan = plans[text] {
            plan.used = clock
            return plan
        }
        if plans.count >= PreparedPlans.limit, let oldest = plans.min(by: { $0.value.used < $1.value.used }) {
            plans[oldest.key] = nil
        }
        let plan = try prepare(text)
        plan.used = clock
        plans[text] = plan
        return plan
    }

    private func prepare(_ text: String) throws -> SQLiteStatement {
        var made: OpaquePointer?
        let code = sqlite3_prepare_v3(pointer, text, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &made, nil)
        guard code == SQLITE_OK else { throw failure(code) }
        guard let made else { throw StorageError.statement(reason: "the statement is empty", code: "0") }
        return SQLiteStatement(made)
    }

    /// A statement of our own that gives no rows.
    private func step(_ text: String) throws {
        let plan = try prepared(text)
        defer { plan.reset() }
        let code = sqlite3_step(plan.pointer)
        guard code == SQLITE_DONE else { throw failure(code) }
    }

    private func execute(_ text: String) throws {
        let code = sqlite3_exec(pointer, text, nil, nil, nil)
        guard code == SQLITE_OK else { throw failure(code) }
    }

    private var errorText: String { String(cString: sqlite3_errmsg(pointer)) }
}

// MARK: - Transactions

extension SQLiteConnection {
    /// Immediate: the right to write is taken first, so no transaction fails in the middle for want of it.
    func begin(_ isolation: Isolation, limit: Duration, _ ticket: Ticket) throws {
        requests.enter(ticket, limit: limit)
        defer { requests.leave() }
        try step("BEGIN IMMEDIATE")
    }

    func commit() throws { try step("COMMIT") }

    func rollback() {
        if sqlite3_get_autocommit(pointer) == 0 { try? execute("ROLLBACK") }
    }

    func script(_ text: String, limit: Duration, _ ticket: Ticket) throws {
        requests.enter(ticket, limit: limit)
        defer { requests.leave() }
        try execute(text)
    }
}

// MARK: - Cursors and bulk

extension SQLiteConnection {
    func openCursor(_ statement: Statement) throws -> Int {
        // Not from the cache: the same text may run meanwhile.
        let plan = try prepare(statement.sql.text)
        guard plan.isReadOnly else {
            throw StorageError.statement(reason: "only a SELECT can be streamed", code: "0")
        }
        let code = try plan.bind(statement.sql.arguments)
        guard code == SQLITE_OK else { throw failure(code) }
        nextCursor += 1
        cursors[nextCursor] = plan
        return nextCursor
    }

    func fetch(_ cursor: Int, count: Int, limit: Duration, _ ticket: Ticket) throws -> Rows {
        guard let plan = cursors[cursor] else { return .none }
        requests.enter(ticket, limit: limit)
        defer { requests.leave() }
        let rows = try rows(of: plan, upTo: count)
        // A step beyond the end would begin anew.
        if rows.count < count { cursors[cursor] = nil }
        return rows
    }

    func closeCursor(_ cursor: Int) { cursors[cursor] = nil }

    func copy(_ piece: RowPiece, into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws {
        _ = try copy(piece.rows, into: target, limit: limit, ticket)
    }

    func copy(_ rows: [[SQLValue]], into target: CopyTarget, limit: Duration, _ ticket: Ticket) throws -> Int
    {
        let marks = target.columns.indices.map { "$\($0 + 1)" }.joined(separator: ", ")
        requests.enter(ticket, limit: limit)
        defer { requests.leave() }
        let plan = try prepared("INSERT INTO \(target.table) (\(target.columnList)) VALUES (\(marks))")
        defer { plan.reset() }
        for (index, row) in rows.enumerated() {
            // One INSERT is too few steps for SQLite to ask in between.
            if index % 256 == 0, requests.verdict != .goOn { throw failure(SQLITE_INTERRUPT) }
            try target.check(row)
            let bound = try plan.bind(row)
            guard bound == SQLITE_OK else { throw failure(bound) }
            let code = sqlite3_step(plan.pointer)
            guard code == SQLITE_DONE else { throw failure(code) }
            sqlite3_reset(plan.pointer)
        }
        return rows.count
    }
}

// MARK: - Errors

extension SQLiteConnection {
    /// SQLite's code as the pool or a caller understands it.
    private func failure(_ code: Int32) -> any Error {
        let text = errorText
        let named = text.range(after: "constraint failed: ")
        switch code {
        case SQLITE_CONSTRAINT | (8 << 8), SQLITE_CONSTRAINT | (6 << 8), SQLITE_CONSTRAINT | (10 << 8):
            return StorageError.uniqueViolation(constraint: named)
        case SQLITE_CONSTRAINT | (3 << 8): return StorageError.foreignKeyViolation(constraint: "")
        case SQLITE_CONSTRAINT | (1 << 8): return StorageError.checkViolation(constraint: named)
        case SQLITE_CONSTRAINT | (5 << 8): return StorageError.notNullViolation(column: named)
        case SQLITE_TOOBIG: return StorageError.unsupportedValue(reason: text)
        default: break
        }
        switch code & 0xFF {
        case SQLITE_INTERRUPT:
            return requests.verdict == .cancelled ? ConnectionSignal.interrupted : StorageError.timedOut
        case SQLITE_BUSY, SQLITE_LOCKED:
            switch requests.verdict {
            case .cancelled: return ConnectionSignal.interrupted
            case .timedOut: return StorageError.timedOut
            case .goOn: return ConnectionSignal.conflict
            }
        case SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_READONLY, SQLITE_CORRUPT, SQLITE_NOTADB:
            return StorageError.unavailable(reason: text, mayHaveRun: false)
        default: return StorageError.statement(reason: text, code: String(code))
        }
    }
}

extension String {
    fileprivate func range(after mark: String) -> String {
        var rest = self[...]
        while !rest.isEmpty {
            if rest.hasPrefix(mark) { return String(rest.dropFirst(mark.count)) }
            rest = rest.dropFirst()
        }
        return ""
    }
}

/// Rows as they came: SQLite has no other form for them.
struct RowPiece: CopyPiece {
    private(set) var rows: [[SQLValue]] = []

    var isEmpty: Bool { rows.isEmpty }
    var isFull: Bool { rows.count >= 1000 }

    mutating func append(_ row: [SQLValue], for target: CopyTarget) throws {
        try target.check(row)
        rows.append(row)
    }

    mutating func removeAll() { rows.removeAll(keepingCapacity: true) }
}
