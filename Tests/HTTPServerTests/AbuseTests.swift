import Core
import Glibc
import HTTP
import HTTPServer
import Synchronization
import Testing

/// What a server on an open port has to put up with. Where what the process holds is counted, or a crash is
/// to be expected if anything is wrong, it happens in a process of its own.
@Suite struct `An HTTP server under abuse` {
    static let routes = router { router in
        router.quick("GET", "/quick") { _ in .text("quick") }
        router.on("GET", "/task") { _ in .text("task") }
        router.on("POST", "/count") { request in
            var count = 0
            for try await piece in request.body { count += piece.count }
            return .text("\(count)")
        }
    }

    /// Others are served meanwhile, at once and through a task.
    static func serveOthers(_ port: Int) throws {
        let client = try RawClient(port: port)
        #expect(try client.get("/quick").body == "quick")
        #expect(try client.get("/task").body == "task")
        try client.send("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
        #expect(try client.readAnswer().body == "3")
    }

    // MARK: - Crowds

    @Test func `serves others while ten thousand connections idle, and ends those when their time is up`()
        async
    {
        await #expect(processExitsWith: .success) {
            let count = Crowd.size(10_000)
            // Nothing is late before the test says so, however busy the machine is.
            let time = ManualTime(.epoch)
            var before = Footprint()
            try await serving(Self.routes, time: time) { server in
                let port = server.port
                try await onThread { try Self.serveOthers(port) }
            }
            try await eventually("the first server is gone") { Footprint.now.threads == 0 }
            before = Footprint.now
            let known = before
            try await serving(Self.routes, time: time) { server in
                let port = server.port
                let crowd = Crowd(count, port: port)
                try await eventually("all are connected") { server.connectionCount == count }
                try await onThread { for _ in 0..<20 { try Self.serveOthers(port) } }
                #expect(Footprint.now.sockets >= count)
                // 32 KiB for a head and its answer is what libmicrohttpd may use for each.
                #expect(Footprint.now.memory - known.memory < count * (44 << 10) + (64 << 20))
                try await eventually("all are closed") {
                    time.advance(by: .seconds(10))
                    return server.connectionCount == 0
                }
                try await eventually("only the listening socket is left") {
                    Footprint.now.sockets == known.sockets + 1
                }
                try await onThread { try Self.serveOthers(port) }
                crowd.leave()
            }
            try await eventually("nothing is left") {
                Footprint.now.sockets == known.sockets && Footprint.now.threads == 0
            }
        }
    }

    @Test func `loses ten thousand connections at once without losing count`() async {
        await #expect(processExitsWith: .success) {
            let count = Crowd.size(10_000)
            try await serving(Self.routes, time: ManualTime(.epoch)) { server in
                let before = Footprint.now.sockets
                let port = server.port
                let crowd = Crowd(count, port: port)
                try await eventually("all are connected") { server.connectionCount == count }
                crowd.leave()
                try await onThread { try Self.serveOthers(port) }
                try await eventually("all are forgotten") {
                    server.connectionCount == 0 && Footprint.now.sockets == before
                }
            }
        }
    }

    @Test func `refuses connections beyond its limits, of one address and in all, and takes new ones later`()
        async throws
    {
        for isPerAddress in [true, false] {
            var limits = ServerSettings.Limits()
            if isPerAddress { limits.connectionsPerAddress = 5 } else { limits.connections = 5 }
            try await serving(Self.routes, limits: limits) { server in
                let port = server.port
                try await onThread {
                    var clients = try (0..<5).map { _ in try RawClient(port: port) }
                    for client in clients { #expect(try client.get("/quick").status == 200) }
                    let refused = try RawClient(port: port)
                    #expect(try refused.readToEnd() == "")
                    clients.removeLast().close()
                    clients.append(try Self.admitted(port))
                    for client in clients { #expect(try client.get("/quick").status == 200) }
                }
            }
        }
    }

    /// A connection that is not refused, once the server has noticed that there is room again.
    private static func admitted(_ port: Int) throws -> RawClient {
        for _ in 0..<2000 {
            let client = try RawClient(port: port)
            if let answer = try? client.get("/quick"), answer.status == 200 { return client }
            usleep(5000)  // rule: tests-do-not-sleep
        }
        throw RawClient.Broken(reason: "there was no room again")
    }

    // MARK: - Nonsense

    @Test
    func `survives a million random bytes and as many of broken requests, and holds nothing afterwards`()
        async
    {
        await #expect(processExitsWith: .success) {
            let random = SeededRandom(seed: 20_26)
            var settled = 0
            for round in 0..<5 {
                try await serving(Self.routes, time: ManualTime(.epoch)) { server in
                    let before = Footprint.now.sockets
                    let port = server.port
                    try await onThread {
                        for number in 0..<50 {
                            let client = try RawClient(port: port)
                            _ = client.trySend(random.bytes(4000))
                            let other = try RawClient(port: port)
                            _ = other.trySend(Self.broken(random))
                            if number % 2 == 0 {
                                client.reset()
                                other.reset()
                            }
                            if number % 10 == 0 { try Self.serveOthers(port) }
                        }
                    }
                    try await eventually("round \(round) is over") {
                        server.connectionCount == 0 && Footprint.now.sockets == before
                    }
                }
                if round == 1 { settled = Footprint.now.memory }
            }
            #expect(Footprint.now.threads == 0)
            #expect(Footprint.now.memory - settled < 8 << 20)
        }
    }

    /// Correct requests in which some bytes are replaced, doubled or left out.
    private static func broken(_ random: SeededRandom) -> [UInt8] {
        var result: [UInt8] = []
        while result.count < 4000 {
            let samples = `A request that can be read in two ways`.accepted
            var bytes = Array(samples[random.int(in: 0...(samples.count - 1))].text.utf8)
            for _ in 0..<random.int(in: 0...3) where !bytes.isEmpty {
                let index = random.int(in: 0...(bytes.count - 1))
                switch random.int(in: 0...4) {
                case 0: bytes[index] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes.remove(at: index)
                case 2: bytes.insert(bytes[index], at: index)
                case 3: bytes[index] = 0
                default: bytes.removeSubrange(index...)
                }
            }
            result += bytes
        }
        return result
    }

    @Test func `forgets a request that breaks off, wherever it does`() async throws {
        let whole =
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=1\r\nabcde\r\n0\r\n\r\n"
        let measured = "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 20000\r\n\r\nabc"
        let taken = Tally()
        let routes = router { router in
            router.on("POST", "/count") { request in
                for try await _ in request.body {}
                taken.add()
                return .noContent
            }
        }
        try await serving(routes, time: ManualTime(.epoch)) { server in
            let port = server.port
            try await onThread {
                for text in [whole, measured] {
                    let bytes = Array(text.utf8)
                    for count in bytes.indices {
                        let client = try RawClient(port: port)
                        try client.send(Array(bytes[..<count]))
                        switch count % 3 {
                        case 0: client.close()
                        case 1: client.reset()
                        default:
                            // Says that nothing more comes, and still listens.
                            shutdown(client.socket, Int32(SHUT_WR))
                            let answer = try client.readToEnd()
                            #expect(
                                answer == "" || answer.hasPrefix("HTTP/1.1 4"), "after \(count): \(answer)")
                        }
                    }
                }
            }
            try await eventually("all are forgotten") { server.connectionCount == 0 }
            // What is broken off is never taken for all there was.
            #expect(taken.value == 0)
        }
    }

    // MARK: - Too much

    static let limits = {
        var limits = ServerSettings.Limits()
        limits.headBytes = 8 << 10
        limits.headerCount = 50
        limits.bodyBytes = 1 << 20
        return limits
    }()

    static let tooMuch: [(what: String, text: String, status: Int)] = [
        ("a long target", "GET /\(long(9000)) HTTP/1.1\r\nHost: h\r\n\r\n", 431),
        ("a target that never ends", "GET /\(long(100_000))", 414),
        ("a long value", "GET /quick HTTP/1.1\r\nHost: h\r\nX: \(long(9000))\r\n\r\n", 431),
        ("a value that never ends", "GET /quick HTTP/1.1\r\nHost: h\r\nX: \(long(100_000))", 431),
        ("a name that never ends", "GET /quick HTTP/1.1\r\nHost: h\r\n\(long(100_000))", 431),
        ("many fields", "GET /quick HTTP/1.1\r\nHost: h\r\n\(fields(51))\r\n", 431),
        ("fields without end", "GET /quick HTTP/1.1\r\nHost: h\r\n\(fields(20_000))", 431),
        ("a method that never ends", long(100_000), 4),
        ("a declared body", "POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", 413),
        (
            "a body in chunks",
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n\(long(2 << 20))",
            413
        ),
        (
            "a chunk beyond all numbers",
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\nabc",
            4
        ),
        (
            "a chunk's extension that never ends",
            "POST /count HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;\(long(100_000))", 4
        ),
    ]

    private static func long(_ count: Int) -> String { String(repeating: "x", count: count) }
    private static func fields(_ count: Int) -> String {
        (0..<count).map { "X-\($0): 1\r\n" }.joined()
    }

    @Test(arguments: tooMuch.indices)
    func `refuses what is too much, and says so`(index: Int) async throws {
        let (what, text, status) = Self.tooMuch[index]
        try await serving(Self.routes, limits: Self.limits, time: ManualTime(.epoch)) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                _ = client.trySend(Array(text.utf8))
                let answer = try client.readToEnd()
                if status == 4 {
                    // Found by libmicrohttpd, which breaks off, or answers as it likes.
                    #expect(answer == "" || !answer.hasPrefix("HTTP/1.1 2"), "\(what): \(answer)")
                } else {
                    #expect(answer.hasPrefix("HTTP/1.1 \(status)"), "\(what): \(answer)")
                }
                #expect(!answer.dropFirst().contains("HTTP/1.1"), "\(what): \(answer)")
                try Self.serveOthers(port)
            }
        }
    }

    @Test func `takes exactly as much as it may`() async throws {
        try await serving(Self.routes, limits: Self.limits) { server in
            let port = server.port
            try await onThread {
                let client = try RawClient(port: port)
                let body = Self.long(1 << 20)
                try client.send("POST /count HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n" + body)
                #expect(try client.readAnswer().body == "1048576")
                let start = "GET /quick HTTP/1.1\r\nHost: h\r\nX: "
                let rest = Self.long((8 << 10) - start.utf8.count - 4)
                try client.send("\(start)\(rest)\r\n\r\n")
                #expect(try client.readAnswer().status == 200)
                try client.send("\(start)\(rest)x\r\n\r\n")
                #expect(try client.readAnswer().status == 431)
            }
        }
    }
}
