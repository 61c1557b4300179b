import Core
import Storage
import Synchronization

/// One subscription of an `SQLBroker`: claims what is due, starts handlers, writes down their verdicts.
final class SQLConsumer: Sendable {
    private struct Running {
        var rows: Set<Int64> = []
        var isStopping = false
    }

    private let broker: SQLBroker
    private let store: SQLQueueStore
    private let holder: String
    private let queues: [String]
    private let options: ConsumerOptions
    private let handler: @Sendable (Delivery) async throws -> Verdict
    private let bell: Bell
    private let running = Mutex(Running())
    private let time: any TimeSource

    init(
        broker: SQLBroker, holder: String, queues: [String], options: ConsumerOptions,
        handler: @escaping @Sendable (Delivery) async throws -> Verdict, bell: Bell
    ) {
        self.broker = broker
        self.holder = holder
        self.queues = queues
        self.options = options
        self.handler = handler
        self.bell = bell
        store = broker.store
        time = broker.time
    }

    private var runningCount: Int { running.withLock { $0.rows.count } }

    func run() async {
        // Not a child: it goes on until the last handler has ended, also when the consumer is cancelled.
        let heart = Task.detached { [self] in await beat() }
        await take()
        running.withLock { $0.isStopping = true }
        while runningCount > 0 { try? await bell.waitRegardless() }
        heart.cancel()
        await heart.value
        do {
            let (store, holder) = (store, holder)
            try await shielded { try await store.sayGone(holder) }
            for queue in queues { broker.bells.ring(queue) }
        } catch {
            broker.log.warning("broker.farewell-failed", ["error": .error(error)])
        }
    }

    // MARK: - Taking

    private func take() async {
        var failures = 0
        var isRegistered = false
        var mustRecover = false
        while !Task.isCancelled {
            do {
                if !isRegistered {
                    try await broker.prepare()
                    try await sayAlive()
                    isRegistered = true
                    broker.log.info("broker.consuming", ["queues": .id(queues.joined(separator: ","))])
                }
                if mustRecover {
                    try await recover()
                    mustRecover = false
                }
                mustRecover = true
                let isDry = try await claim()
                mustRecover = false
                if failures > 0 { broker.metrics.reconnects.increment() }
                failures = 0
                if runningCount >= options.concurrency {
                    try await bell.wait()
                } else if isDry {
                    try await bell.wait(atMost: pause(), time)
                }
            } catch is CancellationError {
                return
            } catch {
                failures += 1
                broker.log.error("broker.unreachable", ["role": "consumer", "error": .error(error)])
                try? await time.sleep(for: broker.settings.backoff.delay(after: failures, broker.random))
            }
        }
    }

    /// How long there can be nothing to do, as far as anyone knows.
    private func pause() async throws -> Duration {
        var pause = broker.settings.pollInterval
        for queue in queues {
            if let due = try await store.nextDue(queue) { pause = min(pause, due - time.now) }
        }
        return max(.zero, pause)
    }

    /// Fills the free places; true when all that was due found one.
    private func claim() async throws -> Bool {
        let (store, holder, now) = (store, holder, time.now)
        // Counted once: what ends meanwhile makes room for the first queue again, not for the next.
        var free = options.concurrency - runningCount
        for queue in queues {
            guard free > 0, !Task.isCancelled else { return false }
            let isLiving = broker.book.living(queue) != nil
            // Cancelled half way it could have claimed what nobody then begins.
            let claimed = try await shielded { [free] in
                try await store.claim(queue, isLiving: isLiving, for: holder, count: free, at: now)
            }
            for one in claimed { start(one) }
            free -= claimed.count
        }
        return free > 0
    }

    /// A claim whose answer got lost may have happened: begins what is ours and does not run.
    private func recover() async throws {
        let held = try await store.held(by: holder)
        let known = running.withLock { $0.rows }
        for one in held where !known.contains(one.seq) { start(one) }
    }

    private func start(_ claimed: SQLQueueStore.Claimed) {
        running.withLock { _ = $0.rows.insert(claimed.seq) }
        if claimed.returns > 0 { broker.metrics.redelivered[claimed.queue].increment() }
        // Not a child of the consumer: cancelling that must not cancel what has begun.
        Task.detached { [self] in
            await handle(claimed)
            running.withLock { _ = $0.rows.remove(claimed.seq) }
            bell.ring()
        }
    }

    // MARK: - Handling

    private func handle(_ claimed: SQLQueueStore.Claimed) async {
        let queue = broker.book.living(claimed.queue)
        if let queue, claimed.attempt > queue.maximumAttempts {
            let reason = "\(queue.maximumAttempts) attempts ended without a verdict"
            return await bury(claimed, in: queue, attempt: claimed.attempt - 1, reason)
        }
        let delivery = Delivery(
            message: claimed.message, queue: claimed.queue, attempt: max(1, claimed.attempt),
            reason: claimed.reason)
        broker.metrics.inFlight[claimed.queue].add(1)
        let verdict = await Verdict(of: delivery, queue, handler, broker.log)
        broker.metrics.inFlight[claimed.queue].add(-1)
        broker.metrics.consumed[claimed.queue, verdict.name].increment()
        let (store, holder) = (store, holder)
        switch verdict {
        case .ack:
            await settle(claimed) { try await store.delete(claimed.seq, of: holder) }
        case .reject(let reason):
            if let queue {
                await bury(claimed, in: queue, attempt: claimed.attempt, reason)
            } else {
                await settle(claimed) { try await store.delete(claimed.seq, of: holder) }
            }
        case .retry(let delay):
            if let queue, claimed.attempt >= queue.maximumAttempts {
                let reason = "\(queue.maximumAttempts) attempts failed"
                return await bury(claimed, in: queue, attempt: claimed.attempt, reason)
            }
            let moment = time.now + max(delay, .zero)
            await settle(claimed) { try await store.putBack(claimed.seq, of: holder, visibleAt: moment) }
            broker.bells.ring(claimed.queue)
        }
    }

    private func bury(
        _ claimed: SQLQueueStore.Claimed, in queue: Queue, attempt: Int, _ reason: String
    ) async {
        let (store, holder, now) = (store, holder, time.now)
        broker.metrics.dead[queue.name].increment()
        broker.log.error(
            "broker.dead-letter",
            [
                "queue": .id(queue.name), "message": .id(claimed.message.id), "attempt": .int(attempt),
                "reason": .text(reason),
            ])
        await settle(claimed) {
            try await store.bury(
                claimed.seq, of: holder, in: queue.deadLetters, attempt: attempt, reason: reason, at: now)
        }
        broker.bells.ring(queue.deadLetters)
    }

    /// Writes a verdict down, again and again while the database is away: as long as this consumer lives the
    /// message is nobody else's. One that is stopping gives up after a while, and the message comes again.
    private func settle(
        _ claimed: SQLQueueStore.Claimed, _ write: @Sendable () async throws -> Bool
    ) async {
        var failures = 0
        while true {
            do {
                if try await !write() {
                    broker.log.warning(
                        "broker.claim-lost",
                        ["queue": .id(claimed.queue), "message": .id(claimed.message.id)])
                }
                return
            } catch {
                failures += 1
                broker.log.error(
                    "broker.verdict-unwritten",
                    [
                        "queue": .id(claimed.queue), "message": .id(claimed.message.id),
                        "error": .error(error),
                    ])
                if failures >= 5 && running.withLock({ $0.isStopping }) { return }
                try? await time.sleep(for: broker.settings.backoff.delay(after: failures, broker.random))
            }
        }
    }

    // MARK: - Staying alive

    private func beat() async {
        guard !broker.settings.isExclusive else { return }
        while !Task.isCancelled {
            do { try await time.sleep(for: broker.settings.lease / 3) } catch { return }
            do {
                try await sayAlive()
            } catch {
                broker.log.warning("broker.heartbeat-failed", ["error": .error(error)])
            }
        }
    }

    /// Says that this consumer lives, and frees what those held that do not.
    private func sayAlive() async throws {
        guard !broker.settings.isExclusive else { return }
        let now = time.now
        try await store.sayAlive(holder, until: now + broker.settings.lease)
        for queue in Set(try await store.release(everyone: false, at: now)) { broker.bells.ring(queue) }
    }
}

/// Runs `work` to its end also when the caller is cancelled.
private func shielded<Result: Sendable>(
    _ work: @escaping @Sendable () async throws -> Result
) async throws -> Result {
    try await Task.detached { try await work() }.value
}
