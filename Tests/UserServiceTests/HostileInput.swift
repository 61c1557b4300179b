import Core
import HTTP
import Security
import Testing

@testable import ServiceKit

/// Nothing a client sends gives a 500, changes anything, or is answered otherwise than the contract says: the
/// callers of these tests hold every answer against it.
@Suite struct `Hostile input` {
    /// Every route that takes a body, and a body that it would take.
    static let bodies: [(method: String, path: String, body: JSONValue)] = [
        (
            "POST", "/auth/register",
            ["email": "boris@example.com", "username": "boris", "password": House.password]
        ),
        (
            "POST", "/auth/claim",
            ["token": "x", "email": "boris@example.com", "username": "boris", "password": House.password]
        ),
        ("POST", "/auth/login", ["email": "anna@example.com", "password": House.password]),
        ("POST", "/auth/refresh", ["refresh_token": "x"]),
        ("PUT", "/auth/me", ["username": "anna2"]),
        (
            "PUT", "/auth/password",
            ["current_password": "a wrong password", "new_password": "a better sentence"]
        ),
    ]
    static let others: [(method: String, path: String)] = [
        ("POST", "/auth/logout"), ("GET", "/auth/me"), ("DELETE", "/auth/me"), ("GET", "/auth/sessions"),
        ("DELETE", "/auth/sessions/x"), ("GET", "/internal/users/by-email"),
        ("GET", "/internal/ended-sessions/x"),
    ]

    private static func brokenBodies(like body: JSONValue) -> [(what: String, bytes: Bytes, status: Set<Int>)]
    {
        let deep = Bytes(String(repeating: "[", count: 100_000).utf8)
        let whole = body.bytes
        return [
            ("nothing", [], [400]), ("half", Bytes(whole.dropLast()), [400]), ("twice", whole + whole, [400]),
            ("no JSON", Bytes("email=anna".utf8), [400]), ("a list", Bytes("[]".utf8), [422]),
            ("a text", Bytes("\"x\"".utf8), [422]), ("null", Bytes("null".utf8), [422]),
            ("a number", Bytes("1e400".utf8), [400, 422]), ("no UTF-8", [0x22, 0xFF, 0xFE, 0x22], [400]),
            ("a lone surrogate", Bytes(#"{"email":"\ud800","password":"\udfff"}"#.utf8), [400, 401, 422]),
            ("depth", deep, [400, 413]), ("size", Bytes(repeating: 0x20, count: (1 << 20) + 1), [413]),
            (
                "a bomb of members",
                Bytes("{\((0..<20_000).map { "\"a\($0)\":1" }.joined(separator: ","))}".utf8),
                [200, 413, 422]
            ),
        ]
    }

    /// Each field in turn holding what nobody expects there.
    private static func strangeFields(in body: JSONValue) -> [JSONValue] {
        let strange: [JSONValue] = [
            nil, 1, -1, 1.5, true, [], ["x"], [:], ["$ne": nil], "", " ", "\u{0}", "a\u{0}b", "\n\r\t",
            "' OR '1'='1", "\"; DROP TABLE app_user; --", "../../etc/passwd", "{{7*7}}", "%s%s%n",
            "\u{202E}evil", "é", "e\u{301}", "ﬀ@example.com", "анна@пример.рф", "İ@example.com",
            .string(String(repeating: "A", count: 5000)), .string(String(repeating: "🦊", count: 1000)),
            // Four bytes each and no two alike, which no compression of an index makes small.
            .string(
                String(String.UnicodeScalarView((0..<900).compactMap { Unicode.Scalar(0x20000 + $0 * 37) }))),
            .string(
                "a"
                    + String(
                        String.UnicodeScalarView((0..<900).compactMap { Unicode.Scalar(0x1E8D0 + $0 % 7) }))),
        ]
        let members = body.objectValue ?? []
        return members.indices.flatMap { index in
            strange.map { value in
                var changed = members
                changed[index] = JSONMember(members[index].name, value)
                return JSONValue.object(changed)
            }
        }
    }

    @Test(arguments: Stores.available)
    func `in a body is refused with what is wrong`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            for (method, path, body) in Self.bodies {
                for (what, bytes, expected) in Self.brokenBodies(like: body) {
                    let answer = await anna.caller.send(
                        Method(rawValue: method), path, headers: ["Content-Type": "application/json"],
                        body: Body(bytes))
                    let mayPass = path == "/auth/me" ? expected.union([200]) : expected
                    #expect(
                        mayPass.contains(answer.status), "\(path) \(what) \(answer.status) \(answer.code)")
                }
                for type in ["text/plain", "", "application/xml", "multipart/form-data", "application/jsonx"]
                {
                    let answer = await anna.caller.send(
                        Method(rawValue: method), path, headers: type.isEmpty ? [:] : ["Content-Type": type],
                        body: Body(body.bytes))
                    #expect(answer.status == 415, "\(path) as \(type)")
                }
            }
            #expect(await anna.caller.get("/auth/me").status == 200)
        }
    }

    @Test(arguments: Stores.available)
    func `in a field is refused or taken as text, and nothing breaks`(stores: Stores) async throws {
        try await House.open(stores) { house in
            for (method, path, body) in Self.bodies where path != "/auth/password" {
                let name = "p\(path.utf8.reduce(0) { $0 &+ Int($1) })"
                let person = try await house.person(name)
                for (index, strange) in Self.strangeFields(in: body).enumerated() {
                    // Each from an address of its own, or the slowing down would answer.
                    let caller = house.caller(address: "192.0.2.\(index)").with(token: person.caller.token)
                    let answer = await caller.send(Method(rawValue: method), path, json: strange)
                    #expect(
                        [200, 201, 401, 404, 409, 422].contains(answer.status),
                        "\(path) \(answer.status) \(strange.text.prefix(80))")
                }
            }
            // What was registered meanwhile are people with odd passwords, not operators; everybody else is as before.
            #expect(
                try await house.signedIn("p\("/auth/login".utf8.reduce(0) { $0 &+ Int($1) })").caller.get(
                    "/auth/me")["plan"] == "free")
        }
    }

    @Test func `in a path or query is not found or refused`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for path in [
                "/auth/sessions/%00", "/auth/sessions/%", "/auth/sessions/%zz", "/auth/sessions/%ff%fe",
                "/auth/me%00", "/auth/%2e%2e/internal", "/auth/../internal/users/by-email",
            ] {
                let answer = await anna.caller.delete(path)
                #expect([400, 404].contains(answer.status), "\(path) \(answer.status)")
            }
            for id in [
                "x", "..", "%2F", "'%20OR%201=1", String(repeating: "a", count: 100_000), "%F0%9F%A6%8A",
            ] {
                #expect(await anna.caller.delete("/auth/sessions/\(id)").status == 404)
            }
            for query in [
                "page=x", "page=-1", "page=9999999999999999999999", "page_size=0", "page_size=1e2",
                "page=1000001", "page=0x1",
            ] {
                let answer = await anna.caller.get("/auth/sessions?\(query)")
                #expect([200, 422].contains(answer.status), "\(query) \(answer.status)")
            }
            for query in ["page=%00&page=0", "page=%zz", "%ff=1"] {
                #expect(await anna.caller.get("/auth/sessions?\(query)").code == "bad_query", "\(query)")
            }
            #expect(await anna.caller.get("/auth/sessions?page=1000000&page_size=100")["items"] == [])
        }
    }

    @Test func `in a method is answered with those that are possible`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for (method, path) in Self.bodies.map({ ($0.method, $0.path) }) + Self.others {
                let service = house.caller().with(token: house.serviceToken("gateway"))
                let answer = await (path.hasPrefix("/internal") ? service : anna.caller).send("PATCH", path)
                #expect(answer.status == 405, "\(path)")
                #expect(answer.headers["allow"]?.contains(method) == true, "\(path)")
            }
            #expect(await anna.caller.send("BREW", "/auth/me").status == 405)
            #expect(await anna.caller.get("/nothing").status == 404)
        }
    }

    @Test func `without a sign-in meets 401 wherever one is needed`() async throws {
        try await House.open(.embedded) { house in
            for (method, path) in Self.others + [
                ("PUT", "/auth/me"), ("PUT", "/auth/password"), ("GET", "/nothing"),
            ] {
                let answer = await house.caller().send(Method(rawValue: method), path)
                #expect(answer.status == 401, "\(method) \(path)")
                #expect(answer.headers["www-authenticate"] == "Bearer")
            }
        }
    }

    @Test func `of a device's name is stored as harmless text`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for device in [
                "\u{1}\u{2}<script>", String(repeating: "x", count: 10_000), "", "\u{FFFD}\u{FFFD}",
            ] {
                let answer = await house.caller().post(
                    "/auth/login", ["email": "anna@example.com", "password": House.password],
                    headers: ["User-Agent": device])
                #expect(answer.status == 200)
            }
            let items = await anna.caller.get("/auth/sessions")["items"].arrayValue ?? []
            let devices = items.compactMap { $0["device"]?.stringValue }
            #expect(devices.contains("<script>"))
            #expect(devices.allSatisfy { $0.unicodeScalars.count <= 200 })
        }
    }

    /// Seeded, so that what once failed fails again.
    @Test(arguments: Stores.available)
    func `of any kind gives no failure of ours`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let random = SeededRandom(seed: 20_250_824)
            for round in 0..<300 {
                let target = Self.bodies[random.int(in: 0...Self.bodies.count - 1)]
                guard target.path != "/auth/password" else { continue }
                var bytes = target.body.bytes
                for _ in 0..<random.int(in: 1...6) where !bytes.isEmpty {
                    let place = random.int(in: 0...bytes.count - 1)
                    switch random.int(in: 0...2) {
                    case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                    case 1: bytes.remove(at: place)
                    default: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
                    }
                }
                let caller = house.caller(address: "198.51.100.\(round)").with(token: anna.caller.token)
                let answer = await caller.send(
                    Method(rawValue: target.method), target.path,
                    headers: ["Content-Type": "application/json"],
                    body: Body(bytes))
                #expect(answer.status < 500, "\(target.path) \(String(decoding: bytes, as: UTF8.self))")
            }
        }
    }
}

@Suite struct `What a person reads` {
    /// One way to each refusal there is.
    static let refusals: [(what: String, send: @Sendable (Person, Caller) async -> Answer)] = [
        ("unauthorized", { _, nobody in await nobody.get("/auth/me") }),
        ("not_found", { anna, _ in await anna.caller.get("/nothing") }),
        ("method_not_allowed", { anna, _ in await anna.caller.send("PATCH", "/auth/me") }),
        ("wrong_content_type", { anna, _ in await anna.caller.send("PUT", "/auth/me", body: Body([0x78])) }),
        (
            "malformed_json",
            { anna, _ in
                await anna.caller.send(
                    "PUT", "/auth/me", headers: ["Content-Type": "application/json"], body: Body([0x78]))
            }
        ),
        (
            "body_too_large",
            { anna, _ in
                await anna.caller.send(
                    "PUT", "/auth/me", headers: ["Content-Type": "application/json"],
                    body: Body(Bytes(repeating: 0x20, count: 2 << 20)))
            }
        ),
        ("validation_failed", { _, nobody in await nobody.post("/auth/register", [:]) }),
        ("email_taken", { _, nobody in await nobody.post("/auth/register", House.registration("anna")) }),
        (
            "username_taken",
            { _, nobody in
                await nobody.post(
                    "/auth/register",
                    ["email": "x@example.com", "username": "anna_name", "password": House.password])
            }
        ),
        (
            "wrong_credentials",
            { _, nobody in
                await nobody.post("/auth/login", ["email": "x@example.com", "password": "x"])
            }
        ),
        (
            "invalid_refresh_token",
            { _, nobody in await nobody.post("/auth/refresh", ["refresh_token": "x"]) }
        ),
        (
            "invalid_claim",
            { _, nobody in
                await nobody.post(
                    "/auth/claim", ["token": "x", "email": "x@example.com", "password": House.password])
            }
        ),
        (
            "wrong_password",
            { anna, _ in
                await anna.caller.put(
                    "/auth/password", ["current_password": "x", "new_password": "a better sentence"])
            }
        ),
        (
            "weak_password",
            { anna, _ in
                await anna.caller.put(
                    "/auth/password", ["current_password": House.password, "new_password": "x"])
            }
        ),
        ("invalid_username", { anna, _ in await anna.caller.put("/auth/me", ["username": "x"]) }),
        ("bad_path", { anna, _ in await anna.caller.get("/auth/%zz") }),
        ("bad_query", { anna, _ in await anna.caller.get("/auth/sessions?page=%zz") }),
    ]

    @Test func `is in the language asked for, under a code that never changes`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for (code, send) in Self.refusals {
                func ask(_ language: String) async -> Answer {
                    await send(
                        Person(caller: anna.caller.speaking(language), refreshToken: ""),
                        house.caller().speaking(language))
                }
                let (english, russian) = (await ask("en"), await ask("ru"))
                #expect(english.code == code)
                #expect(russian.code == code)
                #expect(isRussian(russian.detail), "\(code): \(russian.detail)")
                #expect(!isRussian(english.detail) && !english.detail.isEmpty, "\(code): \(english.detail)")
                for mistake in russian["errors"].arrayValue ?? [] {
                    #expect(isRussian(mistake["message"]?.stringValue ?? ""), "\(code): \(mistake.text)")
                }
                #expect(await ask("fr").detail == english.detail)
            }
        }
    }

    private func isRussian(_ text: String) -> Bool {
        text.unicodeScalars.contains { (0x410...0x44F).contains($0.value) }
    }
}
