import CSystem
import Core
import Glibc
import HTTP
import HTTPClient
import Synchronization
import Testing

/// A TCP server that does exactly what a test says, right or wrong: a thread for each connection runs the
/// script. It counts what the client does.
final class ScriptedServer: Sendable {
    typealias Script = @Sendable (Connection) throws -> Void

    let port: Int
    private let listener: Int32
    private let script: Script
    private struct Counts {
        var accepted = 0
        var requests = 0
        /// By their number: a descriptor may be another connection's at once.
        var open: [Int: Connection] = [:]
    }
    private let counts = Mutex(Counts())

    var url: String { "http://127.0.0.1:\(port)" }
    /// Connections so far, and those that are open now.
    var accepted: Int { counts.withLock { $0.accepted } }
    /// How many heads of requests have been read.
    var requests: Int { counts.withLock { $0.requests } }
    var openCount: Int { counts.withLock { $0.open.count } }

    init(receiveBuffer: Int32? = nil, _ script: @escaping Script) {
        self.script = script
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        if var receiveBuffer {
            setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &receiveBuffer, socklen_t(MemoryLayout<Int32>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { [listener] pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(listener, $0, size)
                _ = getsockname(listener, $0, &size)
            }
        }
        listen(listener, 1024)
        port = Int(UInt16(bigEndian: address.sin_port))
        startThread(name: "scripted") { [self] in acceptAll() }
    }

    private func acceptAll() {
        while true {
            // Not for the processes that other tests start: a connection ends with its last holder.
            let descriptor = convoke_accept(listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
            guard descriptor >= 0 else {
                // Not by `stop`: the number might be another test's before this thread notices.
                close(listener)
                return
            }
            let connection = counts.withLock { counts in
                counts.accepted += 1
                let connection = Connection(descriptor, number: counts.accepted) { [self] in
                    self.counts.withLock { $0.requests += 1 }
                }
                counts.open[connection.number] = connection
                return connection
            }
            startThread(name: "scripted") { [self] in
                try? script(connection)
                connection.close()
                counts.withLock { _ = $0.open.removeValue(forKey: connection.number) }
            }
        }
    }

    /// Ends the listener and every connection, so that no thread stays in a call.
    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        for connection in counts.withLock({ Array($0.open.values) }) { connection.hangUp() }
    }
}

/// A server that listens and accepts nobody: connecting to it never ends.
final class DeafServer: Sendable {
    let url: String
    private let descriptors: [Int32]

    init() {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        let listener = socket(AF_INET, kind, 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        var descriptors = [listener]
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(listener, $0, size)
                _ = getsockname(listener, $0, &size)
                listen(listener, 0)
                // One fits into a queue of none; more than that go unanswered.
                for _ in 0..<4 {
                    let visitor = socket(AF_INET, kind | Int32(SOCK_NONBLOCK.rawValue), 0)
                    _ = connect(visitor, $0, size)
                    descriptors.append(visitor)
                }
            }
        }
        self.descriptors = descriptors
        url = "http://127.0.0.1:\(UInt16(bigEndian: address.sin_port))"
    }

    deinit { for descriptor in descriptors { close(descriptor) } }
}

/// The other end of a connection, as a script uses it. Every call throws once the client is gone.
final class Connection: Sendable {
    struct Gone: Error {}
    struct RequestHead {
        let line: String
        let fields: [String]
        func value(_ name: String) -> String? {
            fields.first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
                .map { String($0.dropFirst(name.count + 1).drop { $0 == " " }) }
        }
    }

    /// 1 for the server's first connection.
    let number: Int
    private let descriptor: Int32
    private let isClosed = Mutex(false)
    private let unread = Mutex<[UInt8]>([])

    private let onRequest: @Sendable () -> Void

    init(_ descriptor: Int32, number: Int, onRequest: @escaping @Sendable () -> Void) {
        self.descriptor = descriptor
        self.number = number
        self.onRequest = onRequest
    }

    // Under a lock: a descriptor that is closed may be another test's by now.
    func close() {
        isClosed.withLock { isClosed in
            if !isClosed { _ = Glibc.close(descriptor) }
            isClosed = true
        }
    }
    func hangUp() {
        isClosed.withLock { if !$0 { shutdown(descriptor, Int32(SHUT_RDWR)) } }
    }

    /// Closes so that the client sees a reset, not an end.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
    }

    /// Some bytes, at most `limit`.
    func read(_ limit: Int = 65_536) throws -> [UInt8] {
        let left = unread.withLock { unread in
            let taken = Array(unread.prefix(limit))
            unread.removeFirst(taken.count)
            return taken
        }
        if !left.isEmpty { return left }
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = recv(descriptor, &bytes, limit, 0)
        guard count > 0 else { throw Gone() }
        return Array(bytes[..<count])
    }

    func readHead() throws -> RequestHead {
        var bytes: [UInt8] = []
        while true {
            bytes += try read()
            let text = String(decoding: bytes, as: UTF8.self)
            guard let end = text.firstRange(of: "\r\n\r\n") else { continue }
            let head = text[..<end.lowerBound]
            let rest = Array(bytes.dropFirst(head.utf8.count + 4))
            unread.withLock { $0 = rest + $0 }
            onRequest()
            let lines = head.split(separator: "\r\n").map(String.init)
            return RequestHead(line: lines[0], fields: Array(lines.dropFirst()))
        }
    }

    /// A body as the head frames it.
    func readBody(_ head: RequestHead) throws -> [UInt8] {
        var body: [UInt8] = []
        if let length = head.value("Content-Length").flatMap(Int.init) {
            while body.count < length { body += try read(length - body.count) }
        } else if head.value("Transfer-Encoding") == "chunked" {
            while true {
                let size = Int(try readLine(), radix: 16) ?? 0
                var chunk: [UInt8] = []
                while chunk.count < size { chunk += try read(size - chunk.count) }
                body += chunk
                _ = try readLine()
                if size == 0 { return body }
            }
        }
        return body
    }

    private func readLine() throws -> String {
        var line: [UInt8] = []
        while true {
            let byte = try read(1)[0]
            if byte == 0x0A { return String(decoding: line.dropLast(), as: UTF8.self) }
            line.append(byte)
        }
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    func write(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Gone() }
            sent += count
        }
    }

    /// Does nothing until the client goes away.
    func stall() throws { while true { _ = try read() } }
}

extension Connection {
    func answer(_ text: String, status: String = "200 OK", extra: String = "") throws {
        try write("HTTP/1.1 \(status)\r\nContent-Length: \(text.utf8.count)\r\n\(extra)\r\n\(text)")
    }
}

extension HTTPClient.Settings {
    /// TLS takes seconds on a busy machine, and more under a sanitizer.
    static var patient: HTTPClient.Settings {
        var settings = HTTPClient.Settings()
        settings.connectTimeout = .seconds(60)
        return settings
    }
}

/// What carries an exchange.
enum Carrier: CaseIterable {
    case libcurl
    /// A loop of the client's own.
    case ownLoop
    /// The loop on which the asking task runs.
    case callersLoop

    @TaskLocal static var current = ownLoop
}

/// Asks each test of every carrier: none may do anything differently.
struct OverEveryCarrier: SuiteTrait, TestTrait, TestScoping {
    let isRecursive = true

    @concurrent func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        for carrier in Carrier.allCases {
            try await Carrier.$current.withValue(carrier) { try await function() }
        }
    }
}

extension Trait where Self == OverEveryCarrier {
    static var overEveryCarrier: Self { OverEveryCarrier() }
}

/// A server for one test, and a client that is shut down after it.
func withServer(
    _ script: @escaping ScriptedServer.Script, settings: HTTPClient.Settings = .patient,
    metrics: Metrics = Metrics(), receiveBuffer: Int32? = nil,
    _ test: (ScriptedServer, HTTPClient) async throws -> Void
) async throws {
    let server = ScriptedServer(receiveBuffer: receiveBuffer, script)
    var settings = settings
    settings.isLibcurlForAll = Carrier.current == .libcurl
    let client = HTTPClient(settings, metrics: metrics)
    let loop = Carrier.current == .callersLoop ? EventLoop(name: "callers") : nil
    defer { server.stop() }
    do {
        try await withTaskExecutorPreference(loop) { try await test(server, client) }
    } catch {
        await client.shutdown()
        throw error
    }
    await client.shutdown()
}

/// A request with limits that only a client that hangs will meet.
func ask(
    _ method: Method, _ url: String, headers: Headers = [:], body: Body = .empty,
    deadline: Duration = .seconds(300), idle: Duration = .seconds(300)
) -> ClientRequest {
    ClientRequest(method, url, headers: headers, body: body, deadline: deadline, idle: idle)
}

struct NeverCameTrue: Error { let what: String }

/// Waits until something becomes true; ends the test if that takes unreasonably long.
func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let time = SystemTime()
    let end = time.uptime + .seconds(120)
    while try await !condition() {
        guard time.uptime < end else { throw NeverCameTrue(what: what) }
        try await time.sleep(for: .milliseconds(2))
    }
}
