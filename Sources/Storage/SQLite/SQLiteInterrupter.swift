import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Stops what a connection runs: SQLite asks it, every thousand steps and while it waits for a lock.
///
/// Not `sqlite3_interrupt`: that one can come too late and meet the next statement.
final class SQLiteInterrupter: Interrupter {
    private struct State {
        var current: Ticket?
        var deadline = Duration.zero
    }
    private let time = SystemTime()
    private let state = Mutex(State())

    enum Verdict { case goOn, cancelled, timedOut }

    func enter(_ ticket: Ticket, limit: Duration) {
        let deadline = time.uptime + limit
        state.withLock { state in
            state.current = ticket
            state.deadline = deadline
        }
    }

    func leave() { state.withLock { $0.current = nil } }

    var verdict: Verdict {
        state.withLock { state in
            guard let current = state.current else { return .goOn }
            if current.isCancelled { return .cancelled }
            return time.uptime >= state.deadline ? .timedOut : .goOn
        }
    }

    /// For a lock that another process holds: false to give up.
    func waitForLock(_ attempt: Int32) -> Bool {
        guard verdict == .goOn, attempt < 2000 else { return false }
        _ = poll(nil, 0, min(1 + attempt / 4, 20))
        return true
    }

    /// The ticket itself carries the wish; the handlers look at it.
    func interrupt(_ ticket: Ticket) {}
    func lookAfter() {}
}
