import Contracts
import Core
import HTTP
import Invites
import ServiceKit
import Sheets
import Storage
import Synchronization

/// Reads lists into campaigns: rows come from a file or from parsing-service, go through one understanding of
/// who they are into the staging table, and from there into the task in one piece.
struct ImportDesk: Sendable {
    let store: ImportStore
    let tasks: InviteStore
    let parsing: ParsingResults
    let errands: Errands
    let background: BackgroundWork
    let settings: ListSettings
    let metrics: ImportMetrics
    let time: any TimeSource
    let log: Log
    let live = LiveImports()

    /// Rows of one COPY.
    static let stagedAtOnce = 20_000
    /// A file of more mistakes than this is the wrong file.
    static let mostRejects = 1_000_000
    static let contentLimit = 300

    /// Where the people of an import come from.
    enum Source: Sendable {
        case list(SheetReader)
        case parseTask(String, [(name: String, value: String)])
    }

    struct Order: Sendable {
        var new: NewImport
        var user: Int64
        var source: Source
        /// For rows that do not say their own.
        var consentBasis: String?
        var log: Log
    }

    /// Reads the list to its end, also when the caller goes away meanwhile.
    func carryOut(_ order: Order) async throws -> ListImport {
        let id = try await begin(order)
        do {
            try await errands.run { try await work(id, order) }
        } catch is Errands.Refused {
            try await give(up: id, Problem.busyWithLists)
            throw Problem.busyWithLists
        }
        return try await store.listImport(id, of: order.user)
    }

    /// Begins to read, and leaves the caller to look at the progress.
    func start(_ order: Order) async throws -> ListImport {
        let id = try await begin(order)
        let isTaken = background.take {
            do { try await errands.run { try await work(id, order) } } catch {
                order.log.info("import.ended", ["import": .int(id), "error": .error(error)])
            }
        }
        guard isTaken else {
            try await give(up: id, Problem.busyWithLists)
            throw Problem.busyWithLists
        }
        return try await store.listImport(id, of: order.user)
    }

    private func begin(_ order: Order) async throws -> Int64 {
        if let task = order.new.task { _ = try await tasks.task(task, of: order.user) }
        return try await store.begin(order.new, of: order.user, at: time.now)
    }

    private func give(up id: Int64, _ problem: Problem) async throws {
        try await store.finish(id, ListImport.Counts(), problem: problem.stored, at: time.now)
    }

    // MARK: - The work

    private func work(_ id: Int64, _ order: Order) async throws {
        let start = time.uptime
        defer { live.forget(id) }
        let result: Result<ListImport.Counts, any Error>
        do { result = .success(try await read(id, order)) } catch { result = .failure(error) }
        // Whatever came of it, nobody's rows stay in the staging table.
        do { try await store.clear(id) } catch {
            log.warning("import.not-cleared", ["import": .int(id), "error": .error(error)])
        }
        switch result {
        case .success(let counts):
            try await store.finish(id, counts, at: time.now)
            metrics.count(counts, took: time.uptime - start)
            order.log.info(
                "import.done",
                [
                    "import": .int(id), "rows": .int(counts.rowsRead), "imported": .int(counts.imported),
                    "duplicates": .int(counts.duplicates), "rejected": .int(counts.rejected),
                ])
        case .failure(let error):
            let counts = live.snapshot(id)?.counts ?? ListImport.Counts()
            let problem = Problem.describing(error) ?? .internalError
            try await store.finish(id, counts, problem: problem.stored, at: time.now)
            throw error
        }
    }

    private func read(_ id: Int64, _ order: Order) async throws -> ListImport.Counts {
        let checksStops = try await store.hasStopList(of: order.user)
        var staging = Staging(id, checksStops: checksStops, basis: order.consentBasis)
        live.note(id, .reading, staging.counts, progress: 0)
        switch order.source {
        case .list(let reader): try await read(reader, into: &staging, order)
        case .parseTask(let task, let filters):
            try await parsing.people(of: task, filters, for: order.user) { lines in
                for line in lines { staging.take(line) }
                try await flush(&staging, progress: 0, isLast: false)
            }
        }
        try await flush(&staging, progress: 1, isLast: true)
        var counts = staging.counts
        let staged = staging.staged
        try await store.note(id, .writing, counts, progress: 0, at: time.now)
        let (live, source) = (live, order.new.sourceName)
        let counted = counts
        let merged = try await store.merge(
            id, count: staged, into: order.new.task, of: order.user,
            source: order.new.kind == .parsing ? .parsingImport : .fileUpload, sourceDetail: source,
            checkingStops: checksStops, onlyTrying: order.new.kind == .validation, at: time.now
        ) { done in
            live.note(id, .writing, counted, progress: Double(done) / Double(max(staged, 1)))
        }
        counts.imported = merged.written
        counts.suppressed = merged.suppressed
        counts.duplicates = staged - merged.written - merged.suppressed
        return counts
    }

    private func read(_ reader: SheetReader, into staging: inout Staging, _ order: Order) async throws {
        let shape = try await reader.open()
        guard shape.roles.canIdentify else { throw Problem.noColumns(shape.columns) }
        try await store.note(
            staging.id, .reading, staging.counts, progress: 0, shape: shape.json, at: time.now)
        var next = try await reader.next()
        while let rows = next {
            // The next piece is parsed while this one is understood and written.
            async let upcoming = reader.next()
            guard rows.count + staging.counts.rowsRead <= settings.mostRows else {
                throw Problem.tooManyRows(settings.mostRows)
            }
            staging.take(rows)
            try await flush(&staging, progress: await reader.progress, isLast: false)
            next = try await upcoming
        }
        // Columns of JSON may turn up late, and none of them may say who anybody is.
        guard staging.counts.rowsRead > 0 else { throw Problem.noRows }
    }

    private func flush(_ staging: inout Staging, progress: Double, isLast: Bool) async throws {
        live.note(staging.id, .reading, staging.counts, progress: progress)
        if staging.people.count >= Self.stagedAtOnce || isLast {
            try await store.stage(
                staging.people, from: staging.staged, of: staging.id, checkingStops: staging.checksStops)
            staging.staged += staging.people.count
            staging.people.removeAll(keepingCapacity: true)
            try await store.note(staging.id, .reading, staging.counts, progress: progress, at: time.now)
        }
        if staging.rejects.count >= Self.stagedAtOnce || isLast {
            try await store.keep(staging.rejects, from: staging.kept, of: staging.id)
            staging.kept += staging.rejects.count
            staging.rejects.removeAll(keepingCapacity: true)
        }
    }
}

/// What has been understood and waits to be written.
private struct Staging {
    let id: Int64
    let checksStops: Bool
    let basis: String?
    var counts = ListImport.Counts()
    var people: [ListedPerson] = []
    var rejects: [RejectedRow] = []
    /// How many have been written already.
    var staged = 0
    var kept = 0

    init(_ id: Int64, checksStops: Bool, basis: String?) {
        self.id = id
        self.checksStops = checksStops
        self.basis = basis
    }

    mutating func take(_ rows: SheetRows) {
        let columns = WrittenColumns(rows.roles)
        for row in rows {
            counts.rowsRead += 1
            if let defect = row.defect {
                reject(row.line, RowReject(defect), row)
                continue
            }
            do throws(RowReject) {
                var person = try columns.person(row).person()
                if person.consentBasis == nil { person.consentBasis = basis }
                people.append(person)
            } catch {
                reject(row.line, error, row)
            }
        }
    }

    /// A result of parsing, or nothing where it names nobody.
    mutating func take(_ result: JSONValue) {
        counts.rowsRead += 1
        guard var person = ParseResultPerson(result).person else {
            counts.unnamed += 1
            return
        }
        person.consentBasis = basis
        people.append(person)
    }

    private mutating func reject(_ line: Int, _ reason: RowReject, _ row: SheetRow) {
        counts.rejected += 1
        guard kept + rejects.count < ImportDesk.mostRejects else { return }
        var content = ""
        for column in 0..<min(row.count, 50) where content.utf8.count < ImportDesk.contentLimit {
            if column > 0 { content += " | " }
            content += row[column].prefix(100)
        }
        content = String(content.prefix(ImportDesk.contentLimit)).replacing("\0", with: "\u{FFFD}")
        rejects.append(RejectedRow(line: line, reason, content: content))
    }
}

/// The columns by what they mean, looked up once for many rows.
struct WrittenColumns {
    let username, phone, platformID, contact, fullName, firstName, lastName, email, basis, seenIn: [Int]

    init(_ roles: PeopleColumns) {
        username = roles[.username]
        phone = roles[.phone]
        platformID = roles[.userID]
        contact = roles[.contact]
        fullName = roles[.fullName]
        firstName = roles[.firstName]
        lastName = roles[.lastName]
        email = roles[.email]
        basis = roles[.basis]
        seenIn = roles[.seenIn]
    }

    func person(_ row: SheetRow) -> WrittenPerson {
        func first(_ columns: [Int]) -> String {
            for column in columns {
                let text = row[column]
                if !text.isEmpty { return text }
            }
            return ""
        }
        var person = WrittenPerson()
        person.username = first(username)
        person.phone = first(phone)
        person.platformID = first(platformID)
        person.contact = first(contact)
        person.fullName = first(fullName)
        person.firstName = first(firstName)
        person.lastName = first(lastName)
        person.email = first(email)
        person.consentBasis = first(basis)
        person.seenIn = first(seenIn)
        return person
    }
}

/// How far the imports of this process are, more finely than the database is told.
final class LiveImports: Sendable {
    struct State: Sendable {
        var stage: ListImport.Stage
        var counts: ListImport.Counts
        var progress: Double
    }
    private let states = Mutex<[Int64: State]>([:])

    func note(_ id: Int64, _ stage: ListImport.Stage, _ counts: ListImport.Counts, progress: Double) {
        states.withLock { $0[id] = State(stage: stage, counts: counts, progress: progress) }
    }
    func forget(_ id: Int64) { states.withLock { $0[id] = nil } }
    func snapshot(_ id: Int64) -> State? { states.withLock { $0[id] } }
}

/// Runs what nobody waits for, until the process stops.
final class BackgroundWork: Service {
    let name = "list-imports"
    private let stream: AsyncStream<@Sendable () async -> Void>
    private let continuation: AsyncStream<@Sendable () async -> Void>.Continuation

    init(capacity: Int) {
        (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(capacity))
    }

    func take(_ work: @escaping @Sendable () async -> Void) -> Bool {
        if case .enqueued = continuation.yield(work) { true } else { false }
    }

    func run() async throws {
        await withDiscardingTaskGroup { group in
            for await work in stream { group.addTask { await work() } }
        }
        try Task.checkCancellation()
    }
}

struct ImportMetrics: Sendable {
    private let rows: Labeled<Counter>
    private let seconds: Histogram

    init(_ metrics: Metrics) {
        rows = metrics.counters(
            "invite_import_rows_total", "Rows of lists by what became of them", labels: ["result"])
        seconds = metrics.histogram(
            "invite_import_seconds", "From the whole file to the written list",
            buckets: [0.1, 0.3, 1, 3, 10, 30, 100, 300])
    }

    func count(_ counts: ListImport.Counts, took: Duration) {
        rows["imported"].increment(by: counts.imported)
        rows["duplicate"].increment(by: counts.duplicates)
        rows["suppressed"].increment(by: counts.suppressed)
        rows["rejected"].increment(by: counts.rejected)
        rows["without_identifier"].increment(by: counts.unnamed)
        seconds.observe(took)
    }
}

extension Problem {
    static let busyWithLists = Problem(
        503, "busy_with_lists",
        .init(
            "Many lists are being read just now; try again in a minute",
            "Сейчас читается много списков; повторите через минуту")
    ).with(header: "Retry-After", "30")

    static let noRows = Problem(
        422, "empty_list", .init("There is nobody in this list", "В этом списке никого нет"))

    static func noColumns(_ columns: [String]) -> Problem {
        Problem(
            422, "no_identifying_column",
            .init(
                "No column holds usernames, phone numbers or ids; name one of them username, phone or id",
                "Нет столбца с именами пользователей, телефонами или id; назовите его username, phone или id")
        ).with([
            "columns": .array(columns.prefix(50).map { .string(String($0.prefix(100))) })
        ])
    }

    static func tooManyRows(_ most: Int) -> Problem {
        Problem(
            422, "too_many_rows",
            .init(
                "A list may have \(most) rows at most; cut it into several",
                "В списке может быть не больше \(most) строк; разделите его")
        ).with(["limit_rows": .int(Int64(most))])
    }

    /// As a failed import keeps it, to be told in the reader's language.
    var stored: JSONValue {
        ["code": .string(code), "detail_en": .string(detail.english), "detail_ru": .string(detail.russian)]
    }
}

extension SheetShape {
    var json: JSONValue {
        let recognised = PeopleColumns.Role.allCases.compactMap { role -> JSONMember? in
            let found = roles[role]
            guard !found.isEmpty else { return nil }
            let names = found.map { column -> JSONValue in
                column < columns.count
                    ? .string(String(columns[column].prefix(100))) : .int(Int64(column + 1))
            }
            return JSONMember(role.rawValue, .array(names))
        }
        return .object(present: [
            "format": .string(format.rawValue), "encoding": encoding.map { .string($0.rawValue) },
            "delimiter": delimiter.map { .string(String($0)) }, "has_header": .bool(hasHeader),
            "columns": .array(columns.prefix(100).map { .string(String($0.prefix(100))) }),
            "recognised": .object(recognised), "sheet": sheet.map { .string(String($0.prefix(100))) },
            "unread_sheets": otherSheets > 0 ? .int(Int64(otherSheets)) : nil,
        ])
    }
}
