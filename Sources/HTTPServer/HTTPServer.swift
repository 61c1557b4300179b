import CMicroHTTPD
public import Core
import Glibc
public import HTTP
import Synchronization

/// The server could not start.
public struct ListenError: Error, Equatable, CustomStringConvertible {
    public let description: String
}

/// Serves a `Responder` over HTTP/1.1.
///
/// `bind()` takes the port, so that one in use is an error at start; `run()` serves until it is cancelled,
/// then stops accepting, lets running handlers finish, and closes.
public final class HTTPServer: Service {
    public let name: String
    private let settings: ServerSettings
    private let core: ServerCore

    private struct Bound {
        var socket: Int32?
        var port = 0
    }
    private let bound = Mutex(Bound())

    public init(
        _ settings: ServerSettings, _ responder: any Responder, name: String = "http", log: Log = .silent,
        metrics: Metrics = Metrics(), time: any TimeSource = SystemTime()
    ) {
        self.name = name
        self.settings = settings
        core = ServerCore(responder, settings, log: log, metrics: metrics, time: time)
    }

    deinit { bound.withLock { if let socket = $0.socket { close(socket) } } }

    /// Where the server listens; 0 before `bind()`.
    public var port: Int { bound.withLock { $0.port } }

    /// How many connections are open.
    public var connectionCount: Int { core.registry.withLock { $0.accepted } }

    /// Takes the port. Clients may connect from now on; they are served once `run()` is called.
    public func bind() throws {
        try bound.withLock { bound in
            guard bound.port == 0 else { return }
            let (socket, port) = try listen()
            bound = Bound(socket: socket, port: port)
        }
    }

    public func run() async throws {
        try bind()
        let listener = bound.withLock { bound in
            defer { bound.socket = nil }
            return bound.socket
        }
        guard let listener else { throw ListenError(description: "\(name) has been run already") }
        let daemons = try (0..<settings.threads).map { number in
            guard let daemon = Daemon(core, settings, name: "http-\(number)") else {
                close(listener)
                throw ListenError(description: "\(name) could not start: \(Daemon.lastMessage)")
            }
            return daemon
        }
        for daemon in daemons { await daemon.start() }
        let gatekeeper = Gatekeeper(core, listener: listener, daemons: daemons)
        core.log.info(
            "http.listening", ["host": .text(settings.host), "port": .int(port), "tls": .flag(core.isTLS)])
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                startThread(name: "http-gate") {
                    gatekeeper.run()
                    continuation.resume()
                }
            }
        } onCancel: {
            gatekeeper.stop()
        }
        for daemon in daemons { await daemon.stop() }
        core.log.info("http.stopped", ["port": .int(port)])
    }

    private func listen() throws -> (Int32, Int) {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV
        var found: UnsafeMutablePointer<addrinfo>?
        let host = settings.host.isEmpty ? nil : settings.host
        let failure = getaddrinfo(host, String(settings.port), &hints, &found)
        guard failure == 0, let first = found else {
            throw ListenError(
                description: "cannot listen on \(settings.host): \(String(cString: gai_strerror(failure)))")
        }
        defer { freeaddrinfo(found) }
        let address = first.pointee
        let socket = Glibc.socket(
            address.ai_family,
            address.ai_socktype | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw refusal("no socket") }
        var yes: Int32 = 1
        setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        guard Glibc.bind(socket, address.ai_addr, address.ai_addrlen) == 0, Glibc.listen(socket, 1024) == 0
        else {
            defer { close(socket) }
            throw refusal(errno == EADDRINUSE ? "another program listens there" : systemMessage(errno))
        }
        var taken = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let port = withUnsafeMutablePointer(to: &taken) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = getsockname(socket, $0, &length) }
            // The port stands at the same place for IPv4 and IPv6.
            return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                Int(UInt16(bigEndian: $0.pointee.sin_port))
            }
        }
        return (socket, port)
    }

    private func refusal(_ reason: String) -> ListenError {
        ListenError(description: "cannot listen on \(settings.host):\(settings.port): \(reason)")
    }
}
