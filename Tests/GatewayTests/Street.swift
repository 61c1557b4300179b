import Broker
import Core
import GatewayWiring
import HTTP
import HTTPClient
import HTTPServer
import ServiceKit
import Storage
import Synchronization
import TestServers
import Testing
import UserServiceWiring

/// What the services keep their things in.
enum Stores: String, CaseIterable, CustomTestStringConvertible {
    case embedded = "SQLite and memory"
    case real = "PostgreSQL and Redis"

    static var available: [Stores] { TestServers.areAvailable ? allCases : [.embedded] }
    var testDescription: String { rawValue }
}

/// user-service as it is, behind two gateways as they are: each with a socket of its own.
struct Street: Sendable {
    let doors: [Int]
    let client: HTTPClient

    static func open(_ stores: Stores, _ test: @escaping @Sendable (Street) async throws -> Void) async throws
    {
        let userService = Later()
        let listener = HTTPServer(ServerSettings(port: 0), userService)
        try listener.bind()
        var values = [
            "DATA_DIR": try await TestServers.directory(), "AUTH_MODE": "strict", "REGISTRATION": "open",
            "PASSWORD_PASSES": "1", "PASSWORD_MEMORY_MB": "8", "LOG_LEVEL": "error",
            "GATEWAY_METRICS_PORT": "0", "USER_SERVICE_URL": "http://127.0.0.1:\(listener.port)",
        ]
        if stores == .real {
            values["DATABASE_URL"] = try await TestServers.postgres()
            values["REDIS_URL"] = try await TestServers.redis().url
        }
        let environment = Environment(values)
        let resources = try await ProcessResources.open(environment, log: .silent)
        // A memory is shared by nobody but its own process; what Redis shares, it shares between processes.
        let others =
            stores == .embedded ? resources : try await ProcessResources.open(environment, log: .silent)
        let queues = DatabaseLocation.sqlite("\(values["DATA_DIR"] ?? "")/queues.sqlite").open(
            "queues", time: SystemTime())
        let broker = SQLBroker(
            queues, queues: UserDeletion.queues, metrics: BrokerMetrics(Metrics()), time: SystemTime(),
            log: .silent)
        let users = try await assemble(.userService, resources, broker: broker)
        let gateways = [
            try await assemble(.gateway, resources, broker: nil),
            try await assemble(.gateway, others, broker: nil),
        ]
        userService.router = users.router
        let doors = gateways.map { gateway in
            var settings = gateway.listener
            settings.port = 0
            return HTTPServer(settings, gateway.router)
        }
        for door in doors { try door.bind() }
        let street = Street(doors: doors.map(\.port), client: HTTPClient())
        let services: [any Service] = users.services + gateways.flatMap(\.services) + [listener] + doors
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runAll(services, log: .silent) }
            group.addTask {
                try await users.readiness.wait(SystemTime())
                try await test(street)
            }
            // Whichever ends first: the test, or a service that should not have ended.
            defer { group.cancelAll() }
            try await group.next()
        }
        await street.client.shutdown()
        await broker.close()
        await queues.close()
    }

    /// Somebody with a device, at one of the doors.
    func visitor(_ device: String = "A phone", at door: Int = 0, token: String? = nil) -> Visitor {
        Visitor(street: self, door: door, device: device, token: token)
    }

    static let password: JSONValue = "correct horse battery"

    /// Registers somebody and signs in.
    func person(_ name: String = "anna") async throws -> Person {
        let registered = try await visitor().post(
            "/api/auth/register",
            ["email": "\(name)@example.com", "username": "\(name)_name", "password": Self.password])
        #expect(registered.status == 201)
        return try await signedIn(name)
    }

    func signedIn(
        _ name: String = "anna", with password: JSONValue = password, on device: String = "A phone",
        at door: Int = 0
    ) async throws -> Person {
        let answer = try await visitor(device, at: door).post(
            "/api/auth/login", ["email": "\(name)@example.com", "password": password])
        try #require(answer.status == 200)
        return Person(
            street: self, token: answer["access_token"].stringValue ?? "",
            refreshToken: answer["refresh_token"].stringValue ?? "", device: device)
    }
}

/// Somebody with the tokens of a session, who may come to either door.
struct Person: Sendable {
    let street: Street
    let token: String
    let refreshToken: String
    let device: String

    func at(_ door: Int) -> Visitor { street.visitor(device, at: door, token: token) }

    /// Whether the access token is taken, at each door.
    var isLetIn: [Bool] {
        get async throws {
            var answers: [Bool] = []
            for door in 0...1 { answers.append(try await at(door).get("/api/auth/me").status == 200) }
            return answers
        }
    }

    func refreshed(at door: Int) async throws -> Answer {
        try await street.visitor(device, at: door).post(
            "/api/auth/refresh", ["refresh_token": .string(refreshToken)])
    }
}

/// Sends requests to one gateway.
struct Visitor: Sendable {
    let street: Street
    let door: Int
    let device: String
    let token: String?

    func get(_ path: String) async throws -> Answer { try await send(.get, path) }
    func delete(_ path: String) async throws -> Answer { try await send(.delete, path) }
    func post(_ path: String, _ body: JSONValue) async throws -> Answer { try await send(.post, path, body) }
    func put(_ path: String, _ body: JSONValue) async throws -> Answer { try await send(.put, path, body) }

    private func send(_ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil) async throws -> Answer
    {
        var headers: Headers = ["User-Agent": device]
        if let token { headers.add("Authorization", "Bearer \(token)") }
        if body != nil { headers.add("Content-Type", "application/json") }
        let answer = try await street.client.send(
            ClientRequest(
                method, "http://127.0.0.1:\(street.doors[door])\(path)", headers: headers,
                body: Body(body?.bytes ?? [])))
        let bytes = try await answer.body.collect(upTo: 1 << 20)
        return Answer(status: answer.status, json: (try? JSONValue(parsing: bytes)) ?? .null)
    }
}

struct Answer: Sendable {
    let status: Int
    let json: JSONValue
    subscript(name: String) -> JSONValue { json[name] ?? .null }
}

/// A responder that is named after its server has a port.
private final class Later: Responder {
    private let content = Mutex<Router?>(nil)
    var router: Router? {
        get { content.withLock { $0 } }
        set { content.withLock { $0 = newValue } }
    }

    func answerAtOnce(_ request: Request) -> Response? { router?.answerAtOnce(request) }
    func answer(_ request: Request) async -> Response { await router?.answer(request) ?? Response(503) }
}
