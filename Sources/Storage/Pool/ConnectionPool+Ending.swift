import Core
import Synchronization

extension ConnectionPool {
    /// Looks after deadlines while there is anything to look after. One task for all calls: a timer for each
    /// would cost more than the statement.
    func startTicking() {
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

    func closeIdle() {
        let idle = state.withLock { state in
            guard state.isClosed else { return [] as [Lane] }
            defer { (state.idle, state.idleOnLoop) = ([], []) }
            return state.idle + state.idleOnLoop
        }
        for lane in idle { onThread(lane) { self.drain(lane) } }
    }
}
