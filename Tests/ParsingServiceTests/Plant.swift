import AccountManagerWiring
import Broker
import Core
import HTTP
import HTTPClient
import HTTPServer
import IntegrationServiceWiring
import Parsing
import Security
import Storage
import Synchronization
import Telegram
import TestServers
import Testing

@testable import ParsingServiceWiring
@testable import Sandbox
@testable import ServiceKit

/// What parsing-service keeps its things in.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }
    var testDescription: String { rawValue }
}

/// A sandbox, account-manager and integration-service over real sockets, and parsing-service, which can be
/// stopped, killed and started again over what outlives it.
final class Plant: Sendable {
    let world: SandboxWorld
    /// Of the whole plant.
    let time: any TimeSource
    let accountManager: AssembledService
    let integration: AssembledService
    let log = MemorySink()
    let client: HTTPClient
    private let running: Task<Void, any Error>
    /// What its services are told.
    let values: [String: String]
    let folder: String
    /// When each request for reading went out, and for whom.
    let requests = Requests()
    /// How long account-manager takes to have an account back.
    let slowness = Slowness()

    static let secret = String(repeating: "k", count: 32)

    static func options(seed: UInt64 = 7) -> WorldOptions {
        WorldOptions(
            seed: seed, people: 2000, accounts: 20, communities: 4, strictness: .off, isOdd: false,
            start: SystemTime().now)
    }

    init(
        _ engine: Engine, _ options: WorldOptions = Plant.options(), _ settings: [String: String] = [:],
        time: any TimeSource = SystemTime()
    ) async throws {
        self.time = time
        let folder = try await TestServers.directory()
        self.folder = folder
        let world = SandboxWorld(options, time: time)
        self.world = world
        let (managerPort, integrationPort) = (try Loopback.freePort(), try Loopback.freePort())
        let usersPort = try Loopback.freePort()
        var values = [
            "AUTH_MODE": "strict", "LOG_LEVEL": "debug", "JWT_SECRET": Self.secret,
            "ACCOUNT_MANAGER_URL": "http://127.0.0.1:\(managerPort)",
            "INTEGRATION_SERVICE_URL": "http://127.0.0.1:\(integrationPort)",
            "USER_SERVICE_URL": "http://127.0.0.1:\(usersPort)", "PARSING_WORKER_NAME": "plant",
        ]
        values.merge(settings) { $1 }
        var clientSettings = HTTPClient.Settings()
        clientSettings.limits.perHost = 64
        let client = HTTPClient(clientSettings)
        self.client = client
        let (sink, requests, slowness) = (log, self.requests, self.slowness)
        let common = values
        func assembled(_ definition: ServiceDefinition, _ broker: any Broker) async throws -> AssembledService
        {
            let log = Log(service: definition.name, level: .info, time: time, to: sink)
            let resources = try await ProcessResources.open(
                Environment(common.merging(["DATA_DIR": "\(folder)/\(definition.name)"]) { $1 }), log: log,
                time: time, client: client, sink: sink)
            return try await assemble(definition, resources, broker: broker)
        }
        let queues = DatabaseLocation.sqlite("\(folder)/queues.sqlite").open("queues")
        let accountManagerQueues = ServiceDefinition.accountManager.queues
        let broker = SQLBroker(
            queues,
            queues: accountManagerQueues + UserDeletion.queues.filter { !accountManagerQueues.contains($0) },
            metrics: BrokerMetrics(Metrics()), time: time, log: .silent)
        let manager = try await assembled(.accountManager, broker)
        let integration = try await assembled(
            .integrationService { _ in
                TelegramSource(SandboxTransport(world), .sandbox, botAPI: "http://bots.invalid")
            }, broker)
        accountManager = manager
        self.integration = integration
        // Of user-service only what the others ask when an hour, of a fast clock too, has passed.
        var users = Router()
        users.on("GET", "/internal/ended-sessions/{id}") { _ in .json(["ended": false] as JSONValue) }
        let servers = [
            HTTPServer(ServerSettings(port: usersPort), users),
            HTTPServer(
                ServerSettings(port: managerPort),
                Attended(router: manager.router) { request in
                    guard request.path.contains("/release/") else { return }
                    try? await SystemTime().sleep(for: slowness.now)
                }),
            HTTPServer(
                ServerSettings(port: integrationPort),
                Attended(router: integration.router) { request in
                    if request.path.hasPrefix("/internal/telegram/") { requests.note(request) }
                }),
        ]
        for server in servers { try server.bind() }
        let services = manager.services + integration.services + servers
        let sandbox = world
        running = Task {
            async let lived: Void = sandbox.run()
            async let served: Void = runAll(services, log: .silent)
            _ = try await (lived, served)
        }
        if engine == .postgres { values["DATABASE_URL"] = try await TestServers.postgres() }
        self.values = values
        try await manager.readiness.wait(time)
        try await integration.readiness.wait(time)
        try await integration.context.endedSessions.fill([], now: time.now, round: "1")
    }

    deinit { running.cancel() }

    /// Runs `test` with everything there, and ends everything afterwards.
    static func open(
        _ engine: Engine, _ options: WorldOptions = Plant.options(), _ settings: [String: String] = [:],
        _ rhythm: Rhythm = .quick, time: any TimeSource = SystemTime(),
        _ test: (Plant, Run) async throws -> Void
    ) async throws {
        let plant = try await Plant(engine, options, settings, time: time)
        let run = try await plant.started(rhythm)
        do { try await test(plant, run) } catch {
            await run.stop()
            await plant.close()
            throw error
        }
        await run.stop()
        await plant.close()
    }

    func close() async {
        running.cancel()
        _ = await running.result
        await client.shutdown()
    }

    /// One run of parsing-service.
    struct Run: Sendable {
        let service: AssembledService
        private let broker: any Broker
        private let queues: any Database
        private let task: Task<Void, any Error>
        let tokens: Tokens
        private let time: any TimeSource

        init(_ plant: Plant, _ rhythm: Rhythm, _ settings: [String: String]) async throws {
            time = plant.time
            let definition = ServiceDefinition.parsingService(rhythm: rhythm)
            let log = Log(service: "test", level: .debug, time: plant.time, to: plant.log)
            let resources = try await ProcessResources.open(
                Environment(
                    plant.values.merging(["DATA_DIR": "\(plant.folder)/parsing"]) { $1 }.merging(settings) {
                        $1
                    }),
                log: log, time: time, client: plant.client, sink: plant.log)
            queues = DatabaseLocation.sqlite("\(resources.settings.dataFolder)/queues.sqlite").open("queues")
            broker = SQLBroker(
                queues, queues: definition.queues, metrics: BrokerMetrics(Metrics()), time: time, log: log)
            service = try await assemble(definition, resources, broker: broker)
            tokens = resources.tokens
            let services = service.services
            task = Task { try await runAll(services, log: log) }
            try await service.readiness.wait(plant.time)
            try await service.context.endedSessions.fill([], now: plant.time.now, round: "1")
        }

        /// As SIGTERM ends it.
        func stop() async {
            task.cancel()
            _ = await task.result
            await broker.close()
            await queues.close()
        }

        /// As SIGKILL ends it: from now on nothing it does reaches its database.
        func kill() async {
            await service.context.database.close()
            await broker.close()
            await queues.close()
            task.cancel()
            _ = await task.result
        }

        func user(_ id: Int64 = 1) -> Caller {
            let token = tokens.access(
                userID: id, email: "u\(id)@example.com", session: "s", now: time.now)
            return Caller(router: service.router, token: token.expose())
        }

        func service(_ name: String, for user: Int64?) -> Caller {
            let identity = user.map { UserIdentity(id: $0, email: "u\($0)@example.com", tokenID: "") }
            return Caller(
                router: service.router,
                token: tokens.service(name, onBehalfOf: identity, now: time.now).expose())
        }

        var nobody: Caller { Caller(router: service.router, token: nil) }

        /// The task once it has come to an end.
        func ended(_ id: String, of user: Int64 = 1, sourceLocation: SourceLocation = #_sourceLocation)
            async throws -> Answer
        {
            var last = await self.user(user).get("/api/v1/tasks/\(id)")
            try await eventually("task \(id) ends", sourceLocation: sourceLocation) {
                last = await self.user(user).get("/api/v1/tasks/\(id)")
                return ["completed", "failed", "cancelled"].contains(last["status"].stringValue)
            }
            return last
        }

        /// A task of user 1 for one link.
        func create(
            _ link: String, _ type: String, _ config: JSONValue = [:], of user: Int64 = 1,
            priority: TaskPriority = .normal
        ) async throws -> String {
            let answer = await self.user(user).post(
                "/api/v1/tasks",
                [
                    "platform": "telegram", "links": [.string(link)], "task_type": .string(type),
                    "priority": .string(priority.rawValue), "config": config,
                ])
            try #require(answer.status == 201, "\(answer.text)")
            return try #require(answer["id"].stringValue)
        }

        /// All items of a result, page by page.
        func results(_ id: String, _ query: String = "", of user: Int64 = 1) async throws -> [JSONValue] {
            var items: [JSONValue] = []
            var after: Int64 = 0
            while true {
                let page = await self.user(user).get(
                    "/api/v1/results/\(id)?page_size=100&after=\(after)\(query)")
                try #require(page.status == 200, "\(page.text)")
                let part = page["items"].arrayValue ?? []
                items += part
                guard let next = page["next_after"].intValue, !part.isEmpty else { return items }
                after = next
            }
        }
    }

    func started(_ rhythm: Rhythm = .quick, _ settings: [String: String] = [:]) async throws -> Run {
        try await Run(self, rhythm, settings)
    }

    /// Accounts of a user, connected by QR code and known to account-manager.
    @discardableResult
    func connect(_ count: Int = 1, of user: Int64 = 1, skipping: Int = 0) async throws -> [String] {
        let phones = world.accounts().filter { $0.kind == .warmed }.dropFirst(skipping).prefix(count).map(
            \.phone)
        try #require(phones.count == count, "the world has so many accounts")
        let tokens = integration.context.tokens
        func caller() -> Caller {
            Caller(
                router: integration.router,
                token: tokens.access(userID: user, email: "u@example.com", session: "s", now: time.now)
                    .expose())
        }
        var accounts: [String] = []
        for phone in phones {
            var account: String?
            var shown: Answer?
            try await eventually("the account is connected") {
                let code: Answer
                if let known = shown {
                    code = known
                } else {
                    code = await caller().get("/api/v1/telegram/qr-code")
                    guard let link = code["qr_link"].stringValue else { return false }
                    try? world.scan(link, with: phone)
                    shown = code
                }
                let check = await caller().post(
                    "/api/v1/telegram/qr-check", ["connection_id": code["connection_id"]])
                // A code ends soon, and a fast clock does not wait for a slow machine.
                if check.status >= 400 || check["status"] == "expired" { shown = nil }
                account = check["account"]["id"]?.stringValue
                return account != nil
            }
            accounts.append(try #require(account))
        }
        func manager() -> Caller {
            Caller(
                router: accountManager.router,
                token: tokens.service(
                    "test", onBehalfOf: UserIdentity(id: user, email: "u@example.com", tokenID: ""),
                    now: time.now
                ).expose())
        }
        try await eventually("account-manager knows them") {
            for account in accounts {
                let health = await manager().get("/api/v1/account-manager/health/\(account)")
                if health.status != 200 { return false }
            }
            return true
        }
        return accounts
    }

    // MARK: - The truth

    /// The members of a group, by number.
    func members(of username: String) -> Set<Int64> {
        world.change { world in
            Set(world.usernames[username].flatMap { world.group(ofChat: $0) }?.members ?? [])
        }
    }

    func chat(_ username: String) -> Int64 { world.change { $0.usernames[username] ?? 0 } }
}

extension Rhythm {
    /// Larger pages than any speed has, so that a test is over soon.
    static let quick = Rhythm.unlimited(size: 100, pages: 3)
}

/// When reading was asked for, and how.
final class Requests: Sendable {
    struct Entry: Sendable {
        let at: Duration
        let path: String
        let query: String
    }
    private let entries = Mutex<[Entry]>([])
    var all: [Entry] { entries.withLock { $0 } }
    func note(_ request: Request) {
        let at = SystemTime().uptime
        entries.withLock { $0.append(Entry(at: at, path: request.path, query: request.query.raw)) }
    }
}

final class Slowness: Sendable {
    private let duration = Mutex<Duration>(.zero)
    func set(_ duration: Duration) { self.duration.withLock { $0 = duration } }
    var now: Duration { duration.withLock { $0 } }
}

/// A router that a test has a part in, before it answers.
private struct Attended: Responder {
    let router: Router
    let before: @Sendable (Request) async -> Void

    func answerAtOnce(_ request: Request) -> Response? { router.answerAtOnce(request) }
    func answer(_ request: Request) async -> Response {
        await before(request)
        return await router.answer(request)
    }
}

/// What a client sees of an answer.
struct Answer: Sendable {
    let status: Int
    let headers: Headers
    let bytes: Bytes

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var json: JSONValue { (try? JSONValue(parsing: bytes)) ?? .null }
    subscript(name: String) -> JSONValue { json[name] ?? .null }
    var code: String { self["code"].stringValue ?? "" }
    var mistakes: [String] {
        (self["errors"].arrayValue ?? []).map {
            "\($0["field"]?.stringValue ?? "") \($0["code"]?.stringValue ?? "")"
        }
    }
}

/// Sends requests, and holds every answer of parsing-service against its contract.
struct Caller: Sendable {
    let router: Router
    let token: String?
    var language = "en"

    private static let contract = ContractCheck(
        (try? JSONValue.contract(ServiceDefinition.parsingService.contract)) ?? .null)

    func get(_ path: String, headers: Headers = [:]) async -> Answer {
        await ask(.get, path, headers: headers)
    }
    func post(_ path: String, _ body: JSONValue = [:], headers: Headers = [:]) async -> Answer {
        var headers = headers
        headers["Content-Type"] = "application/json"
        return await ask(.post, path, bytes: body.bytes, headers: headers)
    }
    func delete(_ path: String) async -> Answer { await ask(.delete, path) }

    func ask(
        _ method: HTTP.Method, _ path: String, bytes: Bytes? = nil, headers extra: Headers = [:],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async -> Answer {
        let (head, response) = await open(method, path, bytes: bytes, headers: extra)
        let body = (try? await response.collect()) ?? []
        let described =
            head.hasPrefix("/api/v1/telegram") || head.hasPrefix("/api/v1/account-manager")
            ? nil
            : head.hasPrefix("/v1")
                ? "/api\(head)"
                : head.hasPrefix("/api") || head.hasPrefix("/internal") || head.hasPrefix("/metrics")
                    ? head : "/api/v1\(head)"
        if let described {
            let breaches = Self.contract.breaches(
                method.rawValue, described, status: response.status,
                contentType: response.headers["content-type"], body: body)
            #expect(
                breaches == [], "\(method) \(path) \(response.status)", sourceLocation: sourceLocation)
            #expect(
                response.status < 500 || response.status == 503, "\(method) \(path)",
                sourceLocation: sourceLocation)
        }
        return Answer(status: response.status, headers: response.headers, bytes: body)
    }

    /// The answer while it is still being written.
    func open(
        _ method: HTTP.Method, _ path: String, bytes: Bytes? = nil, headers extra: Headers = [:]
    ) async -> (path: String, Response) {
        var headers = extra
        if let token { headers["Authorization"] = "Bearer \(token)" }
        headers["Accept-Language"] = language
        headers["Host"] = "localhost"
        let parts = path.split(separator: "?", maxSplits: 1).map(String.init)
        let request = Request(
            method, parts[0], query: Query(parts.count > 1 ? parts[1] : ""), headers: headers,
            body: Body(bytes ?? []))
        if let quick = router.answerAtOnce(request) { return (parts[0], quick) }
        return (parts[0], await router.answer(request))
    }
}

/// Polls until something that others do on their own has come about.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () async throws -> Bool
) async throws {
    let clock = SystemTime()
    let end = clock.uptime + .seconds(240)
    while try await !isSo() {
        try #require(clock.uptime < end, "never happened: \(what)", sourceLocation: sourceLocation)
        try await clock.sleep(for: .milliseconds(10))
    }
}
