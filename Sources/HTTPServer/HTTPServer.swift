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
        let handlers = Handlers(core)
        let certificate = settings.tls?.certificate
        let key = settings.tls?.key.expose()
        guard
            let daemon = convoke_start_daemon(
                handlers.pointer, UInt32(settings.threads),
                UInt32(settings.limits.connections * (settings.threads + 1)),
                settings.limits.headBytes * 2, certificate, key)
        else {
            close(listener)
            throw ListenError(description: "\(name) could not start: \(handlers.lastMessage)")
        }
        let gatekeeper = Gatekeeper(core, listener: listener, daemon: daemon)
        core.log.info(
            "http.listening", ["host": .text(settings.host), "port": .int(port), "tls": .flag(core.isTLS)])
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                startThread(name: "http-gate") {
                    gatekeeper.run()
                    handlers.release()
                    continuation.resume()
                }
            }
        } onCancel: {
            gatekeeper.stop()
        }
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

/// The functions libmicrohttpd calls. They live as long as its daemon.
// Safe: filled once before the daemon starts, and only read afterwards.
private final class Handlers: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<convoke_handlers>
    private let core: ServerCore
    private static let last = Mutex("")

    init(_ core: ServerCore) {
        self.core = core
        pointer = .allocate(capacity: 1)
        pointer.initialize(
            to: convoke_handlers(
                server: Unmanaged.passRetained(core).toOpaque(),
                opened: { server, _, socket in
                    guard let server else { return nil }
                    let connection = Unmanaged<ServerCore>.fromOpaque(server).takeUnretainedValue().open(
                        socket)
                    return Unmanaged.passRetained(connection).toOpaque()
                },
                closed: { server, context in
                    guard let server, let context else { return }
                    let connection = Unmanaged<Connection>.fromOpaque(context).takeRetainedValue()
                    Unmanaged<ServerCore>.fromOpaque(server).takeUnretainedValue().closed(connection)
                },
                target: { context, _, text in
                    guard let context, let text else { return }
                    Unmanaged<Connection>.fromOpaque(context).takeUnretainedValue().begin(target: text)
                },
                access: { context, connection, method, version, upload, size in
                    guard let context, let connection, let method, let version, let size else { return 0 }
                    return Unmanaged<Connection>.fromOpaque(context).takeUnretainedValue()
                        .proceed(connection, method, version, upload, &size.pointee) ? 1 : 0
                },
                completed: { context in
                    guard let context else { return }
                    Unmanaged<Connection>.fromOpaque(context).takeUnretainedValue().end()
                },
                message: { server, text in
                    guard let server, let text else { return }
                    let message = String(cString: text)
                    Handlers.last.withLock { $0 = message }
                    Unmanaged<ServerCore>.fromOpaque(server).takeUnretainedValue()
                        .log.debug("http.library", ["message": .text(message)])
                }))
    }

    /// What libmicrohttpd last complained of.
    var lastMessage: String { Self.last.withLock { $0 } }

    func release() {
        if let server = pointer.pointee.server { Unmanaged<ServerCore>.fromOpaque(server).release() }
        pointer.deinitialize(count: 1)
        pointer.deallocate()
    }
}
