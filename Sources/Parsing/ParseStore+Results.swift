public import Core
import Storage

/// Which results are wanted.
public struct ResultQuery: Equatable, Sendable {
    public var text: String?
    public var hasUsername: Bool?
    public var hasPhone: Bool?
    public var activeSince: Timestamp?
    public var minimumMessages: Int64?

    public init() {}
    public var isEmpty: Bool { self == ResultQuery() }
}

/// Somebody in a result.
public struct PersonResult: Equatable, Sendable {
    public let position: Int64
    public let platformID: String
    public let username: String?
    public let displayName: String
    public let firstName: String
    public let lastName: String
    public let phone: String?
    public let firstSeen: Timestamp?
    public let lastSeen: Timestamp?
    public let messageCount: Int64
    public let isBot: Bool
    public let isDeleted: Bool
    public let isPremium: Bool
    public let isContact: Bool
    public let isScam: Bool
    public let isAdmin: Bool
    public let presence: String
    public let languageCode: String
    /// The community they were met in: whoever has only their number may find them there.
    public let seenIn: String
}

/// A message in a result.
public struct MessageResult: Equatable, Sendable {
    public let position: Int64
    public let platformID: String
    public let chatID: String
    public let postID: String?
    public let authorID: String?
    public let authorUsername: String?
    public let authorName: String
    public let sentAt: Timestamp
    public let editedAt: Timestamp?
    public let content: String
    public let media: String?
    public let fileID: String?
    public let views: Int64
    public let forwards: Int64
    public let reactions: Int64
    public let replies: Int64?
    public let replyTo: String?
    public let forwardedFrom: String?
}

/// Where a page of results begins.
public enum ResultPlace: Equatable, Sendable {
    /// Counted from 1. Found by the numbers of the rows, in the same time for the last as for the first, as
    /// long as nothing is left out.
    case page(Int)
    /// Behind the row of this number, whatever is left out.
    case after(Int64)
}

extension ParseStore {
    public func people(
        of task: ParseTask, _ query: ResultQuery, at place: ResultPlace, limit: Int
    ) async throws -> [PersonResult] {
        try await rows("parse_people", peopleCondition(query), query.isEmpty, task, place, limit)
            .map { try PersonResult($0, seenIn: task.link.shown) }
    }

    public func messages(
        of task: ParseTask, _ query: ResultQuery, at place: ResultPlace, limit: Int
    ) async throws -> [MessageResult] {
        try await rows("parse_messages", messagesCondition(query), query.isEmpty, task, place, limit)
            .map { try MessageResult($0) }
    }

    private func rows(
        _ table: StaticString, _ condition: SQL, _ isWhole: Bool, _ task: ParseTask, _ place: ResultPlace,
        _ limit: Int
    ) async throws -> Rows {
        switch place {
        case .page(let page) where isWhole && task.counts.erased == 0:
            let behind = Int64(page - 1) * Int64(limit)
            return try await database.run(
                """
                SELECT * FROM \(raw: table) WHERE task_no = \(task.number) AND position > \(behind)
                    AND position <= \(behind + Int64(limit))
                ORDER BY position
                """)
        case .page(let page):
            return try await database.run(
                """
                SELECT * FROM \(raw: table) WHERE task_no = \(task.number) AND \(condition)
                ORDER BY position LIMIT \(limit) OFFSET \((page - 1) * limit)
                """)
        case .after(let position):
            return try await database.run(
                """
                SELECT * FROM \(raw: table)
                WHERE task_no = \(task.number) AND position > \(position) AND \(condition)
                ORDER BY position LIMIT \(limit)
                """)
        }
    }

    public func countPeople(of task: ParseTask, _ query: ResultQuery) async throws -> Int {
        guard !query.isEmpty else { return Int(task.counts.results) }
        return try await database.run(
            """
            SELECT count(*) AS n FROM parse_people
            WHERE task_no = \(task.number) AND \(peopleCondition(query))
            """)[0].int("n")
    }

    public func countMessages(of task: ParseTask, _ query: ResultQuery) async throws -> Int {
        guard !query.isEmpty else { return Int(task.counts.storedMessages) }
        return try await database.run(
            """
            SELECT count(*) AS n FROM parse_messages
            WHERE task_no = \(task.number) AND \(messagesCondition(query))
            """)[0].int("n")
    }

    private func peopleCondition(_ query: ResultQuery) -> SQL {
        var sql: SQL = "TRUE"
        if let text = query.text {
            sql = """
                \(sql) AND (\(match("display_name", text)) OR \(match("username", withoutAt(text)))
                    OR platform_id = \(text))
                """
        }
        if let has = query.hasUsername {
            sql = has ? "\(sql) AND username IS NOT NULL" : "\(sql) AND username IS NULL"
        }
        if let has = query.hasPhone {
            sql = has ? "\(sql) AND phone IS NOT NULL" : "\(sql) AND phone IS NULL"
        }
        if let moment = query.activeSince { sql = "\(sql) AND last_seen >= \(moment)" }
        if let count = query.minimumMessages { sql = "\(sql) AND message_count >= \(count)" }
        return sql
    }

    private func messagesCondition(_ query: ResultQuery) -> SQL {
        var sql: SQL = "TRUE"
        if let text = query.text {
            sql = """
                \(sql) AND (\(match("content", text)) OR \(match("author_name", text))
                    OR \(match("author_username", withoutAt(text))) OR author_id = \(text))
                """
        }
        if let has = query.hasUsername {
            sql = has ? "\(sql) AND author_username IS NOT NULL" : "\(sql) AND author_username IS NULL"
        }
        if let moment = query.activeSince { sql = "\(sql) AND sent_at >= \(moment)" }
        return sql
    }

    private func withoutAt(_ text: String) -> String { text.hasPrefix("@") ? String(text.dropFirst()) : text }

    /// Holds the text, in the cases in which names and sentences are written. Neither engine knows the case of
    /// letters beyond ASCII everywhere.
    private func match(_ column: StaticString, _ text: String) -> SQL {
        let lower = text.lowercased()
        let forms = [text, lower, lower.prefix(1).uppercased() + lower.dropFirst(), text.uppercased()]
        var sql: SQL = "FALSE"
        for form in Set(forms).sorted() {
            let pattern =
                "%"
                + form.replacing("\\", with: "\\\\").replacing("%", with: "\\%").replacing("_", with: "\\_")
                + "%"
            switch database.dialect {
            case .postgres: sql = "\(sql) OR \(raw: column) ILIKE \(pattern)"
            case .sqlite: sql = "\(sql) OR \(raw: column) LIKE \(pattern) ESCAPE '\\'"
            }
        }
        return "(\(sql))"
    }

    // MARK: - What must go

    /// Rows of tasks that were deleted, or whose results have been kept long enough; a part at a time, so that
    /// nobody waits for it. Returns how many rows went.
    public func purge(at now: Timestamp, most: Int = 5_000) async throws -> Int {
        let due = try await database.run(
            """
            SELECT no, deleted_at FROM parse_tasks
            WHERE deleted_at IS NOT NULL OR (results_until <= \(now) AND NOT results_erased)
            ORDER BY no LIMIT 20
            """)
        var gone = 0
        for row in due {
            let number = try row.int64("no")
            gone += try await purgeRows(of: number, most: most)
            guard gone < most else { break }
            if try row.optionalInt64("deleted_at") != nil {
                try await database.run("DELETE FROM parse_tasks WHERE no = \(number)")
                gone += 1
            } else {
                try await database.run(
                    """
                    UPDATE parse_tasks SET results_erased = TRUE, results = 0, stored_messages = 0,
                        revision = revision + 1
                    WHERE no = \(number)
                    """)
                gone += 1
            }
        }
        try await database.run("DELETE FROM parse_account_pace WHERE updated_at < \(now - .hours(1))")
        return gone
    }

    private func purgeRows(of task: Int64, most: Int) async throws -> Int {
        var gone = 0
        while gone < most {
            let people = try await database.run(
                """
                DELETE FROM parse_people WHERE task_no = \(task) AND position IN (
                    SELECT position FROM parse_people WHERE task_no = \(task) ORDER BY position LIMIT 1000)
                """
            ).affected
            let messages = try await database.run(
                """
                DELETE FROM parse_messages WHERE task_no = \(task) AND position IN (
                    SELECT position FROM parse_messages WHERE task_no = \(task) ORDER BY position LIMIT 1000)
                """
            ).affected
            gone += people + messages
            if people + messages == 0 { break }
        }
        return gone
    }

    /// Everything of a user.
    public func erase(user: Int64) async throws {
        let tasks = try await database.run("SELECT no FROM parse_tasks WHERE user_id = \(user)").map {
            try $0.int64("no")
        }
        // No more is written from here on.
        try await database.run(
            """
            UPDATE parse_tasks SET claim = NULL, claimed_until = 0, status = 'cancelled', deleted_at = 0
            WHERE user_id = \(user)
            """)
        for task in tasks { while try await purgeRows(of: task, most: 5_000) > 0 {} }
        try await database.run("DELETE FROM parse_tasks WHERE user_id = \(user)")
    }

    /// What erasing somebody came to.
    public struct Erasure: Equatable, Sendable {
        public var people = 0
        public var messages = 0
        public var tasks = 0
        /// How else the results knew the person.
        public var platformIDs: [String] = []
        public var usernames: [String] = []
        public var phones: [String] = []
    }

    /// Erases a person from all results, or from those of one user: by number, username or phone, however
    /// written. What they wrote goes with them; what others handed on of it stays, without their number.
    public func erase(person identifier: String, of user: Int64?) async throws -> Erasure {
        let text = identifier.trimmed
        let digits = String(text.filter { $0.isASCII && $0.isNumber })
        let phone = "+\(digits)"
        let name = CommunityLink(text).map(\.key) ?? text.lowercased()
        let owner: SQL = user.map { "task.user_id = \($0)" } ?? "TRUE"
        let found = try await database.run(
            """
            SELECT DISTINCT person.task_no, person.platform_id, person.username, person.phone
            FROM parse_people AS person JOIN parse_tasks AS task ON task.no = person.task_no
            WHERE \(owner) AND (person.platform_id = \(text) OR lower(person.username) = \(name)
                OR person.phone = \(phone) OR person.phone = \(digits))
            """, timeout: .minutes(5))
        var erasure = Erasure()
        var tasks: Set<Int64> = []
        for row in found {
            let (task, id) = (try row.int64("task_no"), try row.text("platform_id"))
            tasks.insert(task)
            erasure.platformIDs.append(id)
            if let username = try row.optionalText("username") { erasure.usernames.append(username) }
            if let phone = try row.optionalText("phone") { erasure.phones.append(phone) }
            let gone = try await database.transaction(isolation: .readCommitted, timeout: .minutes(5)) {
                transaction in
                let people = try transaction.run(
                    "DELETE FROM parse_people WHERE task_no = \(task) AND platform_id = \(id)"
                ).affected
                let messages = try transaction.run(
                    "DELETE FROM parse_messages WHERE task_no = \(task) AND author_id = \(id)"
                ).affected
                try transaction.run(
                    """
                    UPDATE parse_tasks SET results = results - \(people),
                        stored_messages = stored_messages - \(messages), erased = erased + \(people + messages),
                        revision = revision + 1
                    WHERE no = \(task)
                    """)
                return (people, messages)
            }
            erasure.people += gone.0
            erasure.messages += gone.1
        }
        erasure.tasks = tasks.count
        // Whoever was met only where somebody handed on what they wrote stands in no list of people.
        let numbers = Set(erasure.platformIDs + (Int64(text) == nil ? [] : [text])).sorted()
        if !numbers.isEmpty {
            try await database.run(
                """
                UPDATE parse_messages SET forwarded_from = NULL
                WHERE forwarded_from IN \(list: numbers)
                    AND task_no IN (SELECT no FROM parse_tasks AS task WHERE \(owner))
                """, timeout: .minutes(5))
        }
        return erasure
    }
}

extension PersonResult {
    init(_ row: Row, seenIn: String) throws {
        self.seenIn = seenIn
        position = try row.int64("position")
        platformID = try row.text("platform_id")
        username = try row.optionalText("username")
        displayName = try row.text("display_name")
        firstName = try row.text("first_name")
        lastName = try row.text("last_name")
        phone = try row.optionalText("phone")
        firstSeen = try row.optionalTimestamp("first_seen")
        lastSeen = try row.optionalTimestamp("last_seen")
        messageCount = try row.int64("message_count")
        let flags = PersonFlags(rawValue: try row.int64("flags"))
        isBot = flags.contains(.bot)
        isDeleted = flags.contains(.deleted)
        isPremium = flags.contains(.premium)
        isContact = flags.contains(.contact)
        isScam = flags.contains(.scam)
        isAdmin = flags.contains(.admin)
        presence = try row.text("presence")
        languageCode = try row.text("language_code")
    }

    /// As every reader of results expects it: a person is their own author.
    public var json: JSONValue {
        [
            "kind": "person", "position": .int(position), "platform_id": .string(platformID),
            "username": JSONValue(username), "display_name": .string(displayName),
            "first_seen": JSONValue(firstSeen), "last_seen": JSONValue(lastSeen),
            "message_count": .int(messageCount), "author_username": JSONValue(username),
            "author_name": .string(displayName), "author_id": .string(platformID), "seen_in": .string(seenIn),
            "platform_specific_data": [
                "user_id": Int64(platformID).map { .int($0) } ?? .string(platformID),
                "first_name": .string(firstName), "last_name": .string(lastName), "phone": JSONValue(phone),
                "is_bot": .bool(isBot), "is_premium": .bool(isPremium), "is_deleted": .bool(isDeleted),
                "is_contact": .bool(isContact), "is_scam": .bool(isScam), "is_admin": .bool(isAdmin),
                "language_code": .string(languageCode), "presence": .string(presence),
            ],
        ]
    }
}

extension MessageResult {
    init(_ row: Row) throws {
        position = try row.int64("position")
        platformID = try row.text("platform_id")
        chatID = try row.text("chat_id")
        postID = try row.optionalText("post_id")
        authorID = try row.optionalText("author_id")
        authorUsername = try row.optionalText("author_username")
        authorName = try row.text("author_name")
        sentAt = try row.timestamp("sent_at")
        editedAt = try row.optionalTimestamp("edited_at")
        content = try row.text("content")
        media = try row.optionalText("media")
        fileID = try row.optionalText("file_id")
        views = try row.int64("views")
        forwards = try row.int64("forwards")
        reactions = try row.int64("reactions")
        replies = try row.optionalInt64("replies")
        replyTo = try row.optionalText("reply_to")
        forwardedFrom = try row.optionalText("forwarded_from")
    }

    public var json: JSONValue {
        [
            "kind": "message", "position": .int(position), "platform_id": .string(platformID),
            "username": JSONValue(authorUsername), "display_name": .string(authorName),
            "first_seen": sentAt.json, "last_seen": sentAt.json, "message_count": 1,
            "author_username": JSONValue(authorUsername), "author_name": .string(authorName),
            "author_id": JSONValue(authorID), "content": .string(content), "media": JSONValue(media),
            "platform_specific_data": [
                "chat_id": .string(chatID), "post_id": JSONValue(postID), "edited_at": JSONValue(editedAt),
                "file_id": JSONValue(fileID), "views": .int(views), "forwards": .int(forwards),
                "reactions": .int(reactions), "replies": JSONValue(replies), "reply_to": JSONValue(replyTo),
                "forwarded_from": JSONValue(forwardedFrom),
            ],
        ]
    }
}
