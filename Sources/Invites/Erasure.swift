public import Core
public import Storage

/// A person who is to be forgotten, in every way they are known, and what was sent to them.
public struct ErasureWish: Equatable, Sendable {
    public var usernames: Set<String> = []
    public var phones: Set<String> = []
    public var platformIDs: Set<Int64> = []
    /// By these integration-service knows what it has sent.
    public var attempts: Set<String> = []

    public init() {}

    public init(_ identity: PersonIdentity) { add(identity) }

    public mutating func add(_ identity: PersonIdentity) {
        if let username = identity.username { usernames.insert(username) }
        if let phone = identity.phone { phones.insert(phone) }
        if let id = identity.platformID { platformIDs.insert(id) }
    }

    public mutating func formUnion(_ other: ErasureWish) {
        usernames.formUnion(other.usernames)
        phones.formUnion(other.phones)
        platformIDs.formUnion(other.platformIDs)
        attempts.formUnion(other.attempts)
    }

    /// Each way by itself, as the stop-list has them.
    var identities: [PersonIdentity] {
        usernames.sorted().map { PersonIdentity(username: $0, phone: nil, platformID: nil) }
            + phones.sorted().map { PersonIdentity(username: nil, phone: $0, platformID: nil) }
            + platformIDs.sorted().map { PersonIdentity(username: nil, phone: nil, platformID: $0) }
    }

    /// As services tell each other.
    public var json: JSONValue {
        [
            "usernames": .array(usernames.sorted().map { .string($0) }),
            "phones": .array(phones.sorted().map { .string($0) }),
            "user_ids": .array(platformIDs.sorted().map { .int($0) }),
            "attempt_ids": .array(attempts.sorted().map { .string($0) }),
        ]
    }

    /// What another service says it knew besides; what cannot be read is left out.
    public init(json: JSONValue) {
        for value in json["usernames"]?.arrayValue ?? [] {
            if let name = value.stringValue.flatMap({ PersonIdentity.username($0) }) {
                usernames.insert(name)
            }
        }
        for value in json["phones"]?.arrayValue ?? [] {
            if let phone = value.stringValue.flatMap({ PersonIdentity.phone($0) }) { phones.insert(phone) }
        }
        for value in json["user_ids"]?.arrayValue ?? [] {
            if let id = value.intValue ?? value.stringValue.flatMap({ Int64($0) }), id > 0 {
                platformIDs.insert(id)
            }
        }
        attempts = Set((json["attempt_ids"]?.arrayValue ?? []).compactMap(\.stringValue))
    }
}

/// What has been done to forget somebody. It says nothing of who they are.
public struct ErasureReceipt: Equatable, Sendable {
    public struct Line: Equatable, Sendable {
        public enum Outcome: String, Sendable {
            case done, pending
            /// The service has no such order, and keeps nobody.
            case nothingKept = "nothing_kept"
        }
        public let service: String
        public var outcome: Outcome
        /// Rows by kind.
        public var erased: [String: Int]

        public init(_ service: String, _ outcome: Outcome, _ erased: [String: Int] = [:]) {
            self.service = service
            self.outcome = outcome
            self.erased = erased
        }
    }

    public let id: String
    public var lines: [Line]
    public let createdAt: Timestamp
    public var completedAt: Timestamp?

    public init(id: String, lines: [Line], createdAt: Timestamp, completedAt: Timestamp? = nil) {
        self.id = id
        self.lines = lines
        self.createdAt = createdAt
        self.completedAt = completedAt
    }

    public var isComplete: Bool { lines.allSatisfy { $0.outcome != .pending } }

    var stored: JSONValue {
        .array(
            lines.map { line in
                [
                    "service": .string(line.service), "status": .string(line.outcome.rawValue),
                    "erased": .object(
                        line.erased.sorted { $0.key < $1.key }.map {
                            JSONMember($0.key, .int(Int64($0.value)))
                        }),
                ]
            })
    }

    public var json: JSONValue {
        [
            "receipt_id": .string(id), "status": .string(completedAt == nil ? "pending" : "completed"),
            "services": stored,
            "kept": "A keyed digest on the stop-list, so that no later import brings the person back",
            "created_at": createdAt.json, "completed_at": JSONValue(completedAt),
        ]
    }
}

/// Forgetting people in `invite_db`, and the order to do so everywhere until it is done.
public struct ErasureStore: Sendable {
    public let database: any Database
    private let digests: SuppressionDigests
    private let random: any RandomSource

    public init(_ database: any Database, digests: SuppressionDigests, random: any RandomSource) {
        self.database = database
        self.digests = digests
        self.random = random
    }

    /// Forgets the person in the campaigns of one operator. Counts stay true: a target loses who it is and
    /// keeps what became of it; one that was not sent yet is left out. Returns what was erased, and in which
    /// further ways the person was known.
    public func erase(_ wish: ErasureWish, of user: Int64, at now: Timestamp) async throws
        -> (erased: [String: Int], known: ErasureWish)
    {
        let (digests, random) = (digests, random)
        var (erased, known) = try await database.transaction {
            transaction -> ([String: Int], ErasureWish) in
            var known = wish
            var targets: Set<Int64> = []
            // A row may name another number, under which there are further rows.
            while true {
                let before = known
                for row in try transaction.run(
                    """
                    SELECT id, username, phone, platform_id FROM invite_targets
                    WHERE user_id = \(user) AND \(matches(known))
                    """)
                {
                    targets.insert(try row.int64("id"))
                    known.add(
                        PersonIdentity(
                            username: try row.optionalText("username"), phone: try row.optionalText("phone"),
                            platformID: try row.optionalInt64("platform_id")))
                }
                if known == before { break }
            }
            let ids = targets.sorted()
            for row in try transaction.run(
                "SELECT id FROM invite_attempts WHERE user_id = \(user) AND target_id IN \(list: ids)")
            { known.attempts.insert(try row.text("id")) }
            let changed = try transaction.run(
                """
                UPDATE invite_targets SET username = NULL, phone = NULL, platform_id = NULL, email = NULL,
                    full_name = NULL, error_detail = NULL, invite_link = NULL, consent_basis = NULL,
                    source_detail = NULL, seen_in = NULL,
                    error_code = CASE WHEN status IN ('pending', 'claimed', 'failed') THEN 'erased'
                        ELSE error_code END,
                    status = CASE WHEN status IN ('pending', 'claimed', 'failed') THEN 'skipped'
                        ELSE status END,
                    updated_at = \(now)
                WHERE id IN \(list: ids)
                """)
            let logs = try transaction.run(
                """
                UPDATE invite_logs SET details = '{}'
                WHERE user_id = \(user) AND target_id IN \(list: ids) AND details <> '{}'
                """)
            let staged = try transaction.run(
                """
                DELETE FROM invite_import_people WHERE \(matches(known))
                    AND import_id IN (SELECT id FROM invite_imports WHERE user_id = \(user))
                """)
            let stops = known.identities.flatMap { digests.digests($0) }
            let labels = try transaction.run(
                """
                UPDATE invite_suppressions SET label = NULL, note = NULL
                WHERE user_id = \(user) AND digest IN \(list: stops) AND label IS NOT NULL
                """)
            for identity in known.identities {
                try transaction.suppress(
                    NewSuppression(identity, community: nil, reason: .erased, source: "erasure"), of: user,
                    digests, at: now, random)
            }
            try transaction.run(
                """
                UPDATE invite_suppressions SET label = NULL, note = NULL
                WHERE user_id = \(user) AND digest IN \(list: stops)
                """)
            return (
                [
                    "targets": changed.affected, "log_lines": logs.affected, "staged_rows": staged.affected,
                    "stop_list_names": labels.affected,
                ], known
            )
        }
        erased["rejected_lines"] = try await eraseRejects(known, of: user)
        return (erased, known)
    }

    private func matches(_ wish: ErasureWish) -> SQL {
        """
        (username IN \(list: wish.usernames.sorted()) OR phone IN \(list: wish.phones.sorted())
            OR platform_id IN \(list: wish.platformIDs.sorted()))
        """
    }

    /// Rejected lines are texts as somebody wrote them: they are searched, not looked up.
    private func eraseRejects(_ wish: ErasureWish, of user: Int64) async throws -> Int {
        var found: [(importID: Int64, position: Int64)] = []
        try await database.stream(
            """
            SELECT r.import_id, r.position, r.content FROM invite_import_rejects r
            JOIN invite_imports i ON i.id = r.import_id
            WHERE i.user_id = \(user) AND r.content IS NOT NULL
            """
        ) { rows in
            for row in rows where wish.isNamed(in: try row.text("content")) {
                found.append((try row.int64("import_id"), try row.int64("position")))
            }
        }
        for place in found {
            try await database.run(
                """
                UPDATE invite_import_rejects SET content = NULL
                WHERE import_id = \(place.importID) AND position = \(place.position)
                """)
        }
        return found.count
    }

    // MARK: - Orders

    public func begin(_ wish: ErasureWish, _ receipt: ErasureReceipt, of user: Int64) async throws {
        try await database.run(
            """
            INSERT INTO invite_erasures (id, user_id, wanted, receipt, created_at, updated_at)
            VALUES (\(receipt.id), \(user), \(wish.json), \(receipt.stored), \(receipt.createdAt),
                \(receipt.createdAt))
            """)
    }

    /// Notes how far it is. When all is done, who it was about is forgotten here too.
    public func note(_ wish: ErasureWish, _ receipt: ErasureReceipt, at now: Timestamp) async throws {
        let wanted = receipt.completedAt == nil ? wish.json : nil
        try await database.run(
            """
            UPDATE invite_erasures SET wanted = \(wanted), receipt = \(receipt.stored), updated_at = \(now),
                completed_at = \(receipt.completedAt)
            WHERE id = \(receipt.id)
            """)
    }

    public func receipt(_ id: String, of user: Int64) async throws -> ErasureReceipt? {
        try await database.run("SELECT * FROM invite_erasures WHERE id = \(id) AND user_id = \(user)")
            .first.map { try ErasureReceipt($0) }
    }

    public struct Open: Sendable {
        public let user: Int64
        public let wish: ErasureWish
        public let receipt: ErasureReceipt
    }

    /// Orders that some service has not carried out yet.
    public func open(silentSince moment: Timestamp, limit: Int = 20) async throws -> [Open] {
        try await database.run(
            """
            SELECT * FROM invite_erasures WHERE completed_at IS NULL AND updated_at < \(moment)
            ORDER BY updated_at LIMIT \(limit)
            """
        ).map { row in
            Open(
                user: try row.int64("user_id"),
                wish: ErasureWish(json: try row.optionalJSON("wanted") ?? [:]),
                receipt: try ErasureReceipt(row))
        }
    }

    /// Whether a list of this operator is on its way that was begun before: it may still name the person.
    public func hasOpenImports(of user: Int64, before moment: Timestamp) async throws -> Bool {
        try await !database.run(
            """
            SELECT 1 AS one FROM invite_imports
            WHERE user_id = \(user) AND finished_at IS NULL AND created_at <= \(moment) LIMIT 1
            """
        ).isEmpty
    }

    // MARK: - Retention

    /// Forgets who the people of campaigns were that ended before `moment`: counts and reasons stay. A few
    /// campaigns at a time; returns how many targets lost their names.
    public func forgetPeople(endedBefore moment: Timestamp, at now: Timestamp, tasks limit: Int = 50)
        async throws -> Int
    {
        let tasks = try await database.run(
            """
            SELECT t.id FROM invite_tasks t
            WHERE ((t.finished_at IS NOT NULL AND t.finished_at < \(moment)
                    AND t.status IN ('completed', 'failed', 'cancelled'))
                OR (t.status = 'pending' AND t.scheduled_at IS NULL AND t.updated_at < \(moment)))
                AND NOT EXISTS (SELECT 1 FROM invite_forgotten f WHERE f.task_id = t.id AND f.at >= t.updated_at)
            ORDER BY t.id LIMIT \(limit)
            """
        ).map { try $0.int64("id") }
        var forgotten = 0
        for task in tasks {
            forgotten += try await database.transaction(isolation: .readCommitted, timeout: .minutes(10)) {
                transaction in
                let changed = try transaction.run(
                    """
                    UPDATE invite_targets SET username = NULL, phone = NULL, platform_id = NULL,
                        email = NULL, full_name = NULL, error_detail = NULL, invite_link = NULL,
                        error_code = CASE WHEN status IN ('pending', 'failed') THEN 'retention'
                            ELSE error_code END,
                        status = CASE WHEN status IN ('pending', 'failed') THEN 'skipped' ELSE status END
                    WHERE task_id = \(task) AND (username IS NOT NULL OR phone IS NOT NULL
                        OR platform_id IS NOT NULL OR full_name IS NOT NULL OR email IS NOT NULL)
                    """)
                try transaction.run(
                    "UPDATE invite_logs SET details = '{}' WHERE task_id = \(task) AND target_id IS NOT NULL")
                try transaction.run(
                    """
                    INSERT INTO invite_forgotten (task_id, at) VALUES (\(task), \(now))
                    ON CONFLICT (task_id) DO UPDATE SET at = \(now)
                    """)
                return changed.affected
            }
        }
        return forgotten
    }
}

extension ErasureWish {
    /// Whether a text names the person: a username among words, a number among digits however they are cut.
    func isNamed(in text: String) -> Bool {
        let folded = text.lowercased()
        if !usernames.isEmpty {
            let words = folded.split { character in
                !character.isASCII || !(character.isLetter || character.isNumber || character == "_")
            }
            if words.contains(where: { usernames.contains(String($0)) }) { return true }
        }
        guard !phones.isEmpty || !platformIDs.isEmpty else { return false }
        let digits = String(folded.filter { $0.isASCII && $0.isNumber })
        // A home number begins with 8 where the international one begins with +7.
        for phone in phones where digits.contains(phone.dropFirst(2)) { return true }
        for id in platformIDs where digits.contains(String(id)) { return true }
        return false
    }
}

extension ErasureReceipt {
    init(_ row: Row) throws {
        let lines = (try row.json("receipt").arrayValue ?? []).map { line in
            Line(
                line["service"]?.stringValue ?? "",
                Line.Outcome(rawValue: line["status"]?.stringValue ?? "") ?? .pending,
                Dictionary(
                    (line["erased"]?.objectValue ?? []).map { ($0.name, Int($0.value.intValue ?? 0)) },
                    uniquingKeysWith: { first, _ in first }))
        }
        self.init(
            id: try row.text("id"), lines: lines, createdAt: try row.timestamp("created_at"),
            completedAt: try row.optionalTimestamp("completed_at"))
    }
}
