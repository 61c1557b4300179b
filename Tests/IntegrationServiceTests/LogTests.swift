import Core
import HTTP
import Integration
import Synchronization
import Testing

@Suite struct `The integration log` {
    private func telegram() -> ScriptedTelegram {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        telegram.add(person: 12, "boris", phone: "15550000012", password: "correct horse")
        telegram.add(person: 21, "target21", phone: "15550000021")
        telegram.add(
            .init(id: 500, name: "club", title: "Club", members: [11], admins: [11], posts: 5, comments: 3))
        return telegram
    }

    /// account-manager with these events, which it filters and pages as the real one does.
    private static func logs(_ events: [JSONValue]) -> @Sendable (Neighbour.Call) -> Response? {
        let times = events.map { $0["at"]?.stringValue.flatMap { Timestamp($0) } ?? .epoch }
        return { call in
            guard call.path == "/api/v1/account-manager/logs" else { return nil }
            let query = Query(call.query)
            let (from, to) = (query["from"].flatMap { Timestamp($0) }, query["to"].flatMap { Timestamp($0) })
            let found = zip(events, times).filter { event, at in
                query["action"].map { .string($0) == event["action"] } ?? true
                    && query["status"].map { .string($0) == event["status"] } ?? true
                    && query["account_id"].map { .string($0) == event["account_id"] } ?? true
                    && from.map { at >= $0 } ?? true && to.map { at < $0 } ?? true
            }.map(\.0)
            let size = Int(query["page_size"] ?? "20") ?? 20
            let page = Int(query["page"] ?? "1") ?? 1
            let items = found.dropFirst((page - 1) * size).prefix(size)
            return .json(["items": .array(Array(items)), "total": JSONValue(found.count)] as JSONValue)
        }
    }

    private static func event(
        _ id: Int, _ action: String, _ status: String = "success", account: String, at: Timestamp,
        details: JSONValue = [:]
    ) -> JSONValue {
        [
            "id": JSONValue(id), "at": at.json, "user_id": 1, "account_id": .string(account),
            "action": .string(action), "status": .string(status), "details": details,
        ]
    }

    @Test func `shows what was done here and what became of the accounts, by time in one list`() async throws
    {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let (user, path) = (run.user(1), "/api/v1/telegram/logs")
            let account = try await run.connected(11, office.telegram)
            let invite: JSONValue = [
                "invite_type": "group_invite", "target_username": "target21", "group_id": "club",
            ]
            office.time.advance(by: .seconds(10))
            let decided = office.time.now
            office.time.advance(by: .seconds(10))
            _ = await user.post("/api/v1/telegram/invites/accounts/\(account)/invite", invite)
            // Newest first, as account-manager gives them.
            office.neighbour.reply(
                Self.logs([
                    Self.event(
                        3, "account_error", "error", account: account, at: decided + .seconds(20),
                        details: ["error_type": "peer_flood"]),
                    Self.event(2, "account_released", account: account, at: decided + .seconds(15)),
                    Self.event(1, "account_allocated", account: account, at: decided),
                ]))
            let all = await user.get(path, ["account_id": account])
            let actions = all["items"].arrayValue?.compactMap { $0["action"]?.stringValue } ?? []
            #expect(
                Array(actions.prefix(5)) == [
                    "account_error", "account_released", "group_invite", "account_allocated",
                    "login_finished",
                ])
            #expect(all["total"].intValue == Int64(actions.count))
            #expect(all["missing_sources"] == [])
            #expect(all["items"][0]?["error_code"] == "peer_flood")
            #expect(all["items"][0]?["source"] == "account-manager")
            #expect(all["items"][2]?["source"] == "integration-service")

            #expect(await user.get(path, ["action": "account_allocated"])["total"] == 1)
            #expect(await user.get(path, ["action": "group_invite"])["total"] == 1)
            #expect(await user.get(path, ["status": "error"])["total"] == 1)
            #expect(await user.get(path, ["source": "account-manager"])["total"] == 3)
            let own = await user.get(path, ["source": "integration-service"])
            #expect(own["items"].arrayValue?.allSatisfy { $0["source"] == "integration-service" } == true)
            let late = await user.get(path, ["from": (decided + .seconds(12)).description])
            #expect(late["total"] == 2)
            #expect(await user.get(path, ["source": "elsewhere"]).status == 422)
            var russian = user
            russian.language = "ru"
            #expect(
                await russian.get(path, ["action": "account_error"])["items"][0]?["title"]
                    == "Неполадка с аккаунтом")

            // Without account-manager its part is missing, and the answer says so.
            office.neighbour.reply { _ in Response(503) }
            let half = await user.get(path, ["account_id": account])
            #expect(half.status == 200)
            #expect(half["missing_sources"] == ["account-manager"])
            #expect(half["total"].intValue == Int64(actions.count) - 3)
        }
    }

    @Test func `turns its pages through both, however deep, without a gap or a double`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            for _ in 1...40 {
                office.time.advance(by: .milliseconds(7))
                _ = await user.post(
                    "/api/v1/telegram/invites/accounts/\(account)/membership",
                    ["group_id": "club", "target_username": "target21"])
            }
            let now = office.time.now
            // Many in one moment, too.
            let events = (0..<260).map { number in
                Self.event(
                    number, "account_allocated", account: account,
                    at: now - .milliseconds(Int64(number / 40) * 90))
            }
            office.neighbour.reply(Self.logs(events))
            var seen: [String] = []
            var times: [Timestamp] = []
            var page = 1
            while true {
                let answer = await user.get(
                    "/api/v1/telegram/logs", ["page": String(page), "page_size": "90"])
                #expect(answer.status == 200)
                let items = answer["items"].arrayValue ?? []
                seen += items.compactMap { $0["id"]?.stringValue }
                times += items.compactMap { $0["created_at"]?.stringValue.flatMap { Timestamp($0) } }
                guard answer["has_next"] == true else {
                    #expect(answer["total"].intValue == Int64(seen.count))
                    break
                }
                page += 1
            }
            #expect(page > 3)
            #expect(Set(seen).count == seen.count)
            #expect(seen.count { $0.hasPrefix("account-manager/") } == 260)
            #expect(times == times.sorted(by: >))
        }
    }

    @Test func `has an entry of every operation`() async throws {
        let office = try await Office(.sqlite, telegram())
        office.neighbour.reply { call in
            call.path.hasPrefix("/bot")
                ? .json(
                    [
                        "ok": true,
                        "result": [
                            "id": 123_456, "is_bot": true, "first_name": "H", "username": "helper_bot",
                        ],
                    ] as JSONValue) : nil
        }
        try await office.open { run in
            let (user, worker) = (run.user(1), run.worker(for: 1))
            let account = try await run.connected(11, office.telegram)
            let base = "/api/v1/telegram"
            _ = await user.post("\(base)/connect", ["phone": "+15550000012"])
            _ = await user.post("\(base)/resend-code", ["phone": "+15550000012"])
            _ = await user.post("\(base)/verify", ["phone": "+15550000012", "code": "00000"])
            // The newest login is meant below, and these clocks stand still.
            office.time.advance(by: .seconds(1))
            let shown = await user.get("\(base)/qr-code")
            #expect(office.telegram.scan(shown["qr_link"].stringValue ?? "", as: 12))
            try await eventually("the password is asked for") {
                await user.post("\(base)/qr-check")["status"] == "2fa_required"
            }
            _ = await user.post("\(base)/qr-check", ["password": "wrong"])
            _ = await user.post("\(base)/accounts/\(account)/check-admin", ["group_id": "club"])
            _ = await user.get("\(base)/accounts/\(account)/community", ["group_id": "club"])
            _ = await user.post("\(base)/accounts/\(account)/join", ["group_id": "club"])
            _ = await user.post("\(base)/accounts/\(account)/invite-links", ["group_id": "club"])
            for (kind, more) in [
                ("group_invite", JSONMember("group_id", "club")),
                ("direct_message", JSONMember("message", "hello")),
                ("add_contact", JSONMember("target_phone", "+15550000021")),
            ] {
                let wish: JSONValue = .object([
                    JSONMember("invite_type", .string(kind)), JSONMember("target_username", "target21"), more,
                ])
                _ = await user.post("\(base)/invites/accounts/\(account)/invite", wish)
            }
            _ = await user.post(
                "\(base)/invites/accounts/\(account)/membership",
                ["group_id": "club", "target_username": "target21"])
            for (what, query) in [
                ("members", "group_id=club"), ("messages", "group_id=club"),
                ("comments", "group_id=club&post_id=1048576"), ("search", "q=Club"),
            ] {
                _ = await worker.ask(.get, "/internal/telegram/accounts/\(account)/\(what)", Query(query))
            }
            let bot = await user.post("\(base)/bots", ["token": "123456:AAF_abcdefghijklmnopqrstuvwxyz-0123"])
            let channel = await user.post("\(base)/channels", ["link": "club"])
            for (place, id) in [("bots", bot["id"]), ("channels", channel["id"])] {
                let path = "\(base)/\(place)/\(id.stringValue ?? "")"
                _ = await user.put(path, ["description": "x", "note": "x"])
                _ = await user.post("\(path)/check")
                _ = await user.delete(path)
            }
            office.time.advance(by: .minutes(6))
            try await eventually("the login is given up") {
                await user.get("\(base)/logs", ["action": "login_expired"])["total"].intValue ?? 0 > 0
            }
            office.telegram.freeze(11, until: office.time.now + .days(20))
            try await eventually("it is frozen") {
                await user.get("\(base)/logs", ["action": "frozen"])["total"] == 1
            }
            office.telegram.revoke(11)
            try await eventually("it is lost") {
                await user.get("\(base)/logs", ["action": "session_lost"])["total"] == 1
            }
            _ = await user.delete("\(base)/accounts/\(account)")
            for action in Action.allCases {
                let found = await user.get("\(base)/logs", ["action": action.rawValue])
                #expect(found["total"].intValue ?? 0 > 0, "\(action)")
                let entry = found["items"][0] ?? .null
                #expect(entry["title"]?.stringValue?.isEmpty == false)
                // No names, numbers or texts of people.
                for word in ["target21", "15550000", "hello", "correct horse"] {
                    #expect(!entry.text.contains(word), "\(action): \(entry.text)")
                }
            }
        }
    }
}

@Suite struct `Forgetting a person` {
    @Test(
        arguments: [
            ["identifier": "@Boris"], ["identifier": "https://t.me/boris"], ["identifier": "+15550000012"],
            ["identifier": "15550000012"], ["identifier": "12"], ["usernames": ["boris"]],
            ["phones": ["+15550000012"]], ["phones": ["15550000012"]], ["user_ids": [12]],
        ] as [JSONValue])
    func `erases what an account left behind, and only of its user`(erase: JSONValue) async throws {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        telegram.add(person: 12, "boris", phone: "15550000012")
        telegram.add(.init(id: 500, name: "club", title: "Club", members: [11], admins: [11]))
        let office = try await Office(.sqlite, telegram)
        try await office.open { run in
            let account = try await run.connected(11, of: 1, office.telegram)
            let gone = try await run.connected(12, of: 1, office.telegram)
            #expect(await run.user(1).delete("/api/v1/telegram/accounts/\(gone)").status == 204)
            // Looked up by the account that stays, so it is in memory as well.
            let send: JSONValue = [
                "invite_type": "direct_message", "target_username": "boris", "message": "hi",
                "attempt_id": "once",
            ]
            let path = "/api/v1/telegram/invites/accounts/\(account)/invite"
            #expect(await run.user(1).post(path, send)["status"] == "success")
            let foreign = await run.worker(for: 2).post("/internal/privacy/erase", erase)["erased"]
            for kind in ["accounts", "logins", "sends", "log_lines"] {
                #expect(foreign[kind] == 0, "\(kind)")
            }
            #expect(await run.user(1).get("/api/v1/telegram/accounts/\(gone)").status == 200)
            let erased = await run.worker(for: 1).post("/internal/privacy/erase", erase)
            #expect(erased.status == 200)
            #expect(erased["erased"]["accounts"] == 1, "\(erased.text)")
            #expect(erased["erased"]["logins"] == 1)
            #expect(erased["known"]["user_ids"] == [12])
            #expect(erased["known"]["phones"] == ["+15550000012"])
            #expect(await run.user(1).get("/api/v1/telegram/accounts/\(gone)").status == 404)
            #expect(await run.user(1).get("/api/v1/telegram/logs", ["account_id": gone])["total"] == 0)
            let again = await run.worker(for: 1).post("/internal/privacy/erase", erase)["erased"]
            for kind in ["accounts", "logins", "sends", "log_lines"] { #expect(again[kind] == 0, "\(kind)") }
            // By the attempts as well, as invite-service knows them.
            let attempts: JSONValue = ["attempt_ids": ["once", "another"]]
            for count: JSONValue in [1, 0] {
                let blurred = await run.worker(for: 1).post("/internal/privacy/erase", attempts)
                #expect(blurred["erased"]["sends"] == count)
            }
            // The stop stays: what was sent is not sent again.
            #expect(await run.user(1).post(path, send)["repeated"] == true)
            #expect(office.telegram.ledger.count { $0.kind == "message" } == 1)
        }
    }

    @Test func `leaves a connected account alone, and is for services`() async throws {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        let office = try await Office(.sqlite, telegram)
        try await office.open { run in
            let account = try await run.connected(11, of: 1, office.telegram)
            let body: JSONValue = ["identifier": "+15550000011"]
            let erased = await run.worker(for: 1).post("/internal/privacy/erase", body)
            #expect(erased["erased"]["accounts"] == 0)
            #expect(await run.worker(for: nil).post("/internal/privacy/erase", body).status == 401)
            #expect(await run.user(1).get("/api/v1/telegram/accounts/\(account)")["status"] == "connected")
            #expect(await run.user(1).post("/internal/privacy/erase", body).status == 404)
            #expect(await run.nobody.post("/internal/privacy/erase", body).status == 401)
            for nonsense in ["", "-100123", "t.me/+AbCdEfGh", "https://t.me/club/5", "a b", "💥"] {
                let answer = await run.worker(for: 1).post(
                    "/internal/privacy/erase", ["identifier": .string(nonsense)])
                #expect(answer.status == 422, "\(nonsense)")
            }
            for body in [[:], ["identifier": []], ["identifier": .null], ["identifier": true]] as [JSONValue]
            {
                #expect(await run.worker(for: 1).post("/internal/privacy/erase", body).status == 422)
            }
        }
    }
}
