import Core
import Synchronization

/// Connections of one kind, each on a thread of its own, and the calls that wait for them, first come first
/// served.
///
/// A free connection fetches its work itself, several statements at once when several wait: so a call costs
/// one hop to the thread and one back, and what queued up goes out as one batch.
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

        func fail(_ error: any Error) {
            switch work {
            case .statement(_, let waiter): waiter.resume(throwing: error)
            case .session(_, let fail): fail(error)
            }
        }
    }

    /// A thread and its connection.
    // Safe: `connection` is touched on the lane's thread alone; what others need stands behind `shared`.
    final class Lane: @unchecked Sendable {
        let thread: ThreadExecutor
        var connection: Connection?
        private let shared = Mutex<(any Interrupter)?>(nil)

        init(name: String) { thread = ThreadExecutor(name: name) }

        var interrupter: (any Interrupter)? {
            get { shared.withLock { $0 } }
            set { shared.withLock { $0 = newValue } }
        }
    }

    private struct State {
        var queue = Queue<Job>()
        var idle: [Lane] = []
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

    init(_ target: Connection.Target, size: Int, batch: Int, _ context: PoolContext) {
        self.target = target
        self.size = size
        batchLimit = batch
        self.context = context
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
        let (refusal, lane): ((any Error)?, Lane?) = state.withLock { state in
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
            return (nil, wakeLane(&state))
        }
        if let refusal { return job.fail(refusal) }
        if let lane { lane.thread.perform { self.drain(lane) } }
        if wantsTicks { startTicking() }
    }

    private func wakeLane(_ state: inout State) -> Lane? {
        if let lane = state.idle.popLast() { return lane }
        guard state.lanes.count < size else { return nil }
        let lane = Lane(
            name: "\(Connection.dialect == .postgres ? "pg" : "sq")-\(context.name)-\(state.lanes.count)")
        state.lanes.append(lane)
        context.metrics.open.add(1)
        return lane
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
        while true {
            let jobs = take(for: lane)
            guard !jobs.isEmpty else { return }
            guard connect(lane) else { return giveBack(jobs, lane) }
            context.metrics.inUse.add(1)
            let isLeased = serve(jobs, lane)
            if isLeased { return }
            context.metrics.inUse.add(-1)
            replaceIfBroken(lane)
        }
    }

    /// The next call, or several single statements; without any the lane is idle.
    private func take(for lane: Lane) -> [Job] {
        var refused: [Job] = []
        let (jobs, closers): ([Job], [CheckedContinuation<Void, Never>]) = state.withLock { state in
            if state.isClosed {
                // What a lane has put back since, because it could not connect or has to run again.
                refused = state.queue.removeAll { _ in true }
                lane.connection = nil
                lane.interrupter = nil
                state.lanes.removeAll { $0 === lane }
                context.metrics.open.add(-1)
                guard state.lanes.isEmpty else { return ([], []) }
                defer { state.closers = [] }
                return ([], state.closers)
            }
            guard let first = state.queue.popFirst() else {
                state.idle.append(lane)
                return ([], [])
            }
            var jobs = [first]
            if case .statement = first.work {
                // A fair share, so that the other connections find work as well.
                let share = min(batchLimit, state.queue.count / max(1, state.lanes.count) + 1)
                while jobs.count < share, let next = state.queue.first, case .statement = next.work {
                    _ = state.queue.popFirst()
                    jobs.append(next)
                }
            }
            context.metrics.waiting.set(state.queue.count)
            return (jobs, [])
        }
        for job in refused { job.fail(Self.closed) }
        for closer in closers { closer.resume() }
        return jobs
    }

    /// Returns whether a session has leased the lane.
    private func serve(_ jobs: [Job], _ lane: Lane) -> Bool {
        guard let connection = lane.connection, let first = jobs.first else { return false }
        let started = context.time.uptime
        if case .session(let body, _) = first.work {
            defer { context.metrics.statementSeconds.observe(context.time.uptime - started) }
            return body(lane) == .leased
        }
        var again: [Job] = []
        let statements = jobs.compactMap { job -> Statement? in
            guard case .statement(let sql, _) = job.work else { return nil }
            return Statement(sql: sql, limit: job.limit, ticket: job.ticket)
        }
        connection.run(statements) { index, result in
            let job = jobs[index]
            guard case .statement(_, let waiter) = job.work else { return }
            switch result {
            case .success(let rows): waiter.resume(returning: rows)
            case .failure(ConnectionSignal.interrupted) where job.ticket.isCancelled:
                waiter.resume(throwing: CancellationError())
            case .failure(ConnectionSignal.interrupted), .failure(ConnectionSignal.stalePlan):
                // Another call's interruption, or a schema that has changed: this one has not run.
                job.reruns += 1
                if job.reruns < 5 {
                    again.append(job)
                } else {
                    waiter.resume(throwing: StorageError.contended)
                }
            case .failure(let error): waiter.resume(throwing: error)
            }
            context.metrics.statementSeconds.observe(context.time.uptime - started)
        }
        if !again.isEmpty { state.withLock { $0.queue.putBack(again) } }
        return false
    }

    private func replaceIfBroken(_ lane: Lane) {
        guard let connection = lane.connection, !connection.isUsable else { return }
        disconnect(lane)
        context.metrics.reconnects.increment()
        context.log.warning("database.connection-lost")
    }

    private func disconnect(_ lane: Lane) {
        lane.interrupter = nil
        lane.connection = nil
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
        let lane: Lane? = state.withLock { $0.isClosed ? nil : $0.idle.popLast() }
        guard let lane else { return !state.withLock { $0.isClosed || $0.outage == nil } }
        let isConnected = await withCheckedContinuation { waiter in
            lane.thread.perform { waiter.resume(returning: self.connect(lane)) }
        }
        guard isConnected else {
            refuseAfterPatience()
            state.withLock { $0.idle.append(lane) }
            closeIdle()
            return true
        }
        let woken = state.withLock { state in
            state.outage = nil
            var woken = [lane]
            for _ in 1..<max(1, min(state.queue.count, size)) {
                if let other = wakeLane(&state) { woken.append(other) }
            }
            return woken
        }
        context.log.info("database.available")
        for lane in woken { lane.thread.perform { self.drain(lane) } }
        return false
    }

    private func giveBack(_ jobs: [Job], _ lane: Lane) {
        state.withLock { state in
            state.queue.putBack(jobs)
            state.idle.append(lane)
            context.metrics.waiting.set(state.queue.count)
        }
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
            let isBusy = state.idle.count < state.lanes.count
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
    }

    private func closeIdle() {
        let idle = state.withLock { state in
            guard state.isClosed else { return [] as [Lane] }
            defer { state.idle = [] }
            return state.idle
        }
        for lane in idle { lane.thread.perform { self.drain(lane) } }
    }
}
