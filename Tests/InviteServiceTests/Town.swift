import AccountManagerWiring
import Broker
import Cache
import Core
import HTTP
import HTTPClient
import IntegrationServiceWiring
import InviteServiceWiring
import Invites
import ParsingServiceWiring
import ReportServiceWiring
import Sandbox
import Security
import Storage
import Synchronization
import Telegram
import TestServers
import Testing

@testable import ServiceKit

/// What the services stand on: the embedded default, or the real servers.
enum Ground: String, CaseIterable, CustomTestStringConvertible {
    case embedded = "SQLite and memory"
    case real = "PostgreSQL, Redis and RabbitMQ"

    static var available: [Ground] { allCases.filter { $0 != .real || TestServers.areAvailable } }
    var testDescription: String { rawValue }
}

/// The services in one process around one simulated Telegram, each over a database of its own, so that each can
/// be killed and started again while the others go on.
final class Town: Sendable {
    enum Name: String, CaseIterable, Sendable {
        case manager = "account-manager"
        case integration = "integration-service"
        case invites = "invite-service"
        // Those that a campaign does without, for the tests that start them.
        case parsing = "parsing-service"
        case reports = "report-service"

        static let campaign: [Name] = [.manager, .integration, .invites]

        var offset: Int { ServicePorts.offsets[rawValue] ?? 0 }
    }

    let time = SteeredTime()
    let world: SandboxWorld
    let sink = MemorySink()
    private let environments: [Name: [String: String]]
    private let running: Task<Void, any Error>
    private let runs = Mutex<[Name: Run]>([:])
    /// Further processes of a service, which nobody but a test asks for anything.
    private let replicas = Mutex<[Run]>([])
    /// Requests whose path holds this get no answer: before they are served, or after.
    let lost = Mutex<(part: String, afterwards: Bool)?>(nil)

    /// One run of one service.
    final class Run: Sendable {
        let service: AssembledService
        let resources: ProcessResources
        let broker: any Broker
        let queues: (any Database)?
        let task: Task<Void, any Error>
        let isDead = Mutex(false)
        let exchanges = Mutex<[ObjectIdentifier: Exchange]>([:])

        init(
            _ service: AssembledService, _ resources: ProcessResources, _ broker: any Broker,
            _ queues: (any Database)?, _ log: Log
        ) {
            self.service = service
            self.resources = resources
            self.broker = broker
            self.queues = queues
            let services = service.services
            task = Task { try await runAll(services, log: log) }
        }
    }

    init(
        _ ground: Ground = .embedded, accounts: Int = 30, people: Int = 3000,
        strictness: WorldOptions.Strictness = .off, isOdd: Bool = false, settings: [String: String] = [:],
        servers: [Name: [String: String]] = [:]
    ) async throws {
        var options = WorldOptions(
            seed: 11, people: people, accounts: accounts, communities: 4, strictness: strictness,
            isOdd: isOdd, start: time.now)
        options.peopleReact = false
        let world = SandboxWorld(options, time: time)
        self.world = world
        running = Task { try await world.run() }
        var environments: [Name: [String: String]] = [:]
        for name in Name.allCases {
            var values = [
                "DATA_DIR": try await TestServers.directory(), "LOG_LEVEL": "warning",
                "JWT_SECRET": String(repeating: "k", count: 32), "TELEGRAM_IDLE_SECONDS": "86400",
                "INVITE_WAKE_MILLISECONDS": "20",
            ]
            if ground == .real, servers[name] == nil, Name.campaign.contains(name) {
                values["DATABASE_URL"] = try await TestServers.postgres()
                values["REDIS_URL"] = try await TestServers.redis().url
                values["RABBITMQ_URL"] = try await TestServers.rabbitmq()
            }
            values.merge(servers[name] ?? [:]) { _, new in new }
            values.merge(settings) { _, new in new }
            environments[name] = values
        }
        self.environments = environments
    }

    deinit { running.cancel() }

    // MARK: - Services

    private func definition(_ name: Name) -> ServiceDefinition {
        let world = world
        return switch name {
        case .manager: .accountManager
        case .integration:
            .integrationService { _ in
                TelegramSource(SandboxTransport(world), .sandbox, botAPI: "http://bots.invalid")
            }
        case .invites: .inviteService
        case .parsing: .parsingService
        case .reports: .reportService
        }
    }

    func start(_ name: Name) async throws {
        let run = try await begin(name, environments[name] ?? [:])
        runs.withLock { $0[name] = run }
        try await eventually("\(name.rawValue) is ready") { run.service.readiness.isReady }
    }

    /// One more of a service, over the same servers and a folder of its own.
    func startReplica(_ name: Name) async throws -> Run {
        var values = environments[name] ?? [:]
        values["DATA_DIR"] = try await TestServers.directory()
        let run = try await begin(name, values)
        replicas.withLock { $0.append(run) }
        try await eventually("\(name.rawValue) is ready once more") { run.service.readiness.isReady }
        return run
    }

    private func begin(_ name: Name, _ environment: [String: String]) async throws -> Run {
        let log = Log(service: name.rawValue, level: .warning, time: time, to: sink)
        let resources = try await ProcessResources.open(
            Environment(environment), log: log, time: time, client: Wire(self), sink: sink)
        let definition = definition(name)
        let broker: any Broker
        var queues: (any Database)?
        if let address = resources.settings.queue {
            broker = RabbitMQBroker(
                address, queues: definition.queues, metrics: BrokerMetrics(Metrics()), time: SystemTime(),
                log: log)
        } else {
            let database = DatabaseLocation.sqlite("\(resources.settings.dataFolder)/queues.sqlite").open(
                "queues")
            var settings = SQLBrokerSettings()
            settings.isExclusive = true
            broker = SQLBroker(
                database, queues: definition.queues, settings: settings,
                metrics: BrokerMetrics(Metrics()), time: SystemTime(), log: log)
            queues = database
        }
        let service = try await assemble(definition, resources, broker: broker)
        return Run(service, resources, broker, queues, log)
    }

    func startAll() async throws { for name in Name.campaign { try await start(name) } }

    /// As SIGKILL ends it: from now on nothing it does reaches a database, a queue or another service.
    func kill(_ name: Name) async {
        if let run = runs.withLock({ $0.removeValue(forKey: name) }) { await kill(run) }
    }

    private func kill(_ run: Run) async {
        run.isDead.withLock { $0 = true }
        for exchange in run.exchanges.withLock({ Array($0.values) }) { exchange.settle(nil) }
        run.task.cancel()
        await run.service.context.database.close()
        await run.broker.close()
        await run.queues?.close()
        // What it still waits for at Telegram ends by its deadline, which somebody has to let come.
        let ended = Mutex(false)
        async let end: Void = {
            _ = await run.task.result
            ended.withLock { $0 = true }
        }()
        var rounds = 0
        while !ended.withLock({ $0 }) {
            try? await SystemTime().sleep(for: .milliseconds(5))
            rounds += 1
            if rounds % 20 == 0 { time.advance(by: .seconds(1)) }
        }
        await end
        await run.resources.cache.close()
        await run.resources.ownClient.shutdown()
    }

    func stopAll() async {
        for run in replicas.withLock({ $0 }) { await kill(run) }
        for name in Name.allCases.reversed() { await kill(name) }
    }

    func run(_ name: Name) -> Run? { runs.withLock { $0[name] } }

    fileprivate func run(atPort port: Int) -> Run? {
        Name.allCases.first { 8000 + $0.offset == port }.flatMap { run($0) }
    }

    // MARK: - Asking

    struct Answer: Sendable {
        let status: Int
        let headers: Headers
        let json: JSONValue
        subscript(name: String) -> JSONValue { json[name] ?? .null }
        var code: String { self["code"].stringValue ?? "" }
    }

    func ask(
        _ name: Name, _ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil, user: Int64 = 1,
        headers: Headers = [:]
    ) async throws -> Answer {
        let found = run(name)
        return try await ask(
            try #require(found, "\(name.rawValue) is down"), method, path, body, user: user, headers: headers)
    }

    func ask(
        _ run: Run, _ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil, user: Int64 = 1,
        headers: Headers = [:]
    ) async throws -> Answer {
        var all: Headers = ["Host": "localhost"]
        if body != nil { all["Content-Type"] = "application/json" }
        for header in headers { all[header.name] = header.value }
        let parts = path.split(separator: "?", maxSplits: 1)
        let query = (parts.count > 1 ? "\(parts[1])&" : "") + "user_id=\(user)"
        let request = Request(
            method, String(parts[0]), query: Query(query), headers: all,
            body: body.map { Body($0.bytes) } ?? .empty)
        let response = await run.service.router.answer(request)
        let bytes = try await response.collect()
        return Answer(
            status: response.status, headers: response.headers,
            json: (try? JSONValue(parsing: bytes)) ?? .null)
    }

    func get(_ path: String, user: Int64 = 1) async throws -> Answer {
        try await ask(.invites, .get, path, user: user)
    }
    func post(_ path: String, _ body: JSONValue? = nil, user: Int64 = 1) async throws -> Answer {
        try await ask(.invites, .post, path, body, user: user)
    }
    func put(_ path: String, _ body: JSONValue, user: Int64 = 1, headers: Headers = [:]) async throws
        -> Answer
    {
        try await ask(.invites, .put, path, body, user: user, headers: headers)
    }
    func delete(_ path: String, user: Int64 = 1) async throws -> Answer {
        try await ask(.invites, .delete, path, user: user)
    }

    // MARK: - Accounts

    /// Connects so many warmed accounts of the user by QR code, and waits until account-manager knows them.
    @discardableResult
    func connect(_ count: Int, user: Int64 = 1, skipping: Int = 0) async throws -> [(
        id: String, phone: String
    )] {
        let phones = world.accounts().filter { $0.kind == .warmed }.map(\.phone).dropFirst(skipping).prefix(
            count)
        try #require(phones.count == count, "the world has \(phones.count) warmed accounts left")
        var connected: [(id: String, phone: String)] = []
        for phone in phones {
            let shown = try await ask(.integration, .get, "/api/v1/telegram/qr-code", user: user)
            let link = try #require(shown["qr_link"].stringValue, "\(shown.json)")
            try world.scan(link, with: phone)
            var id: String?
            try await eventually("an account is connected") {
                let check = try await ask(
                    .integration, .post, "/api/v1/telegram/qr-check",
                    ["connection_id": shown["connection_id"]], user: user)
                id = check["account"]["id"]?.stringValue
                return id != nil
            }
            connected.append((try #require(id), phone))
        }
        let known = connected.map(\.id)
        try await eventually("account-manager knows them") {
            time.advance(by: .seconds(2))
            let list = try await explained(user: user)
            return known.allSatisfy { id in list.contains { $0["account_id"]?.stringValue == id } }
        }
        return connected
    }

    func explained(user: Int64 = 1) async throws -> [JSONValue] {
        try await ask(
            .manager, .get,
            "/api/v1/account-manager/explain?purpose=invite_campaign&page_size=100", user: user
        )["items"].arrayValue ?? []
    }

    // MARK: - Campaigns

    func makeTask(
        _ settings: JSONValue = ["group_id": "@sandbox_club"], message: String? = nil, user: Int64 = 1
    ) async throws -> Int64 {
        let made = try await post(
            "/api/v1/tasks",
            .object(present: [
                "name": "Test", "platform": "telegram", "settings": settings,
                "invite_message": message.map { .string($0) },
            ]), user: user)
        try #require(made.status == 201, "\(made.json)")
        return try #require(made["id"].intValue)
    }

    func add(_ people: [PersonReport], to task: Int64, user: Int64 = 1) async throws {
        let targets = people.map { person -> JSONValue in
            person.username.map { ["username": .string($0)] }
                ?? person.phone.map { ["phone_number": .string($0)] }
                ?? ["user_id_platform": .int(person.userID)]
        }
        let added = try await post(
            "/api/v1/tasks/\(task)/targets/bulk", ["targets": .array(targets)], user: user)
        try #require(added.status == 201, "\(added.json)")
    }

    var store: InviteStore {
        get throws {
            let found = run(.invites)
            let run = try #require(found)
            return InviteStore(
                run.service.context.database,
                digests: SuppressionDigests(key: Secret(Array(repeating: 1, count: 32))),
                random: SystemRandom())
        }
    }

    /// Lets time pass whenever all that is left is waiting, until the task has come to one of these states.
    func play(
        _ task: Int64, until statuses: Set<TaskStatus> = [.completed, .failed, .paused, .cancelled],
        limit: Duration = .days(400), _ meanwhile: () async throws -> Void = {}
    ) async throws {
        let start = time.now
        let clock = SystemTime()
        var quiet = 0
        var seen: TaskOutlook?
        var same = 0
        while true {
            try await meanwhile()
            guard let store = try? store, let outlook = try? await store.outlook(task, at: time.now) else {
                try await clock.sleep(for: .milliseconds(5))
                continue
            }
            if statuses.contains(outlook.task.status) { return }
            try #require(outlook.task.status != .pending, "it was never started")
            try #require(time.now - start < limit, "no end in sight: \(outlook)")
            let wake = try? await store.wakeAt(task)
            let isBusy = outlook.held > 0 || wake.map { $0 <= time.now + .milliseconds(1) } ?? false
            same = outlook == seen ? same + 1 : 0
            seen = outlook
            quiet = isBusy ? 0 : quiet + 1
            if quiet >= 3, let wake {
                quiet = 0
                time.advance(by: max(.milliseconds(1), min(wake - time.now, .minutes(10))))
            } else if same > 100, let expiry = outlook.nextExpiry ?? wake {
                // Whoever held them has been killed.
                same = 0
                time.advance(by: max(.seconds(1), expiry - time.now + .milliseconds(1)))
            }
            try await clock.sleep(for: .milliseconds(2))
        }
    }
}

extension InviteStore {
    func wakeAt(_ task: Int64) async throws -> Timestamp? {
        try await database.run("SELECT wake_at FROM invite_tasks WHERE id = \(task)").first?
            .optionalTimestamp("wake_at")
    }
}

/// One request and what becomes of it.
final class Exchange: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Response?, Never>)
        case settled(Response?)
    }
    private let state = Mutex(State.open)

    func settle(_ response: Response?) {
        let waiter: CheckedContinuation<Response?, Never>? = state.withLock { state in
            switch state {
            case .settled: return nil
            case .open:
                state = .settled(response)
                return nil
            case .awaited(let waiter):
                state = .settled(response)
                return waiter
            }
        }
        waiter?.resume(returning: response)
    }

    func response() async -> Response? {
        await withCheckedContinuation { waiter in
            let settled: Response?? = state.withLock { state in
                if case .settled(let response) = state { return .some(response) }
                state = .awaited(waiter)
                return nil
            }
            if let settled { waiter.resume(returning: settled) }
        }
    }
}

/// From service to service without sockets: an address that nobody answers at refuses, and one whose service dies
/// meanwhile never answers.
private final class Wire: HTTPSending {
    private weak let town: Town?
    init(_ town: Town) { self.town = town }

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        let rest = request.url.drop { $0 != "/" }.dropFirst(2)
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        let port = authority.split(separator: ":").last.flatMap { Int($0) } ?? 80
        guard let run = town?.run(atPort: port) else { throw ClientError.notSent(reason: "nobody listens") }
        let target = rest[authority.endIndex...]
        let parts = target.split(separator: "?", maxSplits: 1)
        var headers = request.headers
        headers["Host"] = "localhost:\(port)"
        let asked = Request(
            request.method, String(parts.first ?? "/"), query: Query(parts.count > 1 ? String(parts[1]) : ""),
            headers: headers, body: request.body)
        let lost = town?.lost.withLock { $0 }.flatMap { target.contains($0.part) ? $0 : nil }
        if let lost, !lost.afterwards { throw ClientError.inDoubt(reason: "lost on its way") }
        let exchange = Exchange()
        run.exchanges.withLock { $0[ObjectIdentifier(exchange)] = exchange }
        defer { run.exchanges.withLock { $0[ObjectIdentifier(exchange)] = nil } }
        // A caller that is gone, or whose service is, waits no longer, whatever the other side still does.
        Task.detached {
            var response = run.service.router.answerAtOnce(asked)
            if response == nil { response = await run.service.router.answer(asked) }
            exchange.settle(response)
        }
        let response = await withTaskCancellationHandler {
            await exchange.response()
        } onCancel: {
            exchange.settle(nil)
        }
        try Task.checkCancellation()
        if lost != nil { throw ClientError.inDoubt(reason: "the answer was lost") }
        guard let response, !run.isDead.withLock({ $0 }) else {
            throw ClientError.inDoubt(reason: "the connection is gone")
        }
        return ClientResponse(
            status: response.status, headers: response.headers, body: Body(try await response.collect()))
    }
}

/// Polls until something that others do on their own has come about.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () async throws -> Bool
) async throws {
    let clock = SystemTime()
    // No measurement: it only ends a test that would hang, on however busy a machine.
    let end = clock.uptime + .seconds(240)
    while try await !isSo() {
        try #require(clock.uptime < end, "never happened: \(what)", sourceLocation: sourceLocation)
        try await clock.sleep(for: .milliseconds(5))
    }
}

/// Opens a town with all services, and closes it whatever happens.
func withTown(
    _ ground: Ground = .embedded, accounts: Int = 30, people: Int = 3000,
    strictness: WorldOptions.Strictness = .off, isOdd: Bool = false, settings: [String: String] = [:],
    servers: [Town.Name: [String: String]] = [:], _ body: (Town) async throws -> Void
) async throws {
    let town = try await Town(
        ground, accounts: accounts, people: people, strictness: strictness, isOdd: isOdd, settings: settings,
        servers: servers)
    try await town.startAll()
    let result: Result<Void, any Error>
    do { result = .success(try await body(town)) } catch { result = .failure(error) }
    await town.stopAll()
    try result.get()
}
