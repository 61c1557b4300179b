import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

private let megabyte = 1 << 20

@Suite(.overEveryCarrier) struct `A streamed answer` {
    @Test func `is handed out while it comes`() async throws {
        let mayGoOn = Gate()
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            try mayGoOn.wait()
            try connection.write("6\r\nsecond\r\n0\r\n\r\n")
            try connection.stall()
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url))
            #expect(answer.body.length == nil)
            var body = answer.body.makeAsyncIterator()
            #expect(try await body.next() == Bytes("first".utf8))
            mayGoOn.open()
            #expect(try await body.next() == Bytes("second".utf8))
            #expect(try await body.next() == nil)
            #expect(try await body.next() == nil)
        }
    }

    /// The server counts what it can write; the pause is on our side alone, so what fits is our buffer and
    /// the sockets' own.
    @Test func `stops the other side while nobody reads`() async throws {
        let written = Mutex(0)
        let block = Bytes(repeating: 7, count: 64 << 10)
        let most = mostUnread()
        let size = (most + 16 * megabyte) / block.count * block.count
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            for _ in 0..<(size / block.count) {
                try connection.write(block)
                written.withLock { $0 += block.count }
            }
            try connection.stall()
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url))
            try await standsStill { written.withLock { $0 } }
            #expect(written.withLock { $0 } <= most)
            // And it goes on to the end once somebody does.
            var read = 0
            for try await chunk in answer.body { read += chunk.count }
            #expect(read == size)
        }
    }

    @Test func `does not hold up the others on the same thread`() async throws {
        try await withServer({ connection in
            let head = try connection.readHead()
            guard head.line.contains("/endless") else { return try connection.answer("quick") }
            try connection.write("HTTP/1.1 200 OK\r\n\r\n")
            while true { try connection.write(Bytes(repeating: 7, count: 64 << 10)) }
        }) { server, client in
            let endless = try await client.send(ask(.get, server.url + "/endless"))
            for _ in 0..<20 { #expect(await kind(client, ask(.get, server.url)) == nil) }
            #expect(endless.status == 200)
        }
    }
}

@Suite(.overEveryCarrier) struct `A streamed request` {
    /// Tells how many bytes came, and their sum.
    private static let counting: ScriptedServer.Script = { connection in
        while true {
            let head = try connection.readHead()
            let body = try connection.readBody(head)
            let framing = head.value("Transfer-Encoding") ?? head.value("Content-Length") ?? "none"
            try connection.answer("\(framing) \(body.count) \(body.reduce(0) { $0 &+ Int($1) })")
        }
    }

    @Test(arguments: [nil, 60_000])
    func `goes out as the producer makes it`(length: Int?) async throws {
        try await withServer(Self.counting) { server, client in
            let made = Mutex(0)
            let body = Body(length: length) {
                // Comes back later every time, on whatever thread: a producer that is slower than the line.
                for _ in 0..<20 { await Task.yield() }
                return made.withLock { made in
                    guard made < 60 else { return nil }
                    made += 1
                    return Bytes(repeating: 1, count: 1000)
                }
            }
            let answer = try await text(client, ask(.post, server.url, body: body))
            #expect(answer == "\(length.map(String.init) ?? "chunked") 60000 60000")
            #expect(server.accepted == 1)
        }
    }

    @Test func `without a chunk is an empty body`() async throws {
        try await withServer(Self.counting) { server, client in
            let answer = try await text(client, ask(.post, server.url, body: Body(pull: { nil })))
            #expect(answer == "chunked 0 0")
        }
    }

    @Test func `stops the producer while the other side does not read`() async throws {
        let mayRead = Gate()
        let made = Mutex(0)
        let block = Bytes(repeating: 1, count: 64 << 10)
        let most = mostUnread()
        let size = (most + 16 * megabyte) / block.count * block.count
        try await withServer({ connection in
            let head = try connection.readHead()
            try mayRead.wait()
            try connection.answer("\(try connection.readBody(head).count)")
        }) { server, client in
            let body = Body(length: size) {
                made.withLock { made in
                    guard made < size else { return nil }
                    made += block.count
                    return block
                }
            }
            async let answer = text(client, ask(.put, server.url, body: body))
            try await eventually("the producer was asked") { made.withLock { $0 } > 0 }
            try await standsStill { made.withLock { $0 } }
            #expect(made.withLock { $0 } <= most)
            mayRead.open()
            #expect(try await answer == "\(size)")
        }
    }

    private struct Broken: Error, Equatable {}

    @Test func `ends with the producer's error`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.stall()
        }) { server, client in
            let body = Body(pull: { throw Broken() })
            await #expect(throws: Broken.self) {
                try await client.send(ask(.post, server.url, body: body))
            }
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    @Test(arguments: [999, 1001])
    func `of another length than it said is not finished`(said: Int) async throws {
        let whole = Mutex(false)
        try await withServer({ connection in
            let head = try connection.readHead()
            _ = try connection.readBody(head)
            whole.withLock { $0 = true }
            try connection.answer("thanks")
        }) { server, client in
            let chunks = Mutex([Bytes(repeating: 1, count: 500), Bytes(repeating: 1, count: 500)])
            let body = Body(length: said) { chunks.withLock { $0.popLast() } }
            #expect(await kind(client, ask(.put, server.url, body: body)) == .inDoubt)
            #expect(!whole.withLock { $0 })
        }
    }

    @Test(arguments: [true, false])
    func `that is refused early gets the refusal`(isPaused: Bool) async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            _ = try connection.read()
            try connection.answer("too much", status: "413 Content Too Large", extra: "Connection: close\r\n")
            while true { _ = try connection.read() }
        }) { server, client in
            let isFirst = Mutex(true)
            let body = Body(pull: {
                if isFirst.withLock({ first in
                    defer { first = false }; return first
                }) {
                    return Bytes(repeating: 1, count: 100)
                }
                if isPaused { try await forever() }
                return Bytes(repeating: 1, count: 64 << 10)
            })
            let answer = try await client.send(ask(.post, server.url, body: body))
            #expect(answer.status == 413)
            #expect(try await answer.body.collect(upTo: 100) == Bytes("too much".utf8))
            try await eventually("the connection is closed") { server.openCount == 0 }
        }
    }

    @Test func `that was not taken whole is not what the next request is written behind`() async throws {
        try await withServer({ connection in
            guard try connection.readHead().line.hasPrefix("POST") else {
                return try connection.answer("fine")
            }
            try connection.answer("too much", status: "413 Content Too Large")
            // Whoever goes on here with another request is heard in the middle of the body.
            while !String(decoding: try connection.read(), as: UTF8.self).contains("GET ") {}
            try connection.answer("mixed up")
        }) { server, client in
            let isFirst = Mutex(true)
            let body = Body(pull: {
                let isFirst = isFirst.withLock { first in
                    defer { first = false }
                    return first
                }
                if !isFirst { try await forever() }
                return Bytes(repeating: 1, count: 100)
            })
            let refusal = try await client.send(ask(.post, server.url, body: body))
            #expect(refusal.status == 413)
            #expect(try await refusal.body.collect(upTo: 100) == Bytes("too much".utf8))
            let next = try await client.send(ask(.get, server.url))
            #expect(try await next.body.collect(upTo: 100) == Bytes("fine".utf8))
            #expect(server.accepted == 2)
        }
    }

    @Test func `may go on while the answer is read`() async throws {
        try await withServer({ connection in
            let head = try connection.readHead()
            #expect(head.value("Transfer-Encoding") == "chunked")
            try connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            // An echo: each chunk is answered before the next is made.
            while true {
                let bytes = try connection.read()
                let text = String(decoding: bytes, as: UTF8.self)
                try connection.write("\(String(bytes.count, radix: 16))\r\n\(text)\r\n")
                if text.hasSuffix("0\r\n\r\n") { return try connection.write("0\r\n\r\n") }
            }
        }) { server, client in
            let (words, feed) = AsyncStream.makeStream(of: Bytes.self)
            let source = Mutex(words.makeAsyncIterator())
            let body = Body(pull: {
                var iterator = source.withLock { $0 }
                return await iterator.next()
            })
            feed.yield(Bytes("one".utf8))
            let answer = try await client.send(ask(.post, server.url, body: body))
            var echo = answer.body.makeAsyncIterator()
            var heard = ""
            for word in ["one", "two", "three"] {
                if word != "one" { feed.yield(Bytes(word.utf8)) }
                while !heard.contains(word), let chunk = try await echo.next() {
                    heard += String(decoding: chunk, as: UTF8.self)
                }
            }
            feed.finish()
            while let chunk = try await echo.next() { heard += String(decoding: chunk, as: UTF8.self) }
            #expect(heard == "3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
        }
    }
}
