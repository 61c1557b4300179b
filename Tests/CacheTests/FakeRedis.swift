import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A server on loopback that says what a test wants said: for what a real Redis never answers.
final class FakeRedis: Sendable {
    /// What to say to the bytes that arrived on a connection, the first bytes on it being number 0; `nil`
    /// hangs up.
    typealias Answer = @Sendable (_ number: Int, _ said: String) -> [UInt8]?

    let port: Int
    private let listener: Int32
    private let connections = Metrics().counter("connections", "Accepted")

    /// How many connections there were.
    var accepted: Int { connections.value }

    init(_ answer: @escaping Answer) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 16) == 0
                    && getsockname(listener, address, &length) == 0
            }
        }
        guard isBound else { throw FakeFailed() }
        self.listener = listener
        port = Int(UInt16(bigEndian: address.sin_port))
        startThread(name: "fake-redis") { [listener, connections] in
            while case let peer = accept(listener, nil, nil), peer >= 0 {
                connections.increment()
                startThread(name: "fake-peer") { Self.talk(peer, answer) }
            }
        }
    }

    deinit {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
    }

    private static func talk(_ peer: Int32, _ answer: Answer) {
        defer { close(peer) }
        var buffer = [UInt8](repeating: 0, count: 65_536)
        var number = 0
        while case let count = recv(peer, &buffer, buffer.count, 0), count > 0 {
            guard let said = answer(number, String(decoding: buffer[..<count], as: UTF8.self)) else { return }
            number += 1
            if !said.isEmpty, send(peer, said, said.count, Int32(MSG_NOSIGNAL)) < 0 { return }
        }
    }
}

struct FakeFailed: Error {}

private func loopback(_ port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
}

/// Says one line to a real Redis, past the driver, and returns what it answers first.
@discardableResult
func tell(redisAt port: Int, _ line: String) throws -> String {
    let peer = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(peer) }
    var address = loopback(port)
    let isConnected = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(peer, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
    let bytes = Array((line + "\r\n").utf8)
    guard isConnected, send(peer, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count else {
        throw FakeFailed()
    }
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = recv(peer, &buffer, buffer.count, 0)
    return String(decoding: buffer[..<max(count, 0)], as: UTF8.self)
}

/// The threads of this process that bear a name.
func threads(named name: String) -> Int {
    guard let folder = opendir("/proc/self/task") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while let entry = readdir(folder) {
        let id = withUnsafeBytes(of: entry.pointee.d_name) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        guard let file = fopen("/proc/self/task/\(id)/comm", "r") else { continue }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 32)
        if fgets(&line, 32, file) != nil {
            let comm = line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            if String(decoding: comm, as: UTF8.self) == name { count += 1 }
        }
    }
    return count
}

func openDescriptors() -> Int {
    guard let folder = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count
}

/// Holds a thread of the fake server until the test says so.
final class Gate: Sendable {
    private let state = Shared((isOpen: false, isWaitedFor: false))
    var isWaitedFor: Bool { state.withLock { $0.isWaitedFor } }
    func open() { state.withLock { $0.isOpen = true } }
    func wait() {
        state.withLock { $0.isWaitedFor = true }
        while !state.withLock({ $0.isOpen }) { _ = poll(nil, 0, 5) }
    }
}

/// A value that tasks and threads of a test share.
final class Shared<Value: Sendable>: Sendable {
    private let value: Mutex<Value>
    init(_ value: Value) { self.value = Mutex(value) }
    func withLock<Result: Sendable>(_ body: (inout Value) -> Result) -> Result {
        value.withLock { body(&$0) }
    }
}
