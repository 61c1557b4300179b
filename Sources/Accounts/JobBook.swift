public import Core
public import Storage

/// Which pieces of periodic work are due, begun and done. A piece is a job's name and the number of its period;
/// however many workers there are, SQL gives each piece to one.
public struct JobBook: Sendable {
    private let database: any Database

    public init(_ database: any Database) { self.database = database }

    /// A piece whose worker has not been heard of for so long is somebody else's.
    static let patience = Duration.minutes(10)
    /// A piece that was entered and not taken by then is announced again: the announcement may be lost.
    static let announcement = Duration.seconds(60)

    /// True when the piece has to be announced: it is new, or nobody has taken it.
    public func enter(_ name: String, period: Int64, at now: Timestamp) async throws -> Bool {
        try await database.run(
            """
            INSERT INTO account_jobs (name, period, state, queued_at) VALUES (\(name), \(period), 'queued', \(now))
            ON CONFLICT (name, period) DO UPDATE SET state = 'queued', queued_at = excluded.queued_at
            WHERE (account_jobs.state = 'queued' AND account_jobs.queued_at <= \(now - Self.announcement))
                OR (account_jobs.state = 'running' AND account_jobs.started_at <= \(now - Self.patience))
            """
        ).affected > 0
    }

    /// True for the one worker that is to do it.
    public func begin(_ name: String, period: Int64, worker: String, at now: Timestamp) async throws -> Bool {
        try await database.run(
            """
            UPDATE account_jobs SET state = 'running', worker = \(worker), started_at = \(now), runs = runs + 1
            WHERE name = \(name) AND period = \(period) AND state = 'queued'
            """
        ).affected > 0
    }

    /// The work is done; false when it took so long that it was given to somebody else.
    @discardableResult
    public func finish(
        _ name: String, period: Int64, worker: String, result: JSONValue, at now: Timestamp
    ) async throws -> Bool {
        try await database.run(
            """
            UPDATE account_jobs SET state = 'done', finished_at = \(now), result = \(result)
            WHERE name = \(name) AND period = \(period) AND state = 'running' AND worker = \(worker)
            """
        ).affected > 0
    }

    /// The work failed and is to be done again.
    public func fail(_ name: String, period: Int64, worker: String, at now: Timestamp) async throws {
        try await database.run(
            """
            UPDATE account_jobs SET state = 'queued', queued_at = \(now)
            WHERE name = \(name) AND period = \(period) AND state = 'running' AND worker = \(worker)
            """)
    }

    /// How often each piece of a job was done.
    public func runs(_ name: String) async throws -> [Int64: Int] {
        var runs: [Int64: Int] = [:]
        for row in try await database.run(
            "SELECT period, runs FROM account_jobs WHERE name = \(name) AND state = 'done'")
        {
            runs[try row.int64("period")] = try row.int("runs")
        }
        return runs
    }

    public func tidy(at now: Timestamp) async throws -> Int {
        try await database.run("DELETE FROM account_jobs WHERE queued_at < \(now - .days(30))").affected
    }

    // MARK: - Reports

    public func store(report: JSONValue, period: Int64, at now: Timestamp) async throws {
        try await database.run(
            """
            INSERT INTO account_reports (period, at, report) VALUES (\(period), \(now), \(report))
            ON CONFLICT (period) DO UPDATE SET at = excluded.at, report = excluded.report
            """)
    }

    /// Health reports, newest first.
    public func reports(offset: Int, limit: Int) async throws -> (reports: [JSONValue], total: Int) {
        let total =
            try await database.run("SELECT count(*) AS reports FROM account_reports").first?.int("reports")
            ?? 0
        let rows = try await database.run(
            "SELECT report FROM account_reports ORDER BY period DESC LIMIT \(limit) OFFSET \(offset)")
        return (try rows.map { try $0.json("report") }, total)
    }
}
