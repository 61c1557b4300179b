import Core
import Synchronization

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
        limit: Duration, _ body: @escaping @Sendable (any BlockingConnection, Ticket) throws -> Result
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
        _ body: @escaping @Sendable (any BlockingConnection, Ticket) throws -> Result
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

    static func perform<Result>(
        _ body: (any BlockingConnection, Ticket) throws -> Result, on lane: Lane, _ ticket: Ticket
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
        let wanted = job.isStatement ? loop.map { EventLoop.current ?? $0 } : nil
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
            return (nil, wakeLane(&state, for: wanted))
        }
        if let refusal { return job.fail(refusal) }
        if let start { begin(start) }
        if wantsTicks { startTicking() }
    }

    func begin(_ start: Start) {
        switch start {
        case .onThread(let lane): onThread(lane) { self.drain(lane) }
        case .onLoop(let lane, let loop): onLoop(loop, lane) { self.drainOnLoop(lane, loop) }
        }
    }

    /// A lane that is where the work wants it, on a thread unless on a `loop`; or another one, or a new one.
    func wakeLane(_ state: inout State, for loop: EventLoop?) -> Start? {
        guard let loop else {
            if let lane = state.idle.popLast() ?? state.idleOnLoop.popLast() { return .onThread(lane) }
            return newLane(&state)
        }
        if let index = state.idleOnLoop.lastIndex(where: { $0.loop === loop }) {
            return .onLoop(state.idleOnLoop.remove(at: index), loop)
        }
        if let lane = state.idle.popLast() {
            // To connect is to block.
            return lane.watched != nil ? .onLoop(lane, loop) : .onThread(lane)
        }
        if let lane = state.idleOnLoop.popLast() { return .onLoop(lane, loop) }
        return newLane(&state)
    }

    private func newLane(_ state: inout State) -> Start? {
        guard state.lanes.count < size else { return nil }
        let lane = Lane(
            name: "\(dialect == .postgres ? "pg" : "sq")-\(context.name)-\(state.lanes.count)")
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
