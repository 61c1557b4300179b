import Core
import HTTP
import ServiceKit
import TestServers
import Testing
import Users

@Suite struct `Signing in` {
    @Test(arguments: Stores.available)
    func `takes address or name, as JSON or as a form`(stores: Stores) async throws {
        try await House.open(stores) { house in
            _ = try await house.person("anna")
            let caller = house.caller()
            for login in [
                ["email": "Anna@Example.com"], ["username": "anna_name"], ["username": "ANNA_NAME"],
                ["username": "anna@example.com"],
            ] as [JSONValue] {
                let whole = JSONValue.object(
                    (login.objectValue ?? []) + [JSONMember("password", House.password)])
                let answer = await caller.post("/auth/login", whole)
                #expect(answer.status == 200)
                #expect(answer["token_type"] == "bearer")
                #expect(answer["expires_in"] == 900)
                #expect(answer.headers["cache-control"] == "no-store")
            }
            let form = await caller.send(
                "POST", "/auth/login", headers: ["Content-Type": "application/x-www-form-urlencoded"],
                body: Body(
                    Bytes(
                        "grant_type=password&username=anna%40example.com&password=correct+horse+battery".utf8)
                ))
            #expect(form.status == 200)
        }
    }

    @Test(arguments: Stores.available)
    func `lets one see oneself and nobody else`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person("anna")
            let boris = try await house.person("boris")
            #expect(await anna.caller.get("/auth/me")["email"] == "anna@example.com")
            #expect(await boris.at(house.second).get("/auth/me/")["email"] == "boris@example.com")
            // Whatever a signed-in person names, it is their own account that they act on.
            #expect(await boris.caller.get("/auth/me?user_id=1")["email"] == "boris@example.com")
            let renamed = await boris.caller.put("/auth/me", ["user_id": 1, "username": "boris.b"])
            #expect(renamed["email"] == "boris@example.com")
            #expect(await anna.caller.get("/auth/me")["username"] == "anna_name")
            #expect(await house.caller().get("/auth/me").status == 401)
        }
    }

    @Test(arguments: Stores.available)
    func `changes and drops one's name`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person("anna")
            _ = try await house.person("boris")
            #expect(await anna.caller.put("/auth/me", ["username": "Anna.New"])["username"] == "Anna.New")
            let taken = await anna.caller.put("/auth/me", ["username": "BORIS_NAME"])
            #expect(taken.status == 409)
            #expect(taken.code == "username_taken")
            let wrong = await anna.caller.put("/auth/me", ["username": "a b"])
            #expect(wrong.mistakes == ["username invalid_username"])
            #expect(await anna.caller.put("/auth/me", ["username": nil])["username"] == .null)
        }
    }

    /// What is answered must not tell who exists, and neither must the work done for it.
    @Test(arguments: Stores.available)
    func `answers alike for an unknown user and a wrong password, after the same work`(stores: Stores)
        async throws
    {
        try await House.open(stores) { house in
            _ = try await house.person("anna")
            let caller = house.caller(address: "192.0.2.7")
            func attempt(_ login: JSONValue, _ password: JSONValue) async -> (answer: Answer, checks: Int) {
                let before = await caller.figure("password_checks_total")
                let answer = await caller.post("/auth/login", ["email": login, "password": password])
                return (answer, await caller.figure("password_checks_total") - before)
            }
            func told(_ answer: Answer) -> JSONValue {
                .object((answer.json.objectValue ?? []).filter { $0.name != "request_id" })
            }
            func names(_ answer: Answer) -> [String] { answer.headers.map(\.name).sorted() }
            // Longer than any password: looked up for neither.
            let endless = JSONValue.string(String(repeating: "ж", count: 600))
            for (password, checks) in [("a wrong password", 1), ("x", 1), (endless, 0)] as [(JSONValue, Int)]
            {
                let known = await attempt("anna@example.com", password)
                let unknown = await attempt("nobody@example.com", password)
                #expect(known.answer.status == 401)
                #expect(unknown.answer.status == 401)
                #expect(known.answer.code == "wrong_credentials")
                #expect(told(known.answer) == told(unknown.answer))
                #expect(names(known.answer) == names(unknown.answer))
                #expect(known.checks == checks)
                #expect(unknown.checks == checks)
            }
        }
    }

    @Test(arguments: Stores.available)
    func `is slowed down after ten failures in a row, and recovers with time`(stores: Stores) async throws {
        try await House.open(stores) { house in
            _ = try await house.person("anna", address: "203.0.113.9")
            let guesser = house.caller(address: "192.0.2.7")
            func guess(_ login: String, _ password: JSONValue = "a wrong password") async -> Answer {
                await guesser.post("/auth/login", ["email": .string(login), "password": password])
            }
            // Who exists and who does not are slowed down alike, however the address is spelled.
            for (spelling, other) in [
                ("anna@example.com", " ANNA@example.com "), ("nobody@example.com", " NOBODY@example.com "),
            ] {
                for _ in 0..<5 { #expect(await guess(spelling).status == 401) }
                for _ in 0..<5 { #expect(await guess(other).status == 401) }
                let slowed = await guess(spelling)
                #expect(slowed.status == 429)
                #expect(slowed.code == "too_many_failures")
                #expect(slowed.headers["retry-after"] == "1")
                #expect(slowed["retry_at"] == .string((house.time.now + .seconds(1)).description))
            }
            // Not even the right password is looked at meanwhile, at no replica.
            let checks = await guesser.figure("password_checks_total")
            #expect(await guess("anna@example.com", House.password).status == 429)
            #expect(await guesser.figure("password_checks_total") == checks)
            let there = Caller(service: house.second, address: "192.0.2.7")
            let elsewhere = await there.post(
                "/auth/login", ["email": "anna@example.com", "password": House.password])
            #expect(elsewhere.status == 429)
            // Each further failure doubles the wait.
            house.time.advance(by: .seconds(1))
            #expect(await guess("anna@example.com").status == 401)
            #expect(await guess("anna@example.com").headers["retry-after"] == "2")
            // The owner is elsewhere and notices nothing.
            _ = try await house.signedIn("anna", house.caller(address: "203.0.113.9"))
            // And the wait has an end: the right password clears the count.
            house.time.advance(by: .seconds(2))
            #expect(await guess("anna@example.com", House.password).status == 200)
            #expect(await guess("anna@example.com").status == 401)
        }
    }

    @Test(arguments: Stores.available)
    func `lets no more guesses through when they come all at once`(stores: Stores) async throws {
        try await House.open(stores) { house in
            _ = try await house.person("anna")
            let before =
                await house.caller().figure("password_checks_total")
                + house.caller(house.second).figure("password_checks_total")
            let statuses = await withTaskGroup(of: Int.self) { group in
                for index in 0..<40 {
                    let guesser = house.caller(
                        index % 2 == 0 ? house.first : house.second, address: "192.0.2.7")
                    group.addTask {
                        await guesser.post(
                            "/auth/login", ["email": "anna@example.com", "password": "a wrong password"]
                        ).status
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses.count { $0 == 401 } == 10)
            #expect(statuses.count { $0 == 429 } == 30)
            let after =
                await house.caller().figure("password_checks_total")
                + house.caller(house.second).figure("password_checks_total")
            #expect(after - before == 10)
        }
    }

    @Test func `takes the address of the person, not of the gateway`() async throws {
        try await House.open(.embedded) { house in
            _ = try await house.person("anna", address: "203.0.113.9")
            func guess(_ address: String, token: String?) async -> Int {
                await house.caller(address: "127.0.0.1").with(token: token).post(
                    "/auth/login", ["email": "anna@example.com", "password": "a wrong password"],
                    headers: [Forwarded.address: address]
                ).status
            }
            let gateway = house.serviceToken("gateway")
            for _ in 0..<10 { #expect(await guess("192.0.2.7", token: gateway) == 401) }
            #expect(await guess("192.0.2.7", token: gateway) == 429)
            #expect(await guess("192.0.2.8", token: gateway) == 401)
            // Nobody else is believed: these all come from one place.
            for index in 0..<10 { #expect(await guess("198.51.100.\(index)", token: nil) == 401) }
            #expect(await guess("198.51.100.77", token: nil) == 429)
        }
    }
}

@Suite struct `A refresh token` {
    private func refresh(_ caller: Caller, _ token: String) async -> Answer {
        await caller.post("/auth/refresh", ["refresh_token": .string(token)])
    }

    @Test(arguments: Stores.available)
    func `works once and is followed by another`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let caller = house.caller(house.second)
            var token = anna.refreshToken
            for _ in 0..<3 {
                house.time.advance(by: .minutes(20))
                #expect(await anna.caller.get("/auth/me").status == 401, "the access token has expired")
                let answer = await refresh(caller, token)
                #expect(answer.status == 200)
                let next = answer["refresh_token"].stringValue ?? ""
                #expect(next != token)
                token = next
                let access = answer["access_token"].stringValue
                #expect(
                    await house.caller().with(token: access).get("/auth/me")["email"] == "anna@example.com")
            }
            // One device is one session, however often it was refreshed.
            let last = await refresh(caller, token)
            let sessions = await caller.with(token: last["access_token"].stringValue).get("/auth/sessions")
            #expect(sessions["total"] == 1)
        }
    }

    @Test(arguments: Stores.available)
    func `that is used twice ends its family, on every replica`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let elsewhere = try await house.signedIn("anna", house.caller(address: "203.0.113.9"))
            let thief = await refresh(house.caller(address: "192.0.2.66"), anna.refreshToken)
            #expect(thief.status == 200)
            let thiefsAccess = house.caller(house.second).with(token: thief["access_token"].stringValue)
            #expect(await thiefsAccess.get("/auth/me").status == 200)
            let owner = await refresh(house.caller(), anna.refreshToken)
            #expect(owner.status == 401)
            #expect(owner.code == "invalid_refresh_token")
            #expect(await thiefsAccess.get("/auth/me").status == 401)
            #expect(await anna.at(house.second).get("/auth/me").status == 401)
            #expect(await refresh(house.caller(), thief["refresh_token"].stringValue ?? "").status == 401)
            // Another device of the same person is another family.
            #expect(await elsewhere.caller.get("/auth/me").status == 200)
        }
    }

    @Test(arguments: Stores.available)
    func `shown by many at once gives one of them tokens that die with the family`(stores: Stores)
        async throws
    {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let answers = await withTaskGroup(of: Answer.self) { group in
                for index in 0..<8 {
                    let caller = house.caller(index % 2 == 0 ? house.first : house.second)
                    group.addTask { await refresh(caller, anna.refreshToken) }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            let winners = answers.filter { $0.status == 200 }
            #expect(winners.count <= 1)
            #expect(answers.count { $0.status == 401 } == 8 - winners.count)
            for winner in winners {
                let access = house.caller().with(token: winner["access_token"].stringValue)
                #expect(await access.get("/auth/me").status == 401)
                #expect(
                    await refresh(house.caller(), winner["refresh_token"].stringValue ?? "").status == 401)
            }
        }
    }

    @Test(arguments: Stores.available)
    func `ends after thirty days without use`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            house.time.advance(by: SignIn.refreshLifetime)
            #expect(await refresh(house.caller(), anna.refreshToken).status == 401)
        }
    }

    @Test func `is nothing that can be guessed, and no access token`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for wrong in [
                "x", anna.caller.token ?? "", String(anna.refreshToken.dropLast()), anna.refreshToken + "A",
            ] {
                #expect(await refresh(house.caller(), wrong).status == 401)
            }
            #expect(await house.caller().with(token: anna.refreshToken).get("/auth/me").status == 401)
            #expect(await refresh(house.caller(), anna.refreshToken).status == 200)
        }
    }
}
