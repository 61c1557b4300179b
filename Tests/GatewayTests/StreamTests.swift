import Core
import HTTP
import HTTPClient
import HTTPServer
import ServiceKit
import Synchronization
import Testing

@Suite struct `Through the gateway` {
    @Test func `a large upload passes piece by piece`() async throws {
        let size = 64 << 20
        let largest = Mutex(0)
        try await withGateways(answering: { request in
            var count = 0
            for try await piece in request.body {
                count += piece.count
                largest.withLock { $0 = max($0, piece.count) }
            }
            return .json(["received": .int(Int64(count))] as JSONValue)
        }) { playground in
            let sent = Mutex(0)
            let piece = Bytes(repeating: 7, count: 64 << 10)
            let body = Body(length: size) {
                sent.withLock { sent in
                    guard sent < size else { return nil }
                    sent += piece.count
                    return piece
                }
            }
            let answer = try await playground.send(
                .post, "/api/parsing/x", token: playground.token(), body: body)
            #expect(try await answer.json()["received"] == .int(Int64(size)))
            #expect(largest.withLock { $0 } < 4 << 20, "no part of the way gathers it")
        }
    }

    @Test func `an event is seen before the next one is made`() async throws {
        let (seen, sawFirst) = AsyncStream<Void>.makeStream()
        try await withGateways(answering: { _ in
            .events(SystemTime()) { events in
                try await events.send(ServerSentEvent(id: "1", name: "progress", data: "half"))
                // Only once the client has it.
                for await _ in seen { break }
                try await events.send(ServerSentEvent(id: "2", name: "done", data: "all"))
            }
        }) { playground in
            let answer = try await playground.send(
                .get, "/api/parsing/tasks/1/progress-stream", token: playground.token())
            #expect(answer.headers["content-type"]?.hasPrefix("text/event-stream") == true)
            var text = ""
            for try await piece in answer.body {
                text += String(decoding: piece, as: UTF8.self)
                if text.contains("half") { sawFirst.finish() }
            }
            #expect(text.contains("id: 1") && text.contains("id: 2"))
        }
    }

    @Test func `a large answer of JSON is packed for who takes it`() async throws {
        let large: JSONValue = ["text": .string(String(repeating: "a", count: 200_000))]
        try await withGateways(answering: { _ in .json(large) }) { playground in
            let token = playground.token()
            let packed = try await playground.send(
                .get, "/api/parsing/tasks", token: token, headers: ["Accept-Encoding": "gzip"])
            #expect(packed.headers["content-encoding"] == "gzip")
            #expect(try await packed.body.collect(upTo: 1 << 20).count < 10_000)
            let plain = try await playground.send(.get, "/api/parsing/tasks", token: token)
            #expect(plain.headers["content-encoding"] == nil)
            #expect(try await plain.json() == large)
        }
    }

    @Test func `an answer that breaks off is seen to break off`() async throws {
        struct Dead: Error {}
        try await withGateways(answering: { _ in
            .stream(type: "application/x-ndjson") { writer in
                try await writer.write("{\"n\":1}\n")
                throw Dead()
            }
        }) { playground in
            let answer = try await playground.send(
                .get, "/api/parsing/results/1/export", token: playground.token())
            await #expect(throws: ClientError.self) { _ = try await answer.body.collect(upTo: 1 << 20) }
            // And the next one has a connection that works.
            #expect(try await playground.send(.get, "/api/health").status == 503)
        }
    }

    @Test func `a client that leaves ends the service's work`() async throws {
        let ended = Mutex(false)
        try await withGateways(answering: { _ in
            .stream(type: "application/x-ndjson") { writer in
                defer { ended.withLock { $0 = true } }
                while true { try await writer.write(Bytes(repeating: 10, count: 8 << 10)) }
            }
        }) { playground in
            do {
                let answer = try await playground.send(
                    .get, "/api/parsing/results/1/export", token: playground.token())
                for try await _ in answer.body { break }
            }
            try await eventually("the stream is given up") { ended.withLock { $0 } }
        }
    }

    @Test func `a service that is down is a clear problem, is left alone, and comes back by itself`()
        async throws
    {
        let port = try unusedPort()
        // The breaker's pauses pass twenty times as fast.
        let settings = ["INVITE_SERVICE_URL": "http://127.0.0.1:\(port)", "CONVOKE_TIME_SCALE": "20"]
        try await withGateways(settings: settings) { playground in
            let token = playground.token()
            func ask() async throws -> ClientResponse {
                try await playground.send(.get, "/api/invite/tasks", token: token)
            }
            for _ in 0..<8 {
                let answer = try await ask()
                #expect(answer.status == 503)
                #expect(answer.headers["retry-after"] != nil)
                #expect(try await answer.problemCode == "service_down")
            }
            #expect(
                try await playground.metrics().contains(
                    #"gateway_upstream_total{service="invite-service",outcome="open"}"#), "it is left alone")
            // The others are not concerned.
            #expect(try await playground.send(.get, "/api/parsing/tasks", token: token).status == 200)

            let back = HTTPServer(
                ServerSettings(port: port), Recorder { _ in .json(["back": true] as JSONValue) })
            try back.bind()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await back.run() }
                try await eventually("it is asked again") { try await ask().status == 200 }
                for _ in 0..<5 { #expect(try await ask().status == 200) }
                group.cancelAll()
            }
        }
    }

    @Test func `calls that may be repeated go to the replica that lives`() async throws {
        let alive = Recorder { _ in .json(["alive": true] as JSONValue) }
        let server = HTTPServer(ServerSettings(port: 0), alive)
        try server.bind()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            let dead = try unusedPort()
            try await withGateways(settings: [
                "INVITE_SERVICE_URL": "http://127.0.0.1:\(dead),http://127.0.0.1:\(server.port)"
            ]) { (playground: Playground) async throws in
                for _ in 0..<20 {
                    #expect(
                        try await playground.send(.get, "/api/invite/tasks", token: playground.token()).status
                            == 200)
                }
            }
            group.cancelAll()
        }
        #expect(alive.requests.count == 20)
    }

    @Test func `what concerns an account meets the same replica`() async throws {
        let first = Recorder { _ in Response(200) }
        let second = Recorder { _ in Response(200) }
        let servers = [first, second].map { HTTPServer(ServerSettings(port: 0), $0) }
        for server in servers { try server.bind() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for server in servers { group.addTask { try await server.run() } }
            let addresses = servers.map { "http://127.0.0.1:\($0.port)" }.joined(separator: ",")
            try await withGateways(2, settings: ["INTEGRATION_SERVICE_URL": addresses]) {
                (playground: Playground) async throws in
                for number in 0..<40 {
                    let path = "/api/integrations/telegram/accounts/account-\(number % 10)/check-admin"
                    #expect(
                        try await playground.send(.post, path, token: playground.token(), replica: number % 2)
                            .status == 200)
                }
            }
            group.cancelAll()
        }
        let (one, other) = (Set(first.paths), Set(second.paths))
        #expect(one.isDisjoint(with: other) && one.count + other.count == 10)
        #expect(!one.isEmpty && !other.isEmpty, "both have a share")
    }
}

/// A port that was free a moment ago; nobody listens there.
func unusedPort() throws -> Int {
    let server = HTTPServer(ServerSettings(port: 0), Router())
    try server.bind()
    return server.port
}
