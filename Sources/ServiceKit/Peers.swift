public import Core
public import HTTP

/// The other services, reached over HTTP with this service's own token.
public struct Peers: Sendable {
    private let environment: Environment
    private let client: any HTTPSending
    private let tokens: Tokens
    private let caller: String
    private let time: any TimeSource

    init(
        environment: Environment, client: any HTTPSending, tokens: Tokens, caller: String,
        time: any TimeSource
    ) {
        self.environment = environment
        self.client = client
        self.tokens = tokens
        self.caller = caller
        self.time = time
    }

    /// Where a service is: `USER_SERVICE_URL`, several of them separated by commas, or its port on this
    /// machine.
    public func addresses(of service: String) -> [String] {
        let name = service.uppercased().replacing("-", with: "_")
        let configured = environment.list("\(name)_URL")
        guard configured.isEmpty else {
            return configured.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
        }
        let base = environment.value("CONVOKE_PORT_BASE").flatMap { Int($0) } ?? 8000
        let port =
            environment.value("\(name)_PORT").flatMap { Int($0) } ?? base
            + (ServicePorts.offsets[service] ?? 0)
        return ["http://127.0.0.1:\(port)"]
    }

    /// Asks one of our services, acting for `user` where the question concerns one.
    public func ask(
        _ service: String, _ method: Method, _ path: String, onBehalfOf user: UserIdentity? = nil,
        body: JSONValue? = nil,
        deadline: Duration = .seconds(5)
    ) async throws -> ClientResponse {
        var headers: Headers = [
            "Authorization": "Bearer " + tokens.service(caller, onBehalfOf: user, now: time.now).expose()
        ]
        if body != nil { headers["Content-Type"] = "application/json" }
        let address = addresses(of: service)[0]
        return try await client.send(
            ClientRequest(
                method, address + path, headers: headers, body: body.map { Body($0.bytes) } ?? .empty,
                deadline: deadline))
    }

    /// What user-service's own records say of a session.
    func hasEnded(session: String) async throws -> Bool {
        do {
            let response = try await ask(
                "user-service", .get, "/internal/ended-sessions/\(percentEncoded(session))")
            guard response.status == 200, let ended = try await response.json(limit: 4096)["ended"]?.boolValue
            else {
                throw Problem.cannotCheckSession
            }
            return ended
        } catch is ClientError {
            throw Problem.cannotCheckSession
        }
    }
}

/// Behind which distance from the base port each service listens.
public enum ServicePorts {
    public static let offsets: [String: Int] = [
        "gateway": 0, "integration-service": 1, "invite-service": 2, "parsing-service": 3,
        "account-manager": 4,
        "user-service": 5, "report-service": 6, "telegram-sandbox": 90,
    ]
}

extension Problem {
    static let cannotCheckSession = Problem.unavailable(
        .init(
            "Sign-ins cannot be checked just now; try again shortly",
            "Сейчас не удаётся проверить вход; повторите чуть позже")
    ).with(header: "Retry-After", "2")
}
