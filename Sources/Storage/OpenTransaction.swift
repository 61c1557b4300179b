/// A transaction while its closure runs.
final class OpenTransaction: Transaction {
    private let connection: any BlockingConnection
    private let limit: Duration
    private let ticket: Ticket
    /// The first statement that failed. The engines differ in whether one may go on after it; here one may not.
    private var failure: (any Error)?

    private init(_ connection: any BlockingConnection, limit: Duration, _ ticket: Ticket) {
        self.connection = connection
        self.limit = limit
        self.ticket = ticket
    }

    var dialect: Dialect { type(of: connection).dialect }

    /// Begins, runs `body`, commits; rolls back on whatever is thrown and on cancellation.
    static func run<Result>(
        on connection: any BlockingConnection, _ isolation: Isolation, limit: Duration, _ ticket: Ticket,
        _ body: (any Transaction) throws -> Result
    ) throws -> Result {
        try connection.begin(isolation, limit: limit, ticket)
        let open = OpenTransaction(connection, limit: limit, ticket)
        do {
            let result = try body(open)
            if let failure = open.failure { throw failure }
            if ticket.isCancelled { throw CancellationError() }
            try connection.commit()
            return result
        } catch {
            connection.rollback()
            // A conflict counts even if `body` made another error of it: the whole is run again.
            throw open.failure as? ConnectionSignal ?? error
        }
    }

    func run(_ sql: SQL) throws -> Rows {
        try guarded { try connection.run(Statement(sql: sql, limit: limit, ticket: ticket)) }
    }

    func script(_ text: StaticString) throws {
        try guarded { try connection.script(text.description, limit: limit, ticket) }
    }

    func copy(into table: StaticString, columns: [StaticString], rows: [[SQLValue]]) throws -> Int {
        try guarded { try connection.copy(rows, into: CopyTarget(table, columns), limit: limit, ticket) }
    }

    private func guarded<Result>(_ work: () throws -> Result) throws -> Result {
        if let failure { throw failure }
        do {
            if ticket.isCancelled { throw CancellationError() }
            return try work()
        } catch {
            failure = error
            throw error
        }
    }
}
