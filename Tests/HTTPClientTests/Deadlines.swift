import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

/// Long enough for a busy machine to connect and send.
private let short = Duration.milliseconds(500)

@Suite struct `A deadline` {
    private func elapsed(_ work: () async throws -> Void) async rethrows -> Duration {
        let time = SystemTime()
        let start = time.uptime
        try await work()
        return time.uptime - start
    }

    @Test(arguments: ["", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 100 Continue\r\n\r\n"])
    func `ends the wait for the head`(sent: String) async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write(sent)
            try connection.stall()
        }) { server, client in
            let took = await elapsed {
                let told = await kind(client, ClientRequest(.get, server.url, deadline: short))
                #expect(told == .timedOutInDoubt)
            }
            #expect(took >= short)
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    @Test func `ends an upload that the other side does not take`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead(); Gate().wait()
        }) { server, client in
            let body = Body(Bytes(repeating: 1, count: 16 << 20))
            let told = await kind(client, ClientRequest(.put, server.url, body: body, deadline: short))
            #expect(told == .timedOutInDoubt)
        }
    }

    @Test func `ends a wait for a producer`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.stall()
        }) { server, client in
            let wasCancelled = Mutex(false)
            let body = Body(pull: {
                do { try await forever() } catch { wasCancelled.withLock { $0 = true } }
                return nil
            })
            let told = await kind(client, ClientRequest(.put, server.url, body: body, deadline: short))
            #expect(told == .timedOutInDoubt)
            try await eventually("the producer is cancelled") { wasCancelled.withLock { $0 } }
        }
    }

    @Test func `of a connection that is not made says that nothing was sent`() async throws {
        // TLS that never answers is a connection that is not made, without a packet filter.
        try await withServer({ connection in try connection.stall() }) { server, client in
            let url = server.url.replacing("http:", with: "https:")
            let told = await kind(client, ClientRequest(.post, url, deadline: short))
            #expect(told == .timedOutUnsent)
        }
        var settings = HTTPClient.Settings()
        settings.connectTimeout = short
        try await withServer({ connection in try connection.stall() }, settings: settings) { server, client in
            let url = server.url.replacing("http:", with: "https:")
            #expect(await kind(client, ClientRequest(.post, url)) == .timedOutUnsent)
        }
    }

    @Test func `ends the wait for a turn, and nothing was sent`() async throws {
        var settings = HTTPClient.Settings()
        settings.limits.perHost = 1
        try await withServer(
            { connection in
                _ = try connection.readHead()
                try connection.stall()
            }, settings: settings
        ) { server, client in
            async let first = client.send(ClientRequest(.get, server.url))
            try await eventually("the first is there") { server.accepted == 1 }
            #expect(await kind(client, ClientRequest(.get, server.url, deadline: short)) == .timedOutUnsent)
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
            let answer = try await client.send(ClientRequest(.get, server.url, idle: short))
            var body = answer.body.makeAsyncIterator()
            #expect(try await body.next() == Bytes("half".utf8))
            await #expect(throws: ClientError.timedOut(mayHaveArrived: true)) { try await body.next() }
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    /// The whole takes many times the limit, and no pause does.
    @Test func `for pauses does not end a body that goes on`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n")
            for _ in 0..<20 {
                Gate().wait(milliseconds: 50)
                try connection.write("x")
            }
            try connection.stall()
        }) { server, client in
            let request = ClientRequest(.get, server.url, deadline: short, idle: short)
            let answer = try await text(client, request)
            #expect(answer.count == 20)
        }
    }

    @Test func `for pauses does not end a body because its reader is slow`() async throws {
        let size = 8 << 20
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            try connection.write(Bytes(repeating: 7, count: size))
            try connection.stall()
        }) { server, client in
            let answer = try await client.send(ClientRequest(.get, server.url, idle: short))
            try await SystemTime().sleep(for: short * 3)  // the slow reader itself: there is nothing to wait for
            var read = 0
            for try await chunk in answer.body { read += chunk.count }
            #expect(read == size)
        }
    }
}
