import Core
import Synchronization

extension ConnectionPool {
    /// On the lane's thread. False when the server is away.
    func connect(_ lane: Lane) -> Bool {
        if let connection = lane.connection {
            if connection.notice() { return true }
            disconnect(lane)
            context.metrics.reconnects.increment()
            context.log.warning("database.connection-lost")
        }
        do {
            let connection = try open()
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
    func probe() async -> Bool {
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
                if let other = wakeLane(&state, for: nil) { woken.append(other) }
            }
            return woken
        }
        context.log.info("database.available")
        for start in woken { begin(start) }
        return false
    }

    func giveBack(_ jobs: [Job], _ lane: Lane) {
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
