import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

/// For what cannot come to pass, however long one waits.
private let short = Duration.milliseconds(100)

@Suite(.overEveryCarrier) struct `A deadline` {
    private func elapsed(_ work: () async throws -> Void) async rethrows -> Duration {
        let time = SystemTime()
        let start = time.uptime
        try await work()
        return time.uptime - start
    }

    /// Lets requests run into their deadlines, until one has come so far that it may have arrived.
    private func expectTimedOutInDoubt(
        _ client: HTTPClient, _ request: (Duration) -> ClientRequest
    ) async throws {
        try await holdsWithSomeLimit("it is timed out in doubt") { limit in
            var told: Kind?
            let took = await elapsed { told = await kind(client, request(limit)) }
            #expect(told == .timedOutInDoubt || told == .timedOutUnsent)
            #expect(took >= limit)
            return told == .timedOutInDoubt
        }
    }

    @Test(arguments: ["", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 100 Continue\r\n\r\n"])
    func `ends the wait for the head`(sent: String) async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write(sent)
            try connection.stall()
        }) { server, client in
            try await expectTimedOutInDoubt(client) { ask(.get, server.url, deadline: $0) }
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    @Test func `ends an upload that the other side does not take`() async throws {
        let isOver = Gate()
        defer { for _ in 0..<4 { isOver.open() } }
        try await withServer({ connection in
            _ = try connection.readHead()
            try isOver.wait()
        }) { server, client in
            let body = Body(Bytes(repeating: 1, count: 16 << 20))
            try await expectTimedOutInDoubt(client) {
                ask(.put, server.url, body: body, deadline: $0)
            }
        }
    }

    @Test func `ends a wait for a producer`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.stall()
        }) { server, client in
            let wasCancelled = Mutex(false)
            try await expectTimedOutInDoubt(client) { limit in
                let body = Body(pull: {
                    do { try await forever() } catch { wasCancelled.withLock { $0 = true } }
                    return nil
                })
                return ask(.put, server.url, body: body, deadline: limit)
            }
            try await eventually("the producer is cancelled") { wasCancelled.withLock { $0 } }
        }
    }

    @Test func `of a connection that is not made says that nothing was sent`() async throws {
        // TLS that never answers is a connection that is not made, without a packet filter.
        try await withServer({ connection in try connection.stall() }) { server, client in
            let url = server.url.replacing("http:", with: "https:")
            let told = await kind(client, ask(.post, url, deadline: short))
            #expect(told == .timedOutUnsent)
        }
        var settings = HTTPClient.Settings()
        settings.connectTimeout = short
        try await withServer({ connection in try connection.stall() }, settings: settings) { server, client in
            let url = server.url.replacing("http:", with: "https:")
            #expect(await kind(client, ask(.post, url)) == .timedOutUnsent)
        }
    }

    @Test func `ends the wait for a turn, and nothing was sent`() async throws {
        var settings = HTTPClient.Settings.patient
        settings.limits.perHost = 1
        try await withServer(
            { connection in
                _ = try connection.readHead()
                try connection.stall()
            }, settings: settings
        ) { server, client in
            async let first = client.send(ask(.get, server.url))
            try await eventually("the first is there") { server.accepted == 1 }
            #expect(await kind(client, ask(.get, server.url, deadline: short)) == .timedOutUnsent)
            #expect(server.accepted == 1)
            await client.shutdown()
            _ = try? await first
        }
    }

    @Test func `ends a body that has come to a stop`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            try connection.stall()
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url, idle: short))
            var body = answer.body.makeAsyncIterator()
            #expect(try await body.next() == Bytes("half".utf8))
            await #expect(throws: ClientError.timedOut(mayHaveArrived: true)) { try await body.next() }
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    /// The whole takes many times the limit, and no pause does.
    @Test func `for pauses does not end a body that goes on`() async throws {
        try await holdsWithSomeLimit("the body comes whole") { limit in
            var isWhole = false
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
                for _ in 0..<20 {
                    pause(limit / 5)
                    try connection.write("x")
                }
                try connection.stall()
            }) { server, client in
                let request = ask(.get, server.url, deadline: limit, idle: limit)
                var result: Result<String, any Error> = .success("")
                let took = await elapsed { result = await outcome(client, request) }
                guard case .success(let text) = result else { return }
                #expect(text.utf8.count == 20)
                #expect(took >= limit * 2)
                isWhole = true
            }
            return isWhole
        }
    }

    @Test func `for pauses does not end a body because its reader is slow`() async throws {
        let size = 8 << 20
        try await holdsWithSomeLimit("the body comes whole") { limit in
            var read = 0
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                try connection.write(Bytes(repeating: 7, count: size))
                try connection.stall()
            }) { server, client in
                let answer = try await client.send(ask(.get, server.url, idle: limit))
                // The slow reader itself: there is nothing to wait for.
                try await SystemTime().sleep(for: limit * 2)
                do { for try await chunk in answer.body { read += chunk.count } } catch is ClientError {}
            }
            return read == size
        }
    }
}
