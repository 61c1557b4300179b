import CCurl
import Core
import Glibc

/// Where a connection can go.
struct SocketAddress: Sendable {
    let family: Int32
    private let storage: sockaddr_storage
    private let length: socklen_t

    init?(_ found: addrinfo) {
        guard let address = found.ai_addr, Int(found.ai_addrlen) <= MemoryLayout<sockaddr_storage>.size else {
            return nil
        }
        family = found.ai_family
        length = found.ai_addrlen
        var storage = sockaddr_storage()
        memcpy(&storage, address, Int(found.ai_addrlen))
        self.storage = storage
    }

    /// False where the system refuses at once.
    func connect(_ descriptor: Int32) -> Bool {
        var storage = storage
        return withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(descriptor, $0, length) == 0 || errno == EINPROGRESS
            }
        }
    }
}

/// The addresses of hosts, as far as they are known already.
struct HostNames {
    /// As long as libcurl keeps them at most: services move when they are started anew.
    static let lifetime: Duration = .seconds(30)

    private var known: [String: (addresses: [SocketAddress], end: Duration)] = [:]

    /// `nil` for a name that has to be looked up.
    mutating func addresses(of target: Target, at now: Duration) -> [SocketAddress]? {
        if let found = known[target.origin] {
            if found.end > now { return found.addresses }
            known[target.origin] = nil
        }
        guard let found = Self.ask(target, flags: AI_NUMERICHOST) else { return nil }
        remember(found, for: target, at: now)
        return found
    }

    mutating func remember(_ addresses: [SocketAddress], for target: Target, at now: Duration) {
        if known.count > 1000 { known = [:] }
        known[target.origin] = (addresses, now + Self.lifetime)
    }

    mutating func forget(_ target: Target) { known[target.origin] = nil }

    /// Asks the system, which may take seconds, on a thread of its own; tells on the loop's.
    static func lookUp(
        _ target: Target, on events: EventLoop, _ tell: @escaping ([SocketAddress]?) -> Void
    ) {
        // Safe: made and called on the loop's thread, and only carried by the other.
        nonisolated(unsafe) let tell = tell
        startThread(name: "http-names") {
            let found = ask(target, flags: 0)
            events.perform { tell(found) }
        }
    }

    private static func ask(_ target: Target, flags: Int32) -> [SocketAddress]? {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = flags | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        // An IPv6 address stands in brackets.
        let name = target.host.filter { $0 != "[" && $0 != "]" }
        guard getaddrinfo(name, String(target.port), &hints, &found) == 0 else { return nil }
        defer { freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var next = found
        while let entry = next {
            if let address = SocketAddress(entry.pointee) { addresses.append(address) }
            next = entry.pointee.ai_next
        }
        return addresses.isEmpty ? nil : addresses
    }
}
