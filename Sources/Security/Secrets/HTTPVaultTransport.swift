import Core
public import HTTP

/// Vault over HTTP.
public struct HTTPVaultTransport: VaultTransport {
    private static let largestAnswer = 1 << 20

    private let client: any HTTPSending
    private let address: String
    private let deadline: Duration

    public init(_ client: any HTTPSending, address: String, deadline: Duration = .seconds(10)) {
        self.client = client
        self.address = address
        self.deadline = deadline
    }

    public func send(_ request: VaultRequest) async throws -> VaultResponse {
        var headers = Headers()
        // Vault's own guard against requests that a web page was tricked into.
        headers.add("X-Vault-Request", "true")
        if let token = request.token { headers.add("X-Vault-Token", token.expose()) }
        var body = Body.empty
        if let json = request.body {
            headers.add("Content-Type", "application/json")
            body = Body(json.expose().bytes)
        }
        let answer = try await client.send(
            ClientRequest(
                Method(rawValue: request.method), address + request.path, headers: headers, body: body,
                deadline: deadline, idle: deadline))
        let bytes = try await answer.body.collect(upTo: Self.largestAnswer)
        return VaultResponse(status: answer.status, body: (try? JSONValue(parsing: bytes)) ?? .null)
    }
}
