import Core
import HTTP
import HTTPClient
import HTTPServer
import Security
import ServiceKit
import TestServers
import Testing

@Suite struct `The gateway's door` {
    // MARK: - Who is let in

    @Test func `hands on who calls, and nothing that the client says about it`() async throws {
        try await withGateways { playground in
            let forged: Headers = [
                "X-Convoke-Client-Address": "6.6.6.6", "X_Convoke_Client_Address": "6.6.6.6",
                "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil.example", "Forwarded": "for=6.6.6.6",
                "X-Real-IP": "6.6.6.6", "Cookie": "session=1", "X-Original-URL": "/internal/users",
                "X-HTTP-Method-Override": "DELETE", "X-User-Id": "1", "Proxy-Authorization": "Basic eDp5",
                "X-Wanted": "kept", "Accept-Language": "ru", "X-Request-ID": "from-outside",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ]
            let answer = try await playground.send(
                .get, "/api/parsing/tasks?page=2&q=%20", token: playground.token(), headers: forged)
            #expect(answer.status == 200)
            #expect(answer.headers["x-request-id"] == "from-outside")
            let seen = try #require(playground.upstream.requests.first)
            #expect(seen.path == "/parsing-service/api/v1/tasks")
            #expect(seen.query.raw == "page=2&q=%20")
            #expect(seen.headers["x-wanted"] == "kept")
            #expect(seen.headers["accept-language"] == "ru")
            #expect(seen.headers["x-request-id"] == "from-outside")
            #expect(seen.headers["traceparent"]?.contains("0af7651916cd43dd8448eb211c80319c") == true)
            #expect(seen.headers.all("x-convoke-client-address") == ["127.0.0.1"])
            #expect(seen.headers.all("x-forwarded-for") == ["127.0.0.1"])
            for field in seen.headers {
                #expect(!field.value.contains("6.6.6.6") && !field.value.contains("evil"), "\(field.name)")
            }
            for name in [
                "cookie", "x-original-url", "x-http-method-override", "x-user-id", "proxy-authorization",
            ] {
                #expect(seen.headers[name] == nil, "\(name)")
            }
            let bearer = try #require(seen.headers["authorization"]?.dropFirst("Bearer ".count))
            let claims = try playground.context.tokens.verify(
                String(bearer), now: playground.context.time.now)
            guard case .service("gateway", let user?) = claims.identity else {
                Issue.record("the gateway does not vouch: \(claims.identity)")
                return
            }
            #expect(user.id == 7)
        }
    }

    private static func token(
        issuer: String = "convoke", for life: Duration = .minutes(15),
        from moment: Timestamp = SystemTime().now
    ) -> String {
        TokenIssuer(keys: TokenKeys(current: Playground.key), issuer: issuer).issue(
            to: .user(id: 7, email: "someone@example.org"), id: "s1.x", for: life, now: moment
        ).token.expose()
    }

    @Test func `is shut to everything that is not exactly a good token, and counts it`() async throws {
        try await withGateways { playground in
            let good = playground.token()
            let parts = good.split(separator: ".").map(String.init)
            let none = Base64URL.encode(Array(#"{"alg":"none"}"#.utf8))
            let now = SystemTime().now
            let service = playground.context.tokens.service("invite-service", onBehalfOf: nil, now: now)
                .expose()
            let changed = Base64URL.encode(
                Array(
                    String(decoding: Base64URL.decode(parts[1]) ?? [], as: UTF8.self).replacing(
                        "7", with: "8"
                    ).utf8))
            let bad: [(String, String)] = [
                ("nothing", ""), ("scheme", "Basic \(good)"), ("scheme", good), ("empty", "Bearer"),
                ("alg none", "Bearer \(none).\(parts[1]).\(parts[2])"),
                ("no signature", "Bearer \(none).\(parts[1])."),
                ("changed", "Bearer \(parts[0]).\(changed).\(parts[2])"),
                ("two parts", "Bearer \(parts[0]).\(parts[1])"), ("four parts", "Bearer \(good).x"),
                ("expired", "Bearer \(Self.token(from: now - .hours(1)))"),
                ("not yet", "Bearer \(Self.token(from: now + .hours(1)))"),
                ("issuer", "Bearer \(Self.token(issuer: "another"))"), ("service", "Bearer \(service)"),
                ("huge", "Bearer \(String(repeating: "a", count: 12_000))"),
                ("twice", "Bearer \(good) \(good)"),
            ]
            for (name, header) in bad {
                var headers: Headers = [:]
                if !header.isEmpty { headers.add("Authorization", header) }
                let answer = try await playground.send(.get, "/api/auth/me", headers: headers)
                #expect(answer.status == 401, "\(name)")
                #expect(answer.headers["www-authenticate"] == "Bearer", "\(name)")
                #expect(try await answer.problemCode == "unauthorized", "\(name)")
            }
            let repeated: Headers = ["Authorization": "Bearer \(good)", "authorization": "Bearer \(good)"]
            #expect(try await playground.send(.get, "/api/auth/me", headers: repeated).status >= 400)
            #expect(playground.upstream.requests.isEmpty)
            #expect(try await playground.send(.get, "/api/auth/me", token: good).status == 200)
            let metrics = try await playground.metrics()
            for reason in ["missing", "scheme", "not_a_user"] {
                #expect(metrics.contains(#"auth_refusals_total{reason="\#(reason)"}"#), "\(reason)")
            }
            let counted = metrics.split(separator: "\n").filter { $0.hasPrefix("auth_refusals_total{") }
                .compactMap { $0.split(separator: " ").last.flatMap { Double($0) } }.reduce(0, +)
            #expect(counted >= Double(bad.count))
        }
    }

    @Test(arguments: SharedCache.available)
    func `is shut at every replica once a session has ended`(cache: SharedCache) async throws {
        try await withGateways(2, cache: cache) { playground in
            let token = playground.token(session: "over")
            #expect(try await playground.send(.get, "/api/auth/me", token: token, replica: 1).status == 200)
            let now = playground.context.time.now
            try await playground.context.endedSessions.block("over", until: now + .minutes(15), now: now)
            for replica in 0..<2 {
                #expect(
                    try await playground.send(.get, "/api/auth/me", token: token, replica: replica).status
                        == 401)
            }
            let another = playground.token(session: "another")
            #expect(try await playground.send(.get, "/api/auth/me", token: another, replica: 1).status == 200)
        }
    }

    // MARK: - How often

    @Test(arguments: SharedCache.available)
    func `lets exactly twenty sign-ins a minute through, over all replicas`(cache: SharedCache) async throws {
        try await withGateways(2, cache: cache) { playground in
            let answers = try await withThrowingTaskGroup(of: (Int, String?).self) { group in
                for number in 0..<50 {
                    group.addTask {
                        let answer = try await playground.send(
                            .post, "/api/auth/login", headers: ["Content-Type": "application/json"],
                            body: Body(Array("{}".utf8)), replica: number % 2)
                        return (answer.status, answer.headers["retry-after"])
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers.count { $0.0 == 200 } == 20)
            #expect(playground.upstream.requests.count == 20)
            let refused = answers.filter { $0.0 == 429 }
            #expect(refused.count == 30)
            for (_, after) in refused { #expect((1...60).contains(after.flatMap { Int($0) } ?? 0)) }
            // Another door has its own count.
            #expect(try await playground.send(.post, "/api/auth/refresh").status == 200)
        }
    }

    @Test func `counts each user alone`() async throws {
        try await withGateways(settings: ["USER_REQUESTS_PER_MINUTE": "3"]) {
            (playground: Playground) async throws in
            for expected in [200, 200, 200, 429, 429] {
                #expect(
                    try await playground.send(.get, "/api/auth/me", token: playground.token()).status
                        == expected)
            }
            let other = playground.token(user: 8, session: "s2")
            #expect(try await playground.send(.get, "/api/auth/me", token: other).status == 200)
        }
    }

    // MARK: - What is not reachable

    @Test(arguments: [
        "/internal/users/by-email?email=a@example.org", "/metrics", "/internal", "/api/internal/x", "/api",
        "/api/auth/../internal/users", "/api/auth/..%2finternal/users", "/api/auth/%2e%2e/internal/users",
        "/api/auth/%2e%2e/%2e%2e/internal/users", "/api//auth//..//..//internal/users",
        "/api/auth%2f..%2finternal",
        "/api/auth/..;/internal/users", "/api/auth/\\..\\..\\internal", "/api/auth/%5c..%5cinternal",
        "/api/auth/.%00./internal", "/api/auth/%252e%252e/internal", "/API/AUTH/../internal/users",
        "/api/auth/%c0%ae%c0%ae/internal/users", "/api/auth/./../../internal/users", "//internal/users",
        "http://127.0.0.1/internal/users", "/api/parsing/../auth/../../internal/users", "/;/internal/users",
    ]) func `leads nowhere else`(target: String) async throws {
        try await withGateways { playground in
            let token = playground.token()
            let status = try await onThread { [port = playground.port] in
                let client = try RawClient(port: port)
                try client.send(
                    "GET \(target) HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer \(token)\r\nConnection: close\r\n\r\n"
                )
                return try client.readAnswer().status
            }
            for path in playground.upstream.paths {
                // What stays within the service and its public part did no harm.
                #expect(path.hasPrefix("/user-service/auth/"), "\(target) became \(path)")
                #expect(
                    !path.contains("/..") && !path.lowercased().contains("%2e"), "\(target) became \(path)")
            }
            if playground.upstream.paths.isEmpty {
                #expect([400, 404].contains(status), "\(target): \(status)")
            }
        }
    }

    @Test(arguments: [
        // Two readings of where the body ends.
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        // A request hidden in a header or a line that is continued.
        "GET /api/auth/login HTTP/1.1\r\nHost: a\r\nX: a\n\nGET /internal/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /api/auth/login HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET /api/auth/login HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ]) func `is not smuggled through`(text: String) async throws {
        try await withGateways { playground in
            try await onThread { [port = playground.port] in
                let client = try RawClient(port: port)
                try client.send(text)
                // The other side may close at once, or wait for more that never comes.
                shutdownSending(client.socket)
                _ = try? client.readToEnd()
            }
            for request in playground.upstream.requests {
                #expect(request.path == "/user-service/auth/login", "\(request.path)")
            }
            #expect(playground.upstream.requests.count <= 1)
        }
    }

    @Test func `answers the same whether a path exists or not, until one has signed in`() async throws {
        try await withGateways { (playground: Playground) async throws in
            #expect(try await playground.send(.get, "/api/invite/tasks/1").status == 401)
            #expect(try await playground.send(.get, "/api/invite/nothing").status == 401)
        }
    }

    // MARK: - Browsers

    @Test func `tells browsers what the page may do`() async throws {
        let web = try await webFolder()
        try await withGateways(settings: ["WEB_ROOT": web, "PUBLIC_URL": "https://convoke.example"]) {
            playground in
            let page = try await playground.send(.get, "/")
            let policy = try #require(page.headers["content-security-policy"])
            #expect(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"))
            #expect(!policy.contains("unsafe"))
            for path in ["/", "/api/auth/me", "/missing.js"] {
                let answer = try await playground.send(.get, path)
                #expect(answer.headers["x-content-type-options"] == "nosniff", "\(path)")
                #expect(answer.headers["strict-transport-security"] != nil, "\(path)")
                #expect(answer.headers["access-control-allow-origin"] == nil, "\(path)")
            }
            #expect(
                try await playground.send(.get, "/api/auth/me", token: playground.token()).headers[
                    "cache-control"] == "no-store")
        }
    }

    @Test func `is open to pages elsewhere only where the administrator says so`() async throws {
        try await withGateways(settings: ["CORS_ORIGINS": "https://app.example"]) { playground in
            let ask: Headers = ["Origin": "https://app.example", "Access-Control-Request-Method": "POST"]
            let preflight = try await playground.send(.options, "/api/invite/tasks", headers: ask)
            #expect(preflight.status == 204)
            #expect(preflight.headers["access-control-allow-origin"] == "https://app.example")
            #expect(preflight.headers["access-control-allow-credentials"] == nil)
            let call = try await playground.send(
                .get, "/api/auth/me", token: playground.token(), headers: ["Origin": "https://app.example"])
            #expect(call.headers["access-control-allow-origin"] == "https://app.example")
            #expect(call.headers.lists("Origin", in: "Vary"))
            for origin in [
                "https://evil.example", "null", "https://app.example.evil.example", "http://app.example",
            ] {
                let ask: Headers = ["Origin": origin, "Access-Control-Request-Method": "POST"]
                let preflight = try await playground.send(.options, "/api/invite/tasks", headers: ask)
                #expect(
                    preflight.status == 403 && preflight.headers["access-control-allow-origin"] == nil,
                    "\(origin)")
            }
        }
    }

    @Test func `serves the page's files as browsers keep them`() async throws {
        let web = try await webFolder()
        try await withGateways(settings: ["WEB_ROOT": web]) { playground in
            func get(_ path: String, _ headers: Headers = [:]) async throws -> (ClientResponse, String) {
                let answer = try await playground.send(.get, path, headers: headers)
                return (answer, String(decoding: try await answer.body.collect(upTo: 1 << 20), as: UTF8.self))
            }
            let (page, text) = try await get("/")
            #expect(page.status == 200 && text == "<!doctype html><p>page")
            #expect(page.headers["cache-control"] == "no-cache")
            let tag = try #require(page.headers["etag"])
            #expect(try await get("/", ["If-None-Match": tag]).0.status == 304)
            #expect(try await get("/", ["If-None-Match": "\"other\", W/\(tag)"]).0.status == 304)
            #expect(try await get("/", ["If-None-Match": "\"other\""]).0.status == 200)
            // The page routes itself.
            #expect(try await get("/campaigns/7").1 == text)
            #expect(try await get("/claim").1 == text)
            #expect(try await get("/missing.js").0.status == 404)
            #expect(try await get("/.hidden").0.status == 404)
            #expect(try await get("/../../etc/passwd").0.status == 400)
            let (script, _) = try await get("/assets/app-3F2A9C1B.js")
            #expect(script.headers["cache-control"] == "public, max-age=31536000, immutable")
            #expect(script.headers["content-type"] == "text/javascript; charset=utf-8")
            let (part, piece) = try await get("/", ["Range": "bytes=10-13"])
            #expect(part.status == 206 && piece == "html" || part.status == 206 && piece == " htm")
            #expect(part.headers["content-range"] == "bytes 10-13/\(text.utf8.count)")
            #expect(try await get("/", ["Range": "bytes=999-"]).0.status == 416)
            #expect(try await get("/", ["Range": "bytes=0-1", "If-Range": "\"other\""]).0.status == 200)
            let head = try await playground.send(.head, "/")
            #expect(head.status == 200 && head.headers["content-length"] == String(text.utf8.count))
            #expect(try await playground.send(.post, "/").status == 405)
        }
    }

    private func webFolder() async throws -> String {
        let folder = try await TestServers.directory()
        try write("<!doctype html><p>page", to: "\(folder)/index.html")
        try write("hidden", to: "\(folder)/.hidden")
        try write("let a = 1", to: "\(folder)/assets/app-3F2A9C1B.js")
        return folder
    }

    // MARK: - Health

    @Test func `gathers how all services are, and says which is not`() async throws {
        let sick = { @Sendable (request: Request) async throws -> Response in
            request.path.hasPrefix("/invite-service")
                ? .json(["status": "unhealthy"] as JSONValue, status: 503)
                : .json(["status": "healthy"] as JSONValue)
        }
        try await withGateways(answering: sick) { playground in
            let answer = try await playground.send(.get, "/api/health")
            #expect(answer.status == 503)
            let json = try await answer.json()
            #expect(json["down"] == ["invite-service"])
            #expect(json["status"] == "degraded")
            #expect(json["services"]?["user-service"]?["status"] == "healthy")
            #expect(json["services"]?["invite-service"]?["status"] == "unhealthy")
        }
    }
}
