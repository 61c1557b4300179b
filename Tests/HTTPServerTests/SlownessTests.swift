import Core
import Foundation
import HTTP
import HTTPServer
import Synchronization
import Testing

/// Time is the test's: however slow the machine, nobody is late before the test lets time pass.
@Suite struct `A slow client` {
    static let routes = router { router in
        router.quick("GET", "/quick") { _ in .text("quick") }
        router.on("POST", "/count") { request in
            var count = 0
            for try await piece in request.body { count += piece.count }
            return .text("\(count)")
        }
    }

    /// Lets time pass until the server has closed what is open.
    private func passTime(_ time: ManualTime, _ server: HTTPServer) async throws {
        try await eventually("the connection is closed") {
            time.advance(by: .seconds(1))
            return server.connectionCount == 0
        }
    }

    @Test(arguments: [
        ("its head", "GET /quick HTTP/1.1\r\nHost: h\r\nX:"),
        ("a short body", "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabc"),
        ("a long body", "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nabc"),
        ("its chunks", "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
        (
            "a body nobody wants",
            "GET /quick HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nabc"
        ),
    ])
    func `that never ends what it sends is told so, and is gone`(what: String, text: String) async throws {
        let time = ManualTime(.epoch)
        try await serving(Self.routes, time: time) { server in
            let port = server.port
            let client = try await onThread { try Owned(port, text) }
            try await eventually("it is connected") { server.connectionCount == 1 }
            try await passTime(time, server)
            let answer = try await client.readToEnd()
            #expect(answer.hasPrefix("HTTP/1.1 408") && answer.contains("too_slow"), "\(what): \(answer)")
        }
    }

    @Test(arguments: ["", "GET /quick HTTP/1.1\r\nHost: h\r\n\r\n"])
    func `that has nothing to say is let go without a word`(text: String) async throws {
        let time = ManualTime(.epoch)
        try await serving(Self.routes, time: time) { server in
            let port = server.port
            let client = try await onThread {
                let client = try Owned(port, text)
                if !text.isEmpty { #expect(try client.raw.readAnswer().body == "quick") }
                return client
            }
            try await eventually("it is connected") { server.connectionCount == 1 }
            try await passTime(time, server)
            #expect(try await client.readToEnd() == "")
        }
    }

    /// Silence is what most servers look for.
    @Test func `is not saved by a byte now and then`() async throws {
        let time = ManualTime(.epoch)
        let texts = [
            "GET /quick HTTP/1.1\r\nHost: h\r\nX: ",
            "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\n",
        ]
        for text in texts {
            try await serving(Self.routes, time: time) { server in
                let port = server.port
                let client = try await onThread { try Owned(port, text) }
                try await eventually("it is connected") { server.connectionCount == 1 }
                try await eventually("it is cut off") {
                    _ = try await onThread { client.raw.trySend([0x78]) }
                    time.advance(by: .seconds(1))
                    return server.connectionCount == 0
                }
            }
        }
    }

    @Test func `that does send what it has to in time is served, however long it takes`() async throws {
        let time = ManualTime(.epoch)
        var limits = ServerSettings.Limits()
        limits.bytesPerStall = 1000
        let received = Tally()
        let routes = router { router in
            router.on("POST", "/count") { request in
                for try await piece in request.body { received.add(piece.count) }
                return .text("\(received.value)")
            }
        }
        try await serving(routes, limits: limits, time: time) { server in
            let port = server.port
            let client = try await onThread {
                try Owned(port, "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\n")
            }
            for round in 1...20 {
                try await onThread { try client.raw.send([UInt8](repeating: 1, count: 1000)) }
                try await eventually("it has come") { received.value == round * 1000 }
                // Five minutes in all, where thirty seconds of silence are too much.
                time.advance(by: .seconds(15))
            }
            #expect(try await client.readAnswer().body == "20000")
        }
    }

    @Test func `that does not read is cut off, and what it was to get is not piled up`() async throws {
        let time = ManualTime(.epoch)
        let written = Tally()
        let outcome = Mailbox<String>()
        let routes = router { router in
            router.on("GET", "/endless") { _ in
                .stream(type: "text/plain") { writer in
                    let piece = Bytes(repeating: 0x78, count: 64 << 10)
                    do {
                        while written.value < 1 << 30 {
                            try await writer.write(piece)
                            written.add(piece.count)
                        }
                        outcome.value = "finished"
                    } catch {
                        outcome.value = error is CancellationError ? "cancelled" : "\(error)"
                        throw error
                    }
                }
            }
            router.on("GET", "/large") { _ in
                Response(200, content: .bytes(Bytes(repeating: 1, count: 64 << 20)))
            }
        }
        try await serving(routes, time: time) { server in
            let port = server.port
            for path in ["/endless", "/large"] {
                let client = try await onThread {
                    let client = try Owned(
                        port, "GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n", receiveBuffer: 4096)
                    #expect(try client.raw.readHead().status == 200)
                    return client
                }
                try await passTime(time, server)
                try await onThread { client.raw.close() }
            }
            try await eventually("the handler has been told") { outcome.value != nil }
            #expect(outcome.value == "cancelled")
            // What the system keeps for two sockets, and what is kept here.
            #expect(written.value < 16 << 20)
        }
    }

    @Test func `is not what a file that became shorter looks like: its connection ends, too`() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "convoke-\(UUID())").path
        let size = 64 << 20
        #expect(FileManager.default.createFile(atPath: path, contents: nil) && truncate(path, size) == 0)
        defer { try? FileManager.default.removeItem(atPath: path) }
        let routes = router { router in
            router.on("GET", "/file") { _ in
                Response(200, content: .file(path: path, offset: 0, length: size))
            }
        }
        let time = ManualTime(.epoch)
        try await serving(routes, time: time) { server in
            let port = server.port
            let client = try await onThread {
                let client = try Owned(port, "GET /file HTTP/1.1\r\nHost: h\r\n\r\n", receiveBuffer: 4096)
                #expect(try client.raw.readHead().status == 200)
                #expect(truncate(path, 0) == 0)
                return client
            }
            async let rest = client.readToEnd()
            try await passTime(time, server)
            #expect(try await rest.utf8.count < size)
        }
    }

    @Test func `that waits for its answer may wait`() async throws {
        let time = ManualTime(.epoch)
        let gate = Gate()
        let begun = Tally()
        let routes = router { router in
            router.on("GET", "/slow") { _ in
                begun.add()
                await gate.pass()
                return .text("done")
            }
        }
        try await serving(routes, time: time) { server in
            let port = server.port
            let client = try await onThread { try Owned(port, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n") }
            try await eventually("it is being handled") { begun.value == 1 }
            let idle = try await onThread { try Owned(port, "") }
            try await eventually("both are connected") { server.connectionCount == 2 }
            try await eventually("the idle one alone is closed") {
                time.advance(by: .hours(1))
                return server.connectionCount == 1
            }
            #expect(try await idle.readToEnd() == "")
            gate.open()
            #expect(try await client.readAnswer().body == "done")
        }
    }
}
