import Broker
import Core
import HTTP
import Storage
import Synchronization
import Testing

@testable import ServiceKit

@Suite struct `Deleting oneself` {
    /// A service that stands for all that keep something of a user's.
    private func listener(_ name: String, _ erase: @escaping @Sendable (Int64) async throws -> Void)
        -> ServiceDefinition
    {
        ServiceDefinition(
            name, portOffset: 50, queues: [UserDeletion.queue(of: name)],
            contract: Array("openapi: 3.1.0\npaths:\n".utf8)
        ) { _ in ServiceParts(eraseUser: erase) }
    }

    @Test(arguments: Stores.available)
    func `ends everything of the user's here`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let boris = try await house.person("boris")
            let id = await anna.caller.get("/auth/me")["id"].intValue ?? 0
            #expect(await anna.caller.delete("/auth/me").status == 204)
            #expect(await anna.caller.get("/auth/me").status == 401)
            #expect(await anna.at(house.second).get("/auth/sessions").status == 401)
            let refreshed = await house.caller().post(
                "/auth/refresh", ["refresh_token": .string(anna.refreshToken)])
            #expect(refreshed.status == 401)
            let back = await house.caller().post(
                "/auth/login", ["email": "anna@example.com", "password": House.password])
            #expect(back.status == 401)
            #expect(await boris.caller.get("/auth/me").status == 200)
            // The address is free again, for somebody who gets nothing of what was there.
            let again = await house.caller().post("/auth/register", House.registration("anna"))
            #expect(again.status == 201)
            #expect(again["id"].intValue != id)
        }
    }

    @Test(arguments: Stores.available)
    func `takes along what was kept of the answer to the registration`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let key: Headers = ["Idempotency-Key": "once"]
            func register() async -> Answer {
                await house.caller().post("/auth/register", House.registration("anna"), headers: key)
            }
            #expect(await register().status == 201)
            #expect(await register().headers["idempotency-replayed"] == "true")
            let anna = try await house.signedIn()
            #expect(await anna.caller.delete("/auth/me").status == 204)
            let rows = try await house.first.context.database.run(
                "SELECT answer FROM kept_answer WHERE answer IS NOT NULL")
            for row in rows {
                let kept = String(decoding: try row.bytes("answer"), as: UTF8.self)
                #expect(!kept.contains("anna"), "\(kept)")
            }
            // With the answer the key is free, too: it is another person who registers now.
            let again = await register()
            #expect(again.status == 201)
            #expect(again.headers["idempotency-replayed"] == nil)
        }
    }

    @Test(arguments: Stores.available)
    func `makes every other service erase its share, also one that fails at first`(stores: Stores)
        async throws
    {
        try await House.open(stores) { house in
            let erased = Erasures()
            let resources = try await ProcessResources.open(
                house.environment, log: Log(service: "test", to: house.log), time: house.time, sink: house.log
            )
            var services = resources.services
            for name in UserDeletion.listeners {
                let definition = listener(name) { user in
                    guard name != "invite-service" || erased.hasFailed() else { throw NotNow() }
                    erased.note(name, user)
                }
                services += try await assemble(definition, resources, broker: house.broker).services
            }
            let running = services
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runAll(running, log: .silent) }
                let anna = try await house.person()
                _ = try await house.person("boris")
                let id = await anna.caller.get("/auth/me")["id"].intValue ?? 0
                #expect(await anna.caller.delete("/auth/me").status == 204)
                try await house.eventually("all have erased") {
                    erased.services(of: id).count == UserDeletion.listeners.count
                }
                #expect(erased.users == [id])
                group.cancelAll()
            }
        }
    }

    @Test func `waits in the queue of every service that is away`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            #expect(await anna.caller.delete("/auth/me").status == 204)
            try await house.eventually("it lies in each service's queue") {
                for name in UserDeletion.listeners
                where try await house.broker.depth(of: UserDeletion.queue(of: name).name) == 0 {
                    return false
                }
                return true
            }
        }
    }
}

private struct NotNow: Error {}

private final class Erasures: Sendable {
    private struct State {
        var noted: [(service: String, user: Int64)] = []
        var failures = 0
    }
    private let state = Mutex(State())

    func note(_ service: String, _ user: Int64) { state.withLock { $0.noted.append((service, user)) } }
    func services(of user: Int64) -> Set<String> {
        state.withLock { Set($0.noted.filter { $0.user == user }.map(\.service)) }
    }
    var users: Set<Int64> { state.withLock { Set($0.noted.map(\.user)) } }
    /// False once.
    func hasFailed() -> Bool {
        state.withLock { state in
            state.failures += 1
            return state.failures > 1
        }
    }
}

@Suite struct `What services ask about users` {
    @Test(arguments: Stores.available)
    func `is whom an address belongs to`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let id = await anna.caller.get("/auth/me")["id"]
            let service = house.caller().with(token: house.serviceToken("integration-service"))
            let found = await service.get("/internal/users/by-email?email=ANNA%40example.com")
            #expect(found.status == 200)
            #expect(found.json == ["id": id, "email": "anna@example.com"])
            #expect(await service.get("/internal/users/by-email?email=nobody%40example.com").status == 404)
            for query in ["", "?email=", "?email=nobody", "?mail=anna%40example.com"] {
                let answer = await service.get("/internal/users/by-email\(query)")
                #expect(answer.mistakes == ["email invalid_email"], "\(query)")
            }
            #expect(await service.get("/internal/users/by-email?email=%00").code == "bad_query")
        }
    }

    @Test(arguments: Stores.available)
    func `is whether a session has ended`(stores: Stores) async throws {
        try await House.open(stores) { house in
            let anna = try await house.person()
            let service = house.caller().with(token: house.serviceToken("gateway"))
            let items = await anna.caller.get("/auth/sessions")["items"]
            let id = try #require(items[0]?["id"]?.stringValue)
            #expect(await service.get("/internal/ended-sessions/\(id)")["ended"] == false)
            _ = await anna.caller.post("/auth/logout", [:])
            #expect(await service.get("/internal/ended-sessions/\(id)")["ended"] == true)
            #expect(await service.get("/internal/ended-sessions/unknown")["ended"] == false)
        }
    }

    @Test func `is answered to nobody else`() async throws {
        try await House.open(.embedded) { house in
            let anna = try await house.person()
            for path in [
                "/internal/users/by-email?email=anna%40example.com", "/internal/ended-sessions/x",
                "/internal/nothing",
                "//internal/users/by-email?email=anna%40example.com",
                "/%69nternal/users/by-email?email=anna%40example.com",
            ] {
                #expect(await anna.caller.get(path).status == 404, "\(path)")
                #expect(await house.caller().get(path).status == 401, "\(path)")
            }
        }
    }
}
