import Broker
import Cache
import Core
import HTTP
import Security
import Storage
import Synchronization
import TestServers
import Testing

@testable import ServiceKit

/// What a client may rely on at every service.
@Suite struct `Every service` {
    struct Form: JSONDecodable {
        init(from fields: inout Fields) {
            _ = fields.string("name", length: 1...5)
            _ = fields.int("count", in: 1...9)
        }
    }

    static let routes: @Sendable (inout Router) -> Void = { router in
        router.on("GET", "/things") { _ in .json(["ok": true] as JSONValue) }
        router.on("POST", "/things") { request in
            _ = try await request.decode(Form.self)
            return .json(["ok": true] as JSONValue, status: 201)
        }
        router.on("GET", "/things/{id}") { request in
            .json(["id": .int(try request.intParameter("id"))] as JSONValue)
        }
    }

    @Test func `says who it is and that it is alive`() async throws {
        try await Served.routes(Self.routes) { served in
            let health = await served.ask("GET", "/health")
            #expect(health.status == 200)
            #expect(
                health.json == [
                    "status": "healthy", "service": "test-service", "version": .string(platformVersion),
                ])
            #expect(await served.ask("HEAD", "/health").status == 200)
            let metrics = await served.ask("GET", "/metrics")
            #expect(metrics.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
            #expect(metrics.text.contains("process_resident_memory_bytes"))
            #expect(await served.ask("GET", "/openapi.json")["openapi"] == "3.1.0")
        }
    }

    @Test func `refuses with a problem that names a code and the request`() async throws {
        try await Served.routes(Self.routes) { served in
            let token = served.userToken()
            func check(_ answer: Answer, _ status: Int, _ code: String) {
                #expect(answer.status == status)
                #expect(answer.code == code)
                #expect(answer.headers["content-type"] == "application/problem+json")
                #expect(answer["status"].intValue == Int64(status))
                #expect(answer["request_id"].stringValue == answer.headers["x-request-id"])
                for name in ["type", "title", "detail"] {
                    #expect(answer[name].stringValue?.isEmpty == false, "\(code) \(name)")
                }
            }
            let json: Headers = ["Content-Type": "application/json"]
            check(
                await served.ask("POST", "/things", headers: json, body: Body([0x7B]), token: token), 400,
                "malformed_json")
            check(await served.ask("GET", "/things/%zz", token: token), 400, "bad_path")
            check(await served.ask("GET", "/things"), 401, "unauthorized")
            check(await served.ask("GET", "/nothing", token: token), 404, "not_found")
            check(await served.ask("GET", "/things/x", token: token), 404, "not_found")
            let method = await served.ask("DELETE", "/things", token: token)
            check(method, 405, "method_not_allowed")
            #expect(method.headers["allow"] == "GET, HEAD, POST")
            check(
                await served.ask(
                    "POST", "/things", headers: json, body: Body(Bytes(repeating: 0x20, count: 2 << 20)),
                    token: token),
                413, "body_too_large")
            check(
                await served.ask("POST", "/things", body: Body([0x7B, 0x7D]), token: token), 415,
                "wrong_content_type")
            let invalid = await served.ask(
                "POST", "/things", json: ["name": "too long", "count": 10], token: token)
            check(invalid, 422, "validation_failed")
            #expect(
                (invalid["errors"].arrayValue ?? []).compactMap { $0["field"]?.stringValue } == [
                    "name", "count",
                ])
        }
    }

    @Test func `takes a trailing slash, a doubled one and HEAD`() async throws {
        try await Served.routes(Self.routes) { served in
            let token = served.userToken()
            for path in ["/things", "/things/", "//things", "/health/"] {
                #expect(await served.ask("GET", path, token: token).status == 200, "\(path)")
            }
            #expect(await served.ask("HEAD", "/things", token: token).status == 200)
        }
    }

    @Test func `speaks the language asked for`() async throws {
        try await Served.routes(Self.routes) { served in
            for (asked, spoken) in [
                ("ru", "ru"), ("en", "en"), ("ru-RU,ru;q=0.9,en;q=0.8", "ru"),
                ("de, ru;q=0.2, en;q=0.1", "ru"),
                ("de", "en"), ("*", "en"), ("", "en"), ("ru;q=0", "en"),
                (String(repeating: "ru,", count: 10_000), "ru"),
            ] {
                let answer = await served.ask("GET", "/nothing", headers: ["Accept-Language": asked])
                #expect(answer.headers["content-language"] == spoken, "\(asked.prefix(40))")
                #expect(answer.code == "unauthorized")
            }
        }
    }

    static let failures: [(error: any Error, status: Int)] = [
        (StorageError.unavailable(reason: "secret address", mayHaveRun: true), 503),
        (StorageError.poolExhausted, 503),
        (StorageError.timedOut, 503), (StorageError.contended, 503),
        (StorageError.uniqueViolation(constraint: "c"), 409),
        (StorageError.foreignKeyViolation(constraint: "c"), 409),
        (StorageError.unsupportedValue(reason: "x"), 422),
        (StorageError.statement(reason: "secret address", code: "42P01"), 500),
        (CacheError.unavailable(mayHaveRun: false), 503),
        (CacheError.full, 503), (CacheError.wrongType, 500),
        (BrokerError.unavailable(reason: "secret address", mayHaveRun: false), 503),
        (BrokerError.closed, 503),
        (BrokerError.unroutable(queue: "secret address"), 500), (PasswordError.busy, 503),
        (PasswordError.tooLong, 422),
        (DeadlineExceeded(limit: .seconds(1)), 504), (BodyTooLarge(limit: 1), 413),
        (CancellationError(), 503),
        (NotForeseen(), 500),
    ]
    struct NotForeseen: Error { let text = "secret address" }

    @Test func `tells of its own troubles without their details`() async throws {
        try await Served.routes({ router in
            router.on("GET", "/fail/{index}") { request in
                throw Self.failures[Int(try request.intParameter("index")) - 1].error
            }
        }) { served in
            for (index, failure) in Self.failures.enumerated() {
                let answer = await served.ask("GET", "/fail/\(index + 1)", token: served.userToken())
                #expect(answer.status == failure.status, "\(failure.error)")
                #expect(!answer.text.contains("secret"), "\(failure.error)")
                if answer.status == 503, !(failure.error is CancellationError) {
                    #expect(answer.headers["retry-after"] != nil, "\(failure.error)")
                }
            }
        }
    }

    @Test func `counts requests under their routes, not under what strangers think of`() async throws {
        try await Served.routes(Self.routes) { served in
            let token = served.userToken()
            for id in 1...3 { _ = await served.ask("GET", "/things/\(id)", token: token) }
            for path in ["/a", "/b", "/c"] { _ = await served.ask("GET", path, token: token) }
            _ = await served.ask("BREW", "/things", token: token)
            let metrics = served.metrics
            #expect(
                metrics.contains(
                    "http_requests_total{method=\"GET\",route=\"/things/{id}\",status=\"200\"} 3\n"))
            #expect(metrics.contains("http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 3\n"))
            #expect(
                metrics.contains("http_requests_total{method=\"other\",route=\"/things\",status=\"405\"} 1\n")
            )
            #expect(metrics.contains("http_request_duration_seconds_count{route=\"/things/{id}\"} 3\n"))
        }
    }
}

@Suite struct `A list` {
    static let requests: [(query: String, page: PageRequest?)] = [
        ("", PageRequest(page: 1, size: 20)), ("page=3&page_size=100", PageRequest(page: 3, size: 100)),
        ("page=1&page_size=1", PageRequest(page: 1, size: 1)), ("page=0", nil), ("page=-1", nil),
        ("page=x", nil),
        ("page=", nil), ("page_size=0", nil), ("page_size=101", nil), ("page_size=1.5", nil),
        ("page=99999999999999999999", nil), ("page=1000001", nil),
        ("page=+2", PageRequest(page: 2, size: 20)),
    ]

    @Test(arguments: requests)
    func `is asked for by page and size`(query: String, page: PageRequest?) {
        #expect((try? PageRequest(Query(query.replacing("+", with: "%2B")))) == page, "\(query)")
    }

    @Test func `names all that is wrong with the question`() throws {
        let error = #expect(throws: ValidationError.self) { try PageRequest(Query("page=0&page_size=1000")) }
        #expect(error?.errors.map(\.field) == ["page", "page_size"])
    }

    @Test(arguments: [
        (total: 0, page: 1, pages: 0, next: false, previous: false), (1, 1, 1, false, false),
        (20, 1, 1, false, false),
        (21, 1, 2, true, false), (21, 2, 2, false, true), (60, 2, 3, true, true), (5, 9, 1, false, true),
    ])
    func `says where one is in it`(total: Int, page: Int, pages: Int, next: Bool, previous: Bool) {
        let json = Page(["x"], total: total, PageRequest(page: page, size: 20)).json
        #expect(
            json == [
                "items": ["x"], "total": .int(Int64(total)), "page": .int(Int64(page)), "page_size": 20,
                "total_pages": .int(Int64(pages)), "has_next": .bool(next), "has_prev": .bool(previous),
            ])
    }
}

@Suite struct `The id and trace of a request` {
    static let ids: [(sent: String, isTaken: Bool)] = [
        ("abc-123_X.y", true), (String(repeating: "a", count: 64), true),
        (String(repeating: "a", count: 65), false),
        ("", false), ("a b", false), ("a\"b", false), ("ä", false), ("{\"x\":1}", false), ("a,b", false),
    ]

    @Test(arguments: ids)
    func `are taken where they do no harm, else made`(sent: String, isTaken: Bool) async throws {
        try await Served.routes(whoami) { served in
            let answer = await served.ask(
                "GET", "/who", headers: ["X-Request-ID": sent], token: served.userToken())
            let id = answer.headers["x-request-id"] ?? ""
            #expect((id == sent) == isTaken)
            #expect(RequestRecord.acceptableID(id) == id)
            #expect(
                served.log.lines.contains {
                    $0.contains("\"request_id\":\"\(id)\"") && $0.contains("request.answered")
                })
        }
    }

    @Test func `differ between requests`() async throws {
        try await Served.routes(whoami) { served in
            var ids: Set<String> = []
            for _ in 0..<50 { ids.insert(await served.ask("GET", "/health").headers["x-request-id"] ?? "") }
            #expect(ids.count == 50)
        }
    }

    @Test func `go along to other services and into queues`() async throws {
        let peer = Recording()
        let queues = [Queue("work")]
        let database = DatabaseLocation.sqlite(":memory:").open()
        let broker = SQLBroker(
            database, queues: queues, metrics: BrokerMetrics(Metrics()), time: SystemTime(), log: .silent)
        try await Served.open(
            client: peer, broker: broker,
            { context in
                ServiceParts(routes: { router in
                    router.on("POST", "/go") { request in
                        _ = try await context.peers.ask("user-service", .get, "/internal/x")
                        _ = try await context.client.send(
                            ClientRequest("GET", "http://other/", headers: ["X-Request-ID": "its-own"]))
                        try await context.broker.publish(Message(id: "m1", body: []), to: "work")
                        return .noContent
                    }
                })
            }
        ) { served in
            let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            let answer = await served.ask(
                "POST", "/go", headers: ["X-Request-ID": "click-1", "traceparent": parent],
                token: served.userToken())
            #expect(answer.status == 204)
            let sent = peer.requests
            #expect(sent.map { $0.headers["x-request-id"] } == ["click-1", "its-own"])
            for request in sent {
                let trace = TraceContext(request.headers["traceparent"] ?? "")
                #expect(trace?.traceID == "0af7651916cd43dd8448eb211c80319c")
                #expect(trace?.spanID != "b7ad6b7169203331")
            }
            // And whoever takes the message works under them.
            let seen = Kept<CallContext?>(nil)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    try await served.service.context.broker.consume(["work"], concurrency: 1) { _ in
                        seen.value = CallContext.current
                        return .ack
                    }
                }
                try await eventually("the message is taken") { seen.value != nil }
                group.cancelAll()
            }
            let context = seen.value
            #expect(context?.requestID == "click-1")
            #expect(context?.traceparent == sent[0].headers["traceparent"])
        }
        await broker.close()
        await database.close()
    }

    @Test(arguments: ["", "nonsense", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"])
    func `begin anew where what came is no trace`(sent: String) async throws {
        try await Served.routes(whoami) { served in
            _ = await served.ask("GET", "/who", headers: ["traceparent": sent], token: served.userToken())
            let line = served.log.lines.first { $0.contains("request.answered") } ?? ""
            let trace = (try? JSONValue(parsing: Bytes(line.utf8)))?["trace_id"]?.stringValue ?? ""
            #expect(trace.utf8.count == 32)
            #expect(trace.contains { $0 != "0" })
        }
    }
}

final class Recording: HTTPSending {
    private let kept = Mutex<[ClientRequest]>([])
    var requests: [ClientRequest] { kept.withLock { $0 } }
    func send(_ request: ClientRequest) async throws -> ClientResponse {
        kept.withLock { $0.append(request) }
        return ClientResponse(status: 200, headers: [:], body: Body(Bytes("{}".utf8)))
    }
}

@Suite struct `The log of requests` {
    @Test func `holds no secret that came with one`() async throws {
        try await Served.routes(
            publicPaths: ["/fail"],
            { router in
                router.on("POST", "/login") { request in
                    request.log.info("login.tried", ["body": .text(try await request.json().text)])
                    return .json(["access_token": "eyJhbGciOi.secret.token"] as JSONValue)
                }
                router.on("POST", "/fail") { request in
                    throw StorageError.statement(reason: "password=hunter2secret", code: "x")
                }
            }
        ) { served in
            let token = served.userToken()
            _ = await served.ask(
                "POST", "/login?access_token=querysecret1&code=12345",
                headers: ["Cookie": "session=cookiesecret1", "X-Api-Key": "keysecret1"],
                json: [
                    "password": "hunter2secret", "refresh_token": "refreshsecret1", "phone": "+79161234567",
                ], token: token)
            _ = await served.ask("POST", "/fail", json: ["password": "hunter2secret"])
            let log = served.log.lines.joined()
            #expect(log.contains("login.tried"))
            #expect(log.contains("request.failed") || log.contains("request.refused"))
            for secret in [
                token, "hunter2secret", "refreshsecret1", "querysecret1", "cookiesecret1", "keysecret1",
                "9161234567",
                "eyJhbGciOi",
            ] { #expect(!log.contains(secret), "\(secret)") }
        }
    }

    @Test func `is one line of JSON a request, and quiet about health`() async throws {
        try await Served.routes(with: ["LOG_LEVEL": "info"], whoami) { served in
            for path in ["/health", "/metrics", "/api/v1/health/detailed"] {
                _ = await served.ask("GET", path)
            }
            _ = await served.ask("GET", "/who?x=\"\n", token: served.userToken())
            let lines = served.log.lines.filter { $0.contains("request.answered") }
            #expect(lines.count == 1)
            let line = try JSONValue(parsing: Bytes((lines.first ?? "").utf8))
            #expect(line["route"] == "/who")
            #expect(line["status"] == 200)
            #expect(line["service"] == "test-service")
        }
    }
}
