import Broker
import Core
import HTTP
import Security
import ServiceKit
import Testing

@Suite struct `The routes of integration-service` {
    private func telegram() -> ScriptedTelegram {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        telegram.add(person: 12, "boris", phone: "15550000012")
        telegram.add(.init(id: 500, name: "club", title: "Club", members: [11], admins: [11]))
        return telegram
    }

    private static let unknown = "01890a5d-ac96-774b-bcce-b302099a8057"

    /// What a client can do wrong, wherever something is posted.
    @Test(arguments: Engine.available)
    func `give no 500, whatever is sent`(engine: Engine) async throws {
        let office = try await Office(engine, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            let posts = [
                "/api/v1/telegram/connect", "/api/v1/telegram/verify", "/api/v1/telegram/resend-code",
                "/api/v1/telegram/qr-check", "/api/v1/telegram/accounts/\(account)/check-admin",
                "/api/v1/telegram/accounts/\(account)/join",
                "/api/v1/telegram/accounts/\(account)/invite-links",
                "/api/v1/telegram/invites/accounts/\(account)/invite",
                "/api/v1/telegram/invites/accounts/\(account)/membership", "/api/v1/telegram/bots",
                "/api/v1/telegram/channels",
            ]
            let hostile: [String] = [
                "", "{", "[]", "null", "1e999", "\"x\"", "{\"phone\":", "{\"phone\":null}",
                "{\"phone\":{\"a\":1}}",
                "{\"phone\":\"\\u0000\"}", "{\"code\":5,\"connection_id\":[1]}",
                "{\"connection_id\":\"../../etc\"}",
                "{\"group_id\":\"'; DROP TABLE telegram_accounts; --\"}",
                "{\"group_id\":-9223372036854775808}",
                "{\"group_id\":\"\\ud83d\\ude00\",\"target_user_id\":1e30,\"invite_type\":\"group_invite\"}",
                "{\"target_user_id\":-1,\"target_username\":\"\",\"invite_type\":\"\"}",
                "{\"invite_type\":\"direct_message\",\"target_username\":\"a b\",\"message\":\""
                    + String(repeating: "x", count: 4097) + "\"}",
                "{\"token\":\"1:../../../../etc/passwd?x=aaaaaaaaaaaa\"}",
                "{\"link\":\"javascript:alert(1)\"}",
                String(repeating: "[", count: 5000), "{\"a\":" + String(repeating: "{\"a\":", count: 500),
            ]
            for path in posts {
                for text in hostile {
                    let answer = await user.ask(.post, path, bytes: Bytes(text.utf8))
                    // What is missing or strange may still be enough for some of them.
                    let isFine = [200, 400, 403, 404, 409, 413, 415, 422].contains(answer.status)
                    #expect(isFine, "\(path) \(text.prefix(80)): \(answer.text)")
                    guard answer.status != 200 else { continue }
                    #expect(answer.headers["Content-Type"] == "application/problem+json")
                    #expect(answer["request_id"].stringValue?.isEmpty == false)
                }
                let raw = await user.ask(.post, path, bytes: [0xFF, 0xFE, 0x00])
                #expect((400...422).contains(raw.status), "\(path)")
                let typed = await user.ask(
                    .post, path, bytes: Bytes("{}".utf8), headers: ["Content-Type": "text/plain"])
                #expect(typed.status == 415, "\(path)")
                let large = await user.ask(.post, path, bytes: Bytes(repeating: 0x20, count: (1 << 20) + 1))
                #expect(large.status == 413, "\(path)")
                #expect(await user.ask(.patch, path).status == 405, "\(path)")
                #expect(await run.nobody.post(path).status == 401, "\(path)")
            }
            #expect(office.telegram.ledger.isEmpty)
        }
    }

    @Test func `tell of all mistakes at once`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            let answer = await run.user(1).post(
                "/api/v1/telegram/invites/accounts/\(account)/invite",
                ["invite_type": "shout", "fencing_token": "x", "attempt_id": ""])
            #expect(answer.status == 422)
            let fields = Set(answer["errors"].arrayValue?.compactMap { $0["field"]?.stringValue } ?? [])
            #expect(fields.isSuperset(of: ["invite_type", "fencing_token", "attempt_id", "target_username"]))
            let query = await run.user(1).get(
                "/api/v1/telegram/logs",
                ["action": "x", "status": "y", "account_id": "z", "from": "yesterday"])
            #expect(query.status == 422)
            #expect(query["errors"].arrayValue?.count == 4)
        }
    }

    @Test func `know nothing of another user's account`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            let (stranger, asked) = (run.user(2), office.telegram.count(of: "searchPublicChat"))
            for id in [account, Self.unknown, "x", "..", "%00"] {
                let accounts = "/api/v1/telegram/accounts/\(id)"
                let invites = "/api/v1/telegram/invites/accounts/\(id)"
                let answers = [
                    await stranger.get(accounts), await stranger.delete(accounts),
                    await stranger.get("\(accounts)/community", ["group_id": "club"]),
                    await stranger.post("\(accounts)/check-admin", ["group_id": "club"]),
                    await stranger.post("\(accounts)/join", ["group_id": "club"]),
                    await stranger.post("\(accounts)/invite-links", ["group_id": "club"]),
                    await stranger.get(
                        "\(accounts)/invite-links", ["group_id": "club", "link": "t.me/+abcdefgh"]),
                    await stranger.post(
                        "\(invites)/invite",
                        ["invite_type": "group_invite", "target_username": "boris", "group_id": "club"]),
                    await stranger.post(
                        "\(invites)/membership", ["group_id": "club", "target_username": "boris"]),
                    await stranger.get("\(invites)/limits"),
                ]
                #expect(
                    answers.allSatisfy { $0.status == 404 || $0.status == 400 },
                    "\(id): \(answers.map(\.status))")
            }
            #expect(office.telegram.count(of: "searchPublicChat") == asked)
            #expect(office.telegram.ledger.isEmpty)
            #expect(await stranger.get("/api/v1/telegram/accounts")["items"] == [])
        }
    }

    @Test func `keep bots whose token Telegram knows, and never show the token`() async throws {
        let office = try await Office(.sqlite, telegram())
        let good = "123456:AAF_abcdefghijklmnopqrstuvwxyz-0123"
        office.neighbour.reply { call in
            guard call.path.hasPrefix("/bot") else { return nil }
            guard
                call.path == "/bot\(good)/getMe"
                    || call.path == "/bot999:AAF_abcdefghijklmnopqrstuvwxyz-0123/getMe"
            else {
                return Response(
                    401, headers: ["Content-Type": "application/json"],
                    content: .bytes(Bytes(#"{"ok":false}"#.utf8)))
            }
            let id: JSONValue = call.path.hasPrefix("/bot999") ? 999 : 123_456
            return .json(
                [
                    "ok": true,
                    "result": ["id": id, "is_bot": true, "first_name": "Helper", "username": "helper_bot"],
                ] as JSONValue)
        }
        try await office.open { run in
            let (user, base) = (run.user(1), "/api/v1/telegram/bots")
            let made = await user.post(base, ["token": .string(good), "description": "ours"])
            #expect(made.status == 201, "\(made.text)")
            #expect(made["username"] == "helper_bot")
            #expect(!made.text.contains("AAF_"))
            let id = made["id"].stringValue ?? ""
            #expect(await user.post(base, ["token": .string(good)]).status == 409)
            let refused = await user.post(base, ["token": "77:AAF_abcdefghijklmnopqrstuvwxyz-9999"])
            #expect(refused.status == 422)
            #expect(refused.code == "token_refused")
            #expect(
                await user.put("\(base)/\(id)", ["description": "new", "is_active": false])["is_active"]
                    == false)
            let foreign = await user.put(
                "\(base)/\(id)", ["token": "999:AAF_abcdefghijklmnopqrstuvwxyz-0123"])
            #expect(foreign.code == "token_of_another_bot")
            #expect(await user.post("\(base)/\(id)/check")["description"] == "new")
            #expect(await user.get(base)["total"] == 1)
            for (method, path) in [
                (HTTP.Method.get, "\(base)/\(id)"), (.delete, "\(base)/\(id)"),
                (.post, "\(base)/\(id)/check"),
            ] { #expect(await run.user(2).ask(method, path).status == 404) }
            #expect(await run.user(2).put("\(base)/\(id)", ["description": "mine"]).status == 404)
            #expect(await user.delete("\(base)/\(id)").status == 204)
            #expect(await user.get("\(base)/\(id)").status == 404)
            #expect(!office.sink.lines.contains { $0.contains("AAF_") })
        }
    }

    @Test func `keep channels with what Telegram says of them`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let (user, base) = (run.user(1), "/api/v1/telegram/channels")
            #expect(await user.post(base, ["link": "@club"]).code == "account_not_connected")
            _ = try await run.connected(11, office.telegram)
            let made = await user.post(base, ["link": "https://t.me/Club", "note": "main"])
            #expect(made.status == 201, "\(made.text)")
            #expect(made["title"] == "Club")
            #expect(made["may_invite"] == true)
            #expect(made["member_count"] == 1)
            let id = made["id"].stringValue ?? ""
            #expect(await user.post(base, ["group_id": "club"]).status == 409)
            #expect(await user.post(base, ["link": "no_such_group"])["error"] == "group_restriction")
            #expect(await user.put("\(base)/\(id)", ["note": "second"])["note"] == "second")
            #expect(await user.post("\(base)/\(id)/check")["note"] == "second")
            #expect(await run.user(2).get("\(base)/\(id)").status == 404)
            #expect(await run.user(2).post("\(base)/\(id)/check").status == 404)
            #expect(await run.user(2).delete("\(base)/\(id)").status == 404)
            #expect(await user.delete("\(base)/\(id)").status == 204)
        }
    }

    @Test func `hand account-manager's paths on, with the caller's identity and nothing else of theirs`()
        async throws
    {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            office.neighbour.reply { call in
                call.path.hasPrefix("/api/v1/account-manager/")
                    ? Response(
                        409,
                        headers: [
                            "Content-Type": "application/problem+json", "Retry-After": "7", "Server": "x",
                        ],
                        content: .bytes(Bytes(#"{"code":"no_account_available"}"#.utf8))) : nil
            }
            let answer = await run.user(7).ask(
                .post, "/api/v1/account-manager/allocate", Query("a=1&b=%20"), body: ["purpose": "parsing"],
                headers: ["Cookie": "x=y", "X-Forwarded-For": "1.2.3.4", "Idempotency-Key": "k"])
            #expect(answer.status == 409)
            #expect(answer.code == "no_account_available")
            #expect(answer.headers["Retry-After"] == "7")
            #expect(answer.headers["Server"] == nil)
            let call = try #require(
                office.neighbour.made.last { $0.path == "/api/v1/account-manager/allocate" })
            #expect(call.query == "a=1&b=%20")
            #expect(call.body == ["purpose": "parsing"])
            #expect(call.headers["Cookie"] == nil)
            #expect(call.headers["X-Forwarded-For"] == nil)
            let token = (call.headers["Authorization"] ?? "").dropFirst("Bearer ".count)
            let claims = try run.tokens.verify(String(token), now: run.time.now)
            guard case .service("integration-service", let user?) = claims.identity else {
                Issue.record("\(claims.identity)")
                return
            }
            #expect(user.id == 7)
            for path in ["../internal/accounts", "%2e%2e/%2e%2e/internal", "a/../../b"] {
                #expect(await run.user(7).get("/api/v1/account-manager/\(path)").status == 400, "\(path)")
            }
            #expect(await run.nobody.get("/api/v1/account-manager/stats/recovery").status == 401)
        }
    }

    @Test func `erase all of a user who is gone, at Telegram too`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, of: 1, office.telegram)
            _ = await run.user(1).get("/api/v1/telegram/qr-code")
            let other = try await run.connected(12, of: 2, office.telegram)
            #expect(office.telegram.openClients == 3)
            for event in ["first", "told twice"] {
                try await run.broker.publish(
                    UserDeletion.message(event: event, user: 1, to: "integration-service"),
                    to: UserDeletion.queue(of: "integration-service").name)
            }
            try await eventually("the account is gone") {
                await run.user(1).get("/api/v1/telegram/accounts/\(account)").status == 404
            }
            #expect(office.telegram.openClients == 1)
            #expect(await run.user(1).get("/api/v1/telegram/accounts/\(account)").status == 404)
            #expect(await run.user(1).get("/api/v1/telegram/logs")["total"] == 0)
            #expect(await run.user(2).get("/api/v1/telegram/accounts/\(other)").status == 200)
        }
    }
}
