import Core
import Glibc
import HTTP
import HTTPClient
import Synchronization
import Testing

/// How far an exchange has come when nobody wants it any more.
enum Phase: CaseIterable {
    case beforeTheCall, waitingForItsTurn, connecting, sending, waitingForTheProducer, waitingForTheHead
    case readingTheHead, readingTheBody, pausedBody
}

/// A server that gets stuck at a phase, told by the path.
let stuck: ScriptedServer.Script = { connection in
    let head = try connection.readHead()
    if head.line.contains("readingTheHead") { try connection.write("HTTP/1.1 200 OK\r\nA: b\r\n") }
    if head.line.contains("Body") {
        try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nfirst")
    }
    if head.line.contains("pausedBody") {
        while true { try connection.write(Bytes(repeating: 1, count: 100_000)) }
    }
    if head.line.contains("sending") { pause(.milliseconds(300)) }
    try connection.stall()
}

/// Runs a request up to `phase`, then cancels its task. Returns what it got.
func cancel(at phase: Phase, _ server: ScriptedServer, _ client: HTTPClient) async throws -> Kind? {
    let accepted = server.accepted
    let produced = Mutex(false)
    let hasFirst = Mutex(false)
    var request = ask(.put, server.url + "/\(phase)")
    switch phase {
    case .connecting: request.url = request.url.replacing("http:", with: "https:")
    case .sending: request.body = Body(Bytes(repeating: 1, count: 16 << 20))
    case .waitingForTheProducer:
        request.body = Body(pull: {
            produced.withLock { $0 = true }
            try await forever()
            return nil
        })
    default: break
    }
    let task = Task { [request] () -> Kind? in
        if phase == .beforeTheCall { while !Task.isCancelled { await Task.yield() } }
        do {
            let answer = try await client.send(request)
            var body = answer.body.makeAsyncIterator()
            while true {
                _ = try await body.next()
                hasFirst.withLock { $0 = true }
                if phase == .pausedBody { try await forever() }
            }
        } catch {
            return Kind(error)
        }
    }
    switch phase {
    case .beforeTheCall: break
    case .waitingForItsTurn: for _ in 0..<100 { await Task.yield() }
    case .connecting, .sending, .waitingForTheHead, .readingTheHead:
        try await eventually("it has arrived") { server.accepted > accepted }
    case .waitingForTheProducer: try await eventually("the producer was asked") { produced.withLock { $0 } }
    case .readingTheBody, .pausedBody: try await eventually("the body has begun") { hasFirst.withLock { $0 } }
    }
    task.cancel()
    return await task.value
}

@Suite(.overEveryCarrier) struct `A cancelled task` {
    @Test(arguments: Phase.allCases)
    func `ends its exchange at every phase, and gives its place back`(phase: Phase) async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        try await withServer(stuck, settings: settings) { server, client in
            // Whoever waits for a turn needs somebody who has it.
            let holder =
                phase == .waitingForItsTurn
                ? Task { try await client.send(ask(.get, server.url)) } : nil
            if holder != nil { try await eventually("the place is taken") { server.openCount == 1 } }
            for _ in 0..<5 { #expect(try await cancel(at: phase, server, client) == .cancelled) }
            holder?.cancel()
            try await eventually("all connections are closed") { server.openCount == 0 }
            // The place is free again, or this would wait for its turn.
            #expect(try await client.send(ask(.get, server.url + "/Body")).status == 200)
        }
    }

    @Test func `cancelled at any moment, gets an answer or an error and never hangs`() async throws {
        try await withServer({ connection in
            while true {
                _ = try connection.readHead()
                try connection.answer("hello")
            }
        }) { server, client in
            let random = SeededRandom(seed: 7)
            await withTaskGroup(of: Void.self) { group in
                for _ in 0..<400 {
                    let yields = random.int(in: 0...60)
                    group.addTask {
                        let task = Task { await kind(client, ask(.get, server.url)) }
                        for _ in 0..<yields { await Task.yield() }
                        task.cancel()
                        let told = await task.value
                        #expect(told == nil || told == .cancelled)
                    }
                }
            }
            #expect(await kind(client, ask(.get, server.url)) == nil)
        }
    }
}

@Suite(.overEveryCarrier) struct `A body that is dropped` {
    @Test func `unread ends the exchange`() async throws {
        try await withServer(stuck) { server, client in
            _ = try await client.send(ask(.get, server.url + "/readingTheBody"))
            _ = try await client.send(ask(.get, server.url + "/pausedBody"))
            try await eventually("the connections are closed") { server.openCount == 0 }
        }
    }

    @Test func `half read ends the exchange`() async throws {
        try await withServer(stuck) { server, client in
            for try await _ in try await client.send(ask(.get, server.url + "/pausedBody")).body {
                break
            }
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    @Test func `after it has come whole leaves the connection for the next`() async throws {
        try await withServer({ connection in
            while true { _ = try connection.readHead(); try connection.answer("small") }
        }) {
            server, client in
            for _ in 0..<20 { _ = try await client.send(ask(.get, server.url)) }
            #expect(server.accepted == 1)
        }
    }
}

@Suite(.overEveryCarrier) struct `Shutting down` {
    @Test func `ends what is under way and refuses what comes`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        try await withServer(stuck, settings: settings) { server, client in
            async let running = kind(client, ask(.get, server.url))
            try await eventually("it has arrived") { server.requests == 1 }
            let waiting = Task { await kind(client, ask(.get, server.url)) }
            for _ in 0..<100 { await Task.yield() }
            await client.shutdown()
            #expect(await running == .inDoubt)
            #expect(await waiting.value == .notSent)
            #expect(await kind(client, ask(.get, server.url)) == .notSent)
            try await eventually("the connection is closed") { server.openCount == 0 }
            await client.shutdown()
        }
    }

    @Test func `lets what is under way finish within the grace`() async throws {
        let mayAnswer = Gate()
        try await withServer({ connection in
            _ = try connection.readHead()
            try mayAnswer.wait()
            try connection.answer("done")
        }) { server, client in
            async let answer = text(client, ask(.get, server.url))
            try await eventually("it is under way") { server.openCount == 1 }
            async let end: Void = client.shutdown(grace: .seconds(20))
            mayAnswer.open()
            #expect(try await answer == "done")
            await end
        }
    }
}
