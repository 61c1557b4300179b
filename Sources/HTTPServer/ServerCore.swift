import CMicroHTTPD
import Core
import Glibc
import HTTP
import Synchronization

/// An address as connections are counted by: a whole IPv4 address, or the network half of an IPv6 one, of
/// which every client has a whole network to itself.
struct AddressKey: Hashable, Sendable {
    let high: UInt64
}

/// What the threads of a running server share.
final class ServerCore: Sendable {
    let responder: any Responder
    let limits: ServerSettings.Limits
    let isTLS: Bool
    let log: Log
    let time: any TimeSource
    let refused: Counter
    let opened: Counter
    let current: Gauge

    /// Milliseconds of `time.uptime`, as the gatekeeper last read them: precise enough for time-outs, and
    /// free to look at for every request.
    let clock: Atomic<Int64>
    private let stopping = Atomic<Bool>(false)
    var isStopping: Bool { stopping.load(ordering: .relaxed) }

    struct Registry {
        var connections: [ObjectIdentifier: Connection] = [:]
        /// Accepted ones, whether or not libmicrohttpd has seen them yet.
        var perAddress: [AddressKey: Int] = [:]
        var accepted = 0
        /// Accepted sockets that libmicrohttpd has not announced yet.
        var arriving: [Int32: (address: String, key: AddressKey)] = [:]
    }
    let registry = Mutex(Registry())

    init(
        _ responder: any Responder, _ settings: ServerSettings, log: Log, metrics: Metrics,
        time: any TimeSource
    ) {
        self.responder = responder
        limits = settings.limits
        isTLS = settings.tls != nil
        self.log = log
        self.time = time
        refused = metrics.counter("http_server_refused_total", "Requests that were refused as malformed")
        opened = metrics.counter("http_server_connections_total", "Connections accepted")
        current = metrics.gauge("http_server_connections", "Connections open now")
        clock = Atomic(time.uptime.milliseconds)
    }

    func stop() { stopping.store(true, ordering: .relaxed) }

    /// Notes an accepted socket, or refuses it because there are too many.
    func admit(_ socket: Int32, _ address: String, _ key: AddressKey) -> Bool {
        registry.withLock { registry in
            guard registry.accepted < limits.connections,
                registry.perAddress[key, default: 0] < limits.connectionsPerAddress
            else { return false }
            registry.accepted += 1
            registry.perAddress[key, default: 0] += 1
            registry.arriving[socket] = (address, key)
            return true
        }
    }

    func open(_ socket: Int32, _ handle: OpaquePointer, _ daemon: Daemon) -> Connection {
        registry.withLock { registry in
            let from = registry.arriving.removeValue(forKey: socket)
            let connection = Connection(
                socket: socket, address: from?.address ?? "", key: from?.key ?? AddressKey(high: 0),
                server: self, daemon: daemon, handle: handle)
            registry.connections[ObjectIdentifier(connection)] = connection
            opened.increment()
            current.set(registry.accepted)
            return connection
        }
    }

    func closed(_ connection: Connection) {
        registry.withLock { registry in
            registry.connections[ObjectIdentifier(connection)] = nil
            forget(connection.key, &registry)
        }
    }

    func connections(of daemon: Daemon) -> [Connection] {
        registry.withLock { $0.connections.values.filter { $0.daemon === daemon } }
    }

    /// A socket that libmicrohttpd did not take.
    func dismiss(_ socket: Int32) {
        registry.withLock { registry in
            guard let (_, key) = registry.arriving.removeValue(forKey: socket) else { return }
            forget(key, &registry)
        }
    }

    private func forget(_ key: AddressKey, _ registry: inout Registry) {
        registry.accepted -= 1
        let left = registry.perAddress[key, default: 1] - 1
        registry.perAddress[key] = left > 0 ? left : nil
        current.set(registry.accepted)
    }
}
