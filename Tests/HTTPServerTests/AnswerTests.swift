import Core
import HTTP
import HTTPServer
import Synchronization
import Testing

/// What a proxy in front of us might read differently from us must not be read at all: that difference is
/// how one request is smuggled within another.
@Suite struct `A request that can be read in two ways` {
    static let routes = router { router in
        router.on("GET", "/") { request in .text("GET \(request.path)?\(request.query.raw)") }
        router.on("POST", "/") { request in
            .text("body \(String(decoding: try await request.body.collect(upTo: 1 << 20), as: UTF8.self))")
        }
        router.on("GET", "/{rest...}") { request in .text("\(request.path) \(request.query.raw)") }
    }

    /// Each with what it tries.
    static let refused: [(what: String, text: String)] = [
        (
            "a length and chunks",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        (
            "chunks and a length",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd"),
        (
            "one length twice",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"
        ),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4, 4\r\n\r\nabcd"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcd"),
        ("a negative length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -4\r\n\r\nabcd"),
        ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x4\r\n\r\nabcd"),
        ("an empty length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\nabcd"),
        (
            "a length beyond all numbers",
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999999\r\n\r\n"
        ),
        ("an unknown coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n"),
        ("two codings", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        ("almost chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("chunked and a blank", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked \r\n\r\n0\r\n\r\n"),
        (
            "chunked and a control character",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{0B}chunked\r\n\r\n0\r\n\r\n"
        ),
        ("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"),
        ("a folded coding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
        ("a folded first line", "GET / HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n"),
        (
            "a blank before the colon",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
        ),
        ("a tab before the colon", "GET / HTTP/1.1\r\nHost: h\r\nX\t: 1\r\n\r\n"),
        ("a blank within a name", "GET / HTTP/1.1\r\nHost: h\r\nX Y: 1\r\n\r\n"),
        ("no name", "GET / HTTP/1.1\r\nHost: h\r\n: 1\r\n\r\n"),
        ("no colon", "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n"),
        ("a NUL in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\0Y: 1\r\n\r\n"),
        ("a NUL in a value", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\0 5\r\n\r\nabcd"),
        ("a NUL in the target", "GET /\0x HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a carriage return in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n"),
        ("a bare line feed after a line", "GET / HTTP/1.1\r\nHost: h\nX: 1\r\n\r\n"),
        ("a bare line feed after the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n"),
        ("a bare line feed at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("another host in the target", "GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a target of another scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a target without a slash", "GET x HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("two blanks before the target", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a blank in the target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a tab in the target", "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a fragment", "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a method that is no token", "GE(T / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("a version that is none", "GET / HTTP/1.x\r\nHost: h\r\n\r\n"),
        ("no version", "GET /\r\nHost: h\r\n\r\n"),
        ("an expectation we do not know", "GET / HTTP/1.1\r\nHost: h\r\nExpect: miracles\r\n\r\n"),
    ]

    @Test func `is refused, and the connection closed`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                for (what, text) in Self.refused {
                    let client = try RawClient(port: port)
                    // What follows would be a request of its own to whoever has been led astray.
                    try client.send(text + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
                    let answers = try client.readToEnd()
                    #expect(answers.hasPrefix("HTTP/1.1 4"), "\(what): \(answers)")
                    #expect(!answers.contains("smuggled"), "\(what): \(answers)")
                    #expect(answers.lowercased().contains("connection: close"), "\(what): \(answers)")
                }
            }
        }
    }

    static let accepted: [(what: String, text: String, answer: String)] = [
        ("a plain request", "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n", "/a b=c"),
        ("an absolute target", "GET http://h:1/a?b HTTP/1.1\r\nHost: h:1\r\n\r\n", "/a b"),
        (
            "escapes as they came", "GET /a%2Fb%00?c=%26&d=+%3d HTTP/1.1\r\nHost: h\r\n\r\n",
            "/a%2Fb%00 c=%26&d=+%3d"
        ),
        (
            "blanks around a value",
            "POST / HTTP/1.1\r\nHost: h\r\nX: \t a \t\r\nContent-Length:4\r\n\r\nabcd", "body abcd"
        ),
        ("an empty value", "GET /a HTTP/1.1\r\nHost: h\r\nX:\r\nY: \r\n\r\n", "/a "),
        (
            "chunks",
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n3;x=y\r\ncde\r\n0\r\nX: 1\r\n\r\n",
            "body abcde"
        ),
        ("an empty line first", "\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "/a "),
    ]

    @Test func `is told from one that cannot`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                for (what, text, expected) in Self.accepted {
                    let client = try RawClient(port: port)
                    for _ in 0..<2 {
                        try client.send(text)
                        let answer = try client.readAnswer()
                        // The escaped NUL is the router's to refuse.
                        if what.hasPrefix("escapes") {
                            #expect(answer.status == 400)
                        } else {
                            #expect(answer.status == 200, "\(what)")
                            #expect(answer.body == expected, "\(what)")
                        }
                    }
                }
            }
        }
    }

    @Test func `is read whole when it comes byte by byte`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                for (what, text, expected) in Self.accepted where !what.hasPrefix("escapes") {
                    let client = try RawClient(port: port)
                    for byte in text.utf8 { try client.send([byte]) }
                    #expect(try client.readAnswer().body == expected, "\(what)")
                }
            }
        }
    }

    @Test func `is not a pipeline: each is answered in turn`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                let text = (0..<50).map { number in
                    number % 2 == 0
                        ? "GET /\(number) HTTP/1.1\r\nHost: h\r\n\r\n"
                        : "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n\(number + 10)"
                }
                try client.send(text.joined())
                for number in 0..<50 {
                    let expected = number % 2 == 0 ? "/\(number) " : "body \(number + 10)"
                    #expect(try client.readAnswer().body == expected)
                }
            }
        }
    }
}
