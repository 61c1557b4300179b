import Core
import HTTP
import HTTPServer
import Testing

@Suite struct `An HTTP server` {
    static let routes = router { router in
        router.quick("GET", "/quick") { _ in .text("quick") }
        router.on("GET", "/task") { _ in .text("task") }
        router.on("POST", "/echo") { request in
            Response(200, content: .bytes(try await request.body.collect(upTo: 1 << 20)))
        }
        router.on("GET", "/stream") { _ in
            .stream(type: "text/plain") { writer in
                try await writer.write("one ")
                try await writer.write("two")
            }
        }
        router.on("GET", "/empty") { _ in .noContent }
    }

    @Test(arguments: ["quick", "task"])
    func `answers at once or through a task, again and again on one connection`(kind: String) async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                for _ in 0..<20 {
                    let answer = try client.get("/\(kind)")
                    #expect(answer.status == 200)
                    #expect(answer.body == kind)
                    #expect(answer.headers["date"] != nil)
                    #expect(answer.headers["server"] == nil)
                }
            }
        }
    }

    @Test(arguments: [0, 1, 1000, 16 << 10, 100_000, 1 << 20])
    func `hands over a body of any size`(size: Int) async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                let body = String((0..<size).map { _ in "x" as Character })
                for _ in 0..<2 {
                    try client.send("POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: \(size)\r\n\r\n")
                    try client.send(body)
                    let answer = try client.readAnswer()
                    #expect(answer.status == 200)
                    #expect(answer.body == body)
                }
            }
        }
    }

    @Test func `streams an answer`() async throws {
        try await serving(Self.routes) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                for _ in 0..<3 {
                    let answer = try client.get("/stream")
                    #expect(answer.body == "one two")
                    #expect(answer.headers["transfer-encoding"] == "chunked")
                }
            }
        }
    }
}
