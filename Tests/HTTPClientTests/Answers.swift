import Core
import HTTP
import HTTPClient
import Synchronization
import Testing

/// Whether an error is of a kind, whatever words it carries.
enum Kind: Equatable {
    case notSent, inDoubt, timedOutUnsent, timedOutInDoubt, invalidURL, invalidRequest, badAnswer, cancelled,
        other

    init(_ error: (any Error)?) {
        self =
            switch error {
            case is CancellationError: .cancelled
            case let error as ClientError:
                switch error {
                case .notSent: .notSent
                case .inDoubt: .inDoubt
                case .timedOut(let mayHaveArrived): mayHaveArrived ? .timedOutInDoubt : .timedOutUnsent
                case .invalidURL: .invalidURL
                case .invalidRequest: .invalidRequest
                case .badAnswer: .badAnswer
                }
            default: .other
            }
    }
}

/// What becomes of a request, its body read to the end.
func outcome(_ sender: some HTTPSending, _ request: ClientRequest) async -> Result<String, any Error> {
    do {
        let answer = try await sender.send(request)
        return .success(String(decoding: try await answer.body.collect(upTo: 1 << 20), as: UTF8.self))
    } catch {
        return .failure(error)
    }
}

/// The whole body of the answer, as text.
func text(_ sender: some HTTPSending, _ request: ClientRequest) async throws -> String {
    try await outcome(sender, request).get()
}

func kind(_ sender: some HTTPSending, _ request: ClientRequest) async -> Kind? {
    switch await outcome(sender, request) {
    case .success: nil
    case .failure(let error): Kind(error)
    }
}

@Suite(.overEveryCarrier) struct `An answer` {
    /// Sends `text` for any request and closes.
    private func reading(_ text: String) async throws -> Result<String, any Error> {
        var result: Result<String, any Error> = .success("")
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write(text)
        }) { server, client in
            result = await outcome(client, ask(.get, server.url))
        }
        return result
    }

    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: 1\r\n\r\n",
            "abcde"
        ),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nContent-Length: 2\n\nhi", "hi"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", ""),
    ])
    func `is understood in all its forms`(text: String, body: String) async throws {
        let read = try await reading(text).get()
        #expect(read == body)
    }

    @Test(arguments: [
        "SSH-2.0-OpenSSH\r\n", "HTTP/0.9 200 OK\r\n\r\n", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\nA : 1\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: 1\u{0}2\r\nContent-Length: 2\r\n\r\nhi", "HTTP/1.1 200 OK\r\nA: 1\r2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
    ])
    func `that is not HTTP as it should be is refused`(text: String) async throws {
        let result = try await reading(text)
        #expect(throws: ClientError.self) { try result.get() }
        if case .failure(let error) = result { #expect(Kind(error) == .badAnswer, "\(error)") }
    }

    @Test func `with a head without end is refused, whatever its form`() async throws {
        let forms: [@Sendable (Connection) throws -> Void] = [
            { connection in while true { try connection.write("X-Field: and another one\r\n") } },
            { connection in
                try connection.write("X: ")
                while true { try connection.write(String(repeating: "x", count: 1000)) }
            },
            { connection in while true { try connection.write("\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n") }
            },
        ]
        for form in forms {
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.write("HTTP/1.1 102 Processing\r\n")
                try form(connection)
            }) { server, client in
                let result = await outcome(client, ask(.get, server.url))
                if case .failure(let error) = result { #expect(Kind(error) == .badAnswer, "\(error)") }
                #expect(throws: ClientError.self) { try result.get() }
            }
        }
    }

    @Test func `whose trailers have no end is refused`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n")
            while true { try connection.write("X-Field: and another one\r\n") }
        }) { server, client in
            #expect(await kind(client, ask(.get, server.url)) == .badAnswer)
        }
    }

    @Test func `gives what came before it broke, and then says so`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url))
            #expect(answer.body.length == 10)
            var body = answer.body.makeAsyncIterator()
            var read = Bytes()
            do {
                while let chunk = try await body.next() { read += chunk }
                Issue.record("it ended as if it were whole")
            } catch {
                #expect(Kind(error) == .badAnswer)
            }
            #expect(read == Bytes("first".utf8))
        }
    }

    @Test func `in bits of one byte is read like any other`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            for byte in "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .utf8
            {
                try connection.write([byte])
            }
            try connection.stall()
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url))
            #expect(answer.headers["A"] == "b")
            #expect(try await answer.body.collect(upTo: 10) == Bytes("abc".utf8))
        }
    }

    @Test func `that comes unasked is never taken for the next request's`() async throws {
        for method: Method in [.get, .post] {
            let metrics = Metrics()
            try await withServer(
                { connection in
                    while true {
                        try connection.answer(connection.readHead().line)
                        try connection.answer("poison")
                    }
                }, metrics: metrics
            ) { server, client in
                for number in 1...5 {
                    let answer = try await text(client, ask(method, server.url + "/\(number)"))
                    #expect(answer == "\(method) /\(number) HTTP/1.1")
                    try await eventually("such a connection is ended") {
                        metrics.text.contains("http_client_connections 0\n")
                    }
                }
            }
        }
    }
}

@Suite(.overEveryCarrier) struct `An error says whether the request may have arrived:` {
    @Test func `not when nobody listens`() async throws {
        let server = ScriptedServer { _ in }
        server.stop()
        let client = HTTPClient(.patient)
        #expect(await kind(client, ask(.get, server.url)) == .notSent)
        #expect(await kind(client, ask(.get, "http://name.invalid/")) == .notSent)
        await client.shutdown()
    }

    @Test func `not when it is refused as it is`() async throws {
        try await withServer({ _ in Issue.record("something was sent") }) { server, client in
            #expect(await kind(client, ask(.get, server.url + "/a b")) == .invalidURL)
            #expect(await kind(client, ask(.get, "gopher://127.0.0.1/")) == .invalidURL)
            for (name, value) in [
                ("A", "1\r\nB: 2"), ("A", "1\n"), ("A", "\0"), ("A\r\nB", "1"), ("", "1"), ("A:", "1"),
            ] {
                let request = ask(.get, server.url, headers: [name: value])
                #expect(await kind(client, request) == .invalidRequest)
            }
            for method: Method in ["", "GET ", "GET\r\nX: y", "CONNECT"] {
                #expect(await kind(client, ask(method, server.url)) == .invalidRequest)
            }
            #expect(await kind(client, ask(.head, server.url, body: Body([1]))) == .invalidRequest)
        }
    }

    @Test func `not when TLS could not be agreed on`() async throws {
        try await withServer({ connection in
            _ = try connection.read()
            try connection.write("HTTP/1.1 400 Bad Request\r\n\r\n")
        }) { server, client in
            let url = server.url.replacing("http:", with: "https:")
            #expect(await kind(client, ask(.post, url)) == .notSent)
        }
    }

    @Test(arguments: [Method.get, .post], [false, true])
    func `maybe when the connection breaks after it`(method: Method, reset: Bool) async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            if reset { connection.reset() }
        }) { server, client in
            #expect(await kind(client, ask(method, server.url)) == .inDoubt)
            #expect(server.accepted == 1)
        }
    }

    @Test func `maybe when the answer breaks off within its head`() async throws {
        for text in ["HTTP/1.1 200 OK\r\nContent-Len", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTT"] {
            try await withServer({ connection in
                _ = try connection.readHead()
                try connection.write(text)
            }) { server, client in
                let told = await kind(client, ask(.get, server.url))
                #expect(told == .inDoubt || text == "HTT" && told == .badAnswer, "\(text)")
            }
        }
    }

    @Test func `maybe when the connection breaks while it is sent`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            connection.reset()
        }) { server, client in
            let body = Body(Bytes(repeating: 1, count: 8 << 20))
            #expect(await kind(client, ask(.post, server.url, body: body)) == .inDoubt)
        }
    }

    /// Answers one request for each connection and closes it when the next has come in.
    private static let staleServer: ScriptedServer.Script = { connection in
        let head = try connection.readHead()
        _ = try connection.readBody(head)
        try connection.answer("\(connection.number)")
        _ = try connection.readHead()
    }

    /// As often as a caller likes, on one handle of libcurl's. The large bodies are still being sent when the
    /// connection breaks.
    @Test(arguments: [0, 1000, 100_000, 4 << 20])
    func `a kept connection that is closed instead of an answer is replaced for what may be repeated`(
        size: Int
    ) async throws {
        try await withServer(Self.staleServer) { server, client in
            let put = ask(.put, server.url, body: Body(Bytes(repeating: 1, count: size)))
            for number in 1...10 {
                let answer = try await text(client, put)
                #expect(answer == "\(number)")
            }
            let get = try await text(client, ask(.get, server.url))
            #expect(get == "11")
        }
    }

    @Test func `but not for a stream that was read already`() async throws {
        try await withServer(Self.staleServer) { server, client in
            #expect(await kind(client, ask(.get, server.url)) == nil)
            let chunks = Mutex([Bytes(repeating: 1, count: 1000)])
            let put = ask(.put, server.url, body: Body(pull: { chunks.withLock { $0.popLast() } }))
            // Unless the connection broke before anything was read of it.
            let told = await kind(client, put)
            #expect(told == .inDoubt || told == nil && chunks.withLock { $0.isEmpty })
        }
    }

    @Test func `but nothing is repeated whose answer had begun`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.answer("1")
            _ = try connection.readHead()
            try connection.write("HTTP/1.1 200 OK\r\nServer: gone\r\n")
        }) { server, client in
            let first = try await text(client, ask(.get, server.url))
            #expect(first == "1")
            #expect(await kind(client, ask(.get, server.url)) == .inDoubt)
            #expect(server.requests == 2)
        }
    }

    @Test(arguments: [0, 10, 100_000])
    func `but a POST is not sent twice`(size: Int) async throws {
        try await withServer(Self.staleServer) { server, client in
            let answer4 = try await text(client, ask(.get, server.url))
            #expect(answer4 == "1")
            let post = ask(.post, server.url, body: Body(Bytes(repeating: 1, count: size)))
            #expect(await kind(client, post) == .inDoubt)
            #expect(server.accepted <= 2)
        }
    }
}
