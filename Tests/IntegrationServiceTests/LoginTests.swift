import Core
import HTTP
import Testing

@Suite struct `Connecting an account` {
    private func telegram() -> ScriptedTelegram {
        let telegram = ScriptedTelegram()
        telegram.add(person: 11, "anna", phone: "15550000011")
        telegram.add(person: 12, "boris", phone: "15550000012", password: "correct horse")
        return telegram
    }

    @Test(arguments: Engine.available)
    func `by QR and a password leads from the first request to the account in the list`(engine: Engine)
        async throws
    {
        let office = try await Office(engine, telegram())
        try await office.open { run in
            let user = run.user(1)
            let shown = await user.get("/api/v1/telegram/qr-code")
            #expect(shown.status == 200)
            #expect(shown.headers["Cache-Control"] == "no-store")
            let link = try #require(shown["qr_link"].stringValue)
            #expect(link.hasPrefix("tg://login?token="))
            #expect(shown["qr_svg"].stringValue?.hasPrefix("<svg") == true)
            #expect(shown["qr_png_base64"].stringValue?.hasPrefix("iVBORw0KGgo") == true)
            let id = shown["connection_id"]
            let waiting = await user.post("/api/v1/telegram/qr-check", ["connection_id": id])
            #expect(waiting["status"] == "waiting")

            // Telegram replaces the link while nobody scans; the page hears of the new one.
            office.telegram.renewLinks()
            var newest = link
            try await eventually("the page hears of the new link") {
                let check = await user.post("/api/v1/telegram/qr-check", ["connection_id": id])
                newest = check["qr_link"].stringValue ?? ""
                return newest != link && check["status"] == "waiting" && check["qr_svg"] != shown["qr_svg"]
            }
            #expect(!office.telegram.scan(link, as: 12))
            #expect(office.telegram.scan(newest, as: 12))
            try await eventually("the password is asked for") {
                let check = await user.post("/api/v1/telegram/qr-check")
                #expect(check["status"] != "expired" && check["status"] != "error")
                return check["status"] == "2fa_required" && check["password_hint"] == "my hint"
            }
            for _ in 1...3 {
                var russian = user
                russian.language = "ru"
                let wrong = await russian.post(
                    "/api/v1/telegram/qr-check", ["connection_id": id, "password": "battery staple"])
                #expect(wrong.status == 200)
                #expect(wrong["status"] == "2fa_required")
                #expect(wrong["error"] == "password_wrong")
                #expect(wrong["message"].stringValue?.contains("неверный") == true)
            }
            let done = await user.post(
                "/api/v1/telegram/qr-check", ["connection_id": id, "password": "correct horse"])
            #expect(done["status"] == "success")
            #expect(done["account"]["phone"] == "+15550000012")
            let list = await user.get("/api/v1/telegram/accounts")
            #expect(list["total"] == 1)
            #expect(list["items"][0]?["id"] == done["account"]["id"])
            #expect(list["items"][0]?["status"] == "connected")
            let again = await user.post("/api/v1/telegram/qr-check", ["connection_id": id])
            #expect(again["status"] == "success")
            // account-manager hears of it.
            try await eventually("account-manager is told") {
                office.neighbour.made.contains {
                    $0.method == "POST" && $0.path == "/internal/accounts"
                        && $0.body["account_id"] == done["account"]["id"]
                        && $0.body["user_id"] == 1 && $0.body["phone"] == "+15550000012"
                }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `by code, wrong at first, and a password`(engine: Engine) async throws {
        let office = try await Office(engine, telegram())
        try await office.open { run in
            let user = run.user(1)
            let sent = await user.post("/api/v1/telegram/connect", ["phone": "+1 555 000-00-12"])
            #expect(sent.status == 200)
            #expect(sent["status"] == "code_sent")
            #expect(sent["code_type"] == "telegramMessage")
            #expect(sent["timeout"] == 60)
            let resent = await user.post("/api/v1/telegram/resend-code", ["phone": "+15550000012"])
            #expect(resent["status"] == "code_sent")
            let wrong = await user.post(
                "/api/v1/telegram/verify", ["phone": "+15550000012", "code": "00000"])
            #expect(wrong.status == 400)
            #expect(wrong.code == "code_invalid")
            let id = sent["connection_id"]
            let half = await user.post("/api/v1/telegram/verify", ["connection_id": id, "code": "12345"])
            #expect(half["status"] == "2fa_required")
            let mistyped = await user.post(
                "/api/v1/telegram/verify", ["connection_id": id, "password": "nope"])
            #expect(mistyped["status"] == "2fa_required")
            #expect(mistyped["error"] == "password_wrong")
            let done = await user.post(
                "/api/v1/telegram/verify",
                ["connection_id": id, "code": "12345", "password": "correct horse"])
            #expect(done["status"] == "success")
            #expect(done["account"]["telegram_user_id"] == 12)
        }
    }

    @Test func `survives a restart before the scan, and between the scan and the password`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let shown = await first.user(1).get("/api/v1/telegram/qr-code")
        let id = shown["connection_id"]
        await first.stop()

        let second = try await office.started()
        var link = ""
        try await eventually("a link is there again") {
            let check = await second.user(1).post("/api/v1/telegram/qr-check", ["connection_id": id])
            link = check["qr_link"].stringValue ?? ""
            return check["status"] == "waiting" && !link.isEmpty
        }
        #expect(office.telegram.scan(link, as: 12))
        try await eventually("the password is asked for") {
            await second.user(1).post("/api/v1/telegram/qr-check", ["connection_id": id])["status"]
                == "2fa_required"
        }
        await second.stop()

        try await office.open { third in
            try await eventually("the password is accepted") {
                let check = await third.user(1).post(
                    "/api/v1/telegram/qr-check", ["connection_id": id, "password": "correct horse"])
                return check["status"] == "success"
            }
            #expect(await third.user(1).get("/api/v1/telegram/accounts")["total"] == 1)
        }
    }

    @Test func `is given up five minutes after nobody scanned`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let shown = await user.get("/api/v1/telegram/qr-code")
            let id = shown["connection_id"]
            // A page that asks again gets the same code.
            #expect(await user.get("/api/v1/telegram/qr-code")["connection_id"] == id)
            office.time.advance(by: .seconds(299))
            #expect(
                await user.post("/api/v1/telegram/qr-check", ["connection_id": id])["status"] == "waiting")
            office.time.advance(by: .seconds(1))
            let expired = await user.post("/api/v1/telegram/qr-check", ["connection_id": id])
            #expect(expired["status"] == "expired")
            #expect(!office.telegram.scan(shown["qr_link"].stringValue ?? "", as: 11))
            try await eventually("its client is gone") { office.telegram.openClients == 0 }
            let late = await user.post("/api/v1/telegram/verify", ["connection_id": id, "code": "12345"])
            #expect(late.status == 409)
            #expect(late.code == "login_expired")
            #expect(await user.get("/api/v1/telegram/qr-code")["connection_id"] != id)
        }
    }

    @Test func `is given up by its worker where nobody asks`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            _ = await run.user(1).get("/api/v1/telegram/qr-code")
            #expect(office.telegram.openClients == 1)
            office.time.advance(by: .minutes(5))
            try await eventually("its client is gone") { office.telegram.openClients == 0 }
            try await eventually("it is in the log") {
                let logs = await run.user(1).get("/api/v1/telegram/logs", ["action": "login_expired"])
                return logs["total"] == 1
            }
        }
    }

    @Test func `shows nobody another user's connection`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let shown = await run.user(1).get("/api/v1/telegram/qr-code")
            let id = shown["connection_id"]
            let stranger = run.user(2)
            #expect(await stranger.post("/api/v1/telegram/qr-check", ["connection_id": id]).status == 404)
            #expect(await stranger.post("/api/v1/telegram/qr-check").status == 404)
            #expect(
                await stranger.post("/api/v1/telegram/verify", ["connection_id": id, "code": "12345"]).status
                    == 404)
            #expect(await stranger.post("/api/v1/telegram/resend-code", ["connection_id": id]).status == 404)
            let own = await stranger.get("/api/v1/telegram/qr-code")
            #expect(own["connection_id"] != id)
            #expect(own["qr_link"] != shown["qr_link"])
        }
    }

    @Test func `refuses an account that another user has connected`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let account = try await run.connected(11, of: 1, office.telegram)
            let shown = await run.user(2).get("/api/v1/telegram/qr-code")
            #expect(office.telegram.scan(shown["qr_link"].stringValue ?? "", as: 11))
            try await eventually("it is refused") {
                let check = await run.user(2).post("/api/v1/telegram/qr-check")
                return check["status"] == "error" && check["error"] == "account_taken"
            }
            #expect(await run.user(2).get("/api/v1/telegram/accounts")["total"] == 0)
            // The refused session was logged out; the first one lives.
            try await eventually("one client is left") { office.telegram.openClients == 1 }
            #expect(await run.user(1).get("/api/v1/telegram/accounts/\(account)")["status"] == "connected")
        }
    }

    @Test func `explains what Telegram refuses`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let unknown = await user.post("/api/v1/telegram/connect", ["phone": "+15559999999"])
            #expect(unknown.status == 400)
            #expect(unknown.code == "phone_invalid")
            office.telegram.refuse("setAuthenticationPhoneNumber", (400, "PHONE_NUMBER_BANNED"))
            #expect(
                await user.post("/api/v1/telegram/connect", ["phone": "+15550000011"]).code == "phone_banned")
            office.telegram.refuse(
                "setAuthenticationPhoneNumber", (429, "Too Many Requests: retry after 3600"))
            let flood = await user.post("/api/v1/telegram/connect", ["phone": "+15550000011"])
            #expect(flood.status == 429)
            #expect(flood.headers["Retry-After"] == "3600")
            office.telegram.refuse("requestQrCodeAuthentication", (400, "API_ID_INVALID"))
            #expect(await user.get("/api/v1/telegram/qr-code").code == "telegram_misconfigured")
            try await eventually("no client is left") { office.telegram.openClients == 0 }
            let errors = await user.get("/api/v1/telegram/stats/errors")
            #expect(errors["errors"] == 4)
        }
    }

    @Test func `logs out when the account is disconnected, and the id comes back with it`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, of: 1, office.telegram)
            #expect(await run.user(2).delete("/api/v1/telegram/accounts/\(account)").status == 404)
            #expect(await user.delete("/api/v1/telegram/accounts/\(account)").status == 204)
            #expect(office.telegram.openClients == 0)
            #expect(await user.get("/api/v1/telegram/accounts")["total"] == 0)
            try await eventually("account-manager is told") {
                office.neighbour.made.contains {
                    $0.method == "DELETE" && $0.path == "/internal/accounts/\(account)"
                }
            }
            #expect(try await run.connected(11, of: 1, office.telegram) == account)
        }
    }

    @Test func `notices that Telegram ended the session, and that it froze the account`() async throws {
        let office = try await Office(.sqlite, telegram())
        try await office.open { run in
            let user = run.user(1)
            let account = try await run.connected(11, of: 1, office.telegram)
            office.telegram.freeze(11, until: office.time.now + .days(20))
            try await eventually("it is frozen") {
                await user.get("/api/v1/telegram/accounts/\(account)")["status"] == "frozen"
            }
            office.telegram.revoke(11)
            try await eventually("it is lost") {
                let shown = await user.get("/api/v1/telegram/accounts/\(account)")
                return shown["is_active"] == false && shown["reason"] == "SESSION_REVOKED"
            }
            try await eventually("account-manager hears of both, in their order") {
                let told = office.neighbour.made.filter {
                    $0.path == "/api/v1/account-manager/handle-error/\(account)"
                }
                return told.map { $0.body["error_type"] } == ["frozen", "auth_key_error"]
            }
            let send = await user.post(
                "/api/v1/telegram/invites/accounts/\(account)/invite",
                ["invite_type": "direct_message", "target_user_id": 12, "message": "hello"])
            #expect(send.status == 409)
            #expect(send.code == "account_not_connected")
        }
    }

    @Test func `of many accounts is opened again after a restart, when it is needed`() async throws {
        let office = try await Office(.sqlite, telegram())
        let first = try await office.started()
        let account = try await first.connected(11, of: 1, office.telegram)
        await first.stop()
        #expect(office.telegram.openClients == 0)
        try await office.open { second in
            #expect(await second.user(1).get("/api/v1/telegram/accounts/\(account)")["status"] == "connected")
            #expect(office.telegram.openClients == 0)
            let sent = await second.user(1).post(
                "/api/v1/telegram/invites/accounts/\(account)/invite",
                ["invite_type": "direct_message", "target_username": "boris", "message": "hello"])
            #expect(sent["status"] == "success", "\(sent.text)")
            #expect(office.telegram.openClients == 1)
        }
    }
}
