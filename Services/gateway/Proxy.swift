import Core
import HTTP
import ServiceKit

/// Hands a request to the service it belongs to and the answer back, both streamed.
struct Proxy: Sendable {
    let upstreams: [String: Upstream]
    let client: any HTTPSending
    let tokens: Tokens
    let deadline: Duration
    let idle: Duration
    let time: any TimeSource
    let outcomes: Labeled<Counter>

    /// An answer up to this size is gathered before it is sent: most are, and each step of a stream costs.
    static let gathered = 64 << 10

    func forward(_ request: Request, _ route: Route, as visitor: Visitor?, from address: String)
        async throws -> Response
    {
        guard let upstream = upstreams[route.service] else { throw Problem.notFound }
        let token = visitor?.token ?? tokens.service("gateway", onBehalfOf: nil, now: time.now).expose()
        let path = request.query.raw.isEmpty ? route.path : "\(route.path)?\(request.query.raw)"
        var outgoing = ClientRequest(
            request.method, path, headers: ForwardedHeaders.toService(request, token: token, from: address),
            body: request.body,
            deadline: deadline, idle: idle)
        var tried: [String] = []
        while true {
            let replica: Upstream.Replica
            do {
                replica = try upstream.next(shard: route.shard, excluding: tried, at: time.uptime)
            } catch let error as Upstream.AllOpen {
                outcomes[route.service, "open"].increment()
                throw Problem.serviceDown(route.service, retryAfter: error.remaining)
            }
            outgoing.url = replica.address + path
            do {
                let answer = try await client.send(outgoing)
                // A service that says it is out of order is as good as down.
                if [502, 503, 504].contains(answer.status) {
                    replica.failed(at: time.uptime)
                } else {
                    replica.succeeded()
                }
                outcomes[route.service, answer.status < 500 ? "answered" : "failed"].increment()
                return try await response(from: answer)
            } catch let error as ClientError {
                replica.failed(at: time.uptime)
                outcomes[route.service, "unreachable"].increment()
                request.log.warning(
                    "upstream.failed", ["service": .id(route.service), "error": .error(error)])
                tried.append(replica.address)
                guard tried.count < 2, mayRepeat(request, error) else {
                    throw problem(for: error, route.service)
                }
                // With one replica the second try goes to it as well: a restarted process may be back.
                if upstream.replicas.count == 1 { tried = ["-"] }
            }
        }
    }

    /// Only what did no harm the first time, and only a body that is still there.
    private func mayRepeat(_ request: Request, _ error: ClientError) -> Bool {
        guard request.body.bytesAtHand != nil else { return false }
        switch error {
        case .notSent: return true
        case .inDoubt, .badAnswer: return request.method.isIdempotent
        // Its time is up: another try would keep the client waiting for twice as long.
        case .timedOut, .invalidURL, .invalidRequest: return false
        }
    }

    private func problem(for error: ClientError, _ service: String) -> Problem {
        switch error {
        case .timedOut: Problem.deadline
        case .badAnswer, .inDoubt:
            Problem(
                502, "bad_gateway",
                .init("\(service) did not give a whole answer", "\(service) не дал полного ответа")
            ).with(["service": .string(service)])
        case .notSent: Problem.serviceDown(service, retryAfter: .seconds(2))
        case .invalidURL, .invalidRequest: Problem.badPath
        }
    }

    private func response(from answer: ClientResponse) async throws -> Response {
        let headers = ForwardedHeaders.toClient(answer.headers)
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

extension Problem {
    static func serviceDown(_ service: String, retryAfter: Duration) -> Problem {
        Problem(
            503, "service_down",
            .init(
                "\(service) does not answer just now; try again shortly",
                "\(service) сейчас не отвечает; повторите чуть позже")
        ).with(header: "Retry-After", String(max(retryAfter.wholeSecondsUp, 1)))
            .with(["service": .string(service)])
    }
}
