import AccountManagerWiring
import Broker
import Core
import HTTP
import HTTPClient
import HTTPServer
import IntegrationServiceWiring
import LocalServers
import Parsing
import ParsingServiceWiring
import Sandbox
import ServiceKit
import Storage
import Synchronization
import Telegram

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// What a parse costs apart from Telegram: into PostgreSQL, out of it, and with many who watch.
    static let parsing = Benchmark(
        name: "parsing", summary: "messages into PostgreSQL and out again, beside psql \\copy"
    ) { report in
        let folder = try await TemporaryFolder(named: "convoke-bench-parsing")
        let server = try await LocalPostgres(directory: folder.path + "/server").started()
        try await intoTheTable(server, folder.path, report)
        try await whileKilled(server, report)
        try await throughEverything(server, folder.path, report)
        try await server.stop()
    }
}

// MARK: - Into the table

/// A platform that answers at once: `count` messages by a tenth as many people, the newest first.
private struct InstantPlatform: PlatformAdapter {
    let platform = Platform.telegram
    let count: Int64

    func community(_ written: String) -> CommunityLink? { CommunityLink(written) }
    func cost(of request: ReadingRequest) -> Int { 1 }

    func read(_ request: ReadingRequest, with lease: AccountLease, for user: Int64) async throws
        -> ReadingPage
    {
        var page = ReadingPage()
        var community = CommunityRecord(platformID: "-100", kind: .group)
        community.memberCount = count / 10
        page.community = community
        let last = request.cursor.flatMap { Int64($0) } ?? count
        let first = max(1, last - Int64(request.size * request.pages) + 1)
        guard first <= last else {
            page.isEnd = true
            return page
        }
        page.messages.reserveCapacity(Int(last - first + 1))
        for number in stride(from: last, through: first, by: -1) { page.messages.append(message(number)) }
        page.cursor = String(first - 1)
        page.isEnd = first == 1
        return page
    }

    private func message(_ number: Int64) -> MessageRecord {
        var message = MessageRecord(
            platformID: String(number << 20), order: number,
            sentAt: Timestamp(seconds: 1_700_000_000 + number))
        message.ordinal = number
        message.chatID = "-1001234567890"
        message.content = "Good morning everyone, this is message \(number) of a long afternoon"
        message.reactions = number % 7
        message.media = number % 9 == 0 ? "photo" : nil
        // Everybody writes as often as everybody else, and again when all others have: the hardest to merge.
        let author = (number * 2_654_435_761) % max(count / 10, 1)
        var person = PersonRecord(platformID: String(1_000_000_000 + author))
        person.username = author % 3 == 0 ? nil : "user_\(author)"
        person.firstName = "Анна"
        person.lastName = "Person \(author)"
        message.author = person
        return message
    }
}

private struct OneAccount: AccountLending {
    func lease(user: Int64, excluding: [String], for duration: Duration) async throws -> AccountLease {
        AccountLease(account: "a", lease: "l", fencingToken: 1, until: SystemTime().now + .days(1))
    }
    func extend(_ lease: AccountLease, user: Int64, for duration: Duration) async throws -> AccountLease? {
        lease
    }
    func giveBack(_ lease: AccountLease, user: Int64) async throws {}
    func report(
        _ type: String, message: String, seconds: Int64?, of lease: AccountLease, user: Int64
    ) async throws {}
}

private func engine(_ store: ParseStore, _ count: Int64) -> ParseEngine {
    ParseEngine(
        store: store, adapters: [InstantPlatform(count: count)], lender: OneAccount(),
        rhythm: .unlimited(size: 100, pages: 20), time: SystemTime(), random: SystemRandom(), log: .silent)
}

private func open(_ server: LocalPostgres, _ name: String) async throws -> any Database {
    try await server.createDatabase(name)
    let database = DatabaseLocation.postgres(Secret(server.url(database: name))).open(
        name, PoolSettings(connections: 6, statementTimeout: .minutes(10)))
    try await database.migrate(Migration.parsing, scope: "parsing-service", at: SystemTime().now)
    return database
}

private let order = Mutex(0)

/// A task of user 1 that was read from its beginning to its end; how long that took.
@discardableResult
private func parsed(
    _ store: ParseStore, _ count: Int64, onceMade: (String) async throws -> Void = { _ in }
) async throws -> (task: ParseTask, taken: Duration) {
    let time = SystemTime()
    let number = order.withLock { order in
        order += 1
        return order
    }
    let id = "bench_\(number)"
    _ = try await store.create(
        [(id, NewTask(user: 1, link: CommunityLink(key: id), type: .messages))], at: time.now)
    try await onceMade(id)
    guard let task = try await store.claim(id, by: "bench", at: time.now) else { throw Unexpected(what: id) }
    let begun = time.uptime
    let outcome = try await engine(store, count).work(on: task)
    let taken = time.uptime - begun
    let done = try await store.task(id, of: 1)
    guard outcome == .completed, done.counts.messages == count else { throw Unexpected(what: "\(outcome)") }
    return (done, taken)
}

private struct Unexpected: Error { let what: String }

private func intoTheTable(_ server: LocalPostgres, _ folder: String, _ report: Report) async throws {
    let database = try await open(server, "parsing_into")
    let store = ParseStore(database)
    let count: Int64 = 200_000
    let time = SystemTime()
    let (task, _) = try await parsed(store, count)
    let url = server.url(database: "parsing_into")
    let tables = ["parse_messages", "parse_people"]
    for table in tables {
        try await psql(
            url, "\\copy (SELECT * FROM \(table) WHERE task_no = \(task.number)) TO '\(folder)/\(table).txt'",
            folder)
    }
    try await report.ratio(
        "\(count) messages by \(task.counts.results) people from an instant platform, with checkpoints",
        unit: "messages a second", target: 0.3, rounds: 5,
        ours: {
            try await empty(database)
            let (_, taken) = try await parsed(store, count)
            return Double(count) / taken.inSeconds
        },
        limit: {
            try await empty(database)
            let begun = time.uptime
            for table in tables {
                try await psql(url, "\\copy \(table) FROM '\(folder)/\(table).txt'", folder)
            }
            return Double(count) / (time.uptime - begun).inSeconds
        }, limitName: "psql \\copy of the same rows into the same tables")

    try await empty(database)
    try await parsed(store, 10_000)
    let small = residentMegabytes()
    let (large, taken) = try await parsed(store, 1_000_000)
    let after = residentMegabytes()
    await report.note("1,000,000 messages: \(rounded(1_000_000 / taken.inSeconds)) a second")
    await report.hold(
        "memory: \(small) MB after 10,000 messages, \(after) MB after 1,000,000 (flat: within 20 MB)",
        after - small <= 20)

    // Out again, all of a million rows.
    let parts = try await RunningParsing(url, folder)
    let sink = CountingWriter()
    try await report.ratio(
        "export of \(large.counts.storedMessages) messages as CSV", unit: "rows a second", target: 0.3,
        rounds: 3,
        ours: {
            sink.begin()
            let begun = time.uptime
            try await parts.export(large.id, "csv", to: sink)
            return Double(large.counts.storedMessages) / (time.uptime - begun).inSeconds
        },
        limit: {
            let begun = time.uptime
            try await psql(
                url,
                """
                \\copy (SELECT platform_id, to_timestamp(sent_at / 1000), author_id, author_username, author_name, \
                content, media, views, forwards, reactions, replies, reply_to, forwarded_from, post_id, chat_id, \
                edited_at FROM parse_messages WHERE task_no = \(large.number) ORDER BY position) \
                TO '\(folder)/export.csv' WITH (FORMAT csv, HEADER)
                """, folder)
            return Double(large.counts.storedMessages) / (time.uptime - begun).inSeconds
        }, limitName: "psql \\copy of the same columns to CSV")
    await report.hold(
        "first byte after \(rounded(sink.firstByte.inSeconds * 1000)) ms (within 100)",
        sink.firstByte <= .milliseconds(100))
    let exported = residentMegabytes()
    await report.hold(
        "memory after the exports: \(exported) MB (flat: within 30 MB of \(after))", exported - after <= 30)
    var depths: [Int: Duration] = [:]
    for page in [1, 10_000] {
        let begun = time.uptime
        for _ in 0..<50 {
            _ = try await store.messages(of: large, ResultQuery(), at: .page(page), limit: 100)
        }
        depths[page] = (time.uptime - begun) / 50
    }
    let (first, deep) = (depths[1] ?? .zero, depths[10_000] ?? .zero)
    await report.hold(
        "page 1 in \(rounded(first.inSeconds * 1000)) ms, page 10,000 in \(rounded(deep.inSeconds * 1000)) ms (at most twice)",
        deep <= first * 2)

    // Many who watch. They are there before the reading begins: to connect costs what a request costs.
    try await report.ratio(
        "\(count) messages while 1,000 listen to the progress", unit: "messages a second", target: 0.95,
        rounds: 9,
        ours: {
            try await empty(database)
            return try await parts.whileListening(1000) { listen in
                Double(count) / (try await parsed(store, count, onceMade: listen)).taken.inSeconds
            }
        },
        limit: {
            try await empty(database)
            return Double(count) / (try await parsed(store, count)).taken.inSeconds
        }, limitName: "the same while nobody listens")
    await parts.stop()
    await database.close()
}

private func empty(_ database: any Database) async throws {
    try await database.run("TRUNCATE parse_messages")
    try await database.run("TRUNCATE parse_people")
}

// MARK: - Killed

/// A hundred thousand messages; now the connections are torn in the middle of a statement, now the worker.
private func whileKilled(_ server: LocalPostgres, _ report: Report) async throws {
    let count: Int64 = 100_000
    let undisturbed = try await open(server, "parsing_calm")
    try await parsed(ParseStore(undisturbed), count)
    let expected = try await digest(undisturbed)
    await undisturbed.close()
    let watch = try await open(server, "parsing_killed")
    let time = SystemTime()
    _ = try await ParseStore(watch).create(
        [("killed", NewTask(user: 1, link: CommunityLink(key: "killed"), type: .messages))], at: time.now)
    let random = SeededRandom(seed: 3)
    var kills = 0
    while true {
        let database = DatabaseLocation.postgres(Secret(server.url(database: "parsing_killed"))).open(
            "worker")
        let store = ParseStore(database)
        try await store.forgetClaims(of: "bench")
        guard let task = try await store.claim("claim_\(kills)", by: "bench", at: time.now) else {
            await database.close()
            break
        }
        let work = Task {
            try await ParseEngine(
                store: store, adapters: [InstantPlatform(count: count)], lender: OneAccount(),
                rhythm: .unlimited(size: 100, pages: 1), time: time, random: SystemRandom(), log: .silent
            ).work(on: task)
        }
        if kills < 50 {
            let target = count * Int64(kills) / 50 + Int64(random.int(in: 0...Int(count / 50)))
            while let now = try await ParseStore(watch).tasks(numbered: [task.number]).first,
                now.counts.messages < target, now.status != .completed
            {
                try await time.sleep(for: .milliseconds(1))
            }
            kills += 1
            if kills % 2 == 0 {
                try await watch.run(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = 'parsing_killed' AND pid <> pg_backend_pid() AND state <> 'idle'
                    """)
            }
            work.cancel()
            await database.close()
            _ = await work.result
        } else {
            _ = try await work.value
            await database.close()
        }
    }
    await report.hold(
        "\(kills) kills during \(count) messages: the tables are those of an undisturbed run",
        try await digest(watch) == expected)
    await watch.close()
}

/// All that was read, apart from the order in which people were met.
private func digest(_ database: any Database) async throws -> String {
    let rows = try await database.run(
        """
        SELECT (SELECT md5(string_agg(platform_id || content || coalesce(author_id, ''), ',' ORDER BY position))
                FROM parse_messages) || (SELECT count(*) FROM parse_messages)
            || (SELECT md5(string_agg(platform_id || message_count || first_seen || last_seen, ',' ORDER BY position))
                FROM parse_people) AS digest
        """, timeout: .minutes(2))
    return try rows[0].text("digest")
}

// MARK: - Through everything

/// From a sandbox through integration-service and account-manager, over HTTP, into PostgreSQL.
private func throughEverything(_ server: LocalPostgres, _ folder: String, _ report: Report) async throws {
    try await server.createDatabase("parsing_whole")
    let time = SystemTime()
    let world = SandboxWorld(
        WorldOptions(
            seed: 7, people: 5000, accounts: 12, communities: 0, strictness: .off, isOdd: false,
            start: time.now),
        time: time)
    let (manager, integration) = (try Loopback.freePort(), try Loopback.freePort())
    let values = [
        "AUTH_MODE": "dev", "LOG_LEVEL": "error", "JWT_SECRET": String(repeating: "k", count: 32),
        "ACCOUNT_MANAGER_URL": "http://127.0.0.1:\(manager)",
        "INTEGRATION_SERVICE_URL": "http://127.0.0.1:\(integration)",
    ]
    let client = HTTPClient()
    let queues = DatabaseLocation.sqlite("\(folder)/queues.sqlite").open("queues")
    func assembled(_ definition: ServiceDefinition, _ more: [String: String] = [:]) async throws
        -> AssembledService
    {
        var values = values.merging(more) { $1 }
        values["DATA_DIR"] = "\(folder)/\(definition.name)"
        let resources = try await ProcessResources.open(Environment(values), log: .silent, client: client)
        let broker = SQLBroker(
            queues, queues: definition.queues, metrics: BrokerMetrics(Metrics()), time: time, log: .silent)
        return try await assemble(definition, resources, broker: broker)
    }
    let services = [
        try await assembled(.accountManager),
        try await assembled(
            .integrationService { _ in
                TelegramSource(SandboxTransport(world), .sandbox, botAPI: "http://bots.invalid")
            }),
        try await assembled(
            .parsingService(rhythm: .unlimited(size: 100, pages: 10)),
            ["DATABASE_URL": server.url(database: "parsing_whole")]),
    ]
    let servers = [
        HTTPServer(ServerSettings(port: manager), services[0].router),
        HTTPServer(ServerSettings(port: integration), services[1].router),
    ]
    for server in servers { try server.bind() }
    let all = services.flatMap(\.services) + servers
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await world.run() }
        group.addTask { try await runAll(all, log: .silent) }
        group.addTask {
            for service in services { try await service.readiness.wait(time) }
            try await connect(world, services[1], services[0])
            let parsing = services[2]
            let made = try await ask(
                parsing, .post, "/api/v1/tasks",
                ["platform": "telegram", "link": "sandbox_talk", "task_type": "messages"])
            guard let id = made["id"]?.stringValue else { throw Unexpected(what: made.text) }
            let begun = time.uptime
            var task = made
            while task["status"] != "completed" {
                try await time.sleep(for: .milliseconds(5))
                task = try await ask(parsing, .get, "/api/v1/tasks/\(id)")
                if task["status"] == "failed" { throw Unexpected(what: task.text) }
            }
            let rate = Double(task["processed_messages"]?.intValue ?? 0) / (time.uptime - begun).inSeconds
            await report.note(
                "sandbox, integration-service, account-manager and all between over HTTP: \(Int(rate)) messages a second"
            )
        }
        // Whichever ends first: the measuring, or what should not have ended.
        var failure: (any Error)?
        do { try await group.next() } catch { failure = error }
        group.cancelAll()
        while await group.nextResult() != nil {}
        if let failure { throw failure }
    }
    await queues.close()
    await client.shutdown()
}

private func ask(
    _ service: AssembledService, _ method: Method, _ path: String, _ body: JSONValue? = nil
) async throws -> JSONValue {
    let parts = path.split(separator: "?", maxSplits: 1).map(String.init)
    let request = Request(
        method, parts[0], query: Query(parts.count > 1 ? parts[1] : ""),
        headers: ["Host": "localhost", "Content-Type": "application/json"], body: Body(body?.bytes ?? []))
    return try JSONValue(parsing: try await service.router.answer(request).collect())
}

private func connect(
    _ world: SandboxWorld, _ integration: AssembledService, _ manager: AssembledService
) async throws {
    let time = SystemTime()
    let shown = try await ask(integration, .get, "/api/v1/telegram/qr-code?user_id=1")
    guard let link = shown["qr_link"]?.stringValue,
        let phone = world.accounts().first(where: { $0.kind == .warmed })?.phone
    else { throw Unexpected(what: shown.text) }
    try world.scan(link, with: phone)
    var account: String?
    while account == nil {
        let check = try await ask(
            integration, .post, "/api/v1/telegram/qr-check",
            ["user_id": 1, "connection_id": shown["connection_id"] ?? .null])
        account = check["account"]?["id"]?.stringValue
        try await time.sleep(for: .milliseconds(5))
    }
    while try await ask(manager, .get, "/api/v1/account-manager/health/\(account ?? "")?user_id=1")["status"]
        != "active"
    {
        try await time.sleep(for: .milliseconds(20))
    }
}

// MARK: - Tools

/// parsing-service over a database that is there already, for what goes out of it.
private final class RunningParsing: Sendable {
    private let service: AssembledService
    private let running: Task<Void, any Error>
    private let queues: any Database

    init(_ url: String, _ folder: String) async throws {
        let environment = Environment([
            "AUTH_MODE": "dev", "LOG_LEVEL": "error", "DATABASE_URL": url, "DATA_DIR": "\(folder)/export",
            "PARSING_WORKER": "false",
        ])
        let resources = try await ProcessResources.open(environment, log: .silent)
        queues = DatabaseLocation.sqlite("\(folder)/export-queues.sqlite").open("queues")
        let broker = SQLBroker(
            queues, queues: ServiceDefinition.parsingService.queues, metrics: BrokerMetrics(Metrics()),
            time: SystemTime(), log: .silent)
        let service = try await assemble(.parsingService, resources, broker: broker)
        self.service = service
        running = Task { try await runAll(service.services, log: .silent) }
        try await service.readiness.wait(SystemTime())
    }

    func stop() async {
        running.cancel()
        _ = await running.result
        await queues.close()
    }

    private func answer(_ path: String, _ query: String = "") async -> Response {
        await service.router.answer(
            Request(.get, path, query: Query(query), headers: ["Host": "localhost"]))
    }

    func export(_ id: String, _ format: String, to writer: CountingWriter) async throws {
        let response = await answer("/api/v1/results/\(id)/export", "format=\(format)&kind=messages")
        guard response.status == 200, case .stream(_, let write) = response.content else {
            throw Unexpected(what: "export \(response.status)")
        }
        try await write(writer)
    }

    /// Runs `work`, which hands on the task that so many are to listen to, and goes on when all of them do.
    func whileListening(
        _ count: Int, _ work: ((String) async throws -> Void) async throws -> Double
    ) async throws -> Double {
        try await withThrowingTaskGroup(of: Void.self) { group in
            let rate = try await work { id in
                let writers = (0..<count).map { _ in CountingWriter() }
                for writer in writers {
                    writer.begin()
                    group.addTask { [self] in
                        let response = await answer("/api/v1/tasks/\(id)/progress-stream")
                        guard case .stream(_, let write) = response.content else {
                            throw Unexpected(what: "stream \(response.status)")
                        }
                        try await write(writer)
                    }
                }
                while writers.contains(where: { $0.count == 0 }) {
                    try await SystemTime().sleep(for: .milliseconds(20))
                }
            }
            // Every one of them is told the end.
            try await group.waitForAll()
            return rate
        }
    }
}

/// Takes bytes and keeps their number.
private final class CountingWriter: BodyWriter {
    private struct State {
        var begun: Duration = .zero
        var first: Duration?
        var bytes = 0
    }
    private let state = Mutex(State())

    func begin() { state.withLock { $0 = State(begun: SystemTime().uptime) } }
    var count: Int { state.withLock { $0.bytes } }
    var firstByte: Duration { state.withLock { ($0.first ?? $0.begun) - $0.begun } }

    func write(_ bytes: Bytes) async throws {
        state.withLock { state in
            if state.first == nil { state.first = SystemTime().uptime }
            state.bytes += bytes.count
        }
    }
}

private func psql(_ url: String, _ command: String, _ folder: String) async throws {
    let status = try await ChildProcess.run(
        Command(
            "/usr/bin/psql", ["-X", "-q", "-d", url, "-c", command],
            environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"], output: .file("\(folder)/psql.txt")))
    guard status.code == 0 else { throw Unexpected(what: command) }
}

private func residentMegabytes() -> Int {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, Int32(line.count), file) != nil {
        let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard text.hasPrefix("VmRSS:") else { continue }
        return (text.split { !$0.isNumber }.first.flatMap { Int($0) } ?? 0) / 1024
    }
    return 0
}
