import CMicroHTTPD
import Core
import Glibc
import HTTP
import Synchronization

/// Accepts connections, and ends those that waste our time; on a thread of its own.
///
/// libmicrohttpd could accept by itself, but it shares its limits out among its threads, and it aborts the
/// process when a thread that has reached its limit is told to stop accepting at the same moment. Its
/// time-outs only know of silence, so a byte now and then holds a connection for ever; and it does not look
/// at suspended connections at all, so it would not notice that the client of a waiting handler has gone.
final class Gatekeeper: Sendable {
    private static let tick: Int32 = 100
    /// How often connections are looked at whose clients have gone without anyone noticing.
    private static let roll: Int64 = 500

    private let core: ServerCore
    private let listener: Int32
    private let alarm: Int32
    private let daemons: [Daemon]

    init(_ core: ServerCore, listener: Int32, daemons: [Daemon]) {
        self.core = core
        self.listener = listener
        self.daemons = daemons
        alarm = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    }

    deinit { close(alarm) }

    func stop() {
        core.stop()
        eventfd_write(alarm, 1)
    }

    /// Returns once the server has been told to stop and every connection is closed.
    func run() {
        var isAccepting = true
        var nextSweep: Int64 = 0
        var nextRoll: Int64 = 0
        var stopBegan: Int64?
        var accepted = 0
        while true {
            var watched = [
                pollfd(fd: alarm, events: Int16(POLLIN), revents: 0),
                pollfd(fd: isAccepting ? listener : -1, events: Int16(POLLIN), revents: 0),
            ]
            poll(&watched, 2, stopBegan == nil ? Self.tick : 10)
            let now = core.time.uptime.milliseconds
            core.clock.store(now, ordering: .relaxed)
            if core.isStopping, stopBegan == nil {
                stopBegan = now
                close(listener)
                isAccepting = false
                var count: eventfd_t = 0
                eventfd_read(alarm, &count)
            }
            if isAccepting { isAccepting = accept(&accepted) }
            let real = SystemTime().uptime.milliseconds
            guard real >= nextSweep || core.isStopping else { continue }
            nextSweep = real + Int64(Self.tick)
            if stopBegan == nil { isAccepting = true }
            let isOverdue = stopBegan.map { now - $0 > core.limits.finish.milliseconds } ?? false
            let left = sweep(now, isOverdue: isOverdue)
            if real >= nextRoll {
                nextRoll = real + Self.roll
                cutAbandoned()
            }
            if stopBegan != nil, left == 0 { break }
        }
    }

    // MARK: - Accepting

    /// False where the system has nothing left to give: try again later.
    private func accept(_ accepted: inout Int) -> Bool {
        for _ in 0..<256 {
            var address = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let socket = convoke_accept(listener, &address, &length)
            guard socket >= 0 else {
                switch errno {
                case EAGAIN: return true
                case EMFILE, ENFILE, ENOBUFS, ENOMEM:
                    core.log.warning("http.accept-failed", ["reason": .text(systemMessage(errno))])
                    return false
                default: continue
                }
            }
            let (text, key) = describe(&address)
            guard core.admit(socket, text, key) else {
                close(socket)
                continue
            }
            // In turn: all are alike to it, and each has about as much to do.
            daemons[accepted % daemons.count].add(socket, address, length)
            accepted &+= 1
        }
        return true
    }

    // MARK: - Looking after

    /// Ends what has overstayed; returns how many connections are left.
    private func sweep(_ now: Int64, isOverdue: Bool) -> Int {
        core.registry.withLock { registry in
            // Under the lock no connection is forgotten, and so none of the sockets is closed.
            var silent: [Connection] = []
            var sockets: [pollfd] = []
            for connection in registry.connections.values {
                look(at: connection, now)
                if isOverdue {
                    connection.exchange?.abandon()
                    cut(connection)
                    continue
                }
                guard let exchange = connection.exchange else { continue }
                if core.isStopping { exchange.endEvents() }
                if exchange.isSuspended {
                    silent.append(connection)
                    sockets.append(pollfd(fd: connection.socket, events: convoke_peer_closed, revents: 0))
                }
            }
            if !sockets.isEmpty, poll(&sockets, nfds_t(sockets.count), 0) > 0 {
                for (connection, socket) in zip(silent, sockets) where socket.revents != 0 {
                    connection.exchange?.abandon()
                }
            }
            return registry.accepted
        }
    }

    /// Ends connections that wait for bytes of a client who has closed its side.
    ///
    /// libmicrohttpd takes a short read for the last one there is, so where the end of the stream arrives
    /// together with some bytes it never hears of it.
    private func cutAbandoned() {
        core.registry.withLock { registry in
            var waiting: [Connection] = []
            var sockets: [pollfd] = []
            for connection in registry.connections.values where connection.awaitsBytes {
                waiting.append(connection)
                sockets.append(pollfd(fd: connection.socket, events: convoke_peer_closed, revents: 0))
            }
            guard !sockets.isEmpty, poll(&sockets, nfds_t(sockets.count), 0) > 0 else { return }
            for (connection, socket) in zip(waiting, sockets)
            where socket.revents != 0 && convoke_unread(socket.fd) == 0 {
                // What has been read but not looked at yet is not lost: such a connection moves on.
                let progress = connection.progress
                if connection.lastProgress == progress { cut(connection) }
                connection.lastProgress = progress
            }
        }
    }

    private func look(at connection: Connection, _ now: Int64) {
        let phase = connection.phase.load(ordering: .relaxed)
        let since = connection.since.load(ordering: .relaxed)
        let limits = core.limits
        switch phase {
        case .fresh:
            if core.isStopping || now - since > limits.head.milliseconds { cut(connection) }
        case .waiting:
            if core.isStopping || now - since > limits.idle.milliseconds { cut(connection) }
        case .head:
            if now - since > limits.head.milliseconds { timeOut(connection) }
        case .handling: break
        case .body:
            let isOurTurn = connection.exchange?.isSuspended ?? false
            let count = Int64(connection.bytesIn.load(ordering: .relaxed))
            if isStalled(connection, phase, since, now, isExcused: isOurTurn, count: { count }) {
                timeOut(connection)
            }
        case .answering:
            // A stream may be silent for as long as its handler is. Anything else that has nothing to send is
            // stuck: a file that has become shorter since its length was announced.
            let isOurTurn =
                (connection.exchange?.isStreaming ?? false) && convoke_unconfirmed(connection.socket) <= 0
            if isStalled(
                connection, phase, since, now, isExcused: isOurTurn,
                count: { convoke_confirmed(connection.socket) })
            {
                cut(connection)
            }
        }
    }

    /// Whether too few bytes have passed in the last `stall`.
    private func isStalled(
        _ connection: Connection, _ phase: Connection.Phase, _ since: Int64, _ now: Int64, isExcused: Bool,
        count: () -> Int64
    ) -> Bool {
        let last = connection.lastLook
        guard last.phase == phase, last.start >= since, !isExcused else {
            connection.lastLook = .init(phase: phase, start: max(since, now), bytes: count())
            return false
        }
        guard now - last.start > core.limits.stall.milliseconds else { return false }
        let bytes = count()
        if bytes - last.bytes < Int64(core.limits.bytesPerStall) { return true }
        connection.lastLook = .init(phase: phase, start: now, bytes: bytes)
        return false
    }

    private func timeOut(_ connection: Connection) {
        // libmicrohttpd sends nothing before it has an answer, so nothing gets in each other's way.
        if !core.isTLS {
            let problem = Problem(
                408, "too_slow", .init("The request came too slowly", "Запрос передаётся слишком медленно"))
            RawAnswer(problem.response(requestID: "", language: .english))?.send(to: connection.socket)
        }
        connection.exchange?.abandon()
        cut(connection)
    }

    /// libmicrohttpd reads the end of the stream and closes the connection by itself.
    private func cut(_ connection: Connection) { shutdown(connection.socket, Int32(SHUT_RDWR)) }
}

func systemMessage(_ code: Int32) -> String { strerror(code).map { String(cString: $0) } ?? "error \(code)" }

/// An address as text, and as what connections are counted by.
private func describe(_ address: inout sockaddr_storage) -> (String, AddressKey) {
    withUnsafePointer(to: &address) { pointer in
        if pointer.pointee.ss_family == sa_family_t(AF_INET) {
            return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { address in
                var number = address.pointee.sin_addr
                return (text(AF_INET, &number), AddressKey(high: UInt64(number.s_addr)))
            }
        }
        return pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { address in
            var number = address.pointee.sin6_addr
            let words = number.__in6_u.__u6_addr32
            let shown = text(AF_INET6, &number)
            // An IPv4 client of a socket that takes both is counted as itself, and shown as itself.
            if words.0 == 0, words.1 == 0, words.2 == UInt32(bigEndian: 0xFFFF), shown.hasPrefix("::ffff:") {
                return (String(shown.dropFirst(7)), AddressKey(high: UInt64(words.3)))
            }
            return (shown, AddressKey(high: UInt64(words.0) | UInt64(words.1) << 32))
        }
    }
}

private func text(_ family: Int32, _ number: UnsafeRawPointer) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { room in
        guard let start = room.baseAddress, inet_ntop(family, number, start, socklen_t(room.count)) != nil
        else {
            return ""
        }
        return String(cString: start)
    }
}
