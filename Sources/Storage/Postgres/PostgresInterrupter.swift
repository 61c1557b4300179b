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
        /// When the statement must have ended, by the server's own limit and some grace.
        var overdue: Duration?
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
        let overdue = time.uptime + limit + Self.grace
        state.withLock { state in
            state.current = ticket
            state.overdue = overdue
        }
        if ticket.isCancelled { interrupt(ticket) }
    }

    /// Ends the statement; says whether the server was asked to stop it, or one before it. A request that is
    /// still on its way is waited for: it must not meet the next statement.
    func leave() -> Bool {
        state.withLock { state in
            state.current = nil
            state.overdue = nil
        }
        let until = time.uptime + Self.grace
        while state.withLock({ $0.asked > 0 }), time.uptime < until { _ = poll(nil, 0, 1) }
        return state.withLock { state in
            defer { state.wasAsked = false }
            return state.wasAsked
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

    func severIfOverdue() {
        let now = time.uptime
        state.withLock { state in
            guard state.isOpen, let overdue = state.overdue, overdue <= now else { return }
            _ = shutdown(socket, Int32(SHUT_RDWR))
        }
    }
}
