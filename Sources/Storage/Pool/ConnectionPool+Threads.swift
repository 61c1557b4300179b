import Core
import Synchronization

extension ConnectionPool {
    func drain(_ lane: Lane) {
        while case .jobs(let jobs) = take(for: lane) { guard work(on: jobs, lane) else { return } }
    }

    /// Whether the lane is free for more.
    func work(on jobs: [Job], _ lane: Lane) -> Bool {
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
    func take(for lane: Lane, onLoop isOnLoop: Bool = false) -> Taken {
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
                if lane.loop == nil { state.idle.append(lane) } else { state.idleOnLoop.append(lane) }
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

    static func statements(of jobs: [Job]) -> [Statement] {
        jobs.compactMap { job in
            guard case .statement(let sql, _) = job.work else { return nil }
            return Statement(sql: sql, limit: job.limit, ticket: job.ticket)
        }
    }

    func report(_ index: Int, _ result: Result<Rows, any Error>, _ lane: Lane) {
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

    func endBatch(_ lane: Lane) {
        if let again = lane.batch?.again, !again.isEmpty { putBack(again) }
        lane.batch = nil
    }

    /// To the head of the queue, except those that were cancelled meanwhile: `cancel` did not find them there.
    func putBack(_ jobs: [Job], _ more: (inout State) -> Void = { _ in }) {
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

    func replaceIfBroken(_ lane: Lane) {
        guard let connection = lane.connection, !connection.isUsable else { return }
        disconnect(lane)
        context.metrics.reconnects.increment()
        context.log.warning("database.connection-lost")
    }

    func disconnect(_ lane: Lane) {
        lane.interrupter = nil
        lane.watched = nil
        lane.connection = nil
    }
}
