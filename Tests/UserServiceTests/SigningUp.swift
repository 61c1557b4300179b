import Core
import HTTP
import Testing
import Users

@Suite struct `Signing up` {
    @Test(arguments: Stores.available)
    func `makes a user with one spelling of the address`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let answer = await house.caller().post(
                "/auth/register",
                ["email": " Anna@Example.COM ", "username": "Anna_1", "password": House.password])
            #expect(answer.status == 201)
            #expect(answer["email"] == "anna@example.com")
            #expect(answer["username"] == "Anna_1")
            #expect(answer["plan"] == "free")
            #expect(answer["is_active"] == true)
            #expect(answer["created_at"] == "2025-08-24T12:00:00Z")
            #expect(answer["id"].intValue ?? 0 > 0)
            #expect(answer["password_hash"] == .null)
        }
    }

    @Test(arguments: Stores.available)
    func `refuses an address or a name that is taken in any spelling`(stores: Stores) async throws {
        try await House.open(stores) { house in
            _ = try await house.person("anna")
            let caller = house.caller()
            let address = await caller.post(
                "/auth/register", ["email": "ANNA@example.com", "password": House.password])
            #expect(address.status == 409)
            #expect(address.code == "email_taken")
            let name = await caller.post(
                "/auth/register",
                ["email": "bella@example.com", "username": "ANNA_NAME", "password": House.password])
            #expect(name.status == 409)
            #expect(name.code == "username_taken")
        }
    }

    @Test(arguments: Stores.available)
    func `by many at once with one address makes one user`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let statuses = await withTaskGroup(of: Int.self) { group in
                for index in 0..<8 {
                    let caller = house.caller(index % 2 == 0 ? house.first : house.second)
                    group.addTask { await caller.post("/auth/register", House.registration("anna")).status }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(statuses.sorted() == [201] + Array(repeating: 409, count: 7))
        }
    }

    @Test(arguments: Stores.available)
    func `may be sent again with its Idempotency-Key, and signing in is never kept`(stores: Stores)
        async throws
    {
        try await House.open(stores) { house in
            let key: Headers = ["Idempotency-Key": "sign-up-1"]
            let first = await house.caller().post("/auth/register", House.registration("anna"), headers: key)
            let again = await house.caller(house.second).post(
                "/auth/register", House.registration("anna"), headers: key)
            #expect(again.status == 201)
            #expect(again.bytes == first.bytes)
            let other = await house.caller().post("/auth/register", House.registration("boris"), headers: key)
            #expect(other.code == "idempotency_key_reused")
            let login: JSONValue = ["email": "anna@example.com", "password": House.password]
            let sessions = [
                await house.caller().post("/auth/login", login, headers: key),
                await house.caller().post("/auth/login", login, headers: key),
            ]
            #expect(sessions.map(\.status) == [200, 200])
            #expect(sessions[0]["refresh_token"] != sessions[1]["refresh_token"])
        }
    }

    @Test func `names every mistake at once, in the reader's language`() async throws {
        try await House.open(.embedded) { house in
            let wrong: JSONValue = ["email": "nobody", "username": "x", "password": "short"]
            let english = await house.caller().speaking("en").post("/auth/register", wrong)
            #expect(english.status == 422)
            #expect(
                english.mistakes == [
                    "email invalid_email", "username invalid_username", "password weak_password",
                ])
            #expect(english.headers["content-language"] == "en")
            let russian = await house.caller().speaking("ru-RU, en;q=0.5").post("/auth/register", wrong)
            #expect(russian.mistakes == english.mistakes)
            #expect(russian.headers["content-language"] == "ru")
            let messages = (russian["errors"].arrayValue ?? []).compactMap { $0["message"]?.stringValue }
            #expect(messages.contains("Это не адрес электронной почты"))
            #expect(messages.contains("В пароле не меньше \(PasswordPolicy.shortest) символов"))
            let empty = await house.caller().post("/auth/register", [:])
            #expect(empty.mistakes == ["email missing", "password missing"])
            let mixed = await house.caller().post("/auth/register", ["password": "password1234"])
            #expect(mixed.mistakes == ["email missing", "password weak_password"])
        }
    }

    @Test(arguments: [
        ("short", "at least"), ("passwordpassword", "first to be guessed"), ("123456789012", "sequence"),
        ("anna@example.com", "little more than your name"),
        (String(repeating: "long ", count: 60), "at most"),
    ])
    func `judges a password by length and by what everybody takes`(password: String, reason: String)
        async throws
    {
        try await House.open(.embedded) { house in
            let answer = await house.caller().post(
                "/auth/register", ["email": "anna@example.com", "password": .string(password)])
            #expect(answer.status == 422)
            #expect(answer.mistakes == ["password weak_password"])
            #expect(answer["errors"][0]?["message"]?.stringValue?.contains(reason) == true)
        }
    }

    @Test func `asks for no classes of characters`() async throws {
        try await House.open(.embedded) { house in
            for (index, password) in ["correct horse battery", "летом я поеду к морю", "🦊 лиса и 🐺 волк"]
                .enumerated()
            {
                let email: JSONValue = "person\(index)@example.com"
                let made = await house.caller().post(
                    "/auth/register", ["email": email, "password": .string(password)])
                #expect(made.status == 201)
                let signedIn = await house.caller().post(
                    "/auth/login", ["email": email, "password": .string(password)])
                #expect(signedIn.status == 200)
            }
        }
    }

    @Test func `is closed to strangers where the administrator did not open it`() async throws {
        try await House.open(.embedded, ["REGISTRATION": ""]) { house in
            let answer = await house.caller().post("/auth/register", House.registration("anna"))
            #expect(answer.status == 403)
            #expect(answer.code == "registration_closed")
        }
    }
}

@Suite struct `The first operator` {
    /// The tokens of the links that both replicas printed at their start. The later one counts.
    private func claimTokens(_ house: House) async throws -> [String] {
        try await house.eventually("both replicas have offered a link") {
            house.log.lines.count { $0.contains("claim.open") } == 2
        }
        return house.log.lines.filter { $0.contains("claim.open") }.compactMap { line in
            line.split(separator: "claim#").last?.split(separator: "\"").first.map(String.init)
        }
    }

    private func claim(_ house: House, _ token: String, _ password: JSONValue = House.password) async
        -> Answer
    {
        await house.caller().post(
            "/auth/claim", ["token": .string(token), "email": "boss@example.com", "password": password])
    }

    @Test(arguments: Stores.available)
    func `makes an account with the link from the log, once`(stores: Stores) async throws {
        try await House.open(stores, ["REGISTRATION": "closed"]) { house in
            let tokens = try await claimTokens(house)
            #expect(tokens.allSatisfy { $0.utf8.count >= 43 })
            var made: [Answer] = []
            for token in tokens { made.append(await claim(house, token)) }
            #expect(made.map(\.status).sorted() == [201, 404])
            #expect(made.first { $0.status == 201 }?["plan"] == "operator")
            #expect(try await house.signedIn("boss").caller.get("/auth/me")["plan"] == "operator")
            for token in tokens { #expect(await claim(house, token).code == "invalid_claim") }
        }
    }

    @Test func `keeps the link when a mistake is made with it`() async throws {
        try await House.open(.embedded) { house in
            let tokens = try await claimTokens(house)
            for token in tokens { #expect(await claim(house, token, "short").status == 422) }
            var statuses: [Int] = []
            for token in tokens { statuses.append(await claim(house, token).status) }
            #expect(statuses.sorted() == [201, 404])
        }
    }

    @Test func `cannot be made by guessing`() async throws {
        try await House.open(.embedded) { house in
            for token in ["x", String(repeating: "A", count: 43), "' OR 1=1 --"] {
                #expect(await claim(house, token).status == 404)
            }
        }
    }
}
