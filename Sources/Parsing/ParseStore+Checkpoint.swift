public import Core
import Storage

// What a page leaves behind, and the place behind it.
extension ParseStore {
    /// Writes what a page held together with the place behind it: both or neither. Throws `claimLost`, and has
    /// changed nothing, where somebody else works on the task or it was stopped.
    public func save(
        _ harvest: Course.Harvest, _ course: Course, of task: ParseTask, active: Duration, at now: Timestamp
    ) async throws -> ParseTask {
        guard let claim = task.claim else { throw ParseError.claimLost }
        let isIncremental = task.config.isIncremental
        return try await database.transaction { transaction in
            let found = try transaction.run(
                """
                SELECT last_person, last_message FROM parse_tasks
                WHERE no = \(task.number) AND claim = \(claim) AND status = 'running' AND deleted_at IS NULL
                \(raw: transaction.dialect.locking)
                """)
            guard let row = found.first else { throw ParseError.claimLost }
            var course = course
            let sightings = harvest.people.sightings
            var new = sightings
            if !sightings.isEmpty {
                let known = try transaction.recount(sightings, in: task.number)
                new = sightings.filter { !known.contains($0.person.platformID) }
                // Who wrote is new by what they wrote; who is merely a member is new only once.
                let listed = new.filter { $0.messages == 0 }.map(\.person.platformID)
                if isIncremental, !listed.isEmpty {
                    let old = try transaction.known(listed, in: try transaction.earlierRuns(of: task))
                    course.noteKnown(Int64(old.count))
                    new.removeAll { old.contains($0.person.platformID) && $0.messages == 0 }
                }
            }
            let firstPerson = try row.int64("last_person")
            let firstMessage = try row.int64("last_message")
            try transaction.insert(new, of: task.number, behind: firstPerson)
            try transaction.insert(harvest.messages, of: task.number, behind: firstMessage)
            let rows = try transaction.run(
                """
                UPDATE parse_tasks SET course = \(course.stored), messages = messages + \(harvest.counts.messages),
                    media = media + \(harvest.counts.media), users = users + \(harvest.counts.users),
                    filtered = filtered + \(harvest.counts.filtered), results = results + \(new.count),
                    stored_messages = stored_messages + \(harvest.messages.count),
                    last_person = last_person + \(new.count),
                    last_message = last_message + \(harvest.messages.count),
                    active_ms = active_ms + \(active.milliseconds), updated_at = \(now),
                    claimed_until = \(now + Self.claimDuration), revision = revision + 1
                WHERE no = \(task.number) RETURNING *
                """)
            return try ParseTask(rows[0])
        }
    }
}

extension Transaction {
    /// Those of the people that results of these tasks hold already.
    fileprivate func known(_ ids: [String], in tasks: [Int64]) throws -> Set<String> {
        guard !tasks.isEmpty else { return [] }
        let rows = try run(
            """
            SELECT page.id FROM (\(texts(ids))) AS page
            WHERE (SELECT 1 FROM parse_people AS person
                WHERE person.task_no IN \(list: tasks) AND person.platform_id = page.id LIMIT 1) IS NOT NULL
            """)
        return Set(try rows.map { try $0.text("id") })
    }

    /// One argument whatever their number, so that the statement is prepared once.
    private func texts(_ ids: [String]) -> SQL {
        let list = JSONValue.array(ids.map { .string($0) })
        switch dialect {
        case .postgres: return "SELECT jsonb_array_elements_text(\(list)::jsonb) AS id"
        case .sqlite: return "SELECT value AS id FROM json_each(\(list))"
        }
    }

    /// Those who were met before are seen again, and have written so often more. Returns who they are.
    ///
    /// While they are being written nobody has counted a task's rows yet. PostgreSQL takes them for one or two and
    /// would read all of them, for every page or even for every person. So each is looked up by itself, in an order
    /// that only the right index has, and changed where it was found.
    fileprivate func recount(_ sightings: [Merging.Sighting], in task: Int64) throws -> Set<String> {
        let list = JSONValue.array(
            sightings.map { sighting in
                .object(present: [
                    "id": .string(sighting.person.platformID),
                    "first": sighting.first.map { .int($0.milliseconds) },
                    "last": sighting.last.map { .int($0.milliseconds) }, "n": .int(sighting.messages),
                ])
            })
        let rows: Rows
        switch dialect {
        case .postgres:
            try run(
                """
                SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
                    set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)
                """)
            rows = try run(
                """
                WITH met AS MATERIALIZED (
                    SELECT first, last, n, (
                        SELECT ctid FROM parse_people AS person
                        WHERE person.task_no = \(task) AND person.platform_id >= page.id
                            AND person.platform_id <= page.id
                        ORDER BY person.platform_id LIMIT 1) AS place
                    FROM jsonb_to_recordset(\(list)::jsonb)
                        AS page(id TEXT, first BIGINT, last BIGINT, n BIGINT))
                UPDATE parse_people AS known SET
                    first_seen = least(known.first_seen, met.first),
                    last_seen = greatest(known.last_seen, met.last), message_count = message_count + met.n
                FROM met WHERE known.ctid = met.place
                RETURNING known.platform_id AS platform_id
                """)
        case .sqlite:
            rows = try run(
                """
                UPDATE parse_people AS known SET
                    first_seen = min(coalesce(first_seen, met.first), coalesce(met.first, first_seen)),
                    last_seen = max(coalesce(last_seen, met.last), coalesce(met.last, last_seen)),
                    message_count = message_count + met.n
                FROM (
                    SELECT value ->> '$.id' AS id, value ->> '$.first' AS first, value ->> '$.last' AS last,
                        value ->> '$.n' AS n
                    FROM json_each(\(list))) AS met
                WHERE known.task_no = \(task) AND known.platform_id = met.id
                RETURNING platform_id
                """)
        }
        return Set(try rows.map { try $0.text("platform_id") })
    }

    /// Finished runs of the same link, whose results are still there: rows that wait to be erased are nobody's.
    fileprivate func earlierRuns(of task: ParseTask) throws -> [Int64] {
        try run(
            """
            SELECT no FROM parse_tasks
            WHERE user_id = \(task.user) AND link = \(task.link.key) AND task_type = \(task.type.rawValue)
                AND status = 'completed' AND no < \(task.number) AND deleted_at IS NULL AND NOT results_erased
            """
        ).map { try $0.int64("no") }
    }

    fileprivate func insert(_ people: [Merging.Sighting], of task: Int64, behind: Int64) throws {
        guard !people.isEmpty else { return }
        var place = behind
        let rows = people.map { sighting -> [SQLValue] in
            place += 1
            let person = sighting.person
            return [
                .integer(task), .integer(place), .text(person.platformID), value(person.username),
                .text(person.displayName), .text(person.firstName), .text(person.lastName),
                value(person.phone), value(sighting.first), value(sighting.last),
                .integer(sighting.messages), .integer(PersonFlags(person).rawValue), .text(person.presence),
                .text(person.languageCode),
            ]
        }
        try copy(
            into: "parse_people",
            columns: [
                "task_no", "position", "platform_id", "username", "display_name", "first_name", "last_name",
                "phone", "first_seen", "last_seen", "message_count", "flags", "presence", "language_code",
            ], rows: rows)
    }

    fileprivate func insert(_ messages: [MessageRecord], of task: Int64, behind: Int64) throws {
        guard !messages.isEmpty else { return }
        var place = behind
        let rows = messages.map { message -> [SQLValue] in
            place += 1
            let author = message.author
            return [
                .integer(task), .integer(place), .text(message.platformID), .text(message.chatID),
                value(message.post), value(author?.platformID ?? message.authorChatID),
                value(author?.username), .text(author?.displayName ?? message.signature ?? ""),
                .integer(message.sentAt.milliseconds), value(message.editedAt), .text(message.content),
                value(message.media), value(message.fileID), .integer(message.views),
                .integer(message.forwards), .integer(message.reactions),
                message.replies.map { .integer($0) } ?? .null, value(message.replyTo),
                value(message.forwardedFrom),
            ]
        }
        try copy(
            into: "parse_messages",
            columns: [
                "task_no", "position", "platform_id", "chat_id", "post_id", "author_id", "author_username",
                "author_name", "sent_at", "edited_at", "content", "media", "file_id", "views", "forwards",
                "reactions", "replies", "reply_to", "forwarded_from",
            ], rows: rows)
    }
}

private func value(_ text: String?) -> SQLValue { text.map { .text($0) } ?? .null }
private func value(_ moment: Timestamp?) -> SQLValue { moment.map { .integer($0.milliseconds) } ?? .null }

/// What is yes or no of a person, in one number.
struct PersonFlags: OptionSet {
    let rawValue: Int64
    static let bot = PersonFlags(rawValue: 1)
    static let deleted = PersonFlags(rawValue: 2)
    static let premium = PersonFlags(rawValue: 4)
    static let contact = PersonFlags(rawValue: 8)
    static let scam = PersonFlags(rawValue: 16)
    static let admin = PersonFlags(rawValue: 32)

    init(rawValue: Int64) { self.rawValue = rawValue }

    init(_ person: PersonRecord) {
        var flags: PersonFlags = []
        if person.isBot { flags.insert(.bot) }
        if person.isDeleted { flags.insert(.deleted) }
        if person.isPremium { flags.insert(.premium) }
        if person.isContact { flags.insert(.contact) }
        if person.isScam { flags.insert(.scam) }
        if person.isAdmin { flags.insert(.admin) }
        self = flags
    }
}
