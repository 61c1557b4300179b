import Core
import HTTP
import Storage
import Synchronization
import TestServers
import Testing

@testable import ServiceKit

@Suite struct `A POST with an Idempotency-Key` {
    /// Makes things and counts them; `/slow` waits at a gate.
    private final class Maker: Sendable {
        let made = Tally()
        let gate = Gate()

        func routes(_ router: inout Router) {
            router.on("POST", "/things") { [self] request in
                let body = try await request.json()
                made.increment()
                if body["name"] == "refuse" { throw Problem(409, "taken", .init("Taken", "Занято")) }
                if body["name"] == "fail" { throw StorageError.poolExhausted }
                if body["name"] == "hurry" { throw Problem.tooFast(retryAfter: .seconds(5)) }
                var response = Response.json(
                    ["number": JSONValue(made.value), "for": JSONValue(request.identity.user?.id)]
                        as JSONValue, status: 201)
                response.headers["Location"] = "/things/\(made.value)"
                return response
            }
            router.on("POST", "/slow") { [self] _ in
                made.increment()
                await gate.wait()
                return .json(["number": JSONValue(made.value)] as JSONValue)
            }
            router.on("POST", "/upload") { [self] request in
                var length = 0
                for try await chunk in request.body { length += chunk.count }
                made.increment()
                return .json(["length": JSONValue(length), "number": JSONValue(made.value)] as JSONValue)
            }
            router.on("POST", "/stream") { [self] _ in
                made.increment()
                return .stream(type: "text/plain") { try await $0.write("x") }
            }
            router.on("PUT", "/things") { [self] _ in
                made.increment()
                return .json(["number": JSONValue(made.value)] as JSONValue)
            }
            router.on("POST", "/tokens") { [self] _ in
                made.increment()
                return .json(["number": JSONValue(made.value)] as JSONValue)
            }
        }
    }

    private func open(
        _ engine: Engine, _ test: @escaping @Sendable (Served, Maker) async throws -> Void
    ) async throws {
        let maker = Maker()
        try await Served.open(
            with: try await engine.settings(), database: true,
            { _ in
                ServiceParts(
                    unrepeatedRoutes: ["/tokens"], eraseUser: { _ in }, routes: { maker.routes(&$0) })
            }
        ) { try await test($0, maker) }
    }

    private func post(
        _ served: Served, _ path: String = "/things", key: String? = "k1",
        json body: JSONValue = ["name": "a"],
        token: String? = nil
    ) async -> Answer {
        await served.ask(
            "POST", path, headers: key.map { ["Idempotency-Key": $0] } ?? [:], json: body,
            token: token ?? served.userToken())
    }

    @Test(arguments: Engine.available)
    func `is answered as the first time, for a day`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            let first = await post(served)
            #expect(first.status == 201)
            #expect(first.headers["idempotency-replayed"] == nil)
            for path in ["/things", "/things/"] {
                let again = await post(served, path)
                #expect(again.status == 201)
                #expect(again.bytes == first.bytes)
                #expect(again.headers["location"] == "/things/1")
                #expect(again.headers["content-type"] == "application/json")
                #expect(again.headers["idempotency-replayed"] == "true")
                #expect(again.headers["x-request-id"] != first.headers["x-request-id"])
            }
            #expect(maker.made.value == 1)
            served.time.advance(by: .hours(24) - .seconds(1))
            #expect(await post(served)["number"] == 1)
            served.time.advance(by: .seconds(1))
            #expect(await post(served)["number"] == 2)
            // Without a key, and with another, it is another request.
            #expect(await post(served, key: nil)["number"] == 3)
            #expect(await post(served, key: "k2")["number"] == 4)
        }
    }

    @Test(arguments: Engine.available)
    func `is refused when the request is another`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            _ = await post(served)
            let body = await post(served, json: ["name": "b"])
            #expect(body.status == 422)
            #expect(body.code == "idempotency_key_reused")
            #expect(await post(served, "/things?x=1").status == 422)
            #expect(await post(served, "/upload").status == 422)
            #expect(await post(served)["number"] == 1)
            #expect(maker.made.value == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `belongs to its caller`(engine: Engine) async throws {
        try await open(engine) { served, _ in
            #expect(await post(served)["for"] == 7)
            #expect(await post(served, token: served.userToken(8))["for"] == 8)
            #expect(await post(served, token: served.serviceToken("invite-service"))["number"] == 3)
            #expect(await post(served, token: served.serviceToken("invite-service", for: 7))["number"] == 4)
            // Through the gateway it is the same person.
            #expect(await post(served, token: served.serviceToken("gateway", for: 7))["number"] == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `sent by many at once does its work once`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            let answers = await withTaskGroup(of: Answer.self) { group in
                for _ in 0..<16 { group.addTask { await post(served) } }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(maker.made.value == 1)
            for answer in answers {
                #expect(answer.status == 201 || answer.code == "request_under_way")
                if answer.status == 201 { #expect(answer["number"] == 1) }
            }
            #expect(answers.contains { $0.status == 201 })
        }
    }

    @Test(arguments: Engine.available)
    func `goes on when its client goes away, and is answered when it asks again`(engine: Engine) async throws
    {
        try await open(engine) { served, maker in
            let seen = Kept<Int?>(nil)
            let leaving = Task { seen.value = await post(served, "/slow").status }
            try await eventually("the work has begun") { maker.made.value == 1 }
            let early = await post(served, "/slow")
            #expect(early.status == 409)
            #expect(early.code == "request_under_way")
            #expect(early.headers["retry-after"] == "1")
            leaving.cancel()
            try await eventually("the client waits no longer") { seen.value == 503 }
            maker.gate.open()
            try await eventually("the answer is kept") { await post(served, "/slow")["number"] == 1 }
            #expect(maker.made.value == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `is free again when its process died over it`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            let answers = try #require(served.service.context.keptAnswers)
            let identity = Identity.user(UserIdentity(id: 7, email: "anna@example.com", tokenID: "s1.x"))
            let owner = KeptAnswers.Owner(identity, key: "k1")
            guard case .first = try await answers.claim(owner, as: "dead", at: served.time.now) else {
                Issue.record("somebody else was first")
                return
            }
            #expect(await post(served).status == 409)
            served.time.advance(by: KeptAnswers.lease)
            #expect(await post(served)["number"] == 1)
            // Should the dead be alive after all, its answer comes too late.
            try await answers.complete(
                owner, "dead", about: nil, fingerprint: "x", Response(200), [], at: served.time.now)
            try await answers.release(owner, "dead")
            #expect(await post(served)["number"] == 1)
            #expect(maker.made.value == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `keeps what was decided, and not what means another time`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            for (name, status, isKept) in [
                ("refuse", 409, true), ("fail", 503, false), ("hurry", 429, false),
            ] {
                let before = maker.made.value
                for _ in 0..<2 {
                    #expect(await post(served, key: name, json: ["name": .string(name)]).status == status)
                }
                #expect(maker.made.value - before == (isKept ? 1 : 2), "\(name)")
            }
            // A stream is not kept.
            for number in 1...2 {
                let before = maker.made.value
                #expect(await post(served, "/stream", key: "s\(number)").text == "x")
                #expect(maker.made.value == before + 1)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `covers bodies that are streamed, without gathering them`(engine: Engine) async throws {
        try await open(engine) { served, maker in
            func upload(_ bytes: Bytes, chunk: Int) async -> Answer {
                let place = Mutex(0)
                let body = Body {
                    place.withLock { place -> Bytes? in
                        guard place < bytes.count else { return nil }
                        defer { place += chunk }
                        return Bytes(bytes[place..<min(place + chunk, bytes.count)])
                    }
                }
                return await served.ask(
                    "POST", "/upload",
                    headers: ["Idempotency-Key": "u1", "Content-Type": "application/json"], body: body,
                    token: served.userToken())
            }
            let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
            let first = await upload(bytes, chunk: 1000)
            #expect(first["length"] == 300_000)
            // The same bytes, cut otherwise.
            #expect(await upload(bytes, chunk: 77_777).bytes == first.bytes)
            var changed = bytes
            changed[250_000] ^= 1
            #expect(await upload(changed, chunk: 1000).status == 422)
            #expect(await upload(bytes + [0], chunk: 1000).status == 422)
            #expect(maker.made.value == 1)
        }
    }

    @Test func `is one printable text`() async throws {
        try await open(.sqlite) { served, maker in
            for key in ["", String(repeating: "k", count: 256), "ключ", "a\u{7}"] {
                let answer = await post(served, key: key)
                #expect(answer.status == 422)
                #expect(answer.code == "wrong_idempotency_key")
            }
            var twice: Headers = ["Content-Type": "application/json"]
            twice.add("Idempotency-Key", "a")
            twice.add("Idempotency-Key", "b")
            let answer = await served.ask(
                "POST", "/things", headers: twice, body: Body(Bytes("{}".utf8)), token: served.userToken())
            #expect(answer.status == 422)
            #expect(maker.made.value == 0)
        }
    }

    @Test func `means nothing to other methods and to answers that are secret`() async throws {
        try await open(.sqlite) { served, _ in
            let token = served.userToken()
            for number in 1...2 {
                let put = await served.ask("PUT", "/things", headers: ["Idempotency-Key": "k"], token: token)
                #expect(put["number"].intValue == Int64(number))
            }
            for number in 3...4 { #expect(await post(served, "/tokens")["number"].intValue == Int64(number)) }
            let rows = try await served.service.context.database.run(
                "SELECT count(*) AS count FROM kept_answer")
            #expect(try rows.first?.int("count") == 0)
        }
    }

    @Test(arguments: Engine.available)
    func `leaves nothing of a user who is erased, and nothing after its day`(engine: Engine) async throws {
        try await open(engine) { served, _ in
            let context = served.service.context
            func count() async throws -> Int? {
                try await context.database.run("SELECT count(*) AS count FROM kept_answer").first?.int(
                    "count")
            }
            _ = await post(served)
            _ = await post(served, token: served.serviceToken("invite-service", for: 7))
            _ = await post(served, token: served.userToken(8))
            #expect(try await count() == 3)
            try await context.forgetAnswers(for: 7)
            #expect(try await count() == 1)
            try await eventually("the keeper has tidied up") {
                served.time.advance(by: .hours(1))
                return try await count() == 0
            }
        }
    }
}

/// Closed until it is opened.
private final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiting: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func wait() async {
        await withCheckedContinuation { waiter in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(waiter) }
                return state.isOpen
            }
            if isOpen { waiter.resume() }
        }
    }

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for waiter in waiting { waiter.resume() }
    }
}
