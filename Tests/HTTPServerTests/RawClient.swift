import Core
import Glibc

/// A socket that says exactly what it is told: what no HTTP client would send, in pieces of any size.
///
/// It blocks, so it is used within `onThread`.
final class RawClient {
    struct Answer: Equatable {
        var status: Int
        var headers: [String: String]
        var body: String
    }
    struct Broken: Error { let reason: String }

    let socket: Int32
    private(set) var buffer: [UInt8] = []

    init(port: Int, receiveBuffer: Int32? = nil) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw Broken(reason: "no socket: errno \(errno)") }
        if var size = receiveBuffer {
            setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<Int32>.size))
        }
        // Far more than any test takes; it turns a hang into a failure.
        var limit = timeval(tv_sec: 100, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard result == 0 || (errno == EINTR && isConnected()) else {
            throw Broken(reason: "cannot connect: errno \(errno)")
        }
    }

    /// Waits for the end of a `connect` that was interrupted.
    private func isConnected() -> Bool {
        var ready = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
        guard uninterrupted({ poll(&ready, 1, 100_000) }) == 1 else { return false }
        var failure: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(socket, SOL_SOCKET, SO_ERROR, &failure, &length) == 0 && failure == 0
    }

    deinit { close() }

    private var isClosed = false
    func close() {
        if !isClosed { Glibc.close(socket) }
        isClosed = true
    }

    /// Goes away without a goodbye: the other side gets a reset.
    func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(socket, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        close()
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        guard trySend(bytes) == bytes.count else { throw Broken(reason: "cannot send: errno \(errno)") }
    }

    /// How many bytes the other side or the sockets between took before it would have had to wait longer
    /// than `milliseconds`, or before the connection broke.
    func trySend(_ bytes: [UInt8], waitingAtMost milliseconds: Int32 = 100_000) -> Int {
        var sent = 0
        while sent < bytes.count {
            var ready = pollfd(fd: socket, events: Int16(POLLOUT), revents: 0)
            guard uninterrupted({ poll(&ready, 1, milliseconds) }) == 1 else { return sent }
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    socket, $0.baseAddress?.advanced(by: sent), bytes.count - sent,
                    Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
            }
            guard count > 0 else { return sent }
            sent += count
        }
        return sent
    }

    /// Reads once more; false at the end of the stream.
    @discardableResult
    func readMore() throws -> Bool {
        var room = [UInt8](repeating: 0, count: 64 << 10)
        let count = uninterrupted { recv(socket, &room, room.count, 0) }
        if count == 0 { return false }
        guard count > 0 else {
            if errno == ECONNRESET { return false }
            throw Broken(reason: errno == EAGAIN ? "nothing came" : "cannot read: errno \(errno)")
        }
        buffer.append(contentsOf: room.prefix(count))
        return true
    }

    /// What has come, or comes next; nothing at the end of the stream.
    func take() throws -> [UInt8] {
        if buffer.isEmpty { try readMore() }
        defer { buffer = [] }
        return buffer
    }

    /// Everything until the other side closes.
    func readToEnd() throws -> String {
        while try readMore() {}
        defer { buffer = [] }
        return String(decoding: buffer, as: UTF8.self)
    }

    func read(upTo mark: String) throws -> String {
        let mark = Array(mark.utf8)
        while true {
            if let end = position(of: mark) {
                defer { buffer.removeFirst(end) }
                return String(decoding: buffer.prefix(end), as: UTF8.self)
            }
            guard try readMore() else {
                throw Broken(reason: "the stream ended after \(String(decoding: buffer, as: UTF8.self))")
            }
        }
    }

    func read(count: Int) throws -> String {
        while buffer.count < count {
            guard try readMore() else { throw Broken(reason: "the stream ended within a body") }
        }
        defer { buffer.removeFirst(count) }
        return String(decoding: buffer.prefix(count), as: UTF8.self)
    }

    private func position(of mark: [UInt8]) -> Int? {
        guard buffer.count >= mark.count else { return nil }
        for start in 0...(buffer.count - mark.count) where buffer[start] == mark[0] {
            if buffer[start..<(start + mark.count)].elementsEqual(mark) { return start + mark.count }
        }
        return nil
    }

    func readHead() throws -> Answer {
        let lines = try read(upTo: "\r\n\r\n").split(separator: "\r\n")
        let parts = (lines.first ?? "").split(separator: " ")
        guard parts.count >= 2, let status = Int(parts[1]) else {
            throw Broken(reason: "no status in \(lines)")
        }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let pieces = line.split(separator: ":", maxSplits: 1)
            headers[pieces[0].lowercased()] = pieces.count > 1 ? String(pieces[1].drop { $0 == " " }) : ""
        }
        return Answer(status: status, headers: headers, body: "")
    }

    func readChunk() throws -> String {
        let line = try read(upTo: "\r\n").dropLast()
        guard let size = Int(line, radix: 16) else { throw Broken(reason: "no chunk size: \(line)") }
        let chunk = try read(count: size)
        _ = try read(count: 2)
        return chunk
    }

    func readAnswer(hasBody: Bool = true) throws -> Answer {
        var answer = try readHead()
        guard hasBody, answer.status != 204, answer.status != 304 else { return answer }
        if answer.headers["transfer-encoding"] == "chunked" {
            while true {
                let chunk = try readChunk()
                if chunk.isEmpty { return answer }
                answer.body += chunk
            }
        }
        answer.body = try read(count: Int(answer.headers["content-length"] ?? "0") ?? 0)
        return answer
    }

    func get(_ path: String) throws -> Answer {
        try send("GET \(path) HTTP/1.1\r\nHost: here\r\n\r\n")
        return try readAnswer()
    }
}

/// A client that is used by one thread after another.
// Safe: every use is awaited before the next.
final class Owned: @unchecked Sendable {
    let raw: RawClient

    /// Connects and says `text`.
    init(_ port: Int, _ text: String, receiveBuffer: Int32? = nil) throws {
        raw = try RawClient(port: port, receiveBuffer: receiveBuffer)
        try raw.send(text)
    }

    func send(_ bytes: [UInt8]) async throws { try await onThread { try self.raw.send(bytes) } }
    func readHead() async throws -> RawClient.Answer { try await onThread { try self.raw.readHead() } }
    func readAnswer() async throws -> RawClient.Answer { try await onThread { try self.raw.readAnswer() } }
    func readToEnd() async throws -> String { try await onThread { try self.raw.readToEnd() } }
}

/// A call again that was interrupted, which happens to a process that is stopped and continued.
private func uninterrupted<Number: BinaryInteger>(_ call: () -> Number) -> Number {
    while true {
        let result = call()
        if result != -1 || errno != EINTR { return result }
    }
}

/// Runs blocking work on a thread of its own, so that it takes none of those that handlers run on, and yet
/// within the test's task, so that what it expects is reported as that test's.
func onThread<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
    try await OwnThread().run(work)
}

private actor OwnThread {
    private let thread = ThreadExecutor(name: "raw-client")
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    func run<Result: Sendable>(_ work: @Sendable () throws -> Result) throws -> Result { try work() }
}
