import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// No port is free: something holds thousands of them.
public struct NoFreePort: Error {}

/// This machine, talked to through 127.0.0.1.
public enum Loopback {
    private static let handedOut = Mutex<Set<Int>>([])

    /// A port nobody listens on.
    ///
    /// It lies below the range from which the kernel takes the local ports of outgoing connections
    /// (32768 and up): otherwise a client that keeps trying to reach a killed server would sooner or later
    /// be given the server's own port, and the server could not come back.
    public static func freePort() throws -> Int {
        let random = SystemRandom()
        for _ in 0..<1000 {
            let port = random.int(in: 15_000...31_999)
            let isNew = handedOut.withLock { $0.insert(port).inserted }
            if isNew && isFree(port) { return port }
        }
        throw NoFreePort()
    }

    public static func isFree(_ port: Int) -> Bool {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard file >= 0 else { return false }
        defer { close(file) }
        var yes: Int32 = 1
        setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        return withAddress(port) { bind(file, $0, $1) == 0 }
    }

    /// What the server on `port` says first to `question`; `nil` when nobody is there or none comes in a
    /// second. Blocks.
    public static func ask(_ port: Int, _ question: String, answerLimit: Int = 4096) -> String? {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var second = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &second, socklen_t(MemoryLayout<timeval>.size))
        guard withAddress(port, { connect(file, $0, $1) == 0 }) else { return nil }
        var question = question
        let sent = question.withUTF8 { send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent == question.utf8.count else { return nil }
        var buffer = [UInt8](repeating: 0, count: answerLimit)
        let count = recv(file, &buffer, buffer.count, 0)
        return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : nil
    }

    private static func withAddress<Result>(
        _ port: Int, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
