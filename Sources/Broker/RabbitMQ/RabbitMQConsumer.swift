import Core
import Synchronization

/// One subscription: a connection on a thread of its own, a channel per queue, handlers on the shared pool.
///
/// A channel per queue, because the server hands out a channel's queues in turn: only with a prefetch for
/// each does a message of high priority have room to arrive before those of low priority are done.
final class RabbitMQConsumer: Sendable {
    private enum Outcome { case done, giveBack }
    private struct Settled {
        let epoch: Int
        let channel: UInt16
        let tag: UInt64
        let outcome: Outcome
        let wasHandler: Bool
    }
    private struct Inbox {
        var settled: [Settled] = []
        var isStopping = false
    }
    private struct Held {
        let incoming: Incoming
        let since: Duration
    }

    private let link: Link
    private let publisher: RabbitMQPublisher
    private let queues: [String]
    private let options: ConsumerOptions
    private let handler: @Sendable (Delivery) async throws -> Verdict
    private let inbox = Mutex(Inbox())
    private let wakeUp = WakeUp()

    init(
        _ link: Link, _ publisher: RabbitMQPublisher, _ queues: [String], _ options: ConsumerOptions,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) {
        self.link = link
        self.publisher = publisher
        self.queues = queues
        self.options = options
        self.handler = handler
    }

    func run() async throws {
        let ended = Waiter<Void>()
        try await withTaskCancellationHandler {
            startThread(name: "amqp-consume") { [self] in ended.finish(Result { try consume() }) }
            try await ended.valueRegardless()
        } onCancel: {
            inbox.withLock { $0.isStopping = true }
            wakeUp.raise()
        }
    }

    private func post(_ settled: Settled) {
        let isFirst = inbox.withLock { inbox in
            inbox.settled.append(settled)
            return inbox.settled.count == 1
        }
        if isFirst { wakeUp.raise() }
    }

    // MARK: - On the thread

    private func consume() throws(BrokerError) {
        var state = State(queueCount: queues.count)
        var connection: AMQPConnection?
        var reconnection = Reconnection()
        let system = SystemTime()

        while true {
            let (settled, isStopping) = inbox.withLock { inbox in
                defer { inbox.settled = [] }
                return (inbox.settled, inbox.isStopping)
            }
            for one in settled {
                if one.wasHandler { state.handlers -= 1 } else { state.errands -= 1 }
            }
            guard let open = connection else {
                if isStopping {
                    guard state.isBusy else { return }
                    wakeUp.wait(limit: nil)
                    continue
                }
                guard system.uptime >= reconnection.nextAttempt else {
                    wakeUp.wait(limit: reconnection.nextAttempt - system.uptime + .milliseconds(1))
                    continue
                }
                do throws(BrokerError) {
                    connection = try subscribe()
                    link.log.info("broker.consuming", ["queues": .id(queues.joined(separator: ","))])
                    if reconnection.wasConnected { link.metrics.reconnects.increment() }
                    reconnection.succeeded()
                } catch {
                    // Time does not mend it.
                    if case .declaration = error { throw error }
                    reconnection.failed(error, at: system.uptime, link.settings.backoff)
                    link.log.error(
                        "broker.unreachable",
                        ["role": "consumer", "server": .id(link.address), "error": .error(error)])
                }
                continue
            }
            do throws(BrokerError) {
                for one in settled where one.epoch == state.epoch {
                    switch one.outcome {
                    case .done: state.windows[Int(one.channel) - 1].settle(one.tag)
                    case .giveBack:
                        try open.giveBack(one.tag, on: one.channel)
                        state.windows[Int(one.channel) - 1].giveBack(one.tag)
                    }
                }
                if isStopping && !state.isUnsubscribed {
                    for channel in state.channels { try open.unsubscribe(Self.tag(channel), on: channel) }
                    state.isUnsubscribed = true
                }
                while let incoming = try open.nextMessage() { accept(incoming, &state, at: system.uptime) }
                if isStopping {
                    for held in state.takeHeld(since: nil) { handBack(held, &state) }
                } else {
                    for held in state.takeHeld(since: system.uptime - link.settings.maximumHold) {
                        handBack(held, &state)
                    }
                    while state.handlers < options.concurrency, let held = state.next() {
                        start(held, &state)
                    }
                }
                for channel in state.channels {
                    for ack in state.windows[Int(channel) - 1].take() {
                        try open.acknowledge(ack.tag, multiple: ack.isMultiple, on: channel)
                    }
                }
                state.show(queues, in: link.metrics.prefetched)
                if isStopping && !state.isBusy {
                    open.close()
                    return
                }
                open.wait(wakeUp, limit: .milliseconds(open.heartbeat * 500))
            } catch {
                // Everything unsettled will be delivered again, here or elsewhere; what the handlers that
                // still run decide comes too late for these deliveries.
                connection = nil
                state.forgetDeliveries()
                state.show(queues, in: link.metrics.prefetched)
                if !isStopping {
                    link.log.warning("broker.connection-lost", ["role": "consumer", "error": .error(error)])
                }
            }
        }
    }

    private struct State {
        /// Which connection a delivery came from: its tag means nothing on the next.
        var epoch = 0
        var windows: [AckWindow]
        /// Delivered and not begun, by priority.
        var held: [ArraySlice<Held>]
        /// How many of them the metrics know of.
        private var shown: [Int]
        var handlers = 0
        /// Messages on their way to somewhere else.
        var errands = 0
        var isUnsubscribed = false

        init(queueCount: Int) {
            windows = Array(repeating: AckWindow(), count: queueCount)
            held = Array(repeating: [], count: queueCount)
            shown = Array(repeating: 0, count: queueCount)
        }

        var channels: ClosedRange<UInt16> { 1...UInt16(windows.count) }
        var isBusy: Bool { handlers > 0 || errands > 0 }

        mutating func next() -> Held? {
            guard let index = held.firstIndex(where: { !$0.isEmpty }) else { return nil }
            return held[index].removeFirst()
        }

        /// Those held since then or longer; all, when no moment is given.
        mutating func takeHeld(since moment: Duration?) -> [Held] {
            var taken: [Held] = []
            for index in held.indices {
                while let first = held[index].first, moment.map({ first.since <= $0 }) ?? true {
                    taken.append(held[index].removeFirst())
                }
            }
            return taken
        }

        mutating func show(_ queues: [String], in gauges: Labeled<Gauge>) {
            for index in held.indices where held[index].count != shown[index] {
                gauges[queues[index]].add(Double(held[index].count - shown[index]))
                shown[index] = held[index].count
            }
        }

        mutating func forgetDeliveries() {
            epoch += 1
            windows = windows.map { _ in AckWindow() }
            held = held.map { _ in [] }
            isUnsubscribed = false
        }
    }

    private static func tag(_ channel: UInt16) -> String { "convoke-\(channel)" }

    private func subscribe() throws(BrokerError) -> AMQPConnection {
        let connection = try link.connect(name: "consumer")
        for (index, queue) in queues.enumerated() {
            let channel = UInt16(index + 1)
            if channel != Link.mainChannel { try connection.openChannel(channel) }
            try connection.limitUnacknowledged(to: options.prefetch, on: channel)
            try connection.subscribe(to: queue, tag: Self.tag(channel), on: channel)
        }
        return connection
    }

    /// Decides what becomes of a message before any handler sees it.
    private func accept(_ incoming: Incoming, _ state: inout State, at uptime: Duration) {
        let index = Int(incoming.channel) - 1
        state.windows[index].delivered(incoming.tag)
        let name = queues[index]
        if incoming.returns > 0 || incoming.isRedelivered { link.metrics.redelivered[name].increment() }
        if let moment = incoming.notBefore, moment > link.time.now {
            return errand(
                incoming, &state, incoming.forwarded(to: name, attempt: incoming.begun, notBefore: moment))
        }
        if let queue = link.book.living(name), incoming.begun > queue.maximumAttempts {
            let reason = "\(queue.maximumAttempts) attempts ended without a verdict"
            return errand(incoming, &state, buried(incoming, from: name, attempt: incoming.begun - 1, reason))
        }
        state.held[index].append(Held(incoming: incoming, since: uptime))
    }

    private func handBack(_ held: Held, _ state: inout State) {
        // Published anew rather than returned: the server would count a return as an attempt.
        let name = queues[Int(held.incoming.channel) - 1]
        errand(held.incoming, &state, held.incoming.forwarded(to: name, attempt: held.incoming.begun))
    }

    /// Moves a message: first it is safe where it goes, then it is acknowledged where it was.
    private func errand(_ incoming: Incoming, _ state: inout State, _ outgoing: Outgoing) {
        state.errands += 1
        let epoch = state.epoch
        Task.detached { [self] in
            let outcome = await move(outgoing)
            post(
                Settled(
                    epoch: epoch, channel: incoming.channel, tag: incoming.tag, outcome: outcome,
                    wasHandler: false))
        }
    }

    private func start(_ held: Held, _ state: inout State) {
        state.handlers += 1
        let incoming = held.incoming
        let epoch = state.epoch
        let name = queues[Int(incoming.channel) - 1]
        let delivery = Delivery(
            message: incoming.message, queue: name,
            attempt: link.book.living(name) == nil ? incoming.attempt : incoming.begun,
            reason: incoming.reason)
        // Not a child of `run`: cancelling that must not cancel what has begun.
        Task.detached { [self] in
            let outcome = await handle(delivery)
            post(
                Settled(
                    epoch: epoch, channel: incoming.channel, tag: incoming.tag, outcome: outcome,
                    wasHandler: true))
        }
    }

    // MARK: - On the shared pool

    private func handle(_ delivery: Delivery) async -> Outcome {
        let name = delivery.queue
        link.metrics.inFlight[name].add(1)
        defer { link.metrics.inFlight[name].add(-1) }
        let queue = link.book.living(name)
        let verdict = await Verdict(of: delivery, queue, handler, link.log)
        link.metrics.consumed[name, verdict.name].increment()
        switch verdict {
        case .ack: return .done
        case .reject(let reason):
            guard queue != nil else { return .done }
            return await move(bury(delivery, reason))
        case .retry(let delay):
            if let queue, delivery.attempt >= queue.maximumAttempts {
                return await move(bury(delivery, "\(queue.maximumAttempts) attempts failed"))
            }
            return await move(
                Outgoing(
                    message: delivery.message, exchange: "", routingKey: name,
                    attempt: queue == nil ? delivery.attempt : delivery.attempt + 1,
                    notBefore: delay > .zero ? link.time.now + delay : nil, reason: delivery.reason))
        }
    }

    private func bury(_ delivery: Delivery, _ reason: String) -> Outgoing {
        link.metrics.dead[delivery.queue].increment()
        link.log.error(
            "broker.dead-letter",
            [
                "queue": .id(delivery.queue), "message": .id(delivery.message.id),
                "attempt": .int(delivery.attempt), "reason": .text(reason),
            ])
        return Outgoing(
            message: delivery.message, exchange: Link.deadExchange, routingKey: delivery.queue,
            attempt: delivery.attempt, reason: reason)
    }

    private func buried(_ incoming: Incoming, from queue: String, attempt: Int, _ reason: String) -> Outgoing
    {
        bury(Delivery(message: incoming.message, queue: queue, attempt: attempt), reason)
    }

    private func move(_ outgoing: Outgoing) async -> Outcome {
        do {
            try await publisher.publish(outgoing)
            return .done
        } catch {
            link.log.error(
                "broker.move-failed",
                [
                    "queue": .id(outgoing.routingKey), "message": .id(outgoing.message.id),
                    "error": .error(error),
                ])
            // It stays with the server and comes again; not at once, or an outage would become a busy loop.
            try? await link.time.sleep(for: .seconds(1))
            return .giveBack
        }
    }
}

extension Incoming {
    /// The attempt that a handler would begin now.
    var begun: Int { attempt + returns }

    func forwarded(to queue: String, attempt: Int, notBefore: Timestamp? = nil) -> Outgoing {
        Outgoing(
            message: message, exchange: "", routingKey: queue, attempt: attempt, notBefore: notBefore,
            reason: reason)
    }
}
