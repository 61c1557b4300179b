public import Core

/// Where a database is: `postgres://…`, or a file of SQLite's.
public enum DatabaseLocation: Sendable, Equatable {
    /// A libpq URL; it may hold a password, so it is never shown.
    case postgres(Secret<String>)
    /// A file, or `:memory:`.
    case sqlite(String)

    /// Reads `DATABASE_URL`: `postgres://…`, `postgresql://…`, `sqlite:data/users.db`, `sqlite::memory:`.
    public init?(_ text: String) {
        if text.hasPrefix("postgres://") || text.hasPrefix("postgresql://") {
            self = .postgres(Secret(text))
        } else if text.hasPrefix("sqlite:") {
            var path = Substring(text.dropFirst("sqlite:".count))
            if path.hasPrefix("//") { path = path.dropFirst(2) }
            guard !path.isEmpty else { return nil }
            self = .sqlite(String(path))
        } else {
            return nil
        }
    }

    public static let form = "postgres://…, postgresql://… or sqlite:path"

    public var dialect: Dialect {
        switch self {
        case .postgres: .postgres
        case .sqlite: .sqlite
        }
    }
}

/// How many connections there are and how long anything may take.
public struct PoolSettings: Sendable, Equatable {
    /// PostgreSQL: the most connections. They are opened as they are needed.
    public var connections: Int
    /// SQLite: connections for reading beside the one that writes.
    public var readers: Int
    /// How long a call waits for a connection before `poolExhausted`.
    public var waiting: Duration
    /// How many calls may wait; one more is refused at once.
    public var waitingCalls: Int
    /// How long a statement may take unless the call says otherwise.
    public var statementTimeout: Duration
    /// How long calls wait for a server that went away, before they are refused at once until it is back.
    public var patience: Duration
    /// How often a transaction or a statement is tried before `contended`.
    public var attempts: Int
    /// PostgreSQL: whether a statement keeps the first plan, whatever its arguments. For services whose every
    /// statement finds its rows by an index: planning costs several times what such a statement does.
    public var keepsPlans: Bool

    public init(
        connections: Int = 8, readers: Int = 2, waiting: Duration = .seconds(5), waitingCalls: Int = 10_000,
        statementTimeout: Duration = .seconds(30), patience: Duration = .seconds(2), attempts: Int = 12,
        keepsPlans: Bool = false
    ) {
        precondition(
            connections > 0 && readers >= 0 && attempts > 0, "a pool has a connection and tries once")
        self.connections = connections
        self.readers = readers
        self.waiting = waiting
        self.waitingCalls = waitingCalls
        self.statementTimeout = statementTimeout
        self.patience = patience
        self.attempts = attempts
        self.keepsPlans = keepsPlans
    }
}

extension DatabaseLocation {
    /// Opens the database. Connections are made on first use, so a server that is down shows in the calls,
    /// not here.
    public func open(
        _ name: String = "main", _ settings: PoolSettings = PoolSettings(),
        time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(), log: Log = .silent, metrics: Metrics = Metrics()
    ) -> any Database {
        let context = PoolContext(
            name: name, settings: settings, time: time, random: random,
            log: log.with(["database": .id(name)]),
            metrics: PoolMetrics(metrics, database: name))
        switch self {
        case .postgres(let url):
            let target = PostgresTarget(
                url: url, statementTimeout: settings.statementTimeout, keepsPlans: settings.keepsPlans)
            return PooledDatabase(
                writers: ConnectionPool(
                    of: PostgresConnection.self, target, size: settings.connections, batch: 16, context),
                readers: nil,
                context)
        case .sqlite(let path):
            let isFile = path != ":memory:"
            let writers = ConnectionPool(
                of: SQLiteConnection.self, SQLiteTarget(path: path, isReader: false), size: 1, batch: 64,
                context)
            let readers =
                isFile && settings.readers > 0
                ? ConnectionPool(
                    of: SQLiteConnection.self, SQLiteTarget(path: path, isReader: true),
                    size: settings.readers, batch: 1, context) : nil
            return PooledDatabase(writers: writers, readers: readers, context)
        }
    }

    /// A SQLite database without a thread of its own: its statements run where the caller runs, so that a
    /// simulation owns their order.
    public static func inlineSQLite(
        _ path: String = ":memory:", time: any TimeSource, random: any RandomSource,
        statementTimeout: Duration = .seconds(30)
    ) -> any Database {
        Inline<SQLiteConnection>(
            SQLiteTarget(path: path, isReader: false), statementTimeout: statementTimeout, time: time,
            random: random)
    }
}
