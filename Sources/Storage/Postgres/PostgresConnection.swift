import CPostgres
import Core

#if canImport(Glibc)
    import Glibc
#endif

struct PostgresTarget: Sendable {
    let url: Secret<String>
    let statementTimeout: Duration
    var keepsPlans = false
}

/// One connection to PostgreSQL. Blocks the thread it is called on, and is closed when it is released.
final class PostgresConnection: WatchedConnection {
    static let dialect = Dialect.postgres

    let pointer: OpaquePointer
    private let requests: PostgresInterrupter
    private var plans = PreparedPlans()
    /// The server's `statement_timeout` after all that was sent.
    private var limit: Duration?
    /// What a rollback brings back.
    private var limitAtBegin: Duration?
    /// Goes out together with the first statement of the transaction, for it costs no round trip then.
    private var pendingBegin: String?
    /// The rest of the batch that is under way, and how far its first statement has come.
    private var pending: [Pending] = []
    private var reception: Reception?
    private(set) var isUsable = true

    var interrupter: any Interrupter { requests }

    init(_ target: PostgresTarget) throws {
        // Later words win over those in the URL. A server that vanished without a word is noticed in half a
        // minute.
        let words = [
            ("dbname", target.url.expose()), ("connect_timeout", "5"), ("client_encoding", "UTF8"),
            ("keepalives_idle", "10"), ("keepalives_interval", "5"), ("keepalives_count", "3"),
            ("tcp_user_timeout", "30000"), ("fallback_application_name", "convoke"),
        ]
        let pointer = withCStrings(words.map(\.0)) { names in
            withCStrings(words.map(\.1)) { values in PQconnectdbParams(names, values, 1) }
        }
        guard let pointer else { throw StorageError.unavailable(reason: "out of memory", mayHaveRun: false) }
        self.pointer = pointer
        limit = target.statementTimeout
        requests = PostgresInterrupter(pointer)
        // From here on `deinit` closes it, whatever is thrown.
        guard PQstatus(pointer) == CONNECTION_OK else {
            throw StorageError.unavailable(reason: errorText, mayHaveRun: false)
        }
        convoke_ignore_notices(pointer)
        PQsetnonblocking(pointer, 1)
        let plans = target.keepsPlans ? "force_generic_plan" : "auto"
        try script(
            """
            SET statement_timeout = \(target.statementTimeout.milliseconds);
            SET idle_in_transaction_session_timeout = 0; SET plan_cache_mode = \(plans)
            """,
            limit: target.statementTimeout, Ticket())
    }

    deinit {
        requests.close()
        PQfinish(pointer)
    }

    func notice() -> Bool {
        var socket = pollfd(fd: PQsocket(pointer), events: Int16(POLLIN), revents: 0)
        guard isUsable, poll(&socket, 1, 0) > 0 else { return isUsable }
        isUsable = PQconsumeInput(pointer) == 1 && PQstatus(pointer) == CONNECTION_OK
        return isUsable
    }
}

// MARK: - Without blocking

extension PostgresConnection {
    var descriptor: Int32 { PQsocket(pointer) }

    /// libpq decrypts what is larger than its buffer in pieces, and keeps the rest where the system does not see
    /// it: whoever waits for the socket then waits for ever.
    var canBeWatched: Bool { PQsslInUse(pointer) == 0 && PQgssEncInUse(pointer) == 0 }

    func flushAtOnce() -> Bool { PQflush(pointer) == 0 }

    func takeIn() -> Bool { PQconsumeInput(pointer) == 1 && PQstatus(pointer) == CONNECTION_OK }
}

// MARK: - Statements

extension PostgresConnection {
    /// How many results a statement brings: what was sent ahead of it, its preparation, itself.
    fileprivate struct Sent {
        var results = 1
        var newPlan: String?
    }
    /// A statement of a batch that has been sent and not yet reported.
    struct Pending {
        let index: Int
        let statement: Statement
        fileprivate let sent: Sent
    }
    /// How far the results of a statement have been taken.
    struct Reception {
        fileprivate let sent: Sent
        fileprivate var step = 1
        fileprivate var failed = false
        fileprivate var error: (any Error)?
        fileprivate var rows = Rows.none

        fileprivate init(_ sent: Sent) { self.sent = sent }
    }

    func run(_ batch: [Statement], _ done: (Int, Result<Rows, any Error>) -> Void) {
        start(batch, done)
        do { try flush() } catch {}  // goes on to report that it broke
        _ = goOn(waits: true, done)
    }

    /// All are handed to libpq, each with its own end, so that each is a transaction of its own; the server
    /// works through them without waiting for us.
    func start(_ batch: [Statement], _ done: (Int, Result<Rows, any Error>) -> Void) {
        PQenterPipelineMode(pointer)
        for (index, statement) in batch.enumerated() {
            do {
                let sent = try send(statement)
                guard PQpipelineSync(pointer) == 1 else { throw broken(mayHaveRun: true) }
                pending.append(Pending(index: index, statement: statement, sent: sent))
            } catch {
                done(index, .failure(error))
            }
        }
    }

    func goOn(waits: Bool, _ done: (Int, Result<Rows, any Error>) -> Void) -> Progress {
        while let next = pending.first {
            if !waits, requests.isAsked { return .blocked }
            if reception == nil {
                requests.enter(next.statement.ticket, limit: next.statement.limit)
                reception = Reception(next.sent)
            }
            let result: Result<Rows, any Error>
            do {
                guard isUsable else { throw broken(mayHaveRun: true) }
                guard let rows = try receive(waits: waits) else { return .waiting }
                result = .success(rows)
            } catch {
                result = .failure(error)
            }
            reception = nil
            pending.removeFirst()
            done(next.index, result)
        }
        leavePipeline()
        return .finished
    }

    private func receive(waits: Bool) throws -> Rows? {
        guard var current = reception else { return nil }
        defer { reception = current }
        return try receive(&current, waits: waits)
    }

    /// All in one transaction, which ends with the last of them: all have happened, or none.
    func run(together statements: [Statement]) throws -> [Rows] {
        guard let first = statements.first else { return [] }
        // Whatever can be refused is refused before anything is on its way.
        for statement in statements { try check(statement.sql) }
        PQenterPipelineMode(pointer)
        defer { leavePipeline() }
        requests.enter(first.ticket, limit: first.limit)
        var receptions = try statements.map { Reception(try send($0)) }
        guard PQpipelineSync(pointer) == 1 else { throw broken(mayHaveRun: false) }
        try flush()
        for index in receptions.indices {
            _ = try receiveResults(&receptions[index], waits: true, inTransaction: false)
        }
        try receiveEnd(inTransaction: false)
        let outcomes = receptions.map { reception in Result { try outcome(of: reception) } }
        // What came behind the one that failed says only that.
        for (reception, outcome) in zip(receptions, outcomes) where reception.error != nil {
            _ = try outcome.get()
        }
        return try outcomes.map { try $0.get() }
    }

    func run(_ statement: Statement) throws -> Rows {
        PQenterPipelineMode(pointer)
        defer { leavePipeline() }
        requests.enter(statement.ticket, limit: statement.limit)
        var sent = Sent()
        do {
            if let begin = pendingBegin {
                try sendCommand(begin)
                pendingBegin = nil
                sent.results += 1
            }
            let own = try send(statement)
            sent.results += own.results - 1
            sent.newPlan = own.newPlan
        } catch {
            _ = requests.leave()
            if sent.results > 1, PQpipelineSync(pointer) == 1 {
                sent.results -= 1
                try flush()
                var reception = Reception(sent)
                _ = try receive(&reception)
            }
            throw error
        }
        guard PQpipelineSync(pointer) == 1 else { throw broken(mayHaveRun: false) }
        try flush(inTransaction: true)
        var reception = Reception(sent)
        return try receive(&reception, inTransaction: true) ?? .none
    }

    private func send(_ statement: Statement) throws -> Sent {
        let sql = statement.sql
        try check(sql)
        var sent = Sent()
        if statement.limit != limit {
            // With an end of its own, for the failure of the statement would take it back.
            try sendCommand("SET statement_timeout = \(max(1, statement.limit.milliseconds))")
            guard PQpipelineSync(pointer) == 1 else { throw broken(mayHaveRun: false) }
            limit = statement.limit
            sent.results += 1
        }
        let (name, isNew, evicted) = plans.name(for: sql.text)
        if let evicted {
            try sendCommand("DEALLOCATE \(evicted)")
            sent.results += 1
        }
        if isNew {
            guard PQsendPrepare(pointer, name, sql.text, 0, nil) == 1 else { throw broken(mayHaveRun: false) }
            sent.results += 1
            sent.newPlan = sql.text
        }
        let isSent = withParameters(sql.arguments) { count, values, lengths, formats in
            PQsendQueryPrepared(pointer, name, count, values, lengths, formats, 0)
        }
        guard isSent == 1 else { throw broken(mayHaveRun: false) }
        return sent
    }

    private func sendCommand(_ text: String) throws {
        guard PQsendQueryParams(pointer, text, 0, nil, nil, nil, nil, 0) == 1 else {
            throw broken(mayHaveRun: false)
        }
    }

    /// libpq takes text as a C string and would silently cut it at a null byte.
    private func check(_ sql: SQL) throws {
        guard sql.arguments.count <= 65_535 else {
            throw StorageError.unsupportedValue(reason: "a statement has at most 65535 arguments")
        }
        for argument in sql.arguments { try argument.checkStorable() }
    }

    /// Writes out everything, taking in what the server sends meanwhile: it may wait for that to go on.
    private func flush(inTransaction: Bool = false) throws {
        while true {
            let state = PQflush(pointer)
            if state == 0 { return }
            guard state == 1, waitForSocket(writing: true) else { throw broken(mayHaveRun: !inTransaction) }
        }
    }

    private func waitForSocket(writing: Bool) -> Bool {
        var socket = pollfd(
            fd: PQsocket(pointer), events: Int16(POLLIN) | (writing ? Int16(POLLOUT) : 0), revents: 0)
        while poll(&socket, 1, -1) < 0 { guard errno == EINTR else { return false } }
        if socket.revents & ~Int16(POLLOUT) != 0 { return PQconsumeInput(pointer) == 1 }
        return true
    }

    /// The last result of a statement, up to and including its end of the pipeline; `nil` where it has not all
    /// come, unless it `waits`.
    private func receive(
        _ reception: inout Reception, waits: Bool = true, inTransaction: Bool = false
    ) throws -> Rows? {
        guard try receiveResults(&reception, waits: waits, inTransaction: inTransaction) else { return nil }
        guard waits || PQisBusy(pointer) == 0 else { return nil }
        try receiveEnd(inTransaction: inTransaction)
        return try outcome(of: reception)
    }

    /// All results of a statement; false where they have not all come, unless it `waits`.
    private func receiveResults(
        _ reception: inout Reception, waits: Bool, inTransaction: Bool
    ) throws -> Bool {
        let last = reception.sent.results
        while reception.step <= last {
            guard waits || PQisBusy(pointer) == 0 else { return false }
            let result = PostgresResult(PQgetResult(pointer))
            if result.pointer == nil {
                guard PQstatus(pointer) == CONNECTION_OK else { throw broken(mayHaveRun: !inTransaction) }
                reception.step += 1
                continue
            }
            switch result.status {
            case PGRES_TUPLES_OK, PGRES_COMMAND_OK:
                if reception.step == last { reception.rows = result.rows() }
            case PGRES_PIPELINE_SYNC: continue  // the end of a setting, which no null follows
            case PGRES_PIPELINE_ABORTED: reception.failed = true
            default:
                reception.failed = true
                guard PQstatus(pointer) == CONNECTION_OK else { throw broken(mayHaveRun: !inTransaction) }
                if result.isFarewell { throw broken(mayHaveRun: !inTransaction, result.reason) }
                let wasAsked = requests.leave()
                if reception.error == nil { reception.error = result.failure(wasCancelled: wasAsked) }
            }
        }
        return true
    }

    private func receiveEnd(inTransaction: Bool) throws {
        _ = requests.leave()
        let end = PostgresResult(PQgetResult(pointer))
        guard end.status == PGRES_PIPELINE_SYNC else { throw broken(mayHaveRun: !inTransaction) }
    }

    private func outcome(of reception: Reception) throws -> Rows {
        guard reception.failed else { return reception.rows }
        if let plan = reception.sent.newPlan { plans.forget(plan) }
        if case ConnectionSignal.stalePlan? = reception.error { plans.forgetAll() }
        throw reception.error ?? ConnectionSignal.interrupted
    }

    private func leavePipeline() {
        guard isUsable else { return }
        if PQexitPipelineMode(pointer) != 1 { isUsable = false }
    }

    func broken(mayHaveRun: Bool, _ farewell: String? = nil) -> StorageError {
        let reason = farewell ?? errorText
        isUsable = false
        _ = requests.leave()
        return .unavailable(reason: reason, mayHaveRun: mayHaveRun)
    }

    private var errorText: String {
        let text = PQerrorMessage(pointer).map { String(cString: $0) } ?? ""
        let lines = text.split(whereSeparator: \.isNewline)
        return lines.isEmpty ? "the connection broke" : lines.joined(separator: " ")
    }
}

// MARK: - Transactions

extension PostgresConnection {
    func begin(_ isolation: Isolation, limit: Duration, _ ticket: Ticket) throws {
        limitAtBegin = self.limit
        pendingBegin =
            switch isolation {
            case .readCommitted: "BEGIN ISOLATION LEVEL READ COMMITTED"
            case .repeatableRead: "BEGIN ISOLATION LEVEL REPEATABLE READ"
            case .serializable: "BEGIN ISOLATION LEVEL SERIALIZABLE"
            }
    }

    func commit() throws {
        guard pendingBegin == nil else { return pendingBegin = nil }
        // As long as the disk takes: cut off, it would be in doubt for nothing.
        let tag = try simple("COMMIT", limit: nil, Ticket(), mayHaveRun: true)
        // The server's way to say that a statement had failed before.
        if tag == "ROLLBACK" {
            throw StorageError.statement(reason: "the transaction had failed", code: "25P02")
        }
    }

    func rollback() {
        guard isUsable, pendingBegin == nil else { return pendingBegin = nil }
        if PQtransactionStatus(pointer) != PQTRANS_IDLE {
            _ = try? simple("ROLLBACK", limit: nil, Ticket(), mayHaveRun: false)
            if PQtransactionStatus(pointer) != PQTRANS_IDLE { isUsable = false }
        }
        // A setting that was made within the transaction goes with it.
        limit = limitAtBegin
    }

    func script(_ text: String, limit: Duration, _ ticket: Ticket) throws {
        try sendPendingBegin()
        _ = try simple(text, limit: limit, ticket, mayHaveRun: false)
    }

    func sendPendingBegin() throws {
        guard let begin = pendingBegin else { return }
        pendingBegin = nil
        _ = try simple(begin, limit: nil, Ticket(), mayHaveRun: false)
    }

    /// Text that may hold several statements; returns the last command's tag.
    @discardableResult
    func simple(_ text: String, limit: Duration?, _ ticket: Ticket, mayHaveRun: Bool) throws -> String {
        var text = text
        if let limit, limit != self.limit {
            text = "SET statement_timeout = \(max(1, limit.milliseconds)); " + text
            self.limit = limit
        }
        requests.enter(ticket, limit: limit ?? self.limit ?? .seconds(30))
        guard PQsendQuery(pointer, text) == 1 else { throw broken(mayHaveRun: mayHaveRun) }
        do { try flush() } catch { throw broken(mayHaveRun: mayHaveRun) }
        return try finish(mayHaveRun: mayHaveRun)
    }

    /// Takes all results until the server is ready again; throws the first error among them.
    @discardableResult
    func finish(mayHaveRun: Bool) throws -> String {
        var error: (any Error)?
        var tag = ""
        while true {
            while PQisBusy(pointer) == 1 {
                guard waitForSocket(writing: false) else { throw broken(mayHaveRun: mayHaveRun) }
            }
            let result = PostgresResult(PQgetResult(pointer))
            if result.pointer == nil { break }
            switch result.status {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: tag = result.commandTag
            case PGRES_COPY_IN: return "COPY"  // its end comes when the rows have gone out
            default:
                guard PQstatus(pointer) == CONNECTION_OK else { throw broken(mayHaveRun: mayHaveRun) }
                if result.isFarewell { throw broken(mayHaveRun: mayHaveRun, result.reason) }
                let wasAsked = requests.leave()
                if error == nil { error = result.failure(wasCancelled: wasAsked) }
            }
        }
        guard PQstatus(pointer) == CONNECTION_OK else { throw broken(mayHaveRun: mayHaveRun) }
        _ = requests.leave()
        if let error { throw error }
        return tag
    }
}

// MARK: - Cursors

extension PostgresConnection {
    /// The server keeps the place: a client that reads slowly runs into no time limit, and none of us holds
    /// more than a chunk.
    func openCursor(_ statement: Statement) throws -> Int {
        try begin(.readCommitted, limit: statement.limit, statement.ticket)
        // One at a time, so one name: its texts stay prepared.
        let declare = SQL(
            text: "DECLARE rows NO SCROLL CURSOR FOR " + statement.sql.text,
            arguments: statement.sql.arguments)
        do {
            _ = try run(Statement(sql: declare, limit: statement.limit, ticket: statement.ticket))
        } catch {
            rollback()
            throw error
        }
        return 1
    }

    func fetch(_ cursor: Int, count: Int, limit: Duration, _ ticket: Ticket) throws -> Rows {
        try run(Statement(sql: SQL(text: "FETCH \(count) FROM rows"), limit: limit, ticket: ticket))
    }

    func closeCursor(_ cursor: Int) { rollback() }
}

/// The statements a connection has prepared, by their text; the one not used for longest goes first.
struct PreparedPlans {
    static let limit = 256
    private struct Plan {
        let name: String
        var used: UInt64
    }
    private var plans: [String: Plan] = [:]
    private var clock: UInt64 = 0

    mutating func name(for text: String) -> (name: String, isNew: Bool, evicted: String?) {
        clock += 1
        if let index = plans.index(forKey: text) {
            plans.values[index].used = clock
            return (plans.values[index].name, false, nil)
        }
        var evicted: String?
        if plans.count >= Self.limit, let oldest = plans.min(by: { $0.value.used < $1.value.used }) {
            evicted = oldest.value.name
            plans[oldest.key] = nil
        }
        let plan = Plan(name: "p\(clock)", used: clock)
        plans[text] = plan
        return (plan.name, true, evicted)
    }

    mutating func forget(_ text: String) { plans[text] = nil }
    mutating func forgetAll() { plans = [:] }
}
