import CMicroHTTPD
import Core
import Glibc
import Synchronization

/// libmicrohttpd on a loop: it reads, parses and writes there, and handlers may run there too.
///
/// It could run threads of its own, but then each request that waits for something is handed from its thread
/// to another and back, and the waking costs as much as all the rest.
// Safe: libmicrohttpd is called on the loop's thread alone, except for resuming, which it is made for.
final class Daemon: LoopPassenger, LoopSocket, @unchecked Sendable {
    let core: ServerCore
    let loop: EventLoop
    /// Whether there is something to do. The loop's thread alone knows.
    var isStirred = false
    /// How often in a row there was more to do.
    private var busyTurns = 0
    private static let turnsBetweenLooks = 100
    /// Where tasks that answer run; `nil` for Swift's own threads.
    let executor: EventLoop?

    private let handlers: UnsafeMutablePointer<convoke_handlers>
    private let daemon: OpaquePointer
    private static let last = Mutex("")

    init?(_ core: ServerCore, _ settings: ServerSettings, name: String) {
        handlers = .allocate(capacity: 1)
        handlers.initialize(to: Self.functions)
        let started = convoke_start_daemon(
            handlers, UInt32(settings.limits.connections + 1), settings.limits.headBytes * 2,
            settings.tls?.certificate, settings.tls?.key.expose())
        guard let started else {
            handlers.deallocate()
            return nil
        }
        daemon = started
        self.core = core
        loop = EventLoop(name: name)
        executor = settings.handlers == .onLoop ? loop : nil
        // It lives for as long as this: `stop` is the end of both.
        handlers.pointee.server = Unmanaged.passUnretained(self).toOpaque()
    }

    deinit { handlers.deallocate() }

    /// What libmicrohttpd last complained of.
    static var lastMessage: String { last.withLock { $0 } }

    func start() async {
        await onLoop {
            let isWatched = self.loop.watch(convoke_daemon_epoll(self.daemon), for: self, onlyReadable: true)
            precondition(isWatched, "the system refuses to watch")
            self.loop.board(self)
        }
    }

    /// Once no connection is left.
    func stop() async {
        await onLoop {
            self.loop.forget(convoke_daemon_epoll(self.daemon))
            self.loop.leave(self)
            MHD_stop_daemon(self.daemon)
        }
    }

    private func onLoop(_ work: @escaping @Sendable () -> Void) async {
        await withCheckedContinuation { done in
            loop.perform {
                work()
                done.resume()
            }
        }
    }

    /// Takes over an accepted socket.
    func add(_ socket: Int32, _ address: sockaddr_storage, _ length: socklen_t) {
        loop.perform {
            var address = address
            let isTaken = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    convoke_add_connection(self.daemon, socket, $0, length)
                }
            }
            if isTaken == 0 { self.core.dismiss(socket) }
            self.isStirred = true
        }
    }

    // MARK: - The loop's thread

    func isReady(_: LoopEvents) { isStirred = true }

    func turn(now: Duration) -> Duration? {
        guard isStirred else { return nil }
        isStirred = false
        if convoke_run(daemon) != 0 {
            isStirred = true
            busyTurns += 1
            if busyTurns % Self.turnsBetweenLooks == 0 { cutBlocked() }
        } else {
            busyTurns = 0
        }
        return isStirred ? now : nil
    }

    /// Ends connections that libmicrohttpd has no room to read from: 0.9.75 asks to be run again at once for
    /// as long as one is there, such as one with a chunk whose first line never ends. In threads of its own it
    /// answers such a client, but on a loop of ours it does not.
    private func cutBlocked() {
        for connection in core.connections(of: self) where connection.awaitsBody {
            let bytes = connection.bytesIn.load(ordering: .relaxed)
            guard convoke_unread(connection.socket) > 0 else { continue }
            // Whatever can be read has been, since the last look. That the socket is shut down would not be
            // noticed: libmicrohttpd does not watch what it means to read at once.
            if connection.bytesAtLook == bytes { convoke_close_soon(connection.handle.value) }
            connection.bytesAtLook = bytes
        }
    }

    private static func of(_ server: UnsafeMutableRawPointer) -> Daemon {
        Unmanaged<Daemon>.fromOpaque(server).takeUnretainedValue()
    }

    /// What libmicrohttpd calls.
    private static var functions: convoke_handlers {
        convoke_handlers(
            server: nil,
            opened: { server, handle, socket in
                guard let server, let handle else { return nil }
                let daemon = Daemon.of(server)
                return Unmanaged.passRetained(daemon.core.open(socket, handle, daemon)).toOpaque()
            },
            closed: { server, context in
                guard let server, let context else { return }
                let connection = Unmanaged<Connection>.fromOpaque(context).takeRetainedValue()
                Daemon.of(server).core.closed(connection)
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
                guard let text else { return }
                let message = String(cString: text)
                Daemon.last.withLock { $0 = message }
                guard let server else { return }
                Daemon.of(server).core.log.debug("http.library", ["message": .text(message)])
            })
    }
}
