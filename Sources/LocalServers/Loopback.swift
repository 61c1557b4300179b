import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// No port is free: something holds thousands of them.
public struct NoFreePort: Error {
    public init() {}
}

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

    /// What the server on `port` answers to `question`: the first it says, or all until it hangs up; `nil`
    /// when nobody is there or nothing comes for `seconds`. Blocks.
    public static func ask(_ port: Int, _ question: String, untilEnd: Bool = false, seconds: Int = 1)
        -> String?
    {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(file, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard withAddress(port, { connect(file, $0, $1) == 0 }) else { return nil }
        var question = question
        let sent = question.withUTF8 { send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent == question.utf8.count else { return nil }
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        repeat {
            let count = recv(file, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            answer += buffer[..<count]
        } while untilEnd
        return answer.isEmpty ? nil : String(decoding: answer, as: UTF8.self)
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
