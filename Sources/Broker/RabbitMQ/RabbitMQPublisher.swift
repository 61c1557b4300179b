import Core
import Synchronization

/// Publishes over one connection on one thread: what has queued up goes out together, and each caller goes
/// on when the confirm of its own message arrives.
///
/// A lost connection is made again at once and what was not confirmed is sent again. When that fails,
/// everyone who waits is told, and so is everyone who comes until it succeeds.
final class RabbitMQPublisher: Sendable {
    private struct Pending {
        let outgoing: Outgoing
        let waiter: Waiter<Void>
        var sends = 0
        var isUnroutable = false
    }
    private enum Request {
        case publish(Pending)
        case ping(Waiter<Void>)
        case depth(queue: String, Waiter<Int>)

        func fail(_ error: BrokerError) {
            switch self {
            case .publish(let pending): pending.waiter.finish(.failure(error))
            case .ping(let waiter): waiter.finish(.failure(error))
            case .depth(_, let waiter): waiter.finish(.failure(error))
            }
        }
    }
    private struct Inbox {
        var requests: [Request] = []
        var isStarted = false
        var isClosed = false
        var deadlines: ArraySlice<(moment: Duration, waiter: Waiter<Void>)> = []
        var isSweeping = false
    }

    private static let channel: UInt16 = 2
    /// What one connection may have unconfirmed: bounds what is sent again after a loss.
    private static let maximumOpen = 4096
    /// A message that has broken so many connections is not tried on another.
    private static let maximumSends = 3

    private let link: Link
    private let inbox = Mutex(Inbox())
    private let wakeUp = WakeUp()
    private let ended = Waiter<Void>()

    init(_ link: Link) { self.link = link }

    /// Tries a few times what the server refuses: a quorum queue of RabbitMQ 3.10 that has just been declared
    /// refuses for a moment under load, although nothing is full.
    func publish(_ outgoing: Outgoing) async throws {
        let backoff = Backoff(first: .milliseconds(50), ceiling: .seconds(1))
        try await retry(attempts: 5, backoff: backoff, time: link.time) { error in
            error as? BrokerError == .refused
        } _: {
            let waiter = Waiter<Void>()
            submit(.publish(Pending(outgoing: outgoing, waiter: waiter)), until: waiter)
            try await waiter.value()
        }
    }

    func ping() async throws {
        let waiter = Waiter<Void>()
        submit(.ping(waiter), until: waiter)
        try await waiter.value()
    }

    func depth(of queue: String) async throws -> Int {
        let waiter = Waiter<Int>()
        submit(.depth(queue: queue, waiter), until: nil)
        return try await waiter.value()
    }

    func close() async {
        requestClose()
        try? await ended.valueRegardless()
    }

    /// Ends the thread; what is published from now on fails.
    func requestClose() {
        let wasStarted = inbox.withLock { inbox in
            inbox.isClosed = true
            return inbox.isStarted
        }
        if wasStarted { wakeUp.raise() } else { ended.finish(.success(())) }
    }

    private func submit(_ request: Request, until waiter: Waiter<Void>?) {
        let moment = link.time.uptime + link.settings.publishDeadline
        enum Next { case nothing, wake, start, refuse }
        let (next, mustSweep) = inbox.withLock { inbox -> (Next, Bool) in
            guard !inbox.isClosed else { return (.refuse, false) }
            var mustSweep = false
            if let waiter {
                while let first = inbox.deadlines.first, first.waiter.isFinished {
                    inbox.deadlines.removeFirst()
                }
                inbox.deadlines.append((moment, waiter))
                mustSweep = !inbox.isSweeping
                inbox.isSweeping = true
            }
            inbox.requests.append(request)
            defer { inbox.isStarted = true }
            return (inbox.isStarted ? inbox.requests.count == 1 ? .wake : .nothing : .start, mustSweep)
        }
        switch next {
        case .nothing: break
        case .wake: wakeUp.raise()
        case .start: startThread(name: "amqp-publish") { [self] in run() }
        case .refuse: request.fail(.closed)
        }
        // Not the thread's business: it may itself be what is stuck.
        if mustSweep { Task.detached { [self] in await sweep() } }
    }

    /// Tells those whose time is up. All have the same time, so the first in the list is the first to expire.
    private func sweep() async {
        while true {
            let now = link.time.uptime
            let (expired, next) = inbox.withLock { inbox -> ([Waiter<Void>], Duration?) in
                var expired: [Waiter<Void>] = []
                while let first = inbox.deadlines.first, first.moment <= now || first.waiter.isFinished {
                    expired.append(first.waiter)
                    inbox.deadlines.removeFirst()
                }
                let next = inbox.deadlines.first?.moment
                if next == nil { inbox.isSweeping = false }
                return (expired, next)
            }
            for waiter in expired { waiter.finish(.failure(BrokerError.timedOut)) }
            guard let next else { return }
            try? await link.time.sleep(for: max(next - now, .milliseconds(100)))
        }
    }

    // MARK: - On the thread

    private func run() {
        var connection: AMQPConnection?
        var reconnection = Reconnection()
        var isBlocked = false
        var rungs: Set<Duration> = []
        var window = ConfirmWindow<Pending>()
        /// In the order of their coming, not sent on this connection yet.
        var waiting: [Request] = []
        let system = SystemTime()

        func drop(_ error: BrokerError) {
            connection = nil
            // Sent again on the next connection, before what came later.
            waiting = window.open.map(Request.publish) + waiting
            window = ConfirmWindow()
            link.log.warning("broker.connection-lost", ["role": "publisher", "error": .error(error)])
        }

        while true {
            let (requests, isClosed) = inbox.withLock { inbox in
                defer { inbox.requests = [] }
                return (inbox.requests, inbox.isClosed)
            }
            waiting += requests

            guard let open = connection else {
                if isClosed {
                    for request in waiting { request.fail(.closed) }
                    ended.finish(.success(()))
                    return
                }
                guard system.uptime >= reconnection.nextAttempt else {
                    let error =
                        reconnection.failure ?? .unavailable(reason: "not connected", mayHaveRun: false)
                    for request in waiting { request.fail(told(error, request)) }
                    waiting = []
                    wakeUp.wait(limit: reconnection.nextAttempt - system.uptime + .milliseconds(1))
                    continue
                }
                do throws(BrokerError) {
                    let made = try link.connect(name: "publisher")
                    try made.openChannel(Self.channel)
                    try made.selectConfirms(Self.channel)
                    if reconnection.wasConnected {
                        link.metrics.reconnects.increment()
                        link.log.info("broker.reconnected", ["role": "publisher"])
                    }
                    reconnection.succeeded()
                    isBlocked = false
                    rungs = []
                    connection = made
                } catch {
                    reconnection.failed(error, at: system.uptime, link.settings.backoff)
                    link.log.error(
                        "broker.unreachable",
                        ["role": "publisher", "server": .id(link.address), "error": .error(error)])
                }
                continue
            }

            do throws(BrokerError) {
                if !isBlocked {
                    var rest: [Request] = []
                    for (index, request) in waiting.enumerated() {
                        guard window.count < Self.maximumOpen else {
                            rest = Array(waiting[index...])
                            break
                        }
                        do throws(BrokerError) {
                            try send(request, on: open, &window, &rungs)
                        } catch {
                            waiting = Array(waiting[(index + 1)...])
                            throw error
                        }
                    }
                    waiting = rest
                }
                while let event = try open.nextEvent() {
                    switch event {
                    case .blocked: isBlocked = true
                    case .unblocked: isBlocked = false
                    default: settle(event, &window)
                    }
                }
                if isClosed && waiting.isEmpty && window.open.allSatisfy(\.waiter.isFinished) {
                    open.close()
                    connection = nil
                    continue
                }
                let isReady = !isBlocked && !waiting.isEmpty && window.count < Self.maximumOpen
                open.wait(wakeUp, limit: isReady ? .zero : .milliseconds(open.heartbeat * 500))
            } catch {
                drop(error)
            }
        }
    }

    /// A message that was sent before may have arrived, whatever became of the connection.
    private func told(_ error: BrokerError, _ request: Request) -> BrokerError {
        guard case .unavailable(let reason, _) = error else { return error }
        guard case .publish(let pending) = request else {
            return .unavailable(reason: reason, mayHaveRun: false)
        }
        return .unavailable(reason: reason, mayHaveRun: pending.sends > 0)
    }

    private func send(
        _ request: Request, on connection: AMQPConnection, _ window: inout ConfirmWindow<Pending>,
        _ rungs: inout Set<Duration>
    ) throws(BrokerError) {
        switch request {
        case .ping(let waiter):
            do throws(BrokerError) {
                // The cheapest question that the server has to answer.
                try connection.limitUnacknowledged(to: 0, on: Link.mainChannel)
                waiter.finish(.success(()))
            } catch {
                waiter.finish(.failure(error))
                throw error
            }
        case .depth(let queue, let waiter):
            do throws(BrokerError) {
                waiter.finish(.success(try connection.depth(of: queue, on: Link.mainChannel)))
            } catch {
                waiter.finish(.failure(error))
                throw error
            }
        case .publish(var pending):
            // Whoever waited has been told that its time is up: sending it now would only surprise.
            guard !pending.waiter.isFinished else { return }
            guard pending.sends < Self.maximumSends else {
                let error = BrokerError.unavailable(
                    reason: "the connection breaks on this message", mayHaveRun: true)
                pending.waiter.finish(.failure(error))
                return
            }
            pending.sends += 1
            let sent = pending
            var outgoing = pending.outgoing
            do throws(BrokerError) {
                if let moment = outgoing.notBefore {
                    if let rung = DelayLadder.rung(for: moment - link.time.now) {
                        if rungs.insert(rung).inserted { try link.declare(rung: rung, on: connection) }
                        outgoing = outgoing.delayed(by: rung)
                    } else {
                        outgoing.notBefore = nil
                    }
                }
                window.add(sent)
                try connection.publish(outgoing, on: Self.channel)
            } catch {
                if window.isEmpty || !window.open.contains(where: { $0.waiter === sent.waiter }) {
                    window.add(sent)
                }
                throw error
            }
        }
    }

    private func settle(_ event: AMQPConnection.Event, _ window: inout ConfirmWindow<Pending>) {
        switch event {
        case .confirmed(let tag, let isMultiple):
            for pending in window.take(tag, isMultiple: isMultiple) {
                let queue = pending.outgoing.routingKey
                if pending.isUnroutable {
                    pending.waiter.finish(.failure(BrokerError.unroutable(queue: queue)))
                } else {
                    link.metrics.published[queue].increment()
                    pending.waiter.finish(.success(()))
                }
            }
        case .refused(let tag, let isMultiple):
            for pending in window.take(tag, isMultiple: isMultiple) {
                pending.waiter.finish(.failure(BrokerError.refused))
            }
        case .returned(let id, let routingKey):
            // Comes before the confirm of the same message, and names it by what we gave it.
            window.withFirst {
                $0.outgoing.message.id == id && $0.outgoing.routingKey == routingKey && !$0.isUnroutable
            } _: {
                $0.isUnroutable = true
            }
        case .blocked, .unblocked, .other: break
        }
    }
}

extension Outgoing {
    /// The same on its way through a rung of the ladder, which leads to the queue of the routing key.
    func delayed(by rung: Duration) -> Outgoing {
        Outgoing(
            message: message, exchange: DelayLadder.name(rung), routingKey: routingKey, attempt: attempt,
            notBefore: notBefore, reason: reason)
    }
}
