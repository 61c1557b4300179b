import CPostgres
import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Asks the server to stop what a connection runs, or cuts the connection, from any thread.
final class PostgresInterrupter: Interrupter {
    private struct State {
        var current: Ticket?
        var start = Duration.zero
        var limit = Duration.zero
        var asked = 0
        var wasAsked = false
        var isOpen = true
    }
    // Safe: libpq made this handle to be used from other threads; it lives as long as this object.
    private nonisolated(unsafe) let handle: OpaquePointer?
    private let socket: Int32
    private let time = SystemTime()
    private let state = Mutex(State())

    /// What a server may take beyond a statement's own limit before its connection is cut.
    private static let grace = Duration.seconds(5)

    init(_ connection: OpaquePointer) {
        handle = PQgetCancel(connection)
        socket = PQsocket(connection)
    }

    deinit { PQfreeCancel(handle) }

    /// The connection's descriptor is about to be closed and may belong to another file soon.
    func close() { state.withLock { $0.isOpen = false } }

    func enter(_ ticket: Ticket, limit: Duration) {
        let start = time.uptime
        state.withLock { state in
            state.current = ticket
            state.start = start
            state.limit = limit
        }
        if ticket.isCancelled { interrupt(ticket) }
    }

    /// Whether a request is on its way, which `leave` would wait for.
    var isAsked: Bool { state.withLock { $0.asked > 0 } }

    /// Ends the statement; says whether, if the server stopped it, it was for us and not for its time limit:
    /// its one code for both leaves that open. A request that is still on its way is waited for, lest it meets
    /// the next statement; where that is in the same batch it still may, long before its time is over.
    func leave() -> Bool {
        let now = time.uptime
        let isEarly = state.withLock { state in
            state.current = nil
            return now - state.start < state.limit / 2
        }
        let until = now + Self.grace
        while state.withLock({ $0.asked > 0 }), time.uptime < until { _ = poll(nil, 0, 1) }
        return state.withLock { state in
            defer { state.wasAsked = false }
            return state.wasAsked || isEarly
        }
    }

    func interrupt(_ ticket: Ticket) {
        let isCurrent = state.withLock { state in
            guard state.isOpen, state.current === ticket, state.asked == 0 else { return false }
            state.asked += 1
            state.wasAsked = true
            return true
        }
        guard isCurrent else { return }
        // PQcancel connects and blocks, so it has a thread of its own.
        startThread(name: "pg-cancel") { [self] in
            var reason = [CChar](repeating: 0, count: 256)
            PQcancel(handle, &reason, Int32(reason.count))
            state.withLock { $0.asked -= 1 }
        }
    }

    func lookAfter() {
        let now = time.uptime
        let unheard: Ticket? = state.withLock { state in
            guard state.isOpen else { return nil }
            if state.current != nil, state.start + state.limit + Self.grace <= now {
                _ = shutdown(socket, Int32(SHUT_RDWR))
            }
            // A request that overtakes its statement finds the server idle and has no effect.
            return state.current?.isCancelled == true ? state.current : nil
        }
        if let unheard { interrupt(unheard) }
    }
}
