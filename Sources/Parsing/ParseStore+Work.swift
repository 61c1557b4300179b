public import Core
import Storage

// Who works on what, and what the work leaves behind.
extension ParseStore {
    /// How long a claim holds without a sign of life.
    public static let claimDuration: Duration = .seconds(60)

    // MARK: - Claims

    /// Takes the task that is next: high before low, the user with the fewest running first, then whoever came
    /// first. One statement, so that nobody comes between choosing and taking.
    public func claim(_ token: String, by worker: String, at now: Timestamp) async throws -> ParseTask? {
        let rows = try await database.run(
            """
            UPDATE parse_tasks SET claim = \(token), claimed_by = \(worker),
                claimed_until = \(now + Self.claimDuration)
            WHERE no = (
                SELECT no FROM parse_tasks AS next
                WHERE status IN ('pending', 'running') AND deleted_at IS NULL AND not_before <= \(now)
                    AND claimed_until <= \(now)
                ORDER BY priority, (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = next.user_id AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL
                ), queued_at, no
                LIMIT 1 \(raw: database.dialect.skipLocked))
            RETURNING *
            """)
        return try rows.first.map { try ParseTask($0) }
    }

    /// A worker that starts again under its name takes up at once what it held.
    public func forgetClaims(of worker: String) async throws {
        try await database.run(
            """
            UPDATE parse_tasks SET claim = NULL, claimed_until = 0
            WHERE claimed_by = \(worker) AND claim IS NOT NULL
            """)
    }

    /// A sign of life. False where the claim is lost, because the task was stopped or somebody else has it.
    public func keepClaim(_ task: ParseTask, at now: Timestamp) async throws -> Bool {
        guard let claim = task.claim else { return false }
        return try await database.run(
            """
            UPDATE parse_tasks SET claimed_until = \(now + Self.claimDuration)
            WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL
                AND status IN ('pending', 'running')
            """
        ).affected > 0
    }

    /// The task as it is now; nil where the claim is lost.
    public func claimed(_ task: ParseTask) async throws -> ParseTask? {
        guard let claim = task.claim else { return nil }
        return try await database.run(
            "SELECT * FROM parse_tasks WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL"
        ).first.map { try ParseTask($0) }
    }

    /// Reading begins, or goes on, with this account.
    public func begin(_ task: ParseTask, with lease: AccountLease, at now: Timestamp) async throws
        -> ParseTask
    {
        try await changed(
            task,
            """
            status = 'running', started_at = coalesce(started_at, \(now)), waiting = NULL, not_before = 0,
            lease = \(lease.stored), updated_at = \(now)
            """)
    }

    /// The account was given back.
    public func forgetLease(_ task: ParseTask) async throws -> ParseTask {
        try await changed(task, "lease = NULL")
    }

    /// Gives the task back, to be taken up again not before a moment.
    public func wait(_ task: ParseTask, for waiting: Waiting, at now: Timestamp) async throws {
        _ = try await changed(
            task,
            """
            waiting = \(waiting.stored), not_before = \(waiting.until), claim = NULL, claimed_until = 0,
            lease = NULL, updated_at = \(now)
            """)
    }

    /// Gives the task back at once, behind others of its priority.
    public func yield(_ task: ParseTask, at now: Timestamp) async throws {
        _ = try await changed(
            task, "claim = NULL, claimed_until = 0, lease = NULL, queued_at = \(now), updated_at = \(now)")
    }

    /// The end: everything was read, or it cannot be.
    public func finish(
        _ task: ParseTask, _ failure: TaskFailure?, at now: Timestamp, keepingResultsFor retention: Duration
    ) async throws {
        _ = try await changed(
            task,
            """
            status = \((failure == nil ? TaskStatus.completed : .failed).rawValue), failure = \(failure?.stored),
            waiting = NULL, claim = NULL, claimed_until = 0, lease = NULL, finished_at = \(now),
            updated_at = \(now), results_until = \(now + retention)
            """)
    }

    private func changed(_ task: ParseTask, _ assignments: SQL) async throws -> ParseTask {
        guard let claim = task.claim else { throw ParseError.claimLost }
        let rows = try await database.run(
            """
            UPDATE parse_tasks SET \(assignments), revision = revision + 1
            WHERE no = \(task.number) AND claim = \(claim) AND deleted_at IS NULL
                AND status IN ('pending', 'running')
            RETURNING *
            """)
        guard let row = rows.first else { throw ParseError.claimLost }
        return try ParseTask(row)
    }

    /// An account has become free: those of its user that wait for one may look again.
    public func wakeWaiting(of user: Int64) async throws -> Int {
        try await database.run(
            """
            UPDATE parse_tasks SET not_before = 0
            WHERE user_id = \(user) AND status IN ('pending', 'running') AND deleted_at IS NULL
                AND not_before > 0 AND claim IS NULL AND waiting LIKE '%no_account%'
            """
        ).affected
    }

    /// Whether somebody waits whose turn it is more than this task's: of a higher priority, or a user who has
    /// less running.
    public func isSomebodyWaiting(behind task: ParseTask, at now: Timestamp) async throws -> Bool {
        try await database.run(
            """
            SELECT 1 FROM parse_tasks AS next
            WHERE status IN ('pending', 'running') AND deleted_at IS NULL AND not_before <= \(now)
                AND claimed_until <= \(now)
                AND (priority < \(task.priority.rank) OR priority = \(task.priority.rank) AND (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = next.user_id AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL
                ) + 1 < (
                    SELECT count(*) FROM parse_tasks AS other
                    WHERE other.user_id = \(task.user) AND other.claimed_until > \(now)
                        AND other.status IN ('pending', 'running') AND other.deleted_at IS NULL))
            LIMIT 1
            """
        ).count > 0
    }

    /// Whether a more urgent task of the same user waits for an account, which this one could give it.
    public func isUrgentWaiting(for task: ParseTask) async throws -> Bool {
        try await database.run(
            """
            SELECT 1 FROM parse_tasks
            WHERE user_id = \(task.user) AND priority < \(task.priority.rank)
                AND status IN ('pending', 'running') AND deleted_at IS NULL AND claim IS NULL
                AND waiting LIKE '%no_account%'
            LIMIT 1
            """
        ).count > 0
    }

    /// A stopped task's account goes back, unless somebody else has taken up the task together with it. True
    /// where it is for the caller to give it back.
    public func dropLease(_ lease: AccountLease, of task: ParseTask) async throws -> Bool {
        try await database.run(
            """
            UPDATE parse_tasks SET lease = NULL
            WHERE no = \(task.number) AND lease = \(lease.stored) AND (claim IS NULL OR claim = \(task.claim))
            """
        ).affected > 0
    }

    /// The account a task still names that nobody works on, whether it is deleted or not.
    public func leaseLeft(by task: ParseTask) async throws -> AccountLease? {
        let rows = try await database.run("SELECT lease FROM parse_tasks WHERE no = \(task.number)")
        return AccountLease(stored: try rows.first?.optionalJSON("lease"))
    }

    /// When the next task is due that is not yet; nil where none is.
    public func nextDue(after now: Timestamp) async throws -> Timestamp? {
        try await database.run(
            """
            SELECT min(CASE WHEN not_before > claimed_until THEN not_before ELSE claimed_until END) AS due
            FROM parse_tasks
            WHERE status IN ('pending', 'running') AND deleted_at IS NULL
                AND (not_before > \(now) OR claimed_until > \(now))
            """
        )[0].optionalTimestamp("due")
    }

    /// An account of the user's that reads for us just now.
    public func accountInUse(of user: Int64, at now: Timestamp) async throws -> String? {
        let rows = try await database.run(
            """
            SELECT lease FROM parse_tasks
            WHERE user_id = \(user) AND status = 'running' AND claimed_until > \(now) AND lease IS NOT NULL
                AND deleted_at IS NULL
            LIMIT 1
            """)
        return AccountLease(stored: try rows.first?.optionalJSON("lease"))?.account
    }

    // MARK: - The checkpoint

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

    // MARK: - Pace

    public func pace(of account: String) async throws -> Pace {
        try await database.run("SELECT requests FROM parse_account_pace WHERE account = \(account)").first
            .map { Pace(stored: try $0.text("requests")) } ?? Pace()
    }

    /// Before the request goes out, so that no crash lets an account ask sooner than it may.
    public func note(_ pace: Pace, of account: String, at now: Timestamp) async throws {
        try await database.run(
            """
            INSERT INTO parse_account_pace (account, requests, updated_at)
            VALUES (\(account), \(pace.stored), \(now))
            ON CONFLICT (account) DO UPDATE SET requests = excluded.requests, updated_at = excluded.updated_at
            """)
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
