public import Core
public import Storage

/// Tasks, what they found, and who works on them, in SQL of either engine.
///
/// What is due stands here and nowhere else: a message in a queue only says that somebody should look.
public struct ParseStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }
}

/// What cannot be done to a task.
public enum ParseError: Error, Equatable, Sendable {
    case unknownTask
    /// The order does not fit where the task stands.
    case wrongState(TaskStatus, TaskOrder)
    /// Somebody else works on this task now, or it was stopped.
    case claimLost
    /// It is still ours, and stands otherwise than we know it: it has to be read anew.
    case overtaken
    case tooManyTasks(limit: Int)
}

extension ParseStore {
    /// More unfinished tasks of one user than anybody watches.
    public static let mostUnfinished = 5_000

    static let columns: SQL = "*"

    // MARK: - Users' tasks

    /// All of them or none.
    public func create(_ tasks: [(id: String, task: NewTask)], at now: Timestamp) async throws -> [ParseTask]
    {
        guard let user = tasks.first?.task.user else { return [] }
        return try await database.transaction { transaction in
            let open = try transaction.run(
                """
                SELECT count(*) AS n FROM parse_tasks
                WHERE user_id = \(user) AND status IN ('pending', 'running', 'paused') AND deleted_at IS NULL
                """)[0].int("n")
            guard open + tasks.count <= Self.mostUnfinished else {
                throw ParseError.tooManyTasks(limit: Self.mostUnfinished)
            }
            var made: [ParseTask] = []
            for (id, task) in tasks {
                var course = Course()
                if task.config.isIncremental, let last = try transaction.lastCourse(like: task) {
                    course.goOn(from: last)
                }
                let row = try transaction.run(
                    """
                    INSERT INTO parse_tasks (
                        id, user_id, platform, link, title, task_type, priority, status, config, course,
                        queued_at, created_at, updated_at)
                    VALUES (\(id), \(task.user), \(task.platform.rawValue), \(task.link.key), \(task.title),
                        \(task.type.rawValue), \(task.priority.rank), 'pending', \(task.config.json),
                        \(course.stored), \(now), \(now), \(now))
                    RETURNING *
                    """)[0]
                made.append(try ParseTask(row))
            }
            return made
        }
    }

    public func task(_ id: String, of user: Int64) async throws -> ParseTask {
        let rows = try await database.run(
            "SELECT * FROM parse_tasks WHERE id = \(id) AND user_id = \(user) AND deleted_at IS NULL")
        guard let row = rows.first else { throw ParseError.unknownTask }
        return try ParseTask(row)
    }

    public struct TaskFilter: Sendable {
        public var status: TaskStatus?
        public var type: TaskType?
        public var priority: TaskPriority?
        public var link: CommunityLink?
        public init() {}

        var condition: SQL {
            var sql: SQL = "deleted_at IS NULL"
            if let status { sql = "\(sql) AND status = \(status.rawValue)" }
            if let type { sql = "\(sql) AND task_type = \(type.rawValue)" }
            if let priority { sql = "\(sql) AND priority = \(priority.rank)" }
            if let link { sql = "\(sql) AND link = \(link.key)" }
            return sql
        }
    }

    /// In which order tasks are listed.
    public enum TaskSort: String, Sendable, CaseIterable {
        case createdAt = "created_at"
        case updatedAt = "updated_at"
        case priority

        func order(isAscending: Bool) -> SQL {
            switch (self, isAscending) {
            case (.createdAt, true): "no"
            case (.createdAt, false): "no DESC"
            case (.updatedAt, true): "updated_at, no"
            case (.updatedAt, false): "updated_at DESC, no DESC"
            // Kept as a rank, of which the smaller is the more urgent.
            case (.priority, true): "priority DESC, no"
            case (.priority, false): "priority, no DESC"
            }
        }
    }

    /// The newest first, where nothing else is asked for.
    public func tasks(
        of user: Int64, _ filter: TaskFilter, by sort: TaskSort = .createdAt, isAscending: Bool = false,
        offset: Int, limit: Int
    ) async throws -> (tasks: [ParseTask], total: Int) {
        let condition: SQL = "user_id = \(user) AND \(filter.condition)"
        let total = try await database.run("SELECT count(*) AS n FROM parse_tasks WHERE \(condition)")
        let rows = try await database.run(
            """
            SELECT * FROM parse_tasks WHERE \(condition) ORDER BY \(sort.order(isAscending: isAscending))
            LIMIT \(limit) OFFSET \(offset)
            """)
        return (try rows.map { try ParseTask($0) }, try total[0].int("n"))
    }

    /// Follows an order. Whoever works on the task notices before it writes anything more.
    public func order(
        _ order: TaskOrder, _ id: String, of user: Int64, at now: Timestamp,
        keepingResultsFor retention: Duration
    ) async throws -> ParseTask {
        try await database.transaction { transaction in
            guard let row = try transaction.lockedTask(id, of: user) else { throw ParseError.unknownTask }
            let task = try ParseTask(row)
            guard let status = task.status.after(order) else {
                throw ParseError.wrongState(task.status, order)
            }
            guard status != task.status else { return task }
            try transaction.countAll(of: task)
            let rows = try transaction.run(
                """
                UPDATE parse_tasks SET status = \(status.rawValue), claim = NULL, claimed_until = 0,
                    not_before = 0, waiting = NULL, updated_at = \(now), revision = revision + 1,
                    queued_at = \(status == .pending ? now : task.updatedAt),
                    failure = \(status == .pending ? nil : task.failure?.stored),
                    finished_at = \(status.isFinal ? now : nil),
                    results_until = \(status.isFinal ? now + retention : nil)
                WHERE no = \(task.number) RETURNING *
                """)
            return try ParseTask(rows[0])
        }
    }

    /// The task is gone at once; its rows follow, a part at a time.
    public func delete(_ id: String, of user: Int64, at now: Timestamp) async throws -> ParseTask {
        try await database.transaction { transaction in
            guard let row = try transaction.lockedTask(id, of: user) else { throw ParseError.unknownTask }
            let rows = try transaction.run(
                """
                UPDATE parse_tasks SET deleted_at = \(now), claim = NULL, claimed_until = 0, updated_at = \(now),
                    revision = revision + 1
                WHERE no = \(try row.int64("no")) RETURNING *
                """)
            return try ParseTask(rows[0])
        }
    }

    // MARK: - Watching

    /// How far tasks are, for those who listen.
    public func tasks(numbered numbers: [Int64]) async throws -> [ParseTask] {
        guard !numbers.isEmpty else { return [] }
        return try await database.run(
            "SELECT * FROM parse_tasks WHERE no IN \(list: numbers) AND deleted_at IS NULL"
        ).map { try ParseTask($0) }
    }

    /// The number of tasks for each status.
    public func statistics() async throws -> [TaskStatus: Int] {
        var counts: [TaskStatus: Int] = [:]
        for row in try await database.run(
            "SELECT status, count(*) AS n FROM parse_tasks WHERE deleted_at IS NULL GROUP BY status")
        {
            if let status = TaskStatus(rawValue: try row.text("status")) { counts[status] = try row.int("n") }
        }
        return counts
    }

    public var dialect: Dialect { database.dialect }
}

extension Transaction {
    fileprivate func lockedTask(_ id: String, of user: Int64) throws -> Row? {
        try run(
            """
            SELECT * FROM parse_tasks WHERE id = \(id) AND user_id = \(user) AND deleted_at IS NULL
            \(raw: dialect.locking)
            """
        ).first
    }

    /// Where the last finished run of the same link ended.
    fileprivate func lastCourse(like task: NewTask) throws -> Course? {
        try run(
            """
            SELECT course FROM parse_tasks
            WHERE user_id = \(task.user) AND link = \(task.link.key) AND task_type = \(task.type.rawValue)
                AND status = 'completed' AND deleted_at IS NULL
            ORDER BY no DESC LIMIT 1
            """
        ).first.map { Course(stored: try $0.json("course")) }
    }
}

extension Dialect {
    /// Keeps a row from being changed by others until the transaction ends. SQLite has one writer.
    var locking: StaticString {
        switch self {
        case .postgres: "FOR UPDATE"
        case .sqlite: ""
        }
    }
}

extension ParseTask {
    init(_ row: Row) throws {
        func known<Value>(_ value: Value?, _ column: String) throws -> Value {
            guard let value else { throw StorageError.unexpectedColumn("\(column) holds an unknown word") }
            return value
        }
        number = try row.int64("no")
        id = try row.text("id")
        user = try row.int64("user_id")
        platform = try known(Platform(rawValue: row.text("platform")), "platform")
        link = CommunityLink(key: try row.text("link"))
        title = try row.optionalText("title")
        type = try known(TaskType(rawValue: row.text("task_type")), "task_type")
        priority = try known(TaskPriority(rank: row.int64("priority")), "priority")
        status = try known(TaskStatus(rawValue: row.text("status")), "status")
        config = ParseConfig(stored: try row.json("config"))
        course = Course(stored: try row.json("course"))
        var counts = TaskCounts()
        counts.messages = try row.int64("messages")
        counts.media = try row.int64("media")
        counts.users = try row.int64("users")
        counts.results = try row.int64("results")
        counts.storedMessages = try row.int64("stored_messages")
        counts.filtered = try row.int64("filtered")
        counts.active = .milliseconds(try row.int64("active_ms"))
        counts.erased = try row.int64("erased")
        counts.lastPerson = try row.int64("last_person")
        counts.lastMessage = try row.int64("last_message")
        counts.countedMessage = try row.int64("counted_message")
        self.counts = counts
        failure = TaskFailure(stored: try row.optionalJSON("failure"))
        waiting = Waiting(stored: try row.optionalJSON("waiting"))
        revision = try row.int64("revision")
        createdAt = try row.timestamp("created_at")
        updatedAt = try row.timestamp("updated_at")
        startedAt = try row.optionalTimestamp("started_at")
        finishedAt = try row.optionalTimestamp("finished_at")
        resultsUntil = try row.optionalTimestamp("results_until")
        areResultsErased = try row.bool("results_erased")
        lease = AccountLease(stored: try row.optionalJSON("lease"))
        claim = try row.optionalText("claim")
    }
}
