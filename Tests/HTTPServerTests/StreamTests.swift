import Core
import HTTP
import HTTPServer
import Synchronization
import Testing

/// Bytes of which each tells where it stands, so that none can be lost, doubled or moved unnoticed.
private func pattern(_ start: Int, _ count: Int) -> Bytes {
    var result = Bytes()
    result.reserveCapacity(count)
    while result.count < count {
        let offset = (start + result.count) % 251
        result += repeated[offset..<min(offset + count - result.count, repeated.count)]
    }
    return result
}
private let repeated: Bytes = (0..<(251 * 800)).map { UInt8($0 % 251) }

@Suite struct `A stream` {
    // MARK: - Back-pressure

    @Test func `from a client goes no faster than its handler reads, and arrives whole`() async throws {
        let gate = Gate()
        // Pieces that each begin as the first does.
        let piece = pattern(0, 251 << 12)
        let pieces = 64
        let count = piece.count * pieces
        let isRight = Mailbox<Bool>()
        var limits = ServerSettings.Limits()
        limits.bodyBytes = count
        let routes = router { router in
            router.on("POST", "/slow") { request in
                await gate.pass()
                var position = 0
                isRight.value = true
                for try await piece in request.body {
                    if piece != pattern(position, piece.count) { isRight.value = false }
                    position += piece.count
                }
                return .text("\(position)")
            }
        }
        try await serving(routes, limits: limits, time: ManualTime(.epoch)) { server in
            let port = server.port
            let client = try await onThread {
                try Owned(port, "POST /slow HTTP/1.1\r\nHost: h\r\nContent-Length: \(count)\r\n\r\n")
            }
            // What is taken without a reader is what fits into the system's buffers, and a little here.
            let taken = try await onThread {
                var taken = 0
                while taken < count {
                    let sent = client.raw.trySend(Array(piece[(taken % piece.count)...]), waitingAtMost: 300)
                    if sent == 0 { break }
                    taken += sent
                }
                return taken
            }
            #expect(taken < count)
            gate.open()
            try await onThread {
                var taken = taken
                while taken < count {
                    let rest = piece[(taken % piece.count)...]
                    try client.raw.send(Array(rest))
                    taken += rest.count
                }
            }
            #expect(try await client.readAnswer().body == "\(count)")
            #expect(isRight.value == true)
        }
    }

    @Test func `to a client goes no faster than it reads, and arrives whole`() async throws {
        let count = 32 << 20
        let written = Tally()
        let routes = router { router in
            router.on("GET", "/much") { _ in
                .stream(type: "application/octet-stream", length: count) { writer in
                    while written.value < count {
                        // Of uneven sizes, larger and smaller than what is kept.
                        let size = min(1 + written.value % 200_000, count - written.value)
                        try await writer.write(pattern(written.value, size))
                        written.add(size)
                    }
                }
            }
        }
        try await serving(routes, time: ManualTime(.epoch)) { server in
            let port = server.port
            let client = try await onThread {
                let client = try Owned(port, "GET /much HTTP/1.1\r\nHost: h\r\n\r\n", receiveBuffer: 64 << 10)
                #expect(try client.raw.readHead().headers["content-length"] == "\(count)")
                return client
            }
            let isRight = try await onThread {
                var position = 0
                var isRight = true
                while position < count {
                    // Never more ahead of the reader than what is on its way.
                    isRight = isRight && written.value - position < 16 << 20
                    let piece = try client.raw.take()
                    guard !piece.isEmpty else { return false }
                    isRight = isRight && piece == pattern(position, piece.count)
                    position += piece.count
                }
                return isRight && position == count
            }
            #expect(isRight)
        }
    }

    @Test func `both ways at once echoes as it comes`() async throws {
        let routes = router { router in
            router.on("POST", "/echo") { request in
                .stream(type: "application/octet-stream") { writer in
                    for try await piece in request.body { try await writer.write(piece) }
                }
            }
        }
        try await serving(routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                // An answer begins after the body with libmicrohttpd, so the body is one that fits.
                let text = String(repeating: "0123456789", count: 1600)
                try client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 16000\r\n\r\n\(text)")
                #expect(try client.readAnswer().body == text)
            }
        }
    }

    @Test func `written by several tasks keeps each piece whole`() async throws {
        let routes = router { router in
            router.on("GET", "/several") { _ in
                .stream(type: "text/plain") { writer in
                    try await withThrowingTaskGroup(of: Void.self) { group in
                        for letter in ["a", "b", "c", "d"] {
                            group.addTask {
                                for _ in 0..<50 {
                                    try await writer.write(String(repeating: letter, count: 5000))
                                }
                            }
                        }
                        try await group.waitForAll()
                    }
                }
            }
        }
        try await serving(routes) { server in
            let port = server.port
            try await onThread {
                let body = Array(try RawClient(port: port).get("/several").body.utf8)
                #expect(body.count == 1_000_000)
                for start in stride(from: 0, to: body.count, by: 5000) {
                    #expect(Set(body[start..<min(start + 5000, body.count)]).count == 1)
                }
            }
        }
    }

    // MARK: - The client goes away

    enum Moment: String, CaseIterable { case waiting, reading, writing }

    /// Each handler waits for ever unless it is cancelled.
    @Test(arguments: Moment.allCases, [true, false])
    func `ends its handler when the client goes away`(moment: Moment, isReset: Bool) async throws {
        let begun = Tally()
        let cancelled = Tally()
        let time = ManualTime(.epoch)
        @Sendable func noting(_ work: @Sendable () async throws -> Void) async throws {
            begun.add()
            do {
                try await work()
            } catch {
                if error is CancellationError { cancelled.add() }
                throw error
            }
        }
        let routes = router { router in
            router.on("GET", "/waiting") { _ in
                try await noting { try await time.sleep(for: .hours(1)) }
                return .noContent
            }
            router.on("POST", "/reading") { request in
                try await noting { for try await _ in request.body {} }
                return .noContent
            }
            router.on("GET", "/writing") { _ in
                .stream(type: "text/plain") { writer in
                    try await noting { while true { try await writer.write("more and more and more") } }
                }
            }
        }
        let requests: [Moment: String] = [
            .waiting: "GET /waiting HTTP/1.1\r\nHost: h\r\n\r\n",
            .reading: "POST /reading HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc",
            .writing: "GET /writing HTTP/1.1\r\nHost: h\r\n\r\n",
        ]
        let request = try #require(requests[moment])
        try await serving(routes, time: time) { server in
            let port = server.port
            let client = try await onThread { try Owned(port, request) }
            try await eventually("the handler runs") { begun.value == 1 }
            if isReset { client.raw.reset() } else { client.raw.close() }
            try await eventually("the handler is cancelled") { cancelled.value == 1 }
            try await eventually("the connection is closed") { server.connectionCount == 0 }
        }
    }

    @Test func `of events that are rare ends when the client goes away, too`() async throws {
        let ended = Tally()
        let time = ManualTime(.epoch)
        let routes = router { router in
            router.on("GET", "/events") { _ in
                .stream(type: "text/event-stream") { writer in
                    defer { ended.add() }
                    try await writer.write("data: 1\n\n")
                    try await time.sleep(for: .days(1))
                }
            }
        }
        try await serving(routes, time: time) { server in
            let port = server.port
            let client = try await onThread {
                let client = try Owned(port, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
                _ = try client.raw.readHead()
                #expect(try client.raw.readChunk() == "data: 1\n\n")
                return client
            }
            // It may be silent for as long as it likes, as long as its client is there.
            time.advance(by: .hours(20))
            #expect(ended.value == 0)
            client.raw.close()
            try await eventually("it ended") { ended.value == 1 && server.connectionCount == 0 }
        }
    }
}

@Suite struct `A server that is to stop` {
    private func started(_ routes: Router, _ limits: ServerSettings.Limits = .init(), _ time: ManualTime)
        throws -> (
            HTTPServer, Task<Void, any Error>
        )
    {
        let server = HTTPServer(ServerSettings(port: 0, limits: limits), routes, time: time)
        try server.bind()
        return (server, Task { try await server.run() })
    }

    @Test func `finishes what it is doing, takes nothing new, and says goodbye`() async throws {
        let gate = Gate()
        let begun = Tally()
        let routes = router { router in
            router.on("GET", "/slow") { _ in
                begun.add()
                await gate.pass()
                return .text("done")
            }
            router.quick("GET", "/quick") { _ in .text("quick") }
        }
        let (server, running) = try started(routes, .init(), ManualTime(.epoch))
        let port = server.port
        let busy = try await onThread { try Owned(port, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n") }
        let idle = try await onThread {
            let client = try Owned(port, "GET /quick HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try client.raw.readAnswer()
            return client
        }
        try await eventually("one is busy") { begun.value == 1 }
        running.cancel()
        #expect(try await idle.readToEnd() == "")
        // The listening socket is closed by the time that idle connections are.
        await #expect(throws: RawClient.Broken.self) { try await onThread { _ = try RawClient(port: port) } }
        gate.open()
        let answer = try await busy.readAnswer()
        #expect(answer.body == "done")
        #expect(answer.headers["connection"] == "close")
        #expect(try await busy.readToEnd() == "")
        try await running.value
    }

    @Test func `ends streams of events properly: they would go on for ever`() async throws {
        let time = ManualTime(.epoch)
        let routes = router { router in
            router.on("GET", "/events") { _ in
                .stream(type: "text/event-stream") { writer in
                    try await writer.write("data: 1\n\n")
                    try await time.sleep(for: .days(1))
                }
            }
        }
        let (server, running) = try started(routes, .init(), time)
        let port = server.port
        let client = try await onThread {
            let client = try Owned(port, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try client.raw.readHead()
            #expect(try client.raw.readChunk() == "data: 1\n\n")
            return client
        }
        running.cancel()
        #expect(try await client.readToEnd() == "0\r\n\r\n")
        try await running.value
    }

    @Test func `does not wait for ever for a handler`() async throws {
        let time = ManualTime(.epoch)
        let begun = Tally()
        let cancelled = Tally()
        let routes = router { router in
            router.on("GET", "/stuck") { _ in
                begun.add()
                do {
                    try await time.sleep(for: .days(1))
                } catch {
                    cancelled.add()
                    throw error
                }
                return .noContent
            }
        }
        let (server, running) = try started(routes, .init(), time)
        let port = server.port
        let client = try await onThread { try Owned(port, "GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n") }
        try await eventually("it is stuck") { begun.value == 1 }
        running.cancel()
        try await eventually("it is given up") {
            time.advance(by: .seconds(1))
            return cancelled.value == 1
        }
        try await running.value
        #expect(try await client.readToEnd() == "")
    }
}
