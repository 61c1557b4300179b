import Core
import Synchronization

/// Connections of one kind, and the calls that wait for them, first come first served.
///
/// Each connection has a thread, on which it may block: for transactions, cursors and connecting. Where it can
/// be watched, single statements, which are most of all work, are sent and received on one loop for all
/// connections, since waking a thread for each costs as much as the statement. A connection goes over from
/// one to the other when it is wanted there, and stays until it is wanted back.
///
/// A free connection fetches its work itself, several statements at once when several wait: what queued up
/// goes out as one batch.
final class ConnectionPool<Connection: BlockingConnection>: Sendable {
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
        var connection: Connection?
        /// The connection, if it can be watched.
        var watched: (any WatchedConnection)?
        /// Set while the loop has the lane.
        var socket: LaneSocket<Connection>?
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
    private enum Start {
        case onThread(Lane)
        case onLoop(Lane)
        /// It is the loop's, and the work needs a thread.
        case leavingLoop(Lane)
    }
    private enum Taken {
        case jobs([Job])
        case nothing
        case closed
    }

    private struct State {
        var queue = Queue<Job>()
        /// Each with its own thread.
        var idle: [Lane] = []
        /// The loop has them.
        var idleOnLoop: [Lane] = []
        var lanes: [Lane] = []
        var outage: Outage?
        var isTicking = false
        var isClosed = false
        var closers: [CheckedContinuation<Void, Never>] = []
    }
    /// The server is away; one lane tries again and again, the others wait for it.
    private struct Outage {
        let since: Duration
        var reason: String
    }

    private let target: Connection.Target
    let size: Int
    private let batchLimit: Int
    private let context: PoolContext
    private let state = Mutex(State())
    private let loopSlot: Mutex<EventLoop?>
    /// Until the pool is closed.
    private var loop: EventLoop? { loopSlot.withLock { $0 } }

    init(_ target: Connection.Target, size: Int, batch: Int, _ context: PoolContext) {
        self.target = target
        self.size = size
        batchLimit = batch
        self.context = context
        loopSlot = Mutex(
            Connection.self is any WatchedConnection.Type ? EventLoop(name: "pg-\(context.name)") : nil)
    }

    deinit {
        // Without `close`: the lanes' threads end with their executors, the connections with their lanes.
        let open = state.withLock { $0.lanes.count }
        context.metrics.open.add(-Double(open))
    }
}

// MARK: - Calling

extension ConnectionPool {
    func run(_ sql: SQL, limit: Duration) async throws -> Rows {
        let ticket = Ticket()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiter in
                submit(.statement(sql, waiter), limit: limit, ticket)
            }
        } onCancel: {
            cancel(ticket)
        }
    }

    /// Runs `body` on a connection's thread.
    func session<Result: Sendable>(
        limit: Duration, _ body: @escaping @Sendable (Connection, Ticket) throws -> Result
    ) async throws -> Result {
        let ticket = Ticket()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<Result, any Error>) in
                submit(
                    .session(
                        { lane in
                            waiter.resume(with: Self.perform(body, on: lane, ticket))
                            return .free
                        }, fail: { waiter.resume(throwing: $0) }),
                    limit: limit, ticket)
            }
        } onCancel: {
            cancel(ticket)
        }
    }

    /// Takes a connection out of the pool for a while.
    func lease() async throws -> Lane {
        let ticket = Ticket()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<Lane, any Error>) in
                submit(
                    .session(
                        { lane in
                            waiter.resume(returning: lane)
                            return .leased
                        }, fail: { waiter.resume(throwing: $0) }),
                    limit: context.settings.statementTimeout, ticket)
            }
        } onCancel: {
            cancel(ticket)
        }
    }

    /// Runs `body` on the thread of a leased connection. `isCancellable` is false for cleaning up.
    func perform<Result: Sendable>(
        on lane: Lane, isCancellable: Bool = true,
        _ body: @escaping @Sendable (Connection, Ticket) throws -> Result
    ) async throws -> Result {
        let ticket = Ticket()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<Result, any Error>) in
                lane.thread.perform { waiter.resume(with: Self.perform(body, on: lane, ticket)) }
            }
        } onCancel: {
            guard isCancellable else { return }
            ticket.cancel()
            lane.interrupter?.interrupt(ticket)
        }
    }

    /// Gives a leased connection back.
    func release(_ lane: Lane) {
        lane.thread.perform {
            self.context.metrics.inUse.add(-1)
            self.replaceIfBroken(lane)
            self.drain(lane)
        }
    }

    private static func perform<Result>(
        _ body: (Connection, Ticket) throws -> Result, on lane: Lane, _ ticket: Ticket
    ) -> Swift.Result<Result, any Error> {
        guard let connection = lane.connection else {
            return .failure(StorageError.unavailable(reason: "the connection was closed", mayHaveRun: false))
        }
        return Swift.Result {
            do {
                guard !ticket.isCancelled else { throw CancellationError() }
                return try body(connection, ticket)
            } catch ConnectionSignal.interrupted where ticket.isCancelled {
                throw CancellationError()
            }
        }
    }

    private func submit(_ work: Work, limit: Duration, _ ticket: Ticket) {
        let now = context.time.uptime
        let job = Job(work, limit: limit, deadline: now + context.settings.waiting, ticket: ticket)
        var wantsTicks = false
        let (refusal, start): ((any Error)?, Start?) = state.withLock { state in
            if ticket.isCancelled { return (CancellationError(), nil) }
            if state.isClosed { return (Self.closed, nil) }
            if let outage = state.outage, now - outage.since > context.settings.patience {
                return (StorageError.unavailable(reason: outage.reason, mayHaveRun: false), nil)
            }
            guard state.queue.count < context.settings.waitingCalls else {
                return (StorageError.poolExhausted, nil)
            }
            state.queue.append(job)
            context.metrics.waiting.set(state.queue.count)
            wantsTicks = !state.isTicking
            state.isTicking = true
            guard state.outage == nil else { return (nil, nil) }
            return (nil, wakeLane(&state, isForStatement: job.isStatement))
        }
        if let refusal { return job.fail(refusal) }
        if let start { begin(start) }
        if wantsTicks { startTicking() }
    }

    private func begin(_ start: Start) {
        switch start {
        case .onThread(let lane): lane.thread.perform { self.drain(lane) }
        case .onLoop(let lane): loop?.perform { self.drainOnLoop(lane) }
        case .leavingLoop(let lane): onThread(lane) { self.drain(lane) }
        }
    }

    /// A lane that is where the work wants it, or another one, or a new one.
    private func wakeLane(_ state: inout State, isForStatement: Bool) -> Start? {
        if isForStatement, let lane = state.idleOnLoop.popLast() { return .onLoop(lane) }
        if let lane = state.idle.popLast() {
            // To connect is to block.
            return isForStatement && lane.watched != nil ? .onLoop(lane) : .onThread(lane)
        }
        if let lane = state.idleOnLoop.popLast() { return .leavingLoop(lane) }
        guard state.lanes.count < size else { return nil }
        let lane = Lane(
            name: "\(Connection.dialect == .postgres ? "pg" : "sq")-\(context.name)-\(state.lanes.count)")
        state.lanes.append(lane)
        context.metrics.open.add(1)
        return .onThread(lane)
    }

    private func cancel(_ ticket: Ticket) {
        ticket.cancel()
        let (waiting, lanes) = state.withLock { state in
            let waiting = state.queue.removeAll { $0.ticket === ticket }
            if !waiting.isEmpty { context.metrics.waiting.set(state.queue.count) }
            return (waiting, waiting.isEmpty ? state.lanes : [])
        }
        for job in waiting { job.fail(CancellationError()) }
        for lane in lanes { lane.interrupter?.interrupt(ticket) }
    }

    static var closed: StorageError { .unavailable(reason: "the database was closed", mayHaveRun: false) }
}

// MARK: - Working, on a lane's thread

extension ConnectionPool {
    private func drain(_ lane: Lane) {
        while case .jobs(let jobs) = take(for: lane) { guard work(on: jobs, lane) else { return } }
    }

    /// Whether the lane is free for more.
    private func work(on jobs: [Job], _ lane: Lane) -> Bool {
        guard connect(lane) else {
            giveBack(jobs, lane)
            return false
        }
        context.metrics.inUse.add(1)
        let isLeased = serve(jobs, lane)
        if isLeased { return false }
        context.metrics.inUse.add(-1)
        replaceIfBroken(lane)
        return true
    }

    /// The next call, or several single statements; without any the lane is idle.
    private func take(for lane: Lane, onLoop isOnLoop: Bool = false) -> Taken {
        var refused: [Job] = []
        var closers: [CheckedContinuation<Void, Never>] = []
        let taken: Taken = state.withLock { state in
            if state.isClosed {
                guard !isOnLoop else { return .closed }
                // What a lane has put back since, because it could not connect or has to run again.
                refused = state.queue.removeAll { _ in true }
                disconnect(lane)
                state.lanes.removeAll { $0 === lane }
                context.metrics.open.add(-1)
                if state.lanes.isEmpty { swap(&closers, &state.closers) }
                return .closed
            }
            guard let first = state.queue.popFirst() else {
                if lane.socket == nil { state.idle.append(lane) } else { state.idleOnLoop.append(lane) }
                return .nothing
            }
            var jobs = [first]
            if first.isStatement {
                // A fair share, so that the other connections find work as well.
                let share = min(batchLimit, state.queue.count / max(1, state.lanes.count) + 1)
                while jobs.count < share, let next = state.queue.first, next.isStatement {
                    _ = state.queue.popFirst()
                    jobs.append(next)
                }
            }
            context.metrics.waiting.set(state.queue.count)
            return .jobs(jobs)
        }
        for job in refused { job.fail(Self.closed) }
        for closer in closers { closer.resume() }
        return taken
    }

    /// Returns whether a session has leased the lane.
    private func serve(_ jobs: [Job], _ lane: Lane) -> Bool {
        guard let connection = lane.connection, let first = jobs.first else { return false }
        if case .session(let body, _) = first.work {
            let started = context.time.uptime
            defer { context.metrics.statementSeconds.observe(context.time.uptime - started) }
            return body(lane) == .leased
        }
        lane.batch = Batch(jobs: jobs, started: context.time.uptime)
        connection.run(Self.statements(of: jobs)) { self.report($0, $1, lane) }
        endBatch(lane)
        return false
    }

    private static func statements(of jobs: [Job]) -> [Statement] {
        jobs.compactMap { job in
            guard case .statement(let sql, _) = job.work else { return nil }
            return Statement(sql: sql, limit: job.limit, ticket: job.ticket)
        }
    }

    private func report(_ index: Int, _ result: Result<Rows, any Error>, _ lane: Lane) {
        guard let batch = lane.batch, case .statement(_, let waiter) = batch.jobs[index].work else { return }
        let job = batch.jobs[index]
        switch result {
        case .success(let rows): waiter.resume(returning: rows)
        case .failure(ConnectionSignal.interrupted) where job.ticket.isCancelled:
            waiter.resume(throwing: CancellationError())
        case .failure(ConnectionSignal.interrupted), .failure(ConnectionSignal.stalePlan):
            // Another call's interruption, or a schema that has changed: this one has not run.
            job.reruns += 1
            if job.reruns < 5 {
                lane.batch?.again.append(job)
            } else {
                waiter.resume(throwing: StorageError.contended)
            }
        case .failure(let error): waiter.resume(throwing: error)
        }
        context.metrics.statementSeconds.observe(context.time.uptime - batch.started)
    }

    private func endBatch(_ lane: Lane) {
        if let again = lane.batch?.again, !again.isEmpty { putBack(again) }
        lane.batch = nil
    }

    /// To the head of the queue, except those that were cancelled meanwhile: `cancel` did not find them there.
    private func putBack(_ jobs: [Job], _ more: (inout State) -> Void = { _ in }) {
        let cancelled = state.withLock { state in
            var waiting: [Job] = []
            var cancelled: [Job] = []
            for job in jobs {
                if job.ticket.isCancelled { cancelled.append(job) } else { waiting.append(job) }
            }
            state.queue.putBack(waiting)
            more(&state)
            context.metrics.waiting.set(state.queue.count)
            return cancelled
        }
        for job in cancelled { job.fail(CancellationError()) }
    }

    private func replaceIfBroken(_ lane: Lane) {
        guard let connection = lane.connection, !connection.isUsable else { return }
        disconnect(lane)
        context.metrics.reconnects.increment()
        context.log.warning("database.connection-lost")
    }

    private func disconnect(_ lane: Lane) {
        lane.interrupter = nil
        lane.watched = nil
        lane.connection = nil
    }
}

// MARK: - Working, on the loop

/// What the loop calls when a lane's connection has something to read.
final class LaneSocket<Connection: BlockingConnection>: LoopSocket {
    private unowned let lane: ConnectionPool<Connection>.Lane
    private weak var pool: ConnectionPool<Connection>?

    init(_ lane: ConnectionPool<Connection>.Lane, _ pool: ConnectionPool<Connection>) {
        self.lane = lane
        self.pool = pool
    }

    func isReady(_: LoopEvents) { pool?.isReady(lane) }
}

extension ConnectionPool {
    private func drainOnLoop(_ lane: Lane) {
        guard join(lane) else { return onThread(lane) { self.drain(lane) } }
        while true {
            switch take(for: lane, onLoop: true) {
            case .nothing: return
            case .closed: return onThread(lane) { self.drain(lane) }
            case .jobs(let jobs):
                guard let connection = lane.watched, connection.isUsable, jobs.allSatisfy({ $0.isShort })
                else {
                    return onThread(lane) { if self.work(on: jobs, lane) { self.drain(lane) } }
                }
                context.metrics.inUse.add(1)
                lane.batch = Batch(jobs: jobs, started: context.time.uptime)
                connection.start(Self.statements(of: jobs)) { self.report($0, $1, lane) }
                guard connection.flushAtOnce() else { return finishOnThread(lane) }
                guard goOn(connection, lane) else { return }
            }
        }
    }

    /// Whether the batch is over and the lane still the loop's.
    private func goOn(_ connection: any WatchedConnection, _ lane: Lane) -> Bool {
        switch connection.goOn(waits: false, { self.report($0, $1, lane) }) {
        case .waiting: return false
        case .blocked:
            finishOnThread(lane)
            return false
        case .finished:
            endBatch(lane)
            context.metrics.inUse.add(-1)
            guard connection.isUsable else {
                onThread(lane) {
                    self.replaceIfBroken(lane)
                    self.drain(lane)
                }
                return false
            }
            return true
        }
    }

    fileprivate func isReady(_ lane: Lane) {
        guard let connection = lane.watched else { return }
        if lane.batch != nil {
            // What cannot be read any more cannot be waited for either: going on finds out that it broke.
            guard connection.takeIn() else { return finishOnThread(lane) }
            if goOn(connection, lane) { drainOnLoop(lane) }
        } else if !connection.notice() {
            let isIdle = state.withLock { state in
                guard let index = state.idleOnLoop.firstIndex(where: { $0 === lane }) else { return false }
                state.idleOnLoop.remove(at: index)
                return true
            }
            // Else somebody has just picked it, and will see.
            guard isIdle else { return }
            onThread(lane) {
                self.replaceIfBroken(lane)
                self.drain(lane)
            }
        }
    }

    private func finishOnThread(_ lane: Lane) {
        onThread(lane) {
            if let connection = lane.watched {
                _ = connection.goOn(waits: true) { self.report($0, $1, lane) }
            }
            self.endBatch(lane)
            self.context.metrics.inUse.add(-1)
            self.replaceIfBroken(lane)
            self.drain(lane)
        }
    }

    /// The loop takes the lane; false where it cannot.
    private func join(_ lane: Lane) -> Bool {
        guard let loop, let connection = lane.watched else { return false }
        guard lane.socket == nil else { return true }
        let socket = LaneSocket(lane, self)
        // As long as there is something to read: libpq does not say whether it has read everything.
        guard loop.watch(connection.descriptor, for: socket, onlyReadable: true) else { return false }
        lane.socket = socket
        return true
    }

    /// The loop gives the lane up, and its thread goes on with it.
    private func onThread(_ lane: Lane, _ work: @escaping @Sendable () -> Void) {
        guard let loop else { return lane.thread.perform(work) }
        let leave: @Sendable () -> Void = {
            if lane.socket != nil, let connection = lane.watched { loop.forget(connection.descriptor) }
            lane.socket = nil
            lane.thread.perform(work)
        }
        if loop.isCurrent { leave() } else { loop.perform(leave) }
    }
}

extension ConnectionPool.Job {
    /// Whether the server takes it at once; a longer one goes out on a thread, which may wait for that.
    fileprivate var isShort: Bool {
        guard case .statement(let sql, _) = work else { return false }
        var size = sql.text.utf8.count
        for argument in sql.arguments {
            switch argument {
            case .text(let text): size += text.utf8.count
            case .bytes(let bytes): size += bytes.count
            default: size += 8
            }
        }
        return size <= 16 << 10
    }
}

// MARK: - Connecting

extension ConnectionPool {
    /// On the lane's thread. False when the server is away.
    private func connect(_ lane: Lane) -> Bool {
        if let connection = lane.connection {
            if connection.notice() { return true }
            disconnect(lane)
            context.metrics.reconnects.increment()
            context.log.warning("database.connection-lost")
        }
        do {
            let connection = try Connection(target)
            lane.interrupter = connection.interrupter
            lane.connection = connection
            if let watched = connection as? any WatchedConnection, watched.canBeWatched {
                lane.watched = watched
            }
            return true
        } catch {
            noteOutage(error)
            return false
        }
    }

    private func noteOutage(_ error: any Error) {
        let reason = if case StorageError.unavailable(let reason, _) = error { reason } else { "\(error)" }
        let isFirst = state.withLock { state in
            guard state.outage == nil else {
                state.outage?.reason = reason
                return false
            }
            state.outage = Outage(since: context.time.uptime, reason: reason)
            return true
        }
        guard isFirst else { return }
        context.log.error("database.unavailable", ["reason": .text(reason)])
        // A driver's edge: the server comes back whether or not a call waits for it.
        Task.detached { [weak self, context] in
            let backoff = Backoff(first: .milliseconds(50), ceiling: .seconds(1))
            var attempt = 1
            while true {
                try? await context.time.sleep(for: backoff.delay(after: attempt, context.random))
                guard let self, await self.probe() else { return }
                attempt += 1
            }
        }
    }

    /// One try to come back; true while there is a reason for another.
    private func probe() async -> Bool {
        let lane: Lane? = state.withLock {
            $0.isClosed ? nil : $0.idle.popLast() ?? $0.idleOnLoop.popLast()
        }
        guard let lane else { return !state.withLock { $0.isClosed || $0.outage == nil } }
        let isConnected = await withCheckedContinuation { waiter in
            onThread(lane) { waiter.resume(returning: self.connect(lane)) }
        }
        guard isConnected else {
            refuseAfterPatience()
            state.withLock { $0.idle.append(lane) }
            closeIdle()
            return true
        }
        let woken = state.withLock { state in
            state.outage = nil
            var woken: [Start] = [.onThread(lane)]
            for _ in 1..<max(1, min(state.queue.count, size)) {
                if let other = wakeLane(&state, isForStatement: false) { woken.append(other) }
            }
            return woken
        }
        context.log.info("database.available")
        for start in woken { begin(start) }
        return false
    }

    private func giveBack(_ jobs: [Job], _ lane: Lane) {
        putBack(jobs) { $0.idle.append(lane) }
        refuseAfterPatience()
        closeIdle()
        // The server may have come back while this lane failed; then nobody else would wake it.
        let lane: Lane? = state.withLock { state in
            state.outage == nil && !state.queue.isEmpty && !state.isClosed ? state.idle.popLast() : nil
        }
        if let lane { lane.thread.perform { self.drain(lane) } }
    }

    private func refuseAfterPatience() {
        let now = context.time.uptime
        let (jobs, reason) = state.withLock { state -> ([Job], String) in
            guard let outage = state.outage, now - outage.since > context.settings.patience else {
                return ([], "")
            }
            return (state.queue.removeAll { _ in true }, outage.reason)
        }
        for job in jobs { job.fail(StorageError.unavailable(reason: reason, mayHaveRun: false)) }
    }
}

// MARK: - Deadlines and the end

extension ConnectionPool {
    /// Looks after deadlines while there is anything to look after. One task for all calls: a timer for each
    /// would cost more than the statement.
    private func startTicking() {
        Task.detached { [weak self, context] in
            while true {
                guard let wait = self?.tick() else { return }
                try? await context.time.sleep(for: wait)
            }
        }
    }

    /// Returns when to look again; `nil` when nothing waits or runs.
    private func tick() -> Duration? {
        let now = context.time.uptime
        let (late, lanes, outage, next): ([Job], [Lane], Outage?, Duration?) = state.withLock { state in
            let late = state.queue.removeAll { $0.deadline <= now }
            context.metrics.waiting.set(state.queue.count)
            let isBusy = state.idle.count + state.idleOnLoop.count < state.lanes.count
            guard isBusy || !state.queue.isEmpty else {
                state.isTicking = false
                return (late, [], state.outage, nil)
            }
            let wait = state.queue.first.map { max($0.deadline - now, .milliseconds(1)) }
            return (late, state.lanes, state.outage, min(wait ?? .milliseconds(250), .milliseconds(250)))
        }
        for job in late {
            job.fail(
                outage.map { .unavailable(reason: $0.reason, mayHaveRun: false) }
                    ?? StorageError.poolExhausted)
        }
        for lane in lanes {
            lane.interrupter?.lookAfter()
        }
        return next
    }

    func close() async {
        await withCheckedContinuation { waiter in
            let (jobs, isDone): ([Job], Bool) = state.withLock { state in
                state.isClosed = true
                if state.lanes.isEmpty { return (state.queue.removeAll { _ in true }, true) }
                state.closers.append(waiter)
                return (state.queue.removeAll { _ in true }, false)
            }
            for job in jobs { job.fail(Self.closed) }
            if isDone { waiter.resume() }
            closeIdle()
        }
        loopSlot.withLock { $0 = nil }
    }

    private func closeIdle() {
        let idle = state.withLock { state in
            guard state.isClosed else { return [] as [Lane] }
            defer { (state.idle, state.idleOnLoop) = ([], []) }
            return state.idle + state.idleOnLoop
        }
        for lane in idle { onThread(lane) { self.drain(lane) } }
    }
}
