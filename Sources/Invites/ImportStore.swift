public import Core
public import Storage

/// What an import is about.
public struct NewImport: Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case file, parsing
        /// The same as a file's, and nothing is written.
        case validation
    }
    public var kind: Kind
    public var task: Int64?
    /// The file's name, or the parse task.
    public var sourceName: String

    public init(_ kind: Kind, task: Int64?, sourceName: String) {
        self.kind = kind
        self.task = task
        self.sourceName = sourceName
    }
}

/// How far an import is, and in the end what came of it.
public struct ListImport: Equatable, Sendable {
    public enum Stage: String, Sendable, CaseIterable { case reading, writing, completed, failed }

    public struct Counts: Equatable, Sendable {
        public var rowsRead = 0
        /// Rows that have been written, not rows that were read.
        public var imported = 0
        public var duplicates = 0
        public var suppressed = 0
        public var rejected = 0
        /// Parse results that name nobody: counted, and never sent.
        public var unnamed = 0
        public init() {}
    }

    public let id: Int64
    public let userID: Int64
    public let taskID: Int64?
    public let kind: NewImport.Kind
    public let stage: Stage
    public let sourceName: String
    /// What the file turned out to be.
    public let shape: JSONValue
    public let progress: Double
    public let counts: Counts
    /// Of a failed one: the problem's code and detail.
    public let problem: JSONValue?
    public let createdAt: Timestamp
    public let finishedAt: Timestamp?
}

/// A line that was not taken, for the file of rejects.
public struct RejectedRow: Equatable, Sendable {
    public var line: Int
    public var reason: RowReject
    /// What stood in it. Of somebody on the stop-list nothing is kept.
    public var content: String?

    public init(line: Int, _ reason: RowReject, content: String?) {
        self.line = line
        self.reason = reason
        self.content = content
    }
}

/// Lists on their way into campaigns: staged in pieces, then merged in one statement each, so that a campaign
/// gets all of a list or nothing.
public struct ImportStore: Sendable {
    public let database: any Database
    private let digests: SuppressionDigests

    /// Rows of one statement of the merge: long enough to be quick, short enough to show progress.
    static let mergedAtOnce = 50_000
    /// One of them on a busy machine.
    static let mergeTimeout: Duration = .minutes(10)

    public init(_ database: any Database, digests: SuppressionDigests) {
        self.database = database
        self.digests = digests
    }

    public func begin(_ new: NewImport, of user: Int64, at now: Timestamp) async throws -> Int64 {
        let rows = try await database.run(
            """
            INSERT INTO invite_imports (user_id, task_id, kind, stage, source_name, created_at, updated_at)
            VALUES (\(user), \(new.task), \(new.kind.rawValue), 'reading', \(new.sourceName), \(now), \(now))
            RETURNING id
            """)
        guard let row = rows.first else { throw InviteError.unknownTask }
        return try row.int64("id")
    }

    /// Whether anybody is on the operator's list at all: without one, nobody has to be looked up.
    public func hasStopList(of user: Int64) async throws -> Bool {
        try await !database.run("SELECT 1 AS one FROM invite_suppressions WHERE user_id = \(user) LIMIT 1")
            .isEmpty
    }

    /// Stages people. `position` is the number of the first among all of this import.
    public func stage(
        _ people: [ListedPerson], from position: Int, of id: Int64, checkingStops: Bool
    ) async throws {
        guard !people.isEmpty else { return }
        var rows: [[SQLValue]] = []
        rows.reserveCapacity(people.count)
        for (index, person) in people.enumerated() {
            let identity = person.identity
            var row: [SQLValue] = [
                .integer(id), .integer(Int64(position + index)), sqlText(identity.username),
                sqlText(identity.phone), identity.platformID.map { .integer($0) } ?? .null,
                sqlText(person.email), sqlText(person.fullName), sqlText(person.consentBasis),
                sqlText(person.seenIn),
            ]
            if checkingStops {
                func digest(_ identity: PersonIdentity) -> SQLValue {
                    sqlText(digests.digests(identity).first)
                }
                row.append(digest(PersonIdentity(username: identity.username, phone: nil, platformID: nil)))
                row.append(digest(PersonIdentity(username: nil, phone: identity.phone, platformID: nil)))
                row.append(
                    digest(PersonIdentity(username: nil, phone: nil, platformID: identity.platformID)))
            }
            rows.append(row)
        }
        let plain: [StaticString] = [
            "import_id", "position", "username", "phone", "platform_id", "email", "full_name",
            "consent_basis", "seen_in",
        ]
        try await database.copy(
            into: "invite_import_people",
            columns: checkingStops ? plain + ["stop_username", "stop_phone", "stop_id"] : plain,
            rows: OneChunk(rows))
    }

    /// Keeps rejected lines for whoever mends the file.
    public func keep(_ rejects: [RejectedRow], from position: Int, of id: Int64) async throws {
        guard !rejects.isEmpty else { return }
        let rows: [[SQLValue]] = rejects.enumerated().map { index, reject in
            [
                .integer(id), .integer(Int64(position + index)), .integer(Int64(reject.line)),
                .text(reject.reason.rawValue), sqlText(reject.content),
            ]
        }
        try await database.copy(
            into: "invite_import_rejects", columns: ["import_id", "position", "line", "code", "content"],
            rows: OneChunk(rows))
    }

    public func note(
        _ id: Int64, _ stage: ListImport.Stage, _ counts: ListImport.Counts, progress: Double,
        shape: JSONValue? = nil, at now: Timestamp
    ) async throws {
        try await database.run(
            """
            UPDATE invite_imports SET stage = \(stage.rawValue), rows_read = \(counts.rowsRead),
                rejected = \(counts.rejected), unnamed = \(counts.unnamed), progress = \(progress),
                shape = COALESCE(\(shape?.text), shape), updated_at = \(now)
            WHERE id = \(id) AND finished_at IS NULL
            """)
    }

    public struct Merged: Equatable, Sendable {
        public var written = 0
        public var suppressed = 0
    }

    /// Thrown to take everything back.
    private struct Enough: Error { let merged: Merged }

    /// Writes the staged people into the task, in the order of the list and all at once. The first line of a
    /// person counts; one that shares a username, a number or an id with it, or with somebody in the task, is
    /// a duplicate. Who is on the stop-list is not written: an erased person cannot come back with a list.
    ///
    /// - Parameter onlyTrying: everything is taken back again, and the counts are what they would be.
    public func merge(
        _ id: Int64, count: Int, into task: Int64?, of user: Int64, source: TargetSource,
        sourceDetail: String, checkingStops: Bool, onlyTrying: Bool, at now: Timestamp,
        progress: @escaping @Sendable (Int) -> Void
    ) async throws -> Merged {
        do {
            return try await database.transaction(
                isolation: .readCommitted, timeout: Self.mergeTimeout
            ) { transaction in
                var community = ""
                if let task {
                    let rows = try transaction.run(
                        "SELECT community FROM invite_tasks WHERE id = \(task) AND user_id = \(user)")
                    guard let row = rows.first else { throw InviteError.unknownTask }
                    community = try row.text("community")
                }
                var merged = Merged()
                for start in stride(from: 0, to: count, by: Self.mergedAtOnce) {
                    let range: SQL =
                        """
                        p.import_id = \(id) AND p.position >= \(start)
                        AND p.position < \(start + Self.mergedAtOnce)
                        """
                    var chosen = range
                    if checkingStops {
                        let stopped: SQL =
                            """
                            EXISTS (SELECT 1 FROM invite_suppressions s
                                WHERE s.user_id = \(user) AND s.community IN ('', \(community))
                                    AND s.digest IN (p.stop_username, p.stop_phone, p.stop_id))
                            """
                        merged.suppressed +=
                            try transaction.run(
                                "SELECT COUNT(*) AS count FROM invite_import_people p WHERE \(range) AND \(stopped)"
                            ).first?.int("count") ?? 0
                        chosen = "\(range) AND NOT \(stopped)"
                    }
                    // A validation without a task merges into one that cannot exist, and is taken back.
                    merged.written += try transaction.run(
                        """
                        INSERT INTO invite_targets (task_id, user_id, username, phone, platform_id, email,
                            full_name, source, source_detail, consent_basis, seen_in, created_at, updated_at)
                        SELECT CAST(\(task ?? -id) AS BIGINT), CAST(\(user) AS BIGINT), p.username, p.phone,
                            p.platform_id, p.email, p.full_name, CAST(\(source.rawValue) AS TEXT),
                            CAST(\(sourceDetail) AS TEXT), p.consent_basis, p.seen_in, CAST(\(now) AS BIGINT),
                            CAST(\(now) AS BIGINT)
                        FROM invite_import_people p WHERE \(chosen) ORDER BY p.position
                        ON CONFLICT DO NOTHING
                        """
                    ).affected
                    progress(min(start + Self.mergedAtOnce, count))
                }
                if onlyTrying { throw Enough(merged: merged) }
                if let task, merged.written > 0 {
                    // Whoever is new in a running task is not to wait until it looks by itself.
                    try transaction.run(
                        """
                        UPDATE invite_tasks SET updated_at = \(now),
                            wake_at = CASE WHEN status = 'in_progress' THEN CAST(\(now) AS BIGINT)
                                ELSE wake_at END
                        WHERE id = \(task)
                        """)
                }
                return merged
            }
        } catch let enough as Enough {
            return enough.merged
        }
    }

    public func finish(
        _ id: Int64, _ counts: ListImport.Counts, problem: JSONValue? = nil, at now: Timestamp
    ) async throws {
        let stage: ListImport.Stage = problem == nil ? .completed : .failed
        try await database.run(
            """
            UPDATE invite_imports SET stage = \(stage.rawValue), rows_read = \(counts.rowsRead),
                imported = \(counts.imported), duplicates = \(counts.duplicates),
                suppressed = \(counts.suppressed), rejected = \(counts.rejected),
                unnamed = \(counts.unnamed), problem = \(problem?.text), progress = 1, updated_at = \(now),
                finished_at = \(now)
            WHERE id = \(id) AND finished_at IS NULL
            """)
    }

    /// Takes the staged rows away, whatever came of them.
    public func clear(_ id: Int64) async throws {
        try await database.run(
            "DELETE FROM invite_import_people WHERE import_id = \(id)", timeout: Self.mergeTimeout)
    }

    // MARK: - Reading

    public func listImport(_ id: Int64, of user: Int64) async throws -> ListImport {
        let rows = try await database.run(
            "SELECT * FROM invite_imports WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw ImportError.unknownImport }
        return try ListImport(row)
    }

    public func imports(
        of user: Int64, task: Int64?, offset: Int, limit: Int
    ) async throws -> (imports: [ListImport], total: Int) {
        var filter: SQL = "user_id = \(user)"
        if let task { filter = "\(filter) AND task_id = \(task)" }
        let rows = try await database.run(
            "SELECT * FROM invite_imports WHERE \(filter) ORDER BY id DESC LIMIT \(limit) OFFSET \(offset)")
        let total = try await database.run("SELECT COUNT(*) AS count FROM invite_imports WHERE \(filter)")
        return (try rows.map { try ListImport($0) }, try total.first?.int("count") ?? 0)
    }

    /// The rejected lines in their order, in constant memory.
    public func streamRejects(
        of id: Int64, _ body: ([RejectedRow]) async throws -> Void
    ) async throws {
        try await database.stream(
            """
            SELECT line, code, content FROM invite_import_rejects WHERE import_id = \(id) ORDER BY position
            """
        ) { rows in
            try await body(
                rows.map { row in
                    RejectedRow(
                        line: try row.int("line"),
                        RowReject(rawValue: try row.text("code")) ?? .notARow,
                        content: try row.optionalText("content"))
                })
        }
    }

    /// The first rejects, for the answer itself.
    public func rejects(of id: Int64, limit: Int) async throws -> [RejectedRow] {
        try await database.run(
            """
            SELECT line, code, content FROM invite_import_rejects WHERE import_id = \(id)
            ORDER BY position LIMIT \(limit)
            """
        ).map { row in
            RejectedRow(
                line: try row.int("line"), RowReject(rawValue: try row.text("code")) ?? .notARow,
                content: try row.optionalText("content"))
        }
    }

    // MARK: - Order

    /// Ends what a process that is gone left behind: its lists were on its disk. `since` is the last sign of
    /// life.
    public func abandon(silentSince moment: Timestamp, at now: Timestamp) async throws -> Int {
        let rows = try await database.run(
            """
            UPDATE invite_imports SET stage = 'failed', problem = \(ImportError.interrupted.json),
                updated_at = \(now), finished_at = \(now)
            WHERE finished_at IS NULL AND updated_at < \(moment) RETURNING id
            """)
        for row in rows { try await clear(try row.int64("id")) }
        return rows.count
    }

    /// Forgets rejected lines and then whole imports that are past their time.
    public func forget(rejectsBefore: Timestamp, importsBefore: Timestamp) async throws {
        try await database.run(
            """
            DELETE FROM invite_import_rejects WHERE import_id IN (
                SELECT id FROM invite_imports WHERE finished_at < \(rejectsBefore))
            """, timeout: Self.mergeTimeout)
        try await database.run("DELETE FROM invite_imports WHERE finished_at < \(importsBefore)")
    }

    /// Everything of a user who is gone.
    public func erase(user: Int64) async throws {
        try await database.transaction { transaction in
            let mine: SQL = "import_id IN (SELECT id FROM invite_imports WHERE user_id = \(user))"
            try transaction.run("DELETE FROM invite_import_rejects WHERE \(mine)")
            try transaction.run("DELETE FROM invite_import_people WHERE \(mine)")
            try transaction.run("DELETE FROM invite_imports WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_erasures WHERE user_id = \(user)")
        }
    }
}

public enum ImportError: Error, Equatable, Sendable {
    case unknownImport
    /// The process that read it has ended.
    case interrupted

    public var text: LocalizedText {
        switch self {
        case .unknownImport: .init("There is no such import", "Такого импорта нет")
        case .interrupted:
            .init(
                "The service was restarted before the list was written; upload it again",
                "Сервис перезапустился раньше, чем список был записан; загрузите его снова")
        }
    }

    var json: JSONValue {
        ["code": "interrupted", "detail_en": .string(text.english), "detail_ru": .string(text.russian)]
    }
}

extension ListImport {
    init(_ row: Row) throws {
        var counts = Counts()
        counts.rowsRead = try row.int("rows_read")
        counts.imported = try row.int("imported")
        counts.duplicates = try row.int("duplicates")
        counts.suppressed = try row.int("suppressed")
        counts.rejected = try row.int("rejected")
        counts.unnamed = try row.int("unnamed")
        self.init(
            id: try row.int64("id"), userID: try row.int64("user_id"),
            taskID: try row.optionalInt64("task_id"),
            kind: NewImport.Kind(rawValue: try row.text("kind")) ?? .file,
            stage: Stage(rawValue: try row.text("stage")) ?? .failed,
            sourceName: try row.text("source_name"), shape: try row.json("shape"),
            progress: try row.double("progress"), counts: counts, problem: try row.optionalJSON("problem"),
            createdAt: try row.timestamp("created_at"), finishedAt: try row.optionalTimestamp("finished_at"))
    }
}

func sqlText(_ text: String?) -> SQLValue { text.map { .text($0) } ?? .null }

/// Rows that are all there, for `copy`, which takes a stream.
struct OneChunk: AsyncSequence, Sendable {
    typealias Element = [[SQLValue]]
    let rows: [[SQLValue]]
    init(_ rows: [[SQLValue]]) { self.rows = rows }

    struct AsyncIterator: AsyncIteratorProtocol {
        var rows: [[SQLValue]]?
        mutating func next() async -> [[SQLValue]]? {
            defer { rows = nil }
            return rows
        }
    }
    func makeAsyncIterator() -> AsyncIterator { AsyncIterator(rows: rows) }
}
