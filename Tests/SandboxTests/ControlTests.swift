import Core
import HTTP
import Sandbox
import Telegram
import Testing

/// The switchboard, asked as somebody at a keyboard would.
private struct Switchboard {
    let world: SandboxWorld
    let router: Router

    init(_ strictness: WorldOptions.Strictness = .off) {
        world = SandboxWorld(.small(strictness), time: ManualTime(noon))
        var router = Router()
        ControlRoutes(world).register(on: &router)
        NetworkLinks(world).register(on: &router)
        self.router = router
    }

    struct Answer {
        let status: Int
        let text: String
        var json: JSONValue { (try? JSONValue(parsing: text)) ?? .null }
        subscript(name: String) -> JSONValue { json[name] ?? .null }
        var lines: [JSONValue] {
            text.split(separator: "\n").compactMap { try? JSONValue(parsing: String($0)) }
        }
    }

    func get(_ path: String, _ query: String = "") async throws -> Answer { try await ask(.get, path, query) }

    func post(_ path: String, _ body: JSONValue = [:]) async throws -> Answer {
        try await ask(.post, path, body: Bytes(body.text.utf8))
    }

    func ask(_ method: HTTP.Method, _ path: String, _ query: String = "", body: Bytes = []) async throws
        -> Answer
    {
        let response = await router.answer(
            Request(
                method, path, query: Query(query), headers: ["Content-Type": "application/json"],
                body: Body(body)))
        return Answer(
            status: response.status, text: String(decoding: try await response.collect(), as: UTF8.self))
    }

    func phone(_ kind: AccountKind) -> String { world.accounts().first { $0.kind == kind }?.phone ?? "" }
}

@Suite struct `The sandbox's switchboard` {
    @Test func `shows the world, and makes another`() async throws {
        let board = Switchboard()
        let world = try await board.get("/world")
        #expect(world["simulation"] == true)
        #expect(world["options"]["seed"] == 1)
        #expect(try await board.get("/").text.contains("This is a simulation"))
        let made = try await board.post(
            "/world", ["seed": 5, "people": 500, "accounts": 12, "communities": 2])
        #expect(made["options"]["seed"] == 5)
        #expect(made["accounts"].arrayValue?.count == 12)
        #expect(try await board.get("/world/accounts", "from=10&limit=5").json.arrayValue?.count == 2)
        let closed = try await board.get("/world/people", "temper=closed&limit=3").json.arrayValue
        #expect(closed?.map { $0["temper"] } == ["closed", "closed", "closed"])
        let none = try await board.get("/ledger")
        #expect(none.lines.isEmpty)
    }

    @Test func `gives the ledger line by line, from any line, and its judgement`() async throws {
        let board = Switchboard()
        try await running(board.world) { telegram in
            let client = try await signIn(telegram, board.world, .warmed)
            let chat = try await club(client)
            for person in board.world.people(.open, notIn: chat.rawValue, limit: 3) {
                _ = try await client.add(try await meet(person.username, client), to: chat)
            }
        }
        let lines = try await board.get("/ledger").lines.filter { $0["kind"] == "add_member" }
        #expect(lines.count == 3)
        for name in ["time", "account", "kind", "target", "group", "outcome"] {
            #expect(lines.allSatisfy { $0[name] != nil }, "\(name)")
        }
        let all = board.world.ledger.count
        for after in 0...all {
            #expect(try await board.get("/ledger", "after=\(after)").lines.count == all - after)
        }
        // Three in one moment: too many in an hour, and without a pause.
        let judged = try await board.get("/ledger/violations")
        let rules = Set(judged["violations"].arrayValue?.compactMap { $0["rule"]?.stringValue } ?? [])
        #expect(rules == ["hourly", "pause"])
        #expect(judged["count"] == 3)
    }

    @Test func `hands out codes, scans, and ends sessions`() async throws {
        let board = Switchboard()
        let phone = board.phone(.warmed)
        #expect(try await board.get("/accounts/\(phone)/code").status == 404)
        try await running(board.world) { telegram in
            let client = try await telegram.open(.sample("/s/1"))
            try await client.submit(phone: phone)
            let code = try await board.get("/accounts/+\(phone)/code")["code"].stringValue
            try await client.submit(code: Secret(try #require(code)))
            #expect(client.authorization == .ready)

            let other = try await telegram.open(.sample("/s/2"))
            guard case .waitQRScan(let link) = try await other.requestQRCode() else {
                Issue.record("no link")
                return
            }
            let stale: JSONValue = ["qr_link": "tg://login?token=stale"]
            #expect(try await board.post("/accounts/\(board.phone(.premium))/scan", stale).status == 404)
            let scan = try await board.post(
                "/accounts/\(board.phone(.premium))/scan", ["qr_link": .string(link)])
            #expect(scan["done"] == true)
            _ = try await other.authorization { $0 == .ready }

            #expect(try await board.post("/accounts/\(phone)/freeze")["done"] == true)
            try await happens { client.freeze != nil }
            #expect(try await board.post("/accounts/\(phone)/unfreeze")["done"] == true)
            try await happens { client.freeze == nil }
            #expect(try await board.post("/accounts/\(phone)/revoke")["done"] == true)
            _ = try await client.authorization { $0 == .closed }
            #expect(client.sessionLoss == .revoked)
            #expect(try await board.post("/accounts/\(board.phone(.premium))/ban")["done"] == true)
            _ = try await other.authorization { $0 == .closed }
            #expect(other.sessionLoss == .banned)
        }
        for action in ["ban", "freeze", "revoke", "limit", "unlimit", "unfreeze"] {
            for phone in [
                "", "1", "+15550001111", "9996619999", "99966199999999999999999999", "%00", "..", "💥",
            ] {
                let answer = try await board.post("/accounts/\(percentEncoded(phone))/\(action)")
                #expect([404, 400].contains(answer.status), "\(action) \(phone): \(answer.status)")
            }
        }
    }

    @Test func `lets Telegram say yes and add nobody, wait before it says no, and hide members`() async throws
    {
        let board = Switchboard()
        try await running(board.world) { telegram in
            let client = try await signIn(telegram, board.world, .warmed)
            let chat = try await club(client)
            let people = board.world.people(.open, notIn: chat.rawValue, limit: 3)
            let hollow = try await board.post(
                "/faults", ["method": "addChatMember", "hollow": true, "count": 1])
            #expect(hollow.status == 201)
            // Whichever of the two methods the client prefers.
            _ = try await board.post("/faults", ["method": "addChatMembers", "hollow": true, "count": 1])
            let first = try await meet(people[0].username, client)
            #expect(try await client.add(first, to: chat) == .accepted)
            #expect(try await !client.membership(of: first, in: chat).isMember)
            #expect(board.world.ledger.last?.outcome == "accepted")
            #expect(try await board.ask(.delete, "/faults").status == 204)
            #expect(try await client.add(first, to: chat) == .accepted)
            #expect(try await client.membership(of: first, in: chat).isMember)

            guard case .community(let talk) = try await client.resolve(.username("sandbox_talk")) else {
                Issue.record("no group")
                return
            }
            let shown = try await client.members(of: talk.chat, .recent, from: 0).members.count
            #expect(try await board.post("/communities/\(talk.chat.rawValue)/hide-members")["done"] == true)
            let hidden = try await client.members(of: talk.chat, .recent, from: 0).members.count
            #expect(hidden < shown)
            #expect(try await board.post("/communities/\(talk.chat.rawValue)/show-members")["done"] == true)
            #expect(try await client.members(of: talk.chat, .recent, from: 0).members.count == shown)
            for id in ["0", "5", "-9223372036854775808", "9223372036854775807", "x"] {
                #expect(try await board.post("/communities/\(id)/hide-members").status == 404, "\(id)")
            }
        }
    }

    @Test func `takes faults with all their conditions, one by one and all away`() async throws {
        let board = Switchboard()
        let fault: JSONValue = [
            "method": "addChatMember", "account": "+9996610000", "target": 7, "group": -5, "code": 429,
            "message": "Too Many Requests: retry after 900", "latency_ms": 30_000, "moment": "after",
            "probability": 0.5, "count": 3,
        ]
        let made = try await board.post("/faults", fault)
        #expect(made.status == 201)
        #expect(made["account"] == "9996610000")
        let id = try #require(made["id"].intValue)
        #expect(try await board.get("/faults").json.arrayValue == [made.json])
        #expect(try await board.ask(.delete, "/faults/\(id)").status == 204)
        #expect(try await board.ask(.delete, "/faults/\(id)").status == 404)
        #expect(try await board.get("/faults").json == [])
    }

    /// Whatever is sent, it goes on, and says what it did not understand.
    @Test func `is not brought down by nonsense`() async throws {
        let board = Switchboard()
        let bodies = [
            "", "{", "[]", "null", "1e999", "\"x\"", "{\"seed\":-1}", "{\"seed\":1e30}", "{\"people\":-5}",
            "{\"people\":9223372036854775807}", "{\"accounts\":0}", "{\"communities\":99999999}",
            "{\"strictness\":\"none\"}", "{\"start\":\"yesterday\"}", "{\"latency_ms\":-1}",
            "{\"probability\":2}", "{\"count\":0}", "{\"code\":99999}", "{\"moment\":\"never\"}",
            "{\"qr_link\":5}", "{\"qr_link\":\"\"}", "{\"requests\":5}", "{\"requests\":[5]}",
            "{\"requests\":[{\"n\":1,\"client\":99999999999,\"request\":{}}]}",
            String(repeating: "[", count: 5000),
        ]
        for path in ["/world", "/faults", "/accounts/9996610000/scan", "/td/x/requests"] {
            for body in bodies {
                let answer = try await board.ask(.post, path, body: Bytes(body.utf8))
                #expect([200, 201, 400, 404, 422].contains(answer.status), "\(path) \(body): \(answer.text)")
            }
            #expect(try await board.ask(.post, path, body: [0xFF, 0xFE, 0]).status == 400, "\(path)")
        }
        for number in ["-1", "x", "1e3", "9223372036854775808", "-9223372036854775808", " 1"] {
            let query = percentEncoded(number)
            #expect(try await board.get("/ledger", "after=\(query)").status == 422, "\(number)")
            #expect(
                try await board.get("/ledger/violations", "tolerance_seconds=\(query)").status == 422,
                "\(number)")
            #expect(try await board.get("/world/accounts", "from=\(query)").status == 422, "\(number)")
            #expect(try await board.get("/world/people", "limit=\(query)").status == 422, "\(number)")
            #expect(try await board.ask(.delete, "/faults/\(query)").status >= 400, "\(number)")
            #expect(try await board.get("/td/x/events", "after=\(query)").status == 404, "\(number)")
        }
        #expect(try await board.get("/ledger", "after=9223372036854775807").lines.isEmpty)
        for chat in ["9223372036854775807", "-9223372036854775808", "0"] {
            #expect(try await board.get("/world/people", "not_in=\(chat)&limit=1").status == 200, "\(chat)")
        }
        #expect(try await board.get("/world/people", "temper=grumpy").status == 422)
        #expect(try await board.get("/world")["simulation"] == true)
    }
}
