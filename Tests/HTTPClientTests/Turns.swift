import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

@Suite(.overEveryCarrier) struct `The limit of a host` {
    @Test(arguments: [1, 3])
    func `is kept, however many ask at once`(loops: Int) async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 8
        settings.loops = loops
        let answering = Answering()
        let allAreThere = Gate()
        try await withServer(
            { connection in
                while true {
                    _ = try connection.readHead()
                    try answering.during { number in
                        // The first ones wait for each other, or nobody might ever be there at once.
                        if number <= 8 {
                            if number == 8 { for _ in 0..<8 { allAreThere.open() } }
                            try allAreThere.wait()
                        }
                        try connection.answer("ok")
                    }
                }
            }, settings: settings
        ) { server, client in
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<500 { group.addTask { try await text(client, ask(.get, server.url)) } }
                for try await answer in group { #expect(answer == "ok") }
            }
            #expect(answering.most == 8)
            #expect(server.accepted <= 8 * loops)
        }
    }

    @Test func `lets callers in in the order in which they came`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        let mayAnswer = Gate()
        let order = Mutex<[String]>([])
        let metrics = Metrics()
        let server = ScriptedServer { connection in
            while true {
                let head = try connection.readHead()
                order.withLock { $0.append(String(head.line.dropFirst(5).prefix { $0 != " " })) }
                if head.line.contains("/first ") { try mayAnswer.wait() }
                try connection.answer("ok")
            }
        }
        defer { server.stop() }
        let client = HTTPClient(settings, metrics: metrics)
        try await withThrowingTaskGroup(of: Kind?.self) { group in
            group.addTask { await kind(client, ask(.get, server.url + "/first")) }
            try await eventually("the first is there") { order.withLock { $0.count } == 1 }
            for number in 1...20 {
                group.addTask { await kind(client, ask(.get, server.url + "/\(number)")) }
                try await eventually("it waits") { metrics.text.contains("http_client_waiting \(number)\n") }
            }
            mayAnswer.open()
            for try await told in group { #expect(told == nil) }
        }
        #expect(order.withLock { $0 } == ["first"] + (1...20).map(String.init))
        await client.shutdown()
    }

    @Test func `refuses at once when too many wait`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        settings.limits.waiting = 0
        try await withServer(
            { connection in
                _ = try connection.readHead(); try connection.stall()
            }, settings: settings
        ) {
            server, client in
            let first = Task { await kind(client, ask(.get, server.url)) }
            try await eventually("the first is there") { server.accepted == 1 }
            #expect(await kind(client, ask(.get, server.url)) == .notSent)
            first.cancel()
            #expect(await first.value == .cancelled)
        }
    }

    @Test func `does not hold up another host`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        let other = ScriptedServer { connection in
            _ = try connection.readHead(); try connection.answer("ok")
        }
        defer { other.stop() }
        try await withServer(
            { connection in
                _ = try connection.readHead(); try connection.stall()
            }, settings: settings
        ) {
            server, client in
            let first = Task { await kind(client, ask(.get, server.url)) }
            try await eventually("the first is there") { server.accepted == 1 }
            #expect(await kind(client, ask(.get, other.url)) == nil)
            first.cancel()
            _ = await first.value
        }
    }
}

/// Counts how many threads are within something at the same time.
private final class Answering: Sendable {
    private let counts = Mutex((now: 0, most: 0, all: 0))
    var most: Int { counts.withLock { $0.most } }

    /// Tells `work` how many began before it, itself included.
    func during(_ work: (Int) throws -> Void) rethrows {
        let number = counts.withLock {
            $0 = ($0.now + 1, max($0.most, $0.now + 1), $0.all + 1)
            return $0.all
        }
        defer { counts.withLock { $0.now -= 1 } }
        try work(number)
    }
}

@Suite(.overEveryCarrier) struct `Kept connections` {
    @Test func `are as many as are allowed`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.idleConnections = 1
        let all = Gate()
        try await withServer(
            { connection in
                _ = try connection.readHead()
                try all.wait()
                try connection.answer("ok")
                try connection.stall()
            }, settings: settings
        ) { server, client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        let answer = try await client.send(ask(.get, server.url))
                        _ = try await answer.body.collect(upTo: 10)
                    }
                }
                try await eventually("each has a connection") { server.requests == 3 }
                for _ in 0..<3 { all.open() }
                try await group.waitForAll()
            }
            try await eventually("one is kept") { server.openCount == 1 }
        }
    }

    @Test func `are given up when the other side says something unasked, however late`() async throws {
        let mayTalk = Gate()
        let hasTalked = Atomic(false)
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.answer(connection.number == 1 ? "first" : "second")
            guard connection.number == 1 else { return }
            try mayTalk.wait()
            try connection.answer("poison")
            hasTalked.store(true, ordering: .sequentiallyConsistent)
            try connection.stall()
        }) { server, client in
            let first = try await client.send(ask(.get, server.url))
            #expect(try await first.body.collect(upTo: 10) == Bytes("first".utf8))
            mayTalk.open()
            try await eventually("it has said so") { hasTalked.load(ordering: .sequentiallyConsistent) }
            let second = try await client.send(ask(.get, server.url))
            #expect(try await second.body.collect(upTo: 10) == Bytes("second".utf8))
        }
    }

    @Test func `are used again behind the answer to a HEAD, whatever length it tells`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
            _ = try connection.readHead()
            try connection.answer("whole")
        }) { server, client in
            let head = try await client.send(ask(.head, server.url, idle: .seconds(30)))
            #expect(head.headers["Content-Length"] == "5")
            #expect(try await head.body.collect(upTo: 10).isEmpty)
            let next = try await client.send(ask(.get, server.url))
            #expect(try await next.body.collect(upTo: 10) == Bytes("whole".utf8))
            #expect(server.accepted == 1)
        }
    }

    @Test func `are closed when nobody has used them for a while`() async throws {
        var settings = HTTPClient.Settings()
        settings.keepAlive = .milliseconds(50)
        try await withServer(
            { connection in
                while true {
                    _ = try connection.readHead()
                    try connection.answer("ok")
                }
            }, settings: settings
        ) { server, client in
            _ = try await client.send(ask(.get, server.url))
            try await eventually("it is closed") { server.openCount == 0 }
            _ = try await client.send(ask(.get, server.url))
            #expect(server.accepted == 2)
        }
    }

    @Test func `that the server asks to close are not used again`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.answer("ok", extra: "Connection: close\r\n")
            try connection.stall()
        }) { server, client in
            for _ in 0..<3 { _ = try await client.send(ask(.post, server.url)) }
            #expect(server.accepted == 3)
        }
    }

    /// Such an answer is read in the same turn that connects and sends.
    @Test func `are kept also when the answer was there before the request`() async throws {
        for _ in 0..<30 {
            try await withServer({ connection in
                try connection.answer("ok")
                _ = try connection.readHead()
                while true {
                    _ = try connection.readHead()
                    try connection.answer("ok")
                }
            }) { server, client in
                for _ in 0..<3 { #expect(await kind(client, ask(.get, server.url)) == nil) }
                #expect(server.accepted == 1)
            }
        }
    }

    @Test func `that the server has closed do not fail a POST`() async throws {
        let metrics = Metrics()
        try await withServer(
            { connection in
                _ = try connection.readHead()
                try connection.answer("ok")
            }, metrics: metrics
        ) { server, client in
            for _ in 0..<5 {
                #expect(await kind(client, ask(.post, server.url, body: Body([1]))) == nil)
                // Before the client has seen it, no client can tell.
                try await eventually("it is seen to be closed") {
                    metrics.text.contains("http_client_connections 0\n")
                }
            }
        }
    }
}

@Suite(.overEveryCarrier) struct `The figures of a client` {
    @Test func `tell what became of the requests`() async throws {
        let metrics = Metrics()
        let server = ScriptedServer { connection in
            while true {
                let head = try connection.readHead()
                if head.line.contains("/break") { return }
                if head.line.contains("/bad") { return try connection.write("nonsense\r\n") }
                if head.line.contains("/stall") { try connection.stall() }
                try connection.answer("ok", status: head.line.contains("/404") ? "404 Not Found" : "200 OK")
            }
        }
        defer { server.stop() }
        let client = HTTPClient(metrics: metrics)
        for path in ["/", "/", "/404", "/break", "/bad", "/\n"] {
            _ = await outcome(client, ask(.post, server.url + path))
        }
        _ = await outcome(client, ask(.get, server.url + "/stall", deadline: .milliseconds(50)))
        let cancelled = Task { await kind(client, ask(.get, server.url + "/stall")) }
        try await eventually("it is under way") { metrics.text.contains("http_client_in_flight 1\n") }
        cancelled.cancel()
        _ = await cancelled.value
        await client.shutdown()
        for (outcome, count) in [
            ("2xx", 2), ("4xx", 1), ("in_doubt", 1), ("bad_answer", 1), ("timed_out", 1), ("cancelled", 1),
            ("not_sent", 1),
        ] {
            #expect(metrics.text.contains("http_client_requests_total{outcome=\"\(outcome)\"} \(count)\n"))
        }
        for line in ["in_flight 0", "waiting 0", "connections 0", "duration_seconds_count 7"] {
            #expect(metrics.text.contains("http_client_\(line)\n"))
        }
    }

    /// libcurl closes it by itself and tells nobody.
    @Test func `count no connection that was given up while it was made`() async throws {
        // A server that accepts nobody, and whose queue is full.
        let deaf = DeafServer()
        let metrics = Metrics()
        let client = HTTPClient(metrics: metrics)
        for _ in 0..<3 {
            let request = ask(.get, deaf.url, deadline: .milliseconds(100))
            #expect(await kind(client, request) == .timedOutUnsent)
            try await eventually("it is not counted") { metrics.text.contains("http_client_connections 0\n") }
        }
        await client.shutdown()
        #expect(metrics.text.contains("http_client_connections 0\n"))
    }

    @Test func `count no connection that was refused`() async throws {
        let away = ScriptedServer { _ in }
        away.stop()
        let metrics = Metrics()
        let client = HTTPClient(metrics: metrics)
        #expect(await kind(client, ask(.get, away.url)) == .notSent)
        await client.shutdown()
        #expect(metrics.text.contains("http_client_connections 0\n"))
    }
}
