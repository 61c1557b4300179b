import Core
import Synchronization

/// Connections of one kind, and the calls that wait for them, first come first served.
///
/// Each connection has a thread, on which it may block: for transactions, cursors and connecting. Where it can
/// be watched, single statements, which are most of all work, are sent and received on a loop, since waking a
/// thread for each costs as much as the statement: on the caller's own, so that it goes on there without any
/// change of threads, or on the pool's one for all who have none. A connection goes over from one to the other
/// when it is wanted there, and stays until it is wanted back.
///
/// A free connection fetches its work itself, several statements at once when several wait: what queued up
/// goes out as one batch.
///
/// It knows them as `any BlockingConnection`: generic over their type it would be called through `any Database`
/// without being made for any, and would look up types at run time, which took a third of our part of a statement.
final class ConnectionPool: Sendable {
    enum Work {
        case statement(SQL, CheckedContinuation<Rows, any Error>)
        /// Runs on the connection's thread; what it returns says what becomes of the connection then.
        case session((Lane) -> AfterSession, fail: (any Error) -> Void)
    }
    enum AfterSession { case free, leased }

    // Safe: a job is made by one task and used by one lane; all hand-overs go through the pool's lock.
    final class Job: @unchecked Sendable {
        let work: Work
        let limit: Duration
        let deadline: Duration
        let ticket: Ticket
        var reruns = 0

        init(_ work: Work, limit: Duration, deadline: Duration, ticket: Ticket) {
            self.work = work
            self.limit = limit
            self.deadline = deadline
            self.ticket = ticket
        }

        var isStatement: Bool {
            if case .statement = work { true } else { false }
        }

        func fail(_ error: any Error) {
            switch work {
            case .statement(_, let waiter): waiter.resume(throwing: error)
            case .session(_, let fail): fail(error)
            }
        }
    }

    /// A thread and its connection.
    // Safe: what is not behind `shared` is touched by whoever has the lane: its thread, the loop, or neither
    // while it is idle. It changes hands through the pool's lock and the inboxes of both.
    final class Lane: @unchecked Sendable {
        let thread: ThreadExecutor
        var connection: (any BlockingConnection)?
        /// The connection, if it can be watched.
        var watched: (any WatchedConnection)?
        /// The loop that has the lane, if one has.
        var loop: EventLoop?
        var batch: Batch?
        private let shared = Mutex<(any Interrupter)?>(nil)

        init(name: String) { thread = ThreadExecutor(name: name) }

        var interrupter: (any Interrupter)? {
            get { shared.withLock { $0 } }
            set { shared.withLock { $0 = newValue } }
        }
    }

    /// Statements that a connection works on.
    struct Batch {
        let jobs: [Job]
        let started: Duration
        var again: [Job] = []
    }

    /// A lane that is about to get to work, and where.
    enum Start {
        case onThread(Lane)
        case onLoop(Lane, EventLoop)
    }
    enum Taken {
        case jobs([Job])
        case nothing
        case closed
    }

    struct State {
        var queue = Queue<Job>()
        /// Each with its own thread.
        var idle: [Lane] = []
        /// Loops have them.
        var idleOnLoop: [Lane] = []
        var lanes: [Lane] = []
        var outage: Outage?
        var isTicking = false
        var isClosed = false
        var closers: [CheckedContinuation<Void, Never>] = []
    }
    /// The server is away; one lane tries again and again, the others wait for it.
    struct Outage {
        let since: Duration
        var reason: String
    }

    let kind: any BlockingConnection.Type
    let dialect: Dialect
    let open: @Sendable () throws -> any BlockingConnection
    let size: Int
    let batchLimit: Int
    let context: PoolContext
    let state = Mutex(State())
    let loopSlot: Mutex<EventLoop?>
    /// Until the pool is closed.
    var loop: EventLoop? { loopSlot.withLock { $0 } }

    init<Connection: BlockingConnection>(
        of kind: Connection.Type, _ target: Connection.Target, size: Int, batch: Int, _ context: PoolContext
    ) {
        self.kind = kind
        dialect = Connection.dialect
        open = { try Connection(target) }
        self.size = size
        batchLimit = batch
        self.context = context
        loopSlot = Mutex(
            kind is any WatchedConnection.Type ? EventLoop(name: "pg-\(context.name)") : nil)
    }

    deinit {
        // Without `close`: the lanes' threads end with their executors, the connections with their lanes.
        let open = state.withLock { $0.lanes.count }
        context.metrics.open.add(-Double(open))
    }
}
