import Core
import Storage

/// People whom a task's result holds for certain, so that its table need not be asked for them page after page.
public struct KnownPeople: Sendable {
    public static let nobody = KnownPeople()
    /// Of a larger community some are asked about again; it is little memory for each of many tasks at once.
    private static let most = 40_000

    private var ids: Set<String> = []

    func holds(_ id: String) -> Bool { ids.contains(id) }

    /// Those whom a page held, once it has been written. Of an incremental run only who wrote: members whom an
    /// earlier result holds are in no row of this one.
    mutating func note(_ people: Merging, in config: ParseConfig) {
        let new = people.sightings.filter {
            !holds($0.person.platformID) && ($0.messages > 0 || !config.isIncremental)
        }
        guard !new.isEmpty else { return }
        if ids.count + new.count > Self.most { ids.removeAll(keepingCapacity: true) }
        for sighting in new.prefix(Self.most) { ids.insert(sighting.person.platformID) }
    }
}

// Who has been met before, and how often they wrote.
extension Transaction {
    /// Those of the people that this task's result holds already. Each is looked up by itself, in an order that
    /// only the right index has.
    func met(_ ids: [String], in task: Int64) throws -> Set<String> {
        try lookUpOneByOne()
        let rows = try run(
            """
            SELECT page.id FROM (\(texts(ids))) AS page
            WHERE (\(place(of: "page.id", in: task))) IS NOT NULL
            """)
        return Set(try rows.map { try $0.text("id") })
    }

    /// Those of the people that results of these tasks hold already.
    func known(_ ids: [String], in tasks: [Int64]) throws -> Set<String> {
        guard !tasks.isEmpty else { return [] }
        let rows = try run(
            """
            SELECT page.id FROM (\(texts(ids))) AS page
            WHERE (SELECT 1 FROM parse_people AS person
                WHERE person.task_no IN \(list: tasks) AND person.platform_id = page.id LIMIT 1) IS NOT NULL
            """)
        return Set(try rows.map { try $0.text("id") })
    }

    /// People who were met before, otherwise than by what they wrote.
    func seeAgain(_ sightings: [Merging.Sighting], in task: Int64) throws {
        guard !sightings.isEmpty else { return }
        let list = JSONValue.array(
            sightings.map { sighting in
                .object(present: [
                    "id": .string(sighting.person.platformID),
                    "first": sighting.first.map { .int($0.milliseconds) },
                    "last": sighting.last.map { .int($0.milliseconds) },
                ])
            })
        switch dialect {
        case .postgres:
            try count(
                """
                SELECT id, first, last, 0 AS n
                FROM jsonb_to_recordset(\(list)::jsonb) AS page(id TEXT, first BIGINT, last BIGINT)
                """, in: task)
        case .sqlite:
            try count(
                """
                SELECT value ->> '$.id' AS id, value ->> '$.first' AS first, value ->> '$.last' AS last, 0 AS n
                FROM json_each(\(list))
                """, in: task)
        }
    }

    /// Counts the messages that are not counted yet, for those who wrote them.
    func countMessages(of task: Int64, from counted: Int64, to last: Int64) throws {
        guard counted < last else { return }
        try count(
            """
            SELECT author_id AS id, min(sent_at) AS first, max(sent_at) AS last, count(*) AS n
            FROM parse_messages
            WHERE task_no = \(task) AND position > \(counted) AND position <= \(last) AND author_id IS NOT NULL
            GROUP BY author_id
            """, in: task)
    }

    /// The same up to the last one.
    func countAll(of task: ParseTask) throws {
        let counts = task.counts
        guard counts.countedMessage < counts.lastMessage else { return }
        try countMessages(of: task.number, from: counts.countedMessage, to: counts.lastMessage)
        try run("UPDATE parse_tasks SET counted_message = \(counts.lastMessage) WHERE no = \(task.number)")
    }

    /// Whoever has a row is seen again, and has written so often more.
    private func count(_ met: SQL, in task: Int64) throws {
        try lookUpOneByOne()
        switch dialect {
        case .postgres:
            try run(
                """
                WITH met AS MATERIALIZED (
                    SELECT first, last, n, (\(place(of: "page.id", in: task))) AS place FROM (\(met)) AS page)
                UPDATE parse_people AS known SET
                    first_seen = least(known.first_seen, met.first),
                    last_seen = greatest(known.last_seen, met.last), message_count = message_count + met.n
                FROM met WHERE known.ctid = met.place
                """)
        case .sqlite:
            try run(
                """
                UPDATE parse_people AS known SET
                    first_seen = min(coalesce(first_seen, met.first), coalesce(met.first, first_seen)),
                    last_seen = max(coalesce(last_seen, met.last), coalesce(met.last, last_seen)),
                    message_count = message_count + met.n
                FROM (\(met)) AS met
                WHERE known.task_no = \(task) AND known.platform_id = met.id
                """)
        }
    }

    /// While rows are being written nobody has counted them yet. PostgreSQL takes a task's people for one or two and
    /// would read all of them, for every page or even for every person.
    private func lookUpOneByOne() throws {
        guard dialect == .postgres else { return }
        try run(
            """
            SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
                set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),
                set_config('jit', 'off', true)
            """)
    }

    /// Where a person's row is.
    private func place(of id: StaticString, in task: Int64) -> SQL {
        switch dialect {
        case .postgres:
            """
            SELECT ctid FROM parse_people AS person
            WHERE person.task_no = \(task) AND person.platform_id >= \(raw: id)
                AND person.platform_id <= \(raw: id)
            ORDER BY person.platform_id LIMIT 1
            """
        case .sqlite:
            """
            SELECT 1 FROM parse_people AS person
            WHERE person.task_no = \(task) AND person.platform_id = \(raw: id)
            """
        }
    }

    /// One argument whatever their number, so that the statement is prepared once.
    private func texts(_ ids: [String]) -> SQL {
        let list = JSONValue.array(ids.map { .string($0) })
        switch dialect {
        case .postgres: return "SELECT jsonb_array_elements_text(\(list)::jsonb) AS id"
        case .sqlite: return "SELECT value AS id FROM json_each(\(list))"
        }
    }

    /// Finished runs of the same link, whose results are still there: rows that wait to be erased are nobody's.
    func earlierRuns(of task: ParseTask) throws -> [Int64] {
        try run(
            """
            SELECT no FROM parse_tasks
            WHERE user_id = \(task.user) AND link = \(task.link.key) AND task_type = \(task.type.rawValue)
                AND status = 'completed' AND no < \(task.number) AND deleted_at IS NULL AND NOT results_erased
            """
        ).map { try $0.int64("no") }
    }
}
