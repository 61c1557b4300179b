import Core
import GatewayWiring
import HTTP
import HTTPClient
import HTTPServer
import Security
import ServiceKit
import Synchronization
import TestServers
import Testing

/// The caches that replicas may share.
enum SharedCache: String, CaseIterable, Sendable {
    case memory, redis
    static var available: [SharedCache] { TestServers.areAvailable ? allCases : [.memory] }
}

/// Gateways on free ports, in front of one upstream that plays all services: each has its name as the first
/// part of its path.
struct Playground: Sendable {
    let ports: [Int]
    let operatorPorts: [Int]
    let gateways: [AssembledService]
    let client: HTTPClient
    let upstream: Recorder

    var port: Int { ports[0] }
    var context: ServiceContext { gateways[0].context }

    /// An access token of a user, as user-service makes them.
    func token(user: Int64 = 7, session: String = "s1") -> String {
        context.tokens.access(
            userID: user, email: "someone@example.org", session: session, now: context.time.now
        ).expose()
    }

    func send(
        _ method: HTTP.Method, _ path: String, token: String? = nil, headers: Headers = [:],
        body: Body = .empty,
        replica: Int = 0
    ) async throws -> ClientResponse {
        var headers = headers
        if let token { headers.add("Authorization", "Bearer \(token)") }
        return try await client.send(
            ClientRequest(method, "http://127.0.0.1:\(ports[replica])\(path)", headers: headers, body: body))
    }

    func metrics() async throws -> String {
        let answer = try await client.send(
            ClientRequest(.get, "http://127.0.0.1:\(operatorPorts[0])/metrics"))
        return String(decoding: try await answer.body.collect(upTo: 1 << 20), as: UTF8.self)
    }

    /// The key that all tokens of the tests are signed with.
    static let key = TokenKey(Secret([UInt8](repeating: 0x2A, count: 32)))
}

func withGateways(
    _ count: Int = 1, cache: SharedCache = .memory, settings: [String: String] = [:],
    answering answer: @escaping @Sendable (Request) async throws -> Response = { _ in
        .json(["fine": true] as JSONValue)
    },
    _ body: @Sendable (Playground) async throws -> Void
) async throws {
    let recorder = Recorder(answer)
    let upstream = HTTPServer(ServerSettings(port: 0), recorder)
    try upstream.bind()
    var values = [
        "DATA_DIR": try await TestServers.directory(), "GATEWAY_METRICS_PORT": "0",
        "LOG_LEVEL": "error",
        "JWT_SECRET": String(decoding: [UInt8](repeating: 0x2A, count: 32), as: UTF8.self),
    ]
    for service in ["user", "integration", "invite", "parsing", "report"] {
        values["\(service.uppercased())_SERVICE_URL"] = "http://127.0.0.1:\(upstream.port)/\(service)-service"
    }
    values["ACCOUNT_MANAGER_URL"] = "http://127.0.0.1:\(upstream.port)/account-manager"
    if cache == .redis { values["REDIS_URL"] = try await TestServers.redis().url }
    values.merge(settings) { $1 }

    let resources = try await ProcessResources.open(Environment(values), log: .silent)
    var gateways: [AssembledService] = []
    for _ in 0..<count { gateways.append(try await assemble(.gateway, resources, broker: nil)) }
    // As user-service does: whoever is not among the ended sessions is not asked about.
    try await gateways[0].context.endedSessions.fill([], now: resources.time.now, round: "1")
    let doors = gateways.map { gateway in
        var listener = gateway.listener
        listener.port = 0
        return HTTPServer(listener, gateway.router)
    }
    let operators = gateways.compactMap { gateway in
        gateway.operators.map { HTTPServer(ServerSettings(port: 0, threads: 1), $0.router) }
    }
    let servers = [upstream] + doors + operators
    for server in servers { try server.bind() }
    let client = HTTPClient()
    let playground = Playground(
        ports: doors.map(\.port), operatorPorts: operators.map(\.port), gateways: gateways, client: client,
        upstream: recorder)
    let services = gateways.flatMap(\.services) + servers
    try await withThrowingTaskGroup(of: Void.self) { group in
        for service in services { group.addTask { try await service.run() } }
        let outcome: Result<Void, any Error>
        do {
            outcome = .success(try await body(playground))
        } catch {
            outcome = .failure(error)
        }
        group.cancelAll()
        await client.shutdown()
        while let ended = await group.nextResult() {
            if case .failure(let error) = ended, !(error is CancellationError) { throw error }
        }
        try outcome.get()
    }
}

/// Plays the services and keeps what it was asked.
final class Recorder: Responder {
    private let answer: @Sendable (Request) async throws -> Response
    private let seen = Mutex<[Request]>([])

    init(_ answer: @escaping @Sendable (Request) async throws -> Response) { self.answer = answer }

    var requests: [Request] { seen.withLock { $0 } }
    var paths: [String] { requests.map(\.path) }

    func answer(_ request: Request) async -> Response {
        seen.withLock { $0.append(request) }
        do {
            return try await answer(request)
        } catch {
            return Response(500)
        }
    }
}

/// Waits until something that happens elsewhere has happened; a failure after far longer than it takes.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () async throws -> Bool
) async throws {
    let time = SystemTime()
    let start = time.uptime
    while try await !isSo() {
        guard time.uptime - start < .seconds(60) else {
            Issue.record("never happened: \(what)", sourceLocation: sourceLocation)
            return
        }
        try await time.sleep(for: .milliseconds(10))
    }
}

extension ClientResponse {
    var problemCode: String? {
        get async throws { try await json()["code"]?.stringValue }
    }
}
