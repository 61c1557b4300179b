import Cache
import Core
import HTTP
import Security
import TestServers
import Testing

@testable import ServiceKit

@Suite struct `Signing out` {
    @Test(arguments: Stores.available)
    func `blocks the access token at once on every replica`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let other = try await house.signedIn("anna", house.caller(address: "203.0.113.9"))
            #expect(await anna.at(house.second).get("/auth/me").status == 200)
            #expect(await anna.caller.post("/auth/logout", [:]).status == 204)
            #expect(await anna.at(house.second).get("/auth/me").status == 401)
            #expect(await anna.caller.get("/auth/me").status == 401)
            let refreshed = await house.caller().post(
                "/auth/refresh", ["refresh_token": .string(anna.refreshToken)])
            #expect(refreshed.status == 401)
            // One device was signed out, not the person.
            #expect(await other.at(house.second).get("/auth/me").status == 200)
        }
    }

    @Test(arguments: Stores.available)
    func `holds although the cache forgets everything`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let boris = try await house.person("boris")
            #expect(await anna.caller.post("/auth/logout", [:]).status == 204)
            _ = try await house.first.context.cache.run(.flush)
            #expect(await anna.caller.get("/auth/me").status == 401)
            #expect(await anna.at(house.second).get("/auth/me").status == 401)
            #expect(await boris.caller.get("/auth/me").status == 200)
        }
    }

    @Test func `comes through the gateway as well`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            let claims = try house.first.context.tokens.verify(anna.caller.token ?? "", now: house.time.now)
            guard case .user(let user) = claims.identity else { return }
            let gateway = house.caller().with(token: house.serviceToken("gateway", for: user))
            #expect(await gateway.get("/auth/me")["email"] == "anna@example.com")
            let sessions = await gateway.get("/auth/sessions")
            #expect(sessions["items"][0]?["is_current"] == true)
            #expect(await gateway.post("/auth/logout", [:]).status == 204)
            #expect(await anna.caller.get("/auth/me").status == 401)
        }
    }

    @Test func `needs a session to end`() async throws {
        try await House.open(.embedded) { house in
            #expect(await house.caller().post("/auth/logout", [:]).status == 401)
            #expect(
                await house.caller().with(token: house.serviceToken("invite-service")).post(
                    "/auth/logout", [:]
                ).status == 401)
        }
    }
}

@Suite struct `One's sessions` {
    @Test(arguments: Stores.available)
    func `are listed with device, address and last use, a page at a time`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            _ = try await house.person("boris")
            house.time.advance(by: .minutes(5))
            let caller = house.caller(address: "203.0.113.9")
            let answer = await caller.post(
                "/auth/login", ["email": "anna@example.com", "password": House.password],
                headers: ["User-Agent": "A laptop\u{7}"])
            #expect(answer.status == 200)
            let list = await anna.caller.get("/auth/sessions")
            #expect(list["total"] == 2)
            #expect(list["page_size"] == 20)
            let newest = try #require(list["items"][0])
            #expect(newest["device"] == "A laptop")
            #expect(newest["address"] == "203.0.113.9")
            #expect(newest["last_used_at"] == "2025-08-24T12:05:00Z")
            #expect(newest["is_current"] == false)
            #expect(list["items"][1]?["device"] == "A phone")
            #expect(list["items"][1]?["is_current"] == true)
            let second = await anna.caller.get("/auth/sessions?page=2&page_size=1")
            #expect(second["items"].arrayValue?.count == 1)
            #expect(second["items"][0]?["is_current"] == true)
            #expect(second["has_next"] == false)
            #expect(second["has_prev"] == true)
            #expect(second["total_pages"] == 2)
            let wrong = await anna.caller.get("/auth/sessions?page=0&page_size=101")
            #expect(wrong.mistakes == ["page out_of_range", "page_size out_of_range"])
        }
    }

    @Test(arguments: Stores.available)
    func `can be ended one by one, and only by their owner`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let laptop = try await house.signedIn("anna", house.caller(address: "203.0.113.9"))
            let boris = try await house.person("boris")
            let items = await anna.caller.get("/auth/sessions")["items"].arrayValue ?? []
            let id = try #require(items.first { $0["is_current"] == false }?["id"]?.stringValue)
            #expect(await boris.caller.delete("/auth/sessions/\(id)").status == 404)
            #expect(await laptop.caller.get("/auth/me").status == 200)
            #expect(await anna.caller.delete("/auth/sessions/\(id)").status == 204)
            #expect(await laptop.at(house.second).get("/auth/me").status == 401)
            #expect(await anna.caller.get("/auth/me").status == 200)
            #expect(await anna.caller.delete("/auth/sessions/\(id)").status == 404)
        }
    }
}

@Suite struct `Changing the password` {
    @Test(arguments: Stores.available)
    func `ends all sessions everywhere`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let laptop = try await house.signedIn("anna", house.caller(address: "203.0.113.9"))
            let changed = await anna.caller.put(
                "/auth/password", ["current_password": House.password, "new_password": "a better sentence"])
            #expect(changed.status == 204)
            for person in [anna, laptop] {
                #expect(await person.at(house.second).get("/auth/me").status == 401)
                let refreshed = await house.caller().post(
                    "/auth/refresh", ["refresh_token": .string(person.refreshToken)])
                #expect(refreshed.status == 401)
            }
            let old = await house.caller().post(
                "/auth/login", ["email": "anna@example.com", "password": House.password])
            #expect(old.status == 401)
            let new = await house.caller().post(
                "/auth/login", ["email": "anna@example.com", "password": "a better sentence"])
            #expect(new.status == 200)
        }
    }

    @Test(arguments: Stores.available)
    func `needs the current one and a good new one`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let wrong = await anna.caller.put(
                "/auth/password",
                ["current_password": "a wrong password", "new_password": "a better sentence"])
            #expect(wrong.mistakes == ["current_password wrong_password"])
            let weak = await anna.caller.put(
                "/auth/password", ["current_password": House.password, "new_password": "anna_name1"])
            #expect(weak.mistakes == ["new_password weak_password"])
            #expect(
                await anna.caller.put("/auth/password", [:]).mistakes == [
                    "current_password missing", "new_password missing",
                ])
            #expect(await anna.caller.get("/auth/me").status == 200)
        }
    }

    @Test func `is slowed down like signing in, so that a stolen session does not find it out`() async throws
    {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            let guess: JSONValue = [
                "current_password": "a wrong password", "new_password": "a better sentence",
            ]
            for _ in 0..<10 { #expect(await anna.caller.put("/auth/password", guess).status == 422) }
            let slowed = await anna.caller.put("/auth/password", guess)
            #expect(slowed.status == 429)
            #expect(slowed.headers["retry-after"] == "1")
        }
    }
}
