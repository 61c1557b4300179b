import Core
import HTTP
import HTTPClient
import Testing

/// Answers every request with what `answer` makes of it, for as long as the client stays.
private func serving(_ answer: @escaping @Sendable (Connection.RequestHead, [UInt8]) -> String)
    -> ScriptedServer.Script
{
    { connection in
        while true {
            let head = try connection.readHead()
            let body = try connection.readBody(head)
            try connection.answer(answer(head, body))
        }
    }
}

@Suite(.overEveryCarrier) struct `An exchange` {
    @Test func `brings the status, the fields and the body`() async throws {
        try await withServer({ connection in
            _ = try connection.readHead()
            try connection.answer(
                "hello", status: "418 I'm a teapot", extra: "X-One: 1\r\nx-two:  2 \r\nX-Empty:\r\n")
        }) { server, client in
            let answer = try await client.send(ask(.get, server.url + "/tea?milk=1"))
            #expect(answer.status == 418)
            #expect(answer.headers["X-One"] == "1")
            #expect(answer.headers["X-Two"] == "2")
            #expect(answer.headers["x-empty"] == "")
            #expect(try await answer.body.collect(upTo: 100) == Bytes("hello".utf8))
        }
    }

    @Test(arguments: [
        (Method.get, "", "GET /a/../b?c=%20 HTTP/1.1"), (.head, "", "HEAD /a/../b?c=%20 HTTP/1.1"),
        (.post, "", "POST /a/../b?c=%20 HTTP/1.1"), (.post, "12345", "POST /a/../b?c=%20 HTTP/1.1"),
        (.put, "12345", "PUT /a/../b?c=%20 HTTP/1.1"), (.delete, "", "DELETE /a/../b?c=%20 HTTP/1.1"),
        (.patch, "{}", "PATCH /a/../b?c=%20 HTTP/1.1"), ("PURGE", "", "PURGE /a/../b?c=%20 HTTP/1.1"),
        (.get, "odd", "GET /a/../b?c=%20 HTTP/1.1"),
    ])
    func `sends method, path, fields and body as they were given`(
        method: Method, body: String, line: String
    ) async throws {
        try await withServer({ connection in
            let head = try connection.readHead()
            let body = try connection.readBody(head)
            let fields = head.fields.sorted().joined(separator: "|")
            try connection.answer(
                method == .head ? "" : "\(head.line)#\(fields)#\(String(decoding: body, as: UTF8.self))",
                extra: "X-Line: \(head.line)\r\n")
        }) { server, client in
            let request = ask(
                method, server.url + "/a/../b?c=%20#part",
                headers: ["X-A": "1", "X-A": "zwei", "X-Empty": ""],
                body: Body(Bytes(body.utf8)))
            let answer = try await client.send(request)
            #expect(answer.headers["X-Line"] == line)
            guard method != .head else { return }
            var fields = ["Accept: */*", "Host: 127.0.0.1:\(server.port)", "X-A: 1", "X-A: zwei", "X-Empty:"]
            if !body.isEmpty || method == .post { fields.append("Content-Length: \(body.utf8.count)") }
            let told = String(decoding: try await answer.body.collect(upTo: 4096), as: UTF8.self)
            #expect(told == "\(line)#\(fields.sorted().joined(separator: "|"))#\(body)")
        }
    }

    @Test func `leaves nothing of one request in the next on the same handle`() async throws {
        try await withServer(
            serving { head, body in "\(head.line.prefix(5))\(head.fields.count)\(body.count)" }
        ) {
            server, client in
            let requests: [(ClientRequest, String)] = [
                (ask(.get, server.url), "GET /20"),
                (ask(.post, server.url, headers: ["A": "1"], body: Body([1, 2, 3])), "POST 43"),
                (ask(.get, server.url), "GET /20"),
                (
                    ask(.put, server.url, body: Body(Bytes(repeating: 7, count: 100_000))),
                    "PUT /3100000"
                ),
                (ask(.delete, server.url), "DELET20"),
                (ask(.post, server.url), "POST 30"),
                (ask(.get, server.url, headers: ["A": "1"]), "GET /30"),
            ]
            for (request, expected) in requests {
                let answer = try await client.send(request)
                #expect(String(decoding: try await answer.body.collect(upTo: 100), as: UTF8.self) == expected)
            }
            #expect(server.accepted == 1)
        }
    }

    @Test func `uses a connection again`() async throws {
        try await withServer(serving { _, _ in "ok" }) { server, client in
            for _ in 0..<50 { _ = try await client.send(ask(.get, server.url)) }
            #expect(server.accepted == 1)
        }
    }
}
