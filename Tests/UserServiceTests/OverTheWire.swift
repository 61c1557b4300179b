import Core
import HTTP
import HTTPClient
import HTTPServer
import ServiceKit
import Testing

/// The same service behind a real socket.
@Suite struct `user-service over the wire` {
    @Test func `signs up, in and out`() async throws {
        try await House.open(.embedded) { house in
            let server = HTTPServer(
                ServerSettings(port: 0), house.first.router, log: .silent, time: SystemTime())
            try server.bind()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await server.run() }
                defer { group.cancelAll() }
                let client = HTTPClient()
                @Sendable func send(
                    _ method: Method, _ path: String, _ body: JSONValue? = nil, token: String? = nil
                ) async throws
                    -> (Int, JSONValue)
                {
                    var headers: Headers = [:]
                    if body != nil { headers["Content-Type"] = "application/json" }
                    if let token { headers["Authorization"] = "Bearer \(token)" }
                    let answer = try await client.send(
                        ClientRequest(
                            method, "http://127.0.0.1:\(server.port)\(path)", headers: headers,
                            body: body.map { Body($0.bytes) } ?? .empty))
                    let bytes = try await answer.body.collect(upTo: 1 << 20)
                    return (answer.status, (try? JSONValue(parsing: bytes)) ?? .null)
                }
                #expect(try await send("POST", "/auth/register", House.registration("anna")).0 == 201)
                let (status, grant) = try await send(
                    "POST", "/auth/login", ["email": "anna@example.com", "password": House.password])
                #expect(status == 200)
                let token = grant["access_token"]?.stringValue
                #expect(try await send("GET", "/auth/me", token: token).1["email"] == "anna@example.com")
                #expect(try await send("POST", "/auth/logout", token: token).0 == 204)
                #expect(try await send("GET", "/auth/me", token: token).0 == 401)
                await client.shutdown()
            }
        }
    }
}
