import Broker
import Core
import HTTP
import HTTPServer
import Integration
import IntegrationServiceWiring
import Storage
import Synchronization
import Telegram
import TestServers
import Testing

@testable import ServiceKit

/// What the service keeps its things in.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { allCases.filter { $0 != .postgres || TestServers.areAvailable } }
    var testDescription: String { rawValue }
}

/// Time as these tests need it: what is read off the wall is the test's, and so is every wait of ten seconds or
/// more; the short pauses of workers and drivers pass by themselves.
final class SteeredTime: TimeSource {
    private let manual = ManualTime(Timestamp(seconds: 1_756_036_800))
    private let system = SystemTime()

    var now: Timestamp { manual.now }
    var uptime: Duration { system.uptime }

    func sleep(for duration: Duration) async throws {
        try await duration < .seconds(10) ? system.sleep(for: duration) : manual.sleep(for: duration)
    }

    func setToWallClock() { manual.setWallClock(to: system.now) }
    func advance(by duration: Duration) { manual.advance(by: duration) }
}

/// account-manager and Telegram's interface for bots, as far as this service calls them: keeps what it was asked
/// and answers what it was told to.
final class Neighbour: Responder {
    struct Call: Equatable, Sendable {
        let method: String
        let path: String
        let query: String
        let headers: Headers
        let body: JSONValue
    }
    private let calls = Mutex<[Call]>([])
    private let answers = Mutex<@Sendable (Call) -> Response?>({ _ in nil })
    let server: Mutex<HTTPServer?> = Mutex(nil)

    var made: [Call] { calls.withLock { $0 } }
    func reply(_ answer: @escaping @Sendable (Call) -> Response?) { answers.withLock { $0 = answer } }

    func answer(_ request: Request) async -> Response {
        let bytes = (try? await request.body.collect(upTo: 64 << 20)) ?? []
        let call = Call(
            method: request.method.rawValue, path: request.path, query: request.query.raw,
            headers: request.headers,
            body: (try? JSONValue(parsing: bytes)) ?? .int(Int64(bytes.count)))
        calls.withLock { $0.append(call) }
        return answers.withLock { $0 }(call) ?? .json(["fine": true] as JSONValue)
    }

    var port: Int { server.withLock { $0?.port ?? 0 } }

    static func started() async throws -> Neighbour {
        let neighbour = Neighbour()
        let server = HTTPServer(ServerSettings(port: 0), neighbour)
        try server.bind()
        neighbour.server.withLock { $0 = server }
        return neighbour
    }
}

/// The service over a database, a folder and a Telegram that outlive it: it can be started, asked, stopped and
/// killed again and again.
final class Office: Sendable {
    let telegram: ScriptedTelegram
    let time = SteeredTime()
    let neighbour: Neighbour
    private let serving: Task<Void, any Error>
    let environment: Environment
    let sink = MemorySink()

    init(_ engine: Engine, _ telegram: ScriptedTelegram = ScriptedTelegram()) async throws {
        self.telegram = telegram
        let folder = try await TestServers.directory()
        neighbour = try await Neighbour.started()
        let server = neighbour.server.withLock { $0 }
        serving = Task { try await server?.run() }
        let address = "http://127.0.0.1:\(neighbour.port)"
        var values = [
            "DATA_DIR": folder, "AUTH_MODE": "strict", "LOG_LEVEL": "debug", "ACCOUNT_MANAGER_URL": address,
            "TELEGRAM_BOT_API_URL": address,
        ]
        if engine == .postgres { values["DATABASE_URL"] = try await TestServers.postgres() }
        environment = Environment(values)
    }

    deinit { serving.cancel() }

    /// One run of the service.
    struct Run: Sendable {
        let service: AssembledService
        let tokens: Tokens
        let time: SteeredTime
        let broker: any Broker
        private let queues: any Database
        /// One for each service, in their order.
        private let tasks: [Task<Void, any Error>]

        init(_ office: Office) async throws {
            let log = Log(service: "test", level: .debug, time: office.time, to: office.sink)
            let resources = try await ProcessResources.open(
                office.environment, log: log, time: office.time, sink: office.sink)
            let telegram = office.telegram
            let definition = ServiceDefinition.integrationService { _ in
                TelegramSource(telegram, .sandbox, botAPI: "http://bots.invalid")
            }
            queues = DatabaseLocation.sqlite("\(resources.settings.dataFolder)/queues.sqlite").open("queues")
            broker = SQLBroker(
                queues, queues: UserDeletion.queues, metrics: BrokerMetrics(Metrics()), time: SystemTime(),
                log: log)
            service = try await assemble(definition, resources, broker: broker)
            tokens = resources.tokens
            time = office.time
            tasks = service.services.map { service in Task { try await service.run() } }
            try await service.readiness.wait(time)
            // As user-service does: whoever is not among the ended sessions is not asked about.
            try await service.context.endedSessions.fill([], now: time.now, round: "1")
        }

        /// As SIGTERM ends it.
        func stop() async {
            for task in tasks.reversed() {
                task.cancel()
                _ = await task.result
            }
            await broker.close()
            await queues.close()
        }

        /// As SIGKILL ends it: from now on nothing it does reaches the database, and what it held is free at
        /// once, whatever it still waits for.
        func kill() async {
            await service.context.database.close()
            for task in tasks { task.cancel() }
            await broker.close()
            await queues.close()
        }

        func user(_ id: Int64) -> Caller {
            let token = tokens.access(userID: id, email: "u\(id)@example.com", session: "s", now: time.now)
            return Caller(router: service.router, token: token.expose())
        }

        func worker(for user: Int64?) -> Caller {
            let identity = user.map { UserIdentity(id: $0, email: "u\($0)@example.com", tokenID: "") }
            let token = tokens.service("parsing-service", onBehalfOf: identity, now: time.now)
            return Caller(router: service.router, token: token.expose())
        }

        var nobody: Caller { Caller(router: service.router, token: nil) }
    }

    func started() async throws -> Run { try await Run(self) }

    /// Runs `test` with the service started, and stops it afterwards.
    func open(_ test: (Run) async throws -> Void) async throws {
        let run = try await started()
        do { try await test(run) } catch {
            telegram.release()
            await run.stop()
            throw error
        }
        telegram.release()
        await run.stop()
    }
}

/// What a client sees of an answer.
struct Answer: Sendable {
    let status: Int
    let headers: Headers
    let text: String

    var json: JSONValue { (try? JSONValue(parsing: text)) ?? .null }
    subscript(name: String) -> JSONValue { json[name] ?? .null }
    var code: String { self["code"].stringValue ?? "" }
    var lines: [JSONValue] { text.split(separator: "\n").compactMap { try? JSONValue(parsing: String($0)) } }
}

struct Caller: Sendable {
    let router: Router
    let token: String?
    var language = "en"

    func get(_ path: String, _ query: KeyValuePairs<String, String> = [:]) async -> Answer {
        await ask(.get, path, Query(query))
    }
    func post(_ path: String, _ body: JSONValue = [:]) async -> Answer { await ask(.post, path, body: body) }
    func put(_ path: String, _ body: JSONValue) async -> Answer { await ask(.put, path, body: body) }
    func delete(_ path: String) async -> Answer { await ask(.delete, path) }

    func ask(
        _ method: HTTP.Method, _ path: String, _ query: Query = Query(), body: JSONValue? = nil,
        headers: Headers = [:]
    ) async -> Answer {
        await ask(method, path, query, bytes: body?.bytes, headers: headers)
    }

    func ask(
        _ method: HTTP.Method, _ path: String, _ query: Query = Query(), bytes: Bytes?,
        headers extra: Headers = [:]
    ) async -> Answer {
        var headers = extra
        if let token { headers["Authorization"] = "Bearer \(token)" }
        headers["Accept-Language"] = language
        headers["Host"] = "localhost"
        if bytes != nil, headers["Content-Type"] == nil { headers["Content-Type"] = "application/json" }
        let request = Request(method, path, query: query, headers: headers, body: Body(bytes ?? []))
        let response: Response
        if let quick = router.answerAtOnce(request) {
            response = quick
        } else {
            response = await router.answer(request)
        }
        let text = (try? await response.collect()).map { String(decoding: $0, as: UTF8.self) } ?? ""
        return Answer(status: response.status, headers: response.headers, text: text)
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
        try await clock.sleep(for: .milliseconds(5))
    }
}

extension Office.Run {
    /// An account of the user's, connected by QR code.
    func connected(_ telegramUser: Int64, of user: Int64 = 1, _ telegram: ScriptedTelegram) async throws
        -> String
    {
        let caller = self.user(user)
        let shown = await caller.get("/api/v1/telegram/qr-code")
        try #require(shown.status == 200, "\(shown.text)")
        try #require(telegram.scan(shown["qr_link"].stringValue ?? "", as: telegramUser))
        var account: String?
        try await eventually("the account is connected") {
            let check = await caller.post(
                "/api/v1/telegram/qr-check", ["connection_id": shown["connection_id"]])
            account = check["account"]["id"]?.stringValue
            return account != nil
        }
        return try #require(account)
    }
}
