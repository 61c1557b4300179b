import Core
import HTTP
import Testing

@Suite struct `Sending` {
    private func telegram() -> ScriptedTelegram {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        for id in Int64(21)...40 { telegram.add(person: id, "target\(id)", phone: "155500000\(id)") }
        telegram.add(.init(id: 500, name: "club", title: "Club", members: [11, 40], admins: [11]))
        telegram.add(.init(id: 501, name: "others", title: "Others", members: [11]))
        return telegram
    }

    private func path(_ account: String) -> String { "/api/v1/telegram/invites/accounts/\(account)/invite" }

    @Test(arguments: Engine.available)
    func `invites, writes and adds contacts, each in every form of a target`(engine: Engine) async throws {
        let office = try await Office(engine, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            for (target, group): (JSONMember, JSONValue) in [
                (JSONMember("target_username", "@target21"), "https://t.me/club"),
                (JSONMember("target_phone", "15550000022"), "@Club"),
                (JSONMember("target_username", "https://t.me/target23"), "club"),
                (JSONMember("target_user_id", 24), .int(-1_000_000_000_500)),
            ] {
                let answer = await user.post(
                    path(account),
                    .object([
                        JSONMember("invite_type", "group_invite"), JSONMember("group_id", group), target,
                    ]))
                #expect(answer["status"] == "success", "\(answer.text)")
                #expect(answer["is_member"] == true)
            }
            #expect(office.telegram.members(of: "club") == [11, 40, 21, 22, 23, 24])
            let written = await user.post(
                "/api/v1/integrations/telegram/invites/accounts/\(account)/invite",
                ["invite_type": "DIRECT_MESSAGE", "target_username": "target21", "message": "привет"])
            #expect(written["status"] == "success")
            #expect(written["message_id"].intValue ?? 0 > 0)
            let contact = await user.post(
                path(account), ["invite_type": "add_contact", "target_phone": "+15550000025", "name": "Anna"])
            #expect(contact["target_user_id"] == 25)
            #expect(office.telegram.ledger.map(\.kind) == ["add", "add", "add", "add", "message", "contact"])
            let logs = await user.get(
                "/api/v1/telegram/logs", ["action": "group_invite", "status": "success"])
            #expect(logs["total"] == 4)
            #expect(logs["items"][0]?["account_id"] == .string(account))
            #expect(await user.get("/api/v1/telegram/logs", ["account_id": account])["total"] == 7)
            #expect(await run.user(2).get("/api/v1/telegram/logs")["total"] == 0)
        }
    }

    @Test(arguments: Engine.available)
    func `has one effect for twenty callers of one attempt, though the service is killed in between`(
        engine: Engine
    ) async throws {
        let office = try await Office(engine, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        let body: JSONValue = [
            "invite_type": "group_invite", "target_username": "target21", "group_id": "club",
            "attempt_id": "a-1",
            "fencing_token": 1,
        ]
        // Telegram adds the person, and its answer does not come: now the service is killed.
        office.telegram.withhold("addChatMember", "addChatMembers")
        let callers = (0..<20).map { _ in Task { await first.user(1).post(path(account), body) } }
        try await eventually("Telegram has acted") { office.telegram.heldCount == 1 }
        await first.kill()
        let second = try await office.started()
        office.telegram.release()
        for caller in callers { _ = await caller.value }

        let answers = await withTaskGroup(of: Answer.self) { group in
            for _ in 0..<20 { group.addTask { await second.user(1).post(path(account), body) } }
            return await group.reduce(into: [Answer]()) { $0.append($1) }
        }
        #expect(
            answers.allSatisfy { $0["status"] == "success" && $0["is_member"] == true }, "\(answers[0].text)")
        #expect(
            office.telegram.ledger == [.init(kind: "add", account: 11, target: 21, chat: -1_000_000_000_500)])
        await second.stop()
    }

    @Test func `stays in doubt where nothing can be found, and is never sent again`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        let body: JSONValue = [
            "invite_type": "add_contact", "target_phone": "+15550000021", "attempt_id": "c-1",
        ]
        office.telegram.withhold("importContacts")
        let caller = Task { await first.user(1).post(path(account), body) }
        try await eventually("Telegram has acted") { office.telegram.heldCount == 1 }
        await first.kill()
        let second = try await office.started()
        office.telegram.release()
        _ = await caller.value
        for _ in 1...3 {
            let answer = await second.user(1).post(path(account), body)
            #expect(answer.status == 409)
            #expect(answer["error"] == "in_doubt")
            #expect(answer["can_retry"] == false)
        }
        #expect(office.telegram.ledger.count == 1)
        await second.stop()
    }

    @Test func `of a message in doubt finds it in the chat`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        // The script dates its messages by the wall; so does the service here.
        office.time.setToWallClock()
        let body: JSONValue = [
            "invite_type": "direct_message", "target_username": "target21", "message": "unique words",
            "attempt_id": "m-1",
        ]
        office.telegram.withhold("sendMessage")
        let caller = Task { await first.user(1).post(path(account), body) }
        try await eventually("Telegram has acted") { office.telegram.heldCount == 1 }
        await first.kill()
        let second = try await office.started()
        office.telegram.release()
        _ = await caller.value
        let answer = await second.user(1).post(path(account), body)
        #expect(answer["status"] == "success", "\(answer.text)")
        #expect(answer["message_id"] == .int(1 << 20))
        #expect(office.telegram.ledger.count == 1)
        await second.stop()
    }

    @Test func `answers a repeated attempt from the store, success and failure alike`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            let body: JSONValue = [
                "invite_type": "group_invite", "target_username": "target21", "group_id": "club",
                "attempt_id": "a-1",
            ]
            let first = await user.post(path(account), body)
            #expect(first["repeated"] == false)
            let second = await user.post(path(account), body)
            #expect(second["repeated"] == true)
            #expect(second["sent_at"] == first["sent_at"])
            #expect(office.telegram.ledger.count == 1)
            let other = await user.post(
                path(account),
                [
                    "invite_type": "group_invite", "target_username": "target22", "group_id": "club",
                    "attempt_id": "a-1",
                ])
            #expect(other.status == 422)
            #expect(other.code == "attempt_reused")

            office.telegram.refuse("addChatMember", (400, "PEER_FLOOD"))
            office.telegram.refuse("addChatMembers", (400, "PEER_FLOOD"))
            let flooded: JSONValue = [
                "invite_type": "group_invite", "target_username": "target22", "group_id": "club",
                "attempt_id": "a-2",
            ]
            for _ in 1...2 {
                let answer = await user.post(path(account), flooded)
                #expect(answer.status == 429)
                #expect(answer["error"] == "peer_flood")
                #expect(answer["telegram_error_type"] == "PEER_FLOOD")
            }
        }
    }

    @Test func `takes an idempotency key for an attempt, which no crash makes twice`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        func send(_ run: Office.Run, _ target: String = "target21") async -> Answer {
            await run.user(1).ask(
                .post, path(account),
                body: [
                    "invite_type": "group_invite", "target_username": .string(target), "group_id": "club",
                ],
                headers: ["Idempotency-Key": "k"])
        }
        office.telegram.withhold("addChatMember", "addChatMembers")
        let caller = Task { await send(first) }
        try await eventually("Telegram has acted") { office.telegram.heldCount == 1 }
        await first.kill()
        office.telegram.release()
        _ = await caller.value
        try await office.open { second in
            for _ in 1...2 { #expect(await send(second)["status"] == "success") }
            #expect(await send(second, "target22").code == "attempt_reused")
            #expect(office.telegram.ledger.count == 1)
        }
    }

    /// As a process that was killed leaves them for a moment.
    @Test func `waits for a folder that is still held`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, office.telegram)
        await first.stop()
        let held: (Int64, String) = (
            400, "Can't lock file \"x/td.binlog\", because it is already in use by current program"
        )
        office.telegram.refuse("setTdlibParameters", held, held, held)
        try await office.open { second in
            let answers = await withTaskGroup(of: Answer.self) { group in
                for number in 21...30 {
                    group.addTask {
                        await second.user(1).post(
                            path(account),
                            [
                                "invite_type": "group_invite", "target_username": .string("target\(number)"),
                                "group_id": "club",
                            ])
                    }
                }
                return await group.reduce(into: [Answer]()) { $0.append($1) }
            }
            #expect(answers.allSatisfy { $0["status"] == "success" }, "\(answers.map(\.text))")
            #expect(office.telegram.count(of: "setTdlibParameters") == 5)
        }
    }

    @Test func `refuses a lease that is older than the newest`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            func send(_ target: String, _ token: Int64) async -> Answer {
                await user.post(
                    path(account),
                    [
                        "invite_type": "group_invite", "target_username": .string(target), "group_id": "club",
                        "fencing_token": .int(token), "lease_id": "l",
                    ])
            }
            #expect(await send("target21", 5).status == 200)
            let late = await send("target22", 4)
            #expect(late.status == 409)
            #expect(late.code == "lease_lost")
            #expect(late["newest_fencing_token"] == 5)
            #expect(await send("target23", 6).status == 200)
            #expect(office.telegram.ledger.map(\.target) == [21, 23])
        }
    }

    struct Refusal: Sendable, CustomTestStringConvertible {
        let code: Int64
        let message: String
        let error: String
        let status: Int
        var testDescription: String { message }
    }

    @Test(arguments: [
        Refusal(code: 429, message: "Too Many Requests: retry after 75600", error: "flood_wait", status: 429),
        Refusal(code: 400, message: "PEER_FLOOD", error: "peer_flood", status: 429),
        Refusal(code: 403, message: "USER_PRIVACY_RESTRICTED", error: "privacy_restricted", status: 400),
        Refusal(code: 400, message: "USER_NOT_MUTUAL_CONTACT", error: "not_mutual_contact", status: 400),
        Refusal(code: 400, message: "USER_CHANNELS_TOO_MUCH", error: "too_many_channels", status: 409),
        Refusal(code: 400, message: "USER_KICKED", error: "user_banned_in_group", status: 409),
        Refusal(code: 400, message: "CHAT_ADMIN_REQUIRED", error: "admin_required", status: 403),
        Refusal(code: 400, message: "USERS_TOO_MUCH", error: "group_restriction", status: 403),
        Refusal(code: 406, message: "FROZEN_METHOD_INVALID", error: "account_frozen", status: 403),
        Refusal(code: 400, message: "USER_ALREADY_PARTICIPANT", error: "already_participant", status: 409),
        Refusal(code: 400, message: "A_WORD_NOBODY_KNOWS", error: "invite_failed", status: 502),
    ])
    func `explains in both languages why Telegram refused`(refusal: Refusal) async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, office.telegram)
            for language in ["en", "ru"] {
                for method in ["addChatMember", "addChatMembers"] {
                    office.telegram.refuse(method, (refusal.code, refusal.message))
                }
                var user = run.user(1)
                user.language = language
                let answer = await user.post(
                    path(account),
                    ["invite_type": "group_invite", "target_username": "target21", "group_id": "club"])
                #expect(answer.status == refusal.status)
                #expect(answer["error"].stringValue == refusal.error)
                #expect(answer["target"] == "target21")
                let isRussian = answer["message"].stringValue?.unicodeScalars.contains {
                    ("а"..."я").contains($0)
                }
                #expect(isRussian == (language == "ru"))
                #expect(answer["detail"] == answer["message"])
                if refusal.status == 429 { #expect(answer.headers["Retry-After"] != nil) }
                if refusal.error == "flood_wait" { #expect(answer["retry_after"] == 75_600) }
            }
            let errors = await run.user(1).get("/api/v1/telegram/stats/errors", ["action": "group_invite"])
            #expect(errors["by_code"][0]?["error_code"].flatMap(\.stringValue) == refusal.error)
            #expect(errors["by_code"][0]?["count"] == 2)
        }
    }

    @Test func `asks Telegram for nothing that can be known before`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            func invite(_ target: String, _ group: String) async -> Answer {
                await user.post(
                    path(account),
                    [
                        "invite_type": "group_invite", "target_username": .string(target),
                        "group_id": .string(group),
                    ])
            }
            #expect(await invite("target40", "club")["error"] == "already_participant")
            #expect(await invite("target21", "others")["error"] == "admin_required")
            #expect(await invite("nobody_here", "club")["error"] == "user_not_found")
            #expect(await invite("target21", "no_such_group")["error"] == "group_restriction")
            #expect(await invite("others", "club")["error"] == "invalid_username")
            #expect(office.telegram.ledger.isEmpty)
        }
    }

    @Test func `looks for members and rights`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, office.telegram)
            let base = "/api/v1/telegram/invites/accounts/\(account)/membership"
            let inside = await user.post(base, ["group_id": "club", "target_username": "target40"])
            #expect(inside.text == #"{"is_member":true}"#)
            #expect(
                await user.post(base, ["group_id": "club", "target_user_id": "21"])["is_member"] == false)
            let check = "/api/v1/telegram/accounts/\(account)/check-admin"
            let admin = await user.post(
                check,
                [
                    "group_id": "https://t.me/club",
                    "required_permissions": ["invite_users", "can_restrict_members"],
                ])
            #expect(admin["is_admin"] == true)
            #expect(admin["has_required_permissions"] == true)
            #expect(admin["permissions"].arrayValue?.contains("ban_users") == true)
            #expect(admin["group_title"] == "Club")
            let member = await user.post(
                check, ["group_id": "others", "required_permissions": ["invite_users"]])
            #expect(member["is_admin"] == false)
            #expect(member["has_required_permissions"] == false)
            let gone = await user.post(check, ["group_id": "no_such_group"])
            #expect(gone.status == 200)
            #expect(gone["error"] == "group_restriction")
            let link = await user.post(
                "/api/v1/telegram/accounts/\(account)/invite-links", ["group_id": "club", "name": "spring"])
            #expect(link.status == 201)
            #expect(link["creates_join_request"] == true)
            let joins = await user.get(
                "/api/v1/telegram/accounts/\(account)/invite-links",
                ["group_id": "club", "link": link["link"].stringValue ?? ""])
            #expect(joins["joined"] == 3)
            #expect(joins["pending_requests"] == 2)
        }
    }
}
