import Core
import HTTP
import TestServers
import Testing

/// The flows of the contract, as a client lives them: through two gateways, to user-service as it is.
@Suite struct `Through two gateways` {
    @Test(arguments: Stores.available)
    func `one registers once, signs in by address or name, and is known at both`(stores: Stores) async throws
    {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            for door in 0...1 {
                let me = try await anna.at(door).get("/api/auth/me")
                #expect(me.status == 200)
                #expect(me["email"] == "anna@example.com")
                #expect(me["username"] == "anna_name")
                #expect(me["is_active"] == true)
            }
            let taken = try await street.visitor(at: 1).post(
                "/api/auth/register", ["email": " ANNA@Example.COM", "password": Street.password])
            #expect(taken.status == 409)
            let weak = try await street.visitor().post(
                "/api/auth/register", ["email": "boris", "password": "password"])
            #expect(weak.status == 422)
            #expect(weak["errors"].arrayValue?.count == 2)
            let byName = try await street.visitor(at: 1).post(
                "/api/auth/login", ["username": "anna_name", "password": Street.password])
            #expect(byName.status == 200)
            #expect(byName["token_type"] == "bearer")
            #expect(byName["expires_in"] == 900)
        }
    }

    @Test(arguments: Stores.available)
    func `an unknown person and a wrong password are answered alike`(stores: Stores) async throws {
        try await Street.open(stores) { street in
            _ = try await street.person()
            var answers: [Answer] = []
            for email in ["anna@example.com", "nobody@example.com"] {
                answers.append(
                    try await street.visitor(at: answers.count).post(
                        "/api/auth/login", ["email": .string(email), "password": "not the right one"]))
            }
            #expect(answers.map(\.status) == [401, 401])
            for member in ["type", "title", "detail", "code"] {
                #expect(answers[0][member] == answers[1][member], "\(member)")
            }
        }
    }

    @Test(arguments: Stores.available)
    func `a refresh token serves once, and its second use ends the whole family at both`(stores: Stores)
        async throws
    {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            let other = try await street.signedIn(on: "A laptop")
            let next = try await anna.refreshed(at: 1)
            #expect(next.status == 200)
            let renewed = Person(
                street: street, token: next["access_token"].stringValue ?? "",
                refreshToken: next["refresh_token"].stringValue ?? "", device: anna.device)
            #expect(renewed.refreshToken != anna.refreshToken)
            #expect(try await renewed.isLetIn == [true, true])

            #expect(try await anna.refreshed(at: 0).status == 401)
            #expect(try await renewed.isLetIn == [false, false])
            #expect(try await anna.isLetIn == [false, false])
            #expect(try await renewed.refreshed(at: 1).status == 401)
            // Another session of hers is another family.
            #expect(try await other.isLetIn == [true, true])
        }
    }

    @Test(arguments: Stores.available)
    func `who signs out at one is out at the other at once`(stores: Stores) async throws {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            #expect(try await anna.isLetIn == [true, true])
            #expect(try await anna.at(0).post("/api/auth/logout", [:]).status == 204)
            #expect(try await anna.isLetIn == [false, false])
            #expect(try await anna.refreshed(at: 1).status == 401)
            #expect(try await anna.at(1).post("/api/auth/logout", [:]).status == 401)
        }
    }

    @Test(arguments: Stores.available)
    func `one sees one's sessions and ends them one by one, and nobody else's`(stores: Stores) async throws {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            let laptop = try await street.signedIn(on: "A laptop", at: 1)
            let boris = try await street.person("boris")
            let list = try await anna.at(1).get("/api/auth/sessions")
            #expect(list["total"] == 2)
            let sessions = list["items"].arrayValue ?? []
            #expect(Set(sessions.compactMap { $0["device"]?.stringValue }) == ["A phone", "A laptop"])
            for session in sessions { #expect(session["address"] == "127.0.0.1") }
            let lost = try #require(sessions.first { $0["device"] == "A laptop" }?["id"]?.stringValue)

            #expect(try await boris.at(0).delete("/api/auth/sessions/\(lost)").status == 404)
            #expect(try await laptop.isLetIn == [true, true])
            #expect(try await anna.at(0).delete("/api/auth/sessions/\(lost)").status == 204)
            #expect(try await laptop.isLetIn == [false, false])
            #expect(try await anna.isLetIn == [true, true])
            #expect(try await anna.at(0).get("/api/auth/sessions")["total"] == 1)
            #expect(try await boris.at(1).get("/api/auth/sessions")["total"] == 1)
        }
    }

    @Test(arguments: Stores.available)
    func `a new password ends every session at both, and only it opens new ones`(stores: Stores) async throws
    {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            let laptop = try await street.signedIn(on: "A laptop", at: 1)
            let new: JSONValue = "a quite different sentence"
            let wrong = try await anna.at(0).put(
                "/api/auth/password", ["current_password": "not the right one", "new_password": new])
            #expect((400..<500).contains(wrong.status))
            #expect(try await laptop.isLetIn == [true, true])
            let changed = try await anna.at(1).put(
                "/api/auth/password", ["current_password": Street.password, "new_password": new])
            #expect((200..<300).contains(changed.status))
            #expect(try await anna.isLetIn == [false, false])
            #expect(try await laptop.isLetIn == [false, false])
            #expect(try await laptop.refreshed(at: 0).status == 401)
            let old = try await street.visitor().post(
                "/api/auth/login", ["email": "anna@example.com", "password": Street.password])
            #expect(old.status == 401)
            #expect(try await street.signedIn(with: new, at: 1).isLetIn == [true, true])
        }
    }

    @Test(arguments: Stores.available)
    func `who deletes oneself is gone at both, and leaves the address to others`(stores: Stores) async throws
    {
        try await Street.open(stores) { street in
            let anna = try await street.person()
            let boris = try await street.person("boris")
            let id = try await anna.at(0).get("/api/auth/me")["id"]
            #expect(try await anna.at(1).delete("/api/auth/me").status == 204)
            #expect(try await anna.isLetIn == [false, false])
            #expect(try await anna.refreshed(at: 0).status == 401)
            let back = try await street.visitor().post(
                "/api/auth/login", ["email": "anna@example.com", "password": Street.password])
            #expect(back.status == 401)
            #expect(try await boris.isLetIn == [true, true])
            let another = try await street.person()
            #expect(try await another.at(1).get("/api/auth/me")["id"] != id)
        }
    }
}
