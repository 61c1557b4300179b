import Accounts
import Broker
import Cache
import Core
import HTTP
import HTTPClient
import HTTPServer
import IntegrationServiceWiring
import Security
import Storage
import Synchronization
import TestServers
import Testing

@testable import AccountManagerWiring
@testable import ServiceKit

/// What the service stands on: the embedded default, or the real servers.
enum Ground: String, CaseIterable, CustomTestStringConvertible {
    case embedded = "SQLite and memory"
    case real = "PostgreSQL and Redis"

    static var available: [Ground] { allCases.filter { $0 != .real || TestServers.areAvailable } }
    var testDescription: String { rawValue }

    func environment() async throws -> [String: String] {
        var values = ["DATA_DIR": try await TestServers.directory(), "LOG_LEVEL": "error"]
        if self == .real {
            values["DATABASE_URL"] = try await TestServers.postgres()
            values["REDIS_URL"] = try await TestServers.redis().url
        }
        return values
    }
}

/// The machine's clock for whoever sleeps, and a moment that the test sets for whoever asks what time it is.
final class Clock: TimeSource {
    private let moment: Mutex<Timestamp>
    init(_ start: Timestamp) { moment = Mutex(start) }

    var now: Timestamp { moment.withLock { $0 } }
    var uptime: Duration { SystemTime().uptime }
    /// As the machine does: what is polled for is a condition.
    func sleep(for time: Duration) async throws {  // rule: tests-do-not-sleep
        try await SystemTime().sleep(for: time)
    }
    func advance(by duration: Duration) { moment.withLock { $0 = $0 + duration } }
}

let noon = Timestamp("2025-08-24T12:00:00Z") ?? .epoch

/// The whole service without a socket, asked as a client asks it. Nothing runs beside it; what its workers do
/// is asked for by name.
struct Desk: Sendable {
    let service: AssembledService
    let resources: ProcessResources
    let clock: Clock
    let broker: any Broker
    /// Who is asked for account-manager's paths: itself, or integration-service, which hands them on.
    var frontDoor: Router? = nil

    static func open(
        _ ground: Ground = .embedded, settings: [String: String] = [:], _ test: (Desk) async throws -> Void
    ) async throws {
        try await open(try await ground.environment().merging(settings) { _, new in new }, test)
    }

    /// The same through integration-service, with a socket between the two.
    func throughIntegrationService(_ test: (Desk) async throws -> Void) async throws {
        let server = HTTPServer(ServerSettings(port: 0), service.router)
        try server.bind()
        let serving = Task { try await server.run() }
        let resources = try await ProcessResources.open(
            Environment([
                "DATA_DIR": try await TestServers.directory(), "LOG_LEVEL": "error",
                "ACCOUNT_MANAGER_URL": "http://127.0.0.1:\(server.port)",
                // Both know each other's tokens.
                Secrets.tokenKey: Base64.encode(Array(repeating: 7, count: 32)),
            ]), log: Log(service: "test", level: .error), time: clock)
        let integration = try await assemble(.integrationService, resources, broker: broker)
        integration.readiness.becomeReady()
        var through = self
        through.frontDoor = integration.router
        let result: Result<Void, any Error>
        do { result = .success(try await test(through)) } catch { result = .failure(error) }
        serving.cancel()
        _ = await serving.result
        await integration.context.database.close()
        await resources.cache.close()
        await resources.ownClient.shutdown()
        try result.get()
    }

    static func open(_ environment: [String: String], _ test: (Desk) async throws -> Void) async throws {
        let log = Log(service: "test", level: .error)
        let clock = Clock(noon)
        let resources = try await ProcessResources.open(Environment(environment), log: log, time: clock)
        let queues = DatabaseLocation.sqlite(":memory:").open("queues")
        let broker = SQLBroker(
            queues, queues: ServiceDefinition.accountManager.queues, metrics: BrokerMetrics(Metrics()),
            time: clock, log: log)
        let service = try await assemble(.accountManager, resources, broker: broker)
        let database = service.context.database
        try await database.migrate(
            ServiceDefinition.accountManager.migrations, scope: "account-manager", at: noon)
        try await database.migrate(KeptAnswers.migrations, scope: "kept-answers", at: noon)
        service.readiness.becomeReady()
        let result: Result<Void, any Error>
        do {
            result = .success(
                try await test(Desk(service: service, resources: resources, clock: clock, broker: broker)))
        } catch {
            result = .failure(error)
        }
        await database.close()
        await broker.close()
        await queues.close()
        await resources.cache.close()
        await resources.ownClient.shutdown()
        try result.get()
    }

    struct DeskError: Error {}

    // MARK: - Asking

    struct Answer: Sendable {
        let status: Int
        let headers: Headers
        let json: JSONValue
        subscript(name: String) -> JSONValue? { json[name] }
    }

    func get(_ path: String, _ headers: Headers = [:]) async throws -> Answer {
        try await ask("GET", path, nil, headers)
    }
    func post(_ path: String, _ body: JSONValue? = nil, _ headers: Headers = [:]) async throws -> Answer {
        try await ask("POST", path, body.map { $0.bytes }, headers)
    }
    func put(_ path: String, _ body: JSONValue, _ headers: Headers = [:]) async throws -> Answer {
        try await ask("PUT", path, body.bytes, headers)
    }

    /// Below `/api/v1/account-manager`, unless the path says otherwise. Without a token the caller is what
    /// development mode makes of it: the user it names.
    func ask(_ method: Method, _ path: String, _ body: Bytes?, _ headers: Headers = [:]) async throws
        -> Answer
    {
        var all: Headers = ["Host": "localhost:8004"]
        if body != nil { all["Content-Type"] = "application/json" }
        for header in headers { all[header.name] = header.value }
        let isWhole =
            path.hasPrefix("/api") || path.hasPrefix("/internal")
        let full =
            isWhole || path == "/health" || path == "/metrics" ? path : "/api/v1/account-manager" + path
        let parts = full.split(separator: "?", maxSplits: 1)
        let request = Request(
            method, String(parts[0]), query: Query(parts.count > 1 ? String(parts[1]) : ""), headers: all,
            body: body.map { Body($0) } ?? .empty)
        let router = full.hasPrefix("/api/v1/account-manager") ? frontDoor ?? service.router : service.router
        var response = router.answerAtOnce(request)
        if response == nil { response = await router.answer(request) }
        guard let response else { throw DeskError() }
        let bytes = try await response.collect()
        return Answer(
            status: response.status, headers: response.headers,
            json: (try? JSONValue(parsing: bytes)) ?? .null)
    }

    func token(service name: String, for user: Int64? = nil) -> Headers {
        let identity = user.map { UserIdentity(id: $0, email: "user\($0)@example.org", tokenID: "session.1") }
        let token = resources.tokens.service(name, onBehalfOf: identity, now: resources.time.now)
        return ["Authorization": "Bearer \(token.expose())"]
    }

    /// Connects account number `index`, as integration-service would.
    @discardableResult
    func connect(_ index: Int = 1, user: Int64 = 1) async throws -> String {
        let id = accountName(index)
        let answer = try await post(
            "/internal/accounts",
            ["account_id": .string(id), "user_id": .int(user), "phone": "+70000000000"],
            token(service: "integration-service"))
        #expect(answer.status == 201)
        return id
    }
}

func accountName(_ index: Int) -> String {
    let digits = String(index, radix: 16)
    return "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
}
