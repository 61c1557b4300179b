import Core
import HTTP
import ServiceKit

/// The documents call account-manager here; it is handed on, streamed both ways, with the caller's identity.
struct AccountManagerProxy: Sendable {
    let peers: Peers
    let client: any HTTPSending
    let tokens: Tokens
    let time: any TimeSource

    /// An answer up to this size is sent in one piece.
    private static let gathered = 64 << 10
    /// What a client sends that is for account-manager's eyes too; all else is ours or the connection's.
    private static let passedOn = [
        "accept", "accept-language", "content-type", "idempotency-key", "if-match", "if-none-match",
        "last-event-id",
    ]
    private static let passedBack = [
        "content-type", "content-language", "cache-control", "etag", "retry-after", "location",
        "idempotency-replayed",
        "content-disposition", "www-authenticate", "allow",
    ]

    func register(on router: inout Router) {
        for method: HTTP.Method in [.get, .post, .put, .patch, .delete] {
            router.on(method, "/api/v1/account-manager/{rest...}", forward)
        }
    }

    func forward(_ request: Request) async throws -> Response {
        // Of the parts as they were decoded, so that nothing walks out of account-manager's own paths.
        let parts = request.parameter("rest").split(separator: "/", omittingEmptySubsequences: true)
        guard !parts.contains(where: { $0 == "." || $0 == ".." }) else { throw Problem.badPath }
        let path = parts.map { percentEncoded($0) }.joined(separator: "/")
        let query = request.query.raw.isEmpty ? "" : "?\(request.query.raw)"
        var headers = Headers()
        for name in Self.passedOn {
            if let value = request.headers[name] { headers.add(name, value) }
        }
        let token = tokens.service("integration-service", onBehalfOf: request.identity.user, now: time.now)
        headers.add("Authorization", "Bearer \(token.expose())")
        headers.add("X-Request-ID", request.id)
        if let trace = request.trace.header { headers.add("traceparent", trace) }
        let answer: ClientResponse
        do {
            answer = try await client.send(
                ClientRequest(
                    request.method,
                    "\(peers.addresses(of: "account-manager")[0])/api/v1/account-manager/\(path)\(query)",
                    headers: headers, body: request.body, deadline: .seconds(30)))
        } catch let error as ClientError {
            request.log.warning("account-manager.failed", ["error": .error(error)])
            switch error {
            case .timedOut: throw Problem.deadline
            case .badAnswer, .inDoubt:
                throw Problem(
                    502, "bad_gateway",
                    .init(
                        "account-manager did not give a whole answer", "account-manager не дал полного ответа"
                    ))
            default: throw Problem.accountManagerDown
            }
        }
        return try await response(from: answer)
    }

    private func response(from answer: ClientResponse) async throws -> Response {
        var headers = Headers()
        for name in Self.passedBack {
            if let value = answer.headers[name] { headers.add(name, value) }
        }
        let length = answer.headers["content-length"].flatMap { Int($0) } ?? answer.body.length
        if let length, length <= Self.gathered {
            return Response(
                answer.status, headers: headers, content: .bytes(try await answer.body.collect(upTo: length)))
        }
        let body = answer.body
        return Response(
            answer.status, headers: headers,
            content: .stream(length: length) { writer in
                for try await chunk in body { try await writer.write(chunk) }
            })
    }
}
