import Core
import Foundation
import Storage
import Synchronization
import TestServers
import Testing

/// What others do to our connections: an administrator who ends what looks stuck, a server that reads slowly.
@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(10)))
struct `A stranger's hand` {
    // Its time is far off, so that the server's one code for both means the stranger.
    private let settings = PoolSettings(connections: 1, waiting: .minutes(5), statementTimeout: .minutes(30))

    private func withTwo(
        _ test: (_ database: any Database, _ stranger: any Database) async throws -> Void
    ) async throws {
        let location = DatabaseLocation.postgres(Secret(try await TestServers.postgres()))
        let stranger = location.open("stranger", PoolSettings(connections: 4, waiting: .minutes(5)))
        let database = location.open("struck", settings)
        try await stranger.run("CREATE TABLE place (id BIGINT PRIMARY KEY, visits BIGINT NOT NULL)")
        for id in 1...3 { try await stranger.run("INSERT INTO place VALUES (\(id), \(0))") }
        try await test(database, stranger)
        await database.close()
        await stranger.close()
    }

    /// Cancels who waits for a lock, and waits until it has left; returns once it, or another, waits anew.
    private func cancelWaiting(_ stranger: any Database) async throws {
        let waiting: SQL = """
            SELECT pid, query_start::text AS start FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        var first: Row?
        try await until("one waits for the lock") {
            first = try await stranger.run(waiting).first
            return first != nil
        }
        let (pid, start) = (try #require(first).int("pid"), try #require(first).text("start"))
        #expect(
            try await stranger.run("SELECT pg_cancel_backend(\(pid)) AS done").first?.bool("done") == true)
        try await until("it waits again") {
            try await stranger.run(waiting).contains { try $0.text("start") != start }
        }
    }

    @Test func `that cancels a statement has it run again`() async throws {
        try await withTwo { database, stranger in
            // The first runs on the connection's thread, where it was opened, the others on the loop.
            try await database.run("SELECT 1")
            var call: Task<Rows, any Error>?
            try await whileHoldingConnection(of: stranger, after: "UPDATE place SET visits = 0 WHERE id = 1")
            {
                call = Task { try await database.run("UPDATE place SET visits = visits + 1 WHERE id = 1") }
                try await cancelWaiting(stranger)
                try await cancelWaiting(stranger)
            }
            #expect(try await call?.value.affected == 1)
            let visits = try await stranger.run("SELECT visits FROM place WHERE id = 1").first?.int("visits")
            #expect(visits == 1)
        }
    }

    @Test func `that cancels a transaction has the whole of it run again`() async throws {
        try await withTwo { database, stranger in
            let runs = Count()
            var call: Task<Int, any Error>?
            try await whileHoldingConnection(of: stranger, after: "UPDATE place SET visits = 0 WHERE id = 2")
            {
                call = Task {
                    try await database.transaction { transaction in
                        runs.up()
                        try transaction.run("UPDATE place SET visits = visits + 1 WHERE id = 1")
                        return try transaction.run("UPDATE place SET visits = visits + 1 WHERE id = 2")
                            .affected
                    }
                }
                try await cancelWaiting(stranger)
            }
            #expect(try await call?.value == 1)
            #expect(runs.value == 2)
            let rows = try await stranger.run("SELECT visits FROM place ORDER BY id").map {
                try $0.int("visits")
            }
            #expect(rows == [1, 1, 0], "what came before the interruption counts once")
        }
    }

    /// Has one statement go alone and three gather behind it, and waits until these wait, in one transaction, for a
    /// lock that is held until `body` has ended.
    private func whileSeveralWait(
        _ database: any Database, _ stranger: any Database,
        _ body: (_ first: Task<Rows, any Error>, _ together: [Task<Rows, any Error>]) async throws -> Void
    ) async throws {
        // Each is in the queue before the next is made.
        func visit(_ id: Int) -> Task<Rows, any Error> {
            Task.immediate {
                try await database.gather("UPDATE place SET visits = visits + 1 WHERE id = \(id)")
            }
        }
        func isOneWaiting() async throws -> Bool {
            try await !stranger.run(
                """
                SELECT 1 FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'
                """
            ).isEmpty
        }
        try await whileHoldingConnection(of: stranger, after: "UPDATE place SET visits = 0 WHERE id = 2") {
            var (first, together): (Task<Rows, any Error>?, [Task<Rows, any Error>]) = (nil, [])
            try await whileHoldingConnection(
                of: stranger, after: "UPDATE place SET visits = 0 WHERE id = 1"
            ) {
                first = visit(1)
                try await until("the first is on its way", isOneWaiting)
                together = [3, 2, 3].map(visit)
            }
            let alone = try #require(first)
            #expect(try await alone.value.affected == 1)
            try await until("the others are", isOneWaiting)
            try await body(alone, together)
        }
    }

    @Test func `that cancels a transaction of several callers costs none of them anything`() async throws {
        try await withTwo { database, stranger in
            var calls: [Task<Rows, any Error>] = []
            try await whileSeveralWait(database, stranger) { _, together in
                try await cancelWaiting(stranger)
                calls = together
            }
            for call in calls { #expect(try await call.value.affected == 1) }
            let rows = try await stranger.run("SELECT visits FROM place ORDER BY id").map {
                try $0.int("visits")
            }
            #expect(rows == [1, 1, 2])
        }
    }

    /// Whether it had happened nobody knows, so it is not for us to try again.
    @Test func `that ends the connection of several callers leaves each in doubt, and the next unharmed`()
        async throws
    {
        try await withTwo { database, stranger in
            try await whileSeveralWait(database, stranger) { _, together in
                try await stranger.run(
                    """
                    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'
                    """)
                for call in together {
                    await #expect {
                        try await call.value
                    } throws: { error in
                        if case StorageError.unavailable(_, mayHaveRun: true) = error { true } else { false }
                    }
                }
            }
            let row = try await database.gather(
                "UPDATE place SET visits = visits + 1 WHERE id = 2 RETURNING visits")
            #expect(try row.first?.int("visits") == 1, "none was run again")
        }
    }

    /// Each is short enough for the loop, but the socket takes only a part of them at a time.
    @Test func `that reads slowly gets every statement whole, and its answers come to whom they belong`()
        async throws
    {
        let url = try await TestServers.postgres()
        let gateway = try SlowReader(before: url)
        let metrics = Metrics()
        let database = DatabaseLocation.postgres(Secret(gateway.url)).open("slow", settings, metrics: metrics)
        let inUse = metrics.gauges("storage_connections_in_use", "Connections at work", labels: ["database"])
        // From its second statement on the connection is the loop's.
        for _ in 0..<2 { try await database.run("SELECT 1") }
        try gateway.narrowClient()
        for round in 0..<3 {
            gateway.hold()
            let words = (0..<6).map { String(repeating: "\($0)", count: 15_000) }
            let calls = words.map { words in
                Task { try await database.run("SELECT \(words)::text AS words") }
            }
            try await until("they are being written") { inUse["slow"].value == 1 }
            gateway.goOn()
            for (call, words) in zip(calls, words) {
                #expect(try await call.value.first?.text("words") == words, "round \(round)")
            }
        }
        await database.close()
        gateway.close()
    }
}

/// Stands before the server and reads as little as it can, and nothing while it is held.
private final class SlowReader: Sendable {
    let url: String
    private let port: Int
    private let server: Int
    private let listener: Int32
    private let held = Mutex<Gate?>(nil)

    init(before url: String) throws {
        let colon = try #require(url.lastIndex(of: ":"))
        let slash = try #require(url.lastIndex(of: "/"))
        server = try #require(Int(url[url.index(after: colon)..<slash]))
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var little: Int32 = 2048
        setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &little, socklen_t(MemoryLayout<Int32>.size))
        port = try #require(named(listener, port: 0) { bind($0, $1, $2) == 0 && listen($0, 8) == 0 })
        self.listener = listener
        self.url = url[...colon] + "\(port)" + url[slash...]
        startThread(name: "slow-reader") { [self] in
            while true {
                let client = accept(listener, nil, nil)
                guard client >= 0 else { return }
                let next = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
                guard named(next, port: server, { connect($0, $1, $2) == 0 }) != nil else { return }
                startThread(name: "slow-reader-in") { self.pass(client, to: next, isSlow: true) }
                startThread(name: "slow-reader-out") { self.pass(next, to: client, isSlow: false) }
            }
        }
    }

    func hold() { held.withLock { $0 = Gate() } }

    func goOn() {
        held.withLock { gate in
            gate?.open()
            gate = nil
        }
    }

    func close() { shutdown(listener, Int32(SHUT_RDWR)) }

    /// Lets the socket of whoever has connected to us take little more than a packet.
    func narrowClient() throws {
        var found = 0
        for descriptor in 0..<Int32(4096) {
            var address = sockaddr_in()
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let isNamed = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    getpeername(descriptor, $0, &size) == 0
                }
            }
            guard isNamed, address.sin_family == sa_family_t(AF_INET),
                UInt16(bigEndian: address.sin_port) == port
            else { continue }
            var little: Int32 = 1
            setsockopt(
                descriptor, SOL_SOCKET, SO_SNDBUF, &little, socklen_t(MemoryLayout<Int32>.size))
            found += 1
        }
        try #require(found == 1)
    }

    private func pass(_ from: Int32, to: Int32, isSlow: Bool) {
        var bytes = [UInt8](repeating: 0, count: isSlow ? 512 : 65_536)
        while true {
            if isSlow, let gate = held.withLock({ $0 }) { gate.wait() }
            let count = recv(from, &bytes, bytes.count, 0)
            guard count > 0 else { break }
            var sent = 0
            while sent < count {
                let more = bytes[sent..<count].withUnsafeBytes {
                    send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
                guard more > 0 else { break }
                sent += more
            }
        }
        // The other direction's thread closes nothing that this one still uses.
        shutdown(to, Int32(SHUT_RDWR))
        shutdown(from, Int32(SHUT_RDWR))
    }
}

/// Has `use` bind or connect to a port of this machine, and tells which it was; `nil` where that fails.
private func named(
    _ descriptor: Int32, port: Int, _ use: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Bool
) -> Int? {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = UInt16(port).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isUsed = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            use(descriptor, $0, size) && (port != 0 || getsockname(descriptor, $0, &size) == 0)
        }
    }
    return isUsed ? Int(UInt16(bigEndian: address.sin_port)) : nil
}
