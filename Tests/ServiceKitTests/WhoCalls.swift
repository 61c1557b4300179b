import Cache
import Core
import HTTP
import Security
import TestServers
import Testing

@testable import ServiceKit

@Suite struct `A token at the door of a service` {
    private static let key = String(repeating: "k", count: 40)
    private static let day: Duration = .hours(24)

    /// Every way a token can be wrong, and the word it is counted under.
    enum Wrong: String, CaseIterable, CustomTestStringConvertible {
        case algNone = "alg none", algNoneSigned = "alg none and a right signature", otherAlg = "another alg"
        case changedPayload = "a changed payload", changedSignature = "a changed signature"
        case otherKey = "another key", expired, notYetValid = "not yet valid", otherIssuer = "another issuer"
        case huge, twoParts = "two parts", fourParts = "four parts", noSignature = "no signature", empty
        case noBase64 = "no base64url", noJSON = "no JSON", noUser = "no user", bothUserAndService =
            "user and service"

        var testDescription: String { rawValue }

        var reason: String {
            switch self {
            case .algNone, .algNoneSigned, .otherAlg: "wrong_algorithm"
            case .changedPayload, .changedSignature, .otherKey, .noSignature, .noBase64: "bad_signature"
            case .expired: "expired"
            case .notYetValid: "not_yet_valid"
            case .otherIssuer: "wrong_issuer"
            case .huge: "too_large"
            case .empty: "scheme"
            case .twoParts, .fourParts, .noJSON, .noUser, .bothUserAndService: "malformed"
            }
        }

        func token(at now: Timestamp) -> String {
            func claims(_ changes: [String: JSONValue] = [:]) -> JSONValue {
                var members: [String: JSONValue] = [
                    "iss": "convoke", "sub": "anna@example.com", "uid": 7, "jti": "s1.a",
                    "iat": .int(now.seconds), "exp": .int(now.seconds + 900),
                ]
                members.merge(changes) { _, new in new }
                return .object(members.sorted { $0.key < $1.key }.map { JSONMember($0.key, $0.value) })
            }
            func token(
                header: JSONValue = ["alg": "HS256", "typ": "JWT"], _ payload: JSONValue, key: String = key
            ) -> String {
                let head = Base64URL.encode(header.bytes) + "." + Base64URL.encode(payload.bytes)
                return head + "." + Base64URL.encode(hmac(key, head))
            }
            let good = token(claims())
            let parts = good.split(separator: ".").map(String.init)
            switch self {
            case .algNone: return Base64URL.encode(Bytes(#"{"alg":"none"}"#.utf8)) + "." + parts[1] + "."
            case .algNoneSigned: return token(header: ["alg": "none"], claims())
            case .otherAlg: return token(header: ["alg": "HS512"], claims())
            case .changedPayload:
                return parts[0] + "." + Base64URL.encode(claims(["uid": 1]).bytes) + "." + parts[2]
            case .changedSignature:
                return parts[0] + "." + parts[1] + "." + Base64URL.encode(Bytes(repeating: 1, count: 32))
            case .otherKey: return token(claims(), key: String(repeating: "x", count: 40))
            case .expired: return token(claims(["exp": .int(now.seconds)]))
            case .notYetValid:
                return token(claims(["iat": .int(now.seconds + 60), "exp": .int(now.seconds + 900)]))
            case .otherIssuer: return token(claims(["iss": "evil"]))
            case .huge: return token(claims(["padding": .string(String(repeating: "a", count: 9000))]))
            case .twoParts: return parts[0] + "." + parts[1]
            case .fourParts: return good + "." + parts[2]
            case .noSignature: return parts[0] + "." + parts[1] + "."
            case .empty: return ""
            case .noBase64: return parts[0] + ".***." + parts[2]
            case .noJSON:
                let head = parts[0] + "." + Base64URL.encode(Bytes("not json".utf8))
                return head + "." + Base64URL.encode(hmac(key, head))
            case .noUser: return token(claims(["uid": nil]))
            case .bothUserAndService: return token(claims(["service": "gateway"]))
            }
        }
    }

    @Test(arguments: Wrong.allCases)
    func `that is wrong is refused and counted`(wrong: Wrong) async throws {
        try await Served.routes(with: ["JWT_SECRET": Self.key], whoami) { served in
            let answer = await served.ask("GET", "/who", token: wrong.token(at: served.time.now))
            #expect(answer.status == 401)
            #expect(answer.code == "unauthorized")
            #expect(answer.headers["www-authenticate"] == "Bearer")
            #expect(
                served.metrics.contains("auth_refusals_total{reason=\"\(wrong.reason)\"} 1\n"),
                "\(served.metrics)")
        }
    }

    @Test func `that is right says who calls`() async throws {
        try await Served.routes(with: ["JWT_SECRET": Self.key], whoami) { served in
            // Made by hand as in the table, so that the table's wrongs are wrong in one thing alone.
            let now = served.time.now.seconds
            let payload =
                #"{"iss":"convoke","sub":"a@example.com","uid":7,"jti":"s1.a","iat":\#(now),"exp":\#(now + 900)}"#
            let head =
                Base64URL.encode(Bytes(#"{"alg":"HS256","typ":"JWT"}"#.utf8)) + "."
                + Base64URL.encode(Bytes(payload.utf8))
            let token = head + "." + Base64URL.encode(hmac(Self.key, head))
            #expect(await served.ask("GET", "/who", token: token).json == "user 7")
            #expect(await served.ask("GET", "/who", token: served.userToken(8)).json == "user 8")
            #expect(
                await served.ask("GET", "/who", token: served.serviceToken("invite-service")).json
                    == "invite-service for itself")
            #expect(
                await served.ask("GET", "/who", token: served.serviceToken("gateway", for: 9)).json
                    == "gateway for 9")
        }
    }

    @Test func `is needed, once and as a bearer's`() async throws {
        try await Served.routes(whoami) { served in
            #expect(await served.ask("GET", "/who").status == 401)
            let token = served.userToken()
            for header in ["Basic \(token)", token, "Bearer", "bearer\(token)"] {
                #expect(await served.ask("GET", "/who", headers: ["Authorization": header]).status == 401)
            }
            #expect(
                await served.ask("GET", "/who", headers: ["authorization": "bearer \(token)"]).status == 200)
            var twice = Headers()
            twice.add("Authorization", "Bearer \(token)")
            twice.add("Authorization", "Bearer \(served.userToken(8))")
            #expect(await served.ask("GET", "/who", headers: twice).status == 401)
            #expect(served.metrics.contains("auth_refusals_total{reason=\"missing\"} 1\n"))
            #expect(served.metrics.contains("auth_refusals_total{reason=\"scheme\"} 4\n"))
            #expect(served.metrics.contains("auth_refusals_total{reason=\"repeated\"} 1\n"))
        }
    }

    @Test func `is not needed in public places, where a stale one does no harm`() async throws {
        try await Served.routes(publicPaths: ["/public"], whoami) { served in
            #expect(await served.ask("GET", "/public").json == "nobody")
            #expect(await served.ask("GET", "/public/").json == "nobody")
            #expect(await served.ask("GET", "/public", token: "stale").json == "nobody")
            #expect(await served.ask("GET", "/public", token: served.userToken()).json == "user 7")
            for path in ["/health", "/metrics", "/openapi.json", "/api/v1/health/detailed"] {
                #expect(await served.ask("GET", path).status == 200, "\(path)")
            }
            // Nobody learns without signing in what exists.
            #expect(await served.ask("GET", "/nothing").status == 401)
            #expect(await served.ask("GET", "/nothing", token: served.userToken()).status == 404)
        }
    }

    @Test(arguments: ["strict", "dev"])
    func `of a service opens what is internal, and no other`(mode: String) async throws {
        try await Served.routes(with: ["AUTH_MODE": mode], whoami) { served in
            #expect(
                await served.ask("GET", "/internal/who", token: served.serviceToken("gateway")).json
                    == "gateway")
            #expect(await served.ask("GET", "/internal/who", token: served.userToken()).status == 404)
            #expect(await served.ask("GET", "/internal/who").status == 401)
            #expect(await served.ask("GET", "/internal/who?user_id=1").status == 401)
        }
    }

    @Test func `of a session that ended does not count`() async throws {
        try await Served.routes(whoami) { served in
            let ended = served.service.context.endedSessions
            let now = served.time.now
            try await ended.fill([], now: now, round: "1")
            #expect(await served.ask("GET", "/who", token: served.userToken(session: "s1")).status == 200)
            try await ended.block("s1", until: now + .minutes(16), now: now)
            #expect(await served.ask("GET", "/who", token: served.userToken(session: "s1")).status == 401)
            #expect(await served.ask("GET", "/who", token: served.userToken(session: "s2")).status == 200)
            #expect(served.metrics.contains("auth_refusals_total{reason=\"ended\"} 1\n"))
        }
    }
}

/// HMAC-SHA256 by its definition, so that the table does not lean on what it tests.
private func hmac(_ key: String, _ message: String) -> Bytes {
    let block = Bytes(key.utf8) + Bytes(repeating: 0, count: 64 - key.utf8.count)
    let inner = sha256(block.map { $0 ^ 0x36 } + Bytes(message.utf8))
    return sha256(block.map { $0 ^ 0x5C } + inner)
}

@Suite struct `Development mode` {
    @Test func `lets a call act as the user it names`() async throws {
        try await Served.routes(with: ["AUTH_MODE": "dev"], whoami) { served in
            #expect(await served.ask("GET", "/who").json == "user 1")
            #expect(await served.ask("GET", "/who?user_id=5").json == "user 5")
            #expect(await served.ask("POST", "/who", json: ["user_id": 6]).json == "user 6")
            #expect(await served.ask("POST", "/who?user_id=5", json: ["user_id": 6]).json == "user 5")
            #expect(await served.ask("POST", "/who", json: [1]).json == "user 1")
            #expect(await served.ask("GET", "/who?user_id=0").status == 422)
            #expect(await served.ask("GET", "/who?user_id=-3").status == 422)
            // Who shows a token is whom the token names.
            #expect(await served.ask("GET", "/who?user_id=5", token: served.userToken(7)).json == "user 7")
            #expect(await served.ask("GET", "/who?user_id=5", token: "wrong").status == 401)
        }
    }

    @Test func `gives the route the body it looked into`() async throws {
        try await Served.routes(
            with: ["AUTH_MODE": "dev"],
            { router in
                router.on("POST", "/echo") { request in .json(try await request.json()) }
            }
        ) { served in
            let body: JSONValue = ["user_id": 6, "text": "привет"]
            #expect(await served.ask("POST", "/echo", json: body).json == body)
        }
    }

    @Test func `never rules in strict mode`() async throws {
        try await Served.routes(with: ["AUTH_MODE": "strict"], whoami) { served in
            #expect(await served.ask("GET", "/who?user_id=5").status == 401)
            #expect(await served.ask("POST", "/who", json: ["user_id": 6]).status == 401)
        }
    }

    static let hosts: [(String?, Bool)] = [
        ("localhost", true), ("localhost:8042", true), ("LOCALHOST", true), ("127.0.0.1:8042", true),
        ("127.8.9.10", true), ("[::1]:8042", true), (nil, false), ("", false), ("example.com", false),
        ("127.0.0.1.example.com", false), ("127.example.com", false), ("localhost.example.com", false),
        ("0.0.0.0", false), ("127.1", false), ("127.0.0.256", false),
        ("127.0.0.0x1", false), ("2130706433", false), ("[::2]", false), ("192.168.0.1", false),
    ]

    @Test(arguments: hosts)
    func `serves this machine alone`(host: String?, isServed: Bool) async throws {
        try await Served.routes(with: ["AUTH_MODE": "dev"], whoami) { served in
            let answer = await served.ask("GET", "/who", host: host)
            #expect(answer.status == (isServed ? 200 : 403), "\(host ?? "none")")
            if !isServed { #expect(answer.code == "loopback_only") }
        }
    }

    @Test func `cannot be driven by a page elsewhere`() async throws {
        try await Served.routes(with: ["AUTH_MODE": "dev"], whoami) { served in
            func post(_ headers: Headers, _ body: String = "{}") async -> Int {
                await served.ask("POST", "/who", headers: headers, body: Body(Bytes(body.utf8))).status
            }
            let json = "application/json"
            let form = "application/x-www-form-urlencoded"
            #expect(await post(["Content-Type": json]) == 200)
            #expect(await post(["Content-Type": json, "Origin": "http://localhost:8000"]) == 200)
            #expect(await post(["Content-Type": json, "Origin": "http://127.0.0.1:8000"]) == 200)
            for origin in [
                "https://evil.example", "http://localhost.evil.example", "null", "", "file://", "localhost",
            ] {
                #expect(await post(["Content-Type": json, "Origin": origin]) == 403, "\(origin)")
                #expect(
                    await post(["Content-Type": form, "Origin": origin], "user_id=1") == 403, "\(origin)")
                // Without a body as well: starting something needs none.
                #expect(await post(["Origin": origin], "") == 403, "\(origin)")
            }
            // What a page can send without asking first.
            for type in ["text/plain", "", "text/plain;charset=application/json", "application/octet-stream"]
            {
                #expect(await post(["Content-Type": type]) == 415, "\(type)")
            }
            #expect(await post(["Content-Type": form], "user_id=1") == 200)
            for site in ["cross-site", "same-site"] {
                #expect(await post(["Content-Type": form, "Sec-Fetch-Site": site], "user_id=1") == 403)
                #expect(
                    await post(["Content-Type": "multipart/form-data; boundary=x", "Sec-Fetch-Site": site])
                        == 403)
                #expect(await post(["Sec-Fetch-Site": site], "") == 403)
            }
            #expect(await post(["Content-Type": form, "Sec-Fetch-Site": "same-origin"], "user_id=1") == 200)
        }
    }
}

@Suite struct `The list of ended sessions` {
    enum Store: String, CaseIterable { case memory, redis }
    static var stores: [Store] { TestServers.areAvailable ? Store.allCases : [.memory] }

    private func cache(_ store: Store) async throws -> any Cache {
        switch store {
        case .memory: MemoryCache()
        case .redis:
            RedisCache(try #require(RedisLocation(try await TestServers.redis().url)), limit: .seconds(60))
        }
    }

    private let now = SystemTime().now

    @Test(arguments: stores)
    func `is believed once it is complete, and asked about until then`(store: Store) async throws {
        let cache = try await cache(store)
        let asked = Asked(["gone"])
        let ended = EndedSessions(cache) { try await asked.about($0) }
        #expect(try await ended.contains("gone"))
        #expect(try await !ended.contains("here"))
        #expect(asked.count == 2)
        try await ended.fill([(id: "gone", until: now + .minutes(16))], now: now, round: "1")
        #expect(try await ended.contains("gone"))
        #expect(try await !ended.contains("here"))
        try await ended.block("here", until: now + .minutes(16), now: now)
        #expect(try await ended.contains("here"))
        #expect(asked.count == 2)
        // Forgetting makes it incomplete, so nothing is lost by it.
        _ = try await cache.run(.flush)
        #expect(try await ended.contains("gone"))
        #expect(asked.count == 3)
        await cache.close()
    }

    @Test(arguments: stores)
    func `is not called complete when it was forgotten while it was filled`(store: Store) async throws {
        let cache = try await cache(store)
        let asked = Asked(["a", "b"])
        let flushed = FlushingCache(cache: cache)
        try await EndedSessions(flushed) { try await asked.about($0) }.fill(
            [(id: "a", until: now + .minutes(16)), (id: "b", until: now + .minutes(16))], now: now, round: "1"
        )
        let ended = EndedSessions(cache) { try await asked.about($0) }
        #expect(try await ended.contains("a"))
        #expect(asked.count == 1)
        await cache.close()
    }

    @Test func `is asked of its owner while the cache is away`() async throws {
        let asked = Asked(["gone"])
        let ended = EndedSessions(BrokenCache()) { try await asked.about($0) }
        #expect(try await ended.contains("gone"))
        #expect(try await !ended.contains("here"))
        #expect(asked.count == 2)
    }

    @Test func `makes nobody signed in when neither cache nor owner answers`() async throws {
        try await Served.open(
            with: ["REDIS_URL": "redis://127.0.0.1:1"], asksAboutSessions: true, client: Unreachable(),
            { _ in ServiceParts(routes: whoami) }
        ) { served in
            let answer = await served.ask("GET", "/who", token: served.userToken())
            #expect(answer.status == 503)
            #expect(answer.code == "unavailable")
            // A service vouches for the session itself.
            #expect(await served.ask("GET", "/who", token: served.serviceToken()).status == 200)
        }
    }
}

private final class Asked: Sendable {
    private let gone: Set<String>
    private let counter = Tally()
    init(_ gone: Set<String>) { self.gone = gone }
    var count: Int { counter.value }
    func about(_ session: String) async throws -> Bool {
        counter.increment()
        return gone.contains(session)
    }
}

/// Forgets everything as soon as the first session was written.
private struct FlushingCache: Cache {
    let cache: any Cache
    let writes = Tally()
    var index: Int { cache.index }
    func database(_ index: Int) -> any Cache { cache.database(index) }
    func within(_ limit: Duration) -> any Cache { self }
    func run(_ command: CacheCommand) async throws -> CacheReply {
        let reply = try await cache.run(command)
        if case .set = command {
            writes.increment()
            if writes.value == 2 { _ = try await cache.run(.flush) }
        }
        return reply
    }
    func run(_ script: CacheScript, keys: [CacheBytes], arguments: [CacheBytes]) async throws -> CacheReply {
        try await cache.run(script, keys: keys, arguments: arguments)
    }
    func close() async { await cache.close() }
}

private struct BrokenCache: Cache {
    var index: Int { 0 }
    func database(_: Int) -> any Cache { self }
    func within(_: Duration) -> any Cache { self }
    func run(_: CacheCommand) async throws -> CacheReply { throw CacheError.unavailable(mayHaveRun: false) }
    func run(_: CacheScript, keys _: [CacheBytes], arguments _: [CacheBytes]) async throws -> CacheReply {
        throw CacheError.unavailable(mayHaveRun: false)
    }
    func close() async {}
}

struct Unreachable: HTTPSending {
    func send(_: ClientRequest) async throws -> ClientResponse {
        throw ClientError.notSent(reason: "nobody there")
    }
}
