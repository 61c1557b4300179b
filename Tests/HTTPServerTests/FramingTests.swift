import Core
import Foundation
import HTTP
import HTTPServer
import Testing

@Suite struct `An answer` {
    static let routes = router { router in
        router.on("GET", "/text") { _ in .text("some text") }
        router.on("GET", "/nothing") { _ in .noContent }
        router.on("GET", "/unchanged") { _ in
            Response(304, headers: ["ETag": "\"1\""], content: .bytes([1, 2]))
        }
        router.on("GET", "/large") { _ in
            Response(200, content: .bytes(Bytes(repeating: 0x61, count: 3_000_000)))
        }
        router.on("GET", "/stream") { _ in .stream(type: "text/plain") { try await $0.write("streamed") } }
        router.on("GET", "/measured") { _ in
            .stream(type: "text/plain", length: 8) { try await $0.write("measured") }
        }
        router.on("GET", "/short") { _ in
            .stream(type: "text/plain", length: 80) { try await $0.write("short") }
        }
        router.on("GET", "/broken") { _ in
            .stream(type: "text/plain") { writer in
                try await writer.write("begun")
                throw Problem.internalError
            }
        }
        router.on("GET", "/split") { _ in
            Response(
                200, headers: ["X-A": "1\r\nX-B: 2", "X-C": "3", "Content-Length": "99", "Server": "us/1.0"])
        }
        router.on("POST", "/early") { _ in .text("early") }
        router.on("GET", "/fails") { _ in throw BodyTooLarge(limit: 1) }
        router.quick("GET", "/at-once") { _ in .text("at once") }
    }

    private func answer(_ request: String, hasBody: Bool = true) async throws -> RawClient.Answer {
        let result = Mailbox<RawClient.Answer>()
        try await serving(Self.routes) { server in
            let port = server.port
            result.value = try await onThread {
                let client = try RawClient(port: port)
                try client.send(request)
                let answer = try client.readAnswer(hasBody: hasBody)
                // Whatever was sent, the next answer begins where this one ends.
                #expect(try client.get("/text").body == "some text")
                return answer
            }
        }
        return try #require(result.value)
    }

    @Test(arguments: ["/text", "/measured", "/large", "/at-once"])
    func `to HEAD has the head alone`(path: String) async throws {
        let answer = try await answer("HEAD \(path) HTTP/1.1\r\nHost: h\r\n\r\n", hasBody: false)
        #expect(answer.status == 200)
    }

    @Test func `to HEAD has the head alone even where its length is not known`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                try client.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.readHead().status == 200)
                #expect(try client.readToEnd() == "")
            }
        }
    }

    @Test func `tells HEAD how long it would be`() async throws {
        let answer = try await answer("HEAD /text HTTP/1.1\r\nHost: h\r\n\r\n", hasBody: false)
        #expect(answer.headers["content-length"] == "9")
    }

    @Test func `of 204 and 304 has no body`() async throws {
        #expect(try await answer("GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n").status == 204)
        #expect(try await answer("GET /unchanged HTTP/1.1\r\nHost: h\r\n\r\n").headers["etag"] == "\"1\"")
    }

    @Test func `may be large`() async throws {
        #expect(try await answer("GET /large HTTP/1.1\r\nHost: h\r\n\r\n").body.utf8.count == 3_000_000)
    }

    @Test func `of a known length is sent with it`() async throws {
        let answer = try await answer("GET /measured HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(answer.headers["content-length"] == "8")
        #expect(answer.body == "measured")
    }

    @Test func `cannot be given a further field through a value, nor another framing`() async throws {
        let answer = try await answer("GET /split HTTP/1.1\r\nHost: h\r\n\r\n")
        #expect(answer.headers["x-b"] == nil)
        #expect(answer.headers["x-c"] == "3")
        #expect(answer.headers["content-length"] == "0")
        #expect(answer.headers["server"] == nil)
    }

    @Test func `may come before the body is read, and a short body does not cost the connection`()
        async throws
    {
        let body = String(repeating: "x", count: 100_000)
        let answer = try await answer(
            "POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n\(body)")
        #expect(answer.body == "early")
    }

    @Test func `may come before a long body is read, and reaches a client that is still sending`()
        async throws
    {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                try client.send("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 60000000\r\n\r\n")
                try client.send([UInt8](repeating: 0x78, count: 8 << 20))
                #expect(try client.readAnswer().body == "early")
                #expect(try client.readToEnd() == "")
            }
        }
    }

    @Test func `may be a part of a file`() async throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "convoke-\(UUID())").path
        try Data((0..<200_000).map { UInt8($0 % 251) }).write(to: URL(filePath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let files = router { router in
            router.on("GET", "/text") { _ in .text("some text") }
            router.on("GET", "/part") { _ in
                Response(200, content: .file(path: path, offset: 1000, length: 150_000))
            }
            router.on("GET", "/cut") { _ in
                Response(200, content: .file(path: path, offset: 199_000, length: 5000))
            }
            router.on("GET", "/gone") { _ in
                Response(200, content: .file(path: path + "x", offset: 0, length: 1))
            }
        }
        try await serving(files) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                try client.send("GET /part HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.readHead().headers["content-length"] == "150000")
                while client.buffer.count < 150_000 { try client.readMore() }
                #expect(client.buffer == (1000..<151_000).map { UInt8($0 % 251) })
                _ = try client.read(count: 150_000)
                #expect(try client.get("/gone").status == 500)
                #expect(try client.get("/text").status == 200)
                #expect(try client.get("/cut").status == 500)
                #expect(try client.get("/text").status == 200)
            }
        }
    }

    @Test func `that breaks off is not mistaken for a whole one`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                for (path, end) in [("/broken", "begun\r\n"), ("/short", "short")] {
                    let client = try RawClient(port: port)
                    try client.send("GET \(path) HTTP/1.1\r\nHost: h\r\n\r\n")
                    // No last chunk, and not as many bytes as announced.
                    #expect(try client.readToEnd().hasSuffix(end))
                }
            }
        }
    }

    @Test func `to HTTP/1.0 ends with the connection unless it is to be kept`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                for path in ["/text", "/stream"] {
                    let client = try RawClient(port: port)
                    try client.send("GET \(path) HTTP/1.0\r\n\r\n")
                    #expect(try client.readToEnd().hasSuffix(path == "/text" ? "some text" : "streamed"))
                }
                let kept = try RawClient(port: port)
                for _ in 0..<2 {
                    try kept.send("GET /text HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                    #expect(try kept.readAnswer().body == "some text")
                }
            }
        }
    }

    @Test func `lets the client close the connection`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                try client.send("GET /text HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                #expect(try client.readToEnd().hasSuffix("some text"))
            }
        }
    }

    @Test func `waits for the body only where the handler wants it`() async throws {
        let routes = router { router in
            router.on("POST", "/refused") { _ in throw Problem.forbidden }
            router.on("POST", "/wanted") { request in
                .text("\(try await request.body.collect(upTo: 1 << 20).count)")
            }
        }
        try await serving(routes) { server in
            let port = server.port
            try await onThread {
                let head = "Host: h\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n"
                let refused = try RawClient(port: port)
                try refused.send("POST /refused HTTP/1.1\r\n\(head)")
                #expect(try refused.readAnswer().status == 403)
                let wanted = try RawClient(port: port)
                for _ in 0..<2 {
                    try wanted.send("POST /wanted HTTP/1.1\r\n\(head)")
                    #expect(try wanted.readHead().status == 100)
                    try wanted.send([UInt8](repeating: 1, count: 100_000))
                    #expect(try wanted.readAnswer().body == "100000")
                }
            }
        }
    }
}
