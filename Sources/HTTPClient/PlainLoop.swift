import Core
import Glibc
import HTTP
import Synchronization

/// Exchanges without TLS on an event loop, as the rest of the client sees them.
///
/// A task that runs on that loop is answered without a change of threads: its request is written when it asks,
/// and it goes on when the answer has been read, all on the loop's own thread.
// Safe: `thread` is touched on the loop's thread alone.
final class PlainLoop: TransferLoop, @unchecked Sendable {
    let load = LoopLoad()
    let events: EventLoop
    /// Whether the client made the loop, and nobody else lives on it.
    let isOwn: Bool
    private let core: ClientCore
    private let thread: PlainThread

    init(on events: EventLoop, core: ClientCore, isOwn: Bool = false) {
        self.events = events
        self.isOwn = isOwn
        self.core = core
        thread = PlainThread(events, core: core)
        let board: @Sendable () -> Void = { self.thread.begin(for: self) }
        if events.isCurrent { board() } else { events.perform(board) }
    }

    func post(_ command: LoopCommand) {
        if events.isCurrent {
            // Anything else may come from within a lock that carrying it out would take again.
            if case .start = command { carryOut(command) } else { thread.put(command) }
        } else {
            events.perform { self.carryOut(command) }
        }
    }

    private func carryOut(_ command: LoopCommand) {
        if thread.isOver { core.refuse(command, from: self) } else { thread.obey(command) }
    }
}

/// The loop's own side: exchanges under way, connections kept for the next ones, deadlines. Nothing here is
/// shared, and nothing waits.
final class PlainThread: LoopPassenger {
    let core: ClientCore
    let events: EventLoop
    private(set) var loop: PlainLoop?
    private(set) var now: Duration
    /// What comes from a socket is read into here first.
    let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 64 << 10)

    private var names = HostNames()
    private var transfers: [PlainTransfer] = []
    private var idle: [String: [PlainConnection]] = [:]
    private var idleCount = 0
    private var commands: [LoopCommand] = []
    /// What failed while it was begun: ended later, for its end begins the next one, and so on.
    private var failed: [(PlainTransfer, any Error)] = []
    /// Those that had more to read than one turn takes.
    private var unread: [PlainConnection] = []
    /// No exchange's time is over before this moment. It is only looked for anew when it has come, since
    /// nearly all exchanges end long before.
    private var nextDue: Duration?
    private var nextQueueDue: Duration?
    private var nextIdleEnd: Duration?
    /// Closed: takes nothing any more.
    private(set) var isOver = false

    init(_ events: EventLoop, core: ClientCore) {
        self.events = events
        self.core = core
        now = SystemTime().uptime
    }

    deinit { buffer.deallocate() }

    func begin(for loop: PlainLoop) {
        self.loop = loop
        events.board(self)
    }

    func put(_ command: LoopCommand) { commands.append(command) }

    func obey(_ command: LoopCommand) {
        guard let loop else { return }
        now = events.now
        switch command {
        case .start(let exchange): start(exchange, loop)
        case .stop(let exchange):
            if let transfer = transfer(of: exchange) { end(transfer, .failed(CancellationError())) }
        case .receive(let exchange):
            guard let transfer = transfer(of: exchange) else { return }
            if transfer.isDelivered { transfer.due = now + exchange.request.idle }
            transfer.readOn()
        case .send(let exchange): transfer(of: exchange)?.write()
        case .watch(let due): nextQueueDue = min(nextQueueDue ?? due, due)
        case .shutDown(let ended):
            close()
            ended()
        }
    }

    func turn(now: Duration) -> Duration? {
        self.now = now
        var index = 0
        while index < commands.count {
            obey(commands[index])
            index += 1
        }
        commands.removeAll(keepingCapacity: true)
        let waiting = unread
        unread.removeAll(keepingCapacity: true)
        for connection in waiting { connection.read() }
        while let (transfer, error) = failed.popLast() { end(transfer, .failed(error)) }
        checkDeadlines()
        guard unread.isEmpty, failed.isEmpty, commands.isEmpty else { return now }
        var next = nextDue
        for other in [nextQueueDue, nextIdleEnd] {
            if let other { next = min(next ?? other, other) }
        }
        return next
    }

    // MARK: - Exchanges

    private func transfer(of exchange: Exchange) -> PlainTransfer? {
        let place = exchange.place.load(ordering: .relaxed)
        guard transfers.indices.contains(place), transfers[place].exchange === exchange else { return nil }
        return transfers[place]
    }

    private func start(_ first: Exchange, _ loop: PlainLoop) {
        var next: Exchange? = first
        while let exchange = next {
            next = nil
            guard exchange.begin(on: loop) else {
                core.count(exchange, .failed(CancellationError()), status: 0, now: now)
                next = core.leave(exchange, loop: loop)
                continue
            }
            exchange.place.store(transfers.count, ordering: .relaxed)
            let transfer = PlainTransfer(exchange, self)
            transfers.append(transfer)
            nextDue = min(nextDue ?? exchange.due, exchange.due)
            launch(transfer)
        }
    }

    private func launch(_ transfer: PlainTransfer) {
        let target = transfer.exchange.target
        while let connection = idle[target.origin]?.popLast() {
            idleCount -= 1
            if connection.isUsable(at: now) { return connection.carry(transfer) }
            connection.close()
        }
        connect(transfer)
    }

    private func connect(_ transfer: PlainTransfer) {
        let target = transfer.exchange.target
        transfer.due = min(transfer.exchange.due, now + core.settings.connectTimeout)
        nextDue = min(nextDue ?? transfer.due, transfer.due)
        if let addresses = names.addresses(of: target, at: now) { return connect(transfer, addresses[...]) }
        HostNames.lookUp(target, on: events) { found in
            if let found { self.names.remember(found, for: target, at: self.events.now) }
            guard !transfer.isOver else { return }
            guard let found else {
                return self.fail(transfer, ClientError.notSent(reason: "\(target.host) has no address"))
            }
            self.connect(transfer, found[...])
        }
    }

    /// Tries one address after another until one takes the connection.
    func connect(_ transfer: PlainTransfer, _ addresses: ArraySlice<SocketAddress>, last reason: String = "")
    {
        var reason = reason
        var addresses = addresses
        while let address = addresses.popFirst() {
            if let connection = PlainConnection(to: address, others: addresses, transfer, self) {
                connection.begin()
                return
            }
            reason = systemMessage(errno)
        }
        // Where it was is not where it is: it may have moved.
        names.forget(transfer.exchange.target)
        fail(transfer, ClientError.notSent(reason: reason))
    }

    /// Ends it in this turn, but not at once: whoever calls may be in the middle of beginning it.
    func fail(_ transfer: PlainTransfer, _ error: any Error) {
        transfer.isOver = true
        failed.append((transfer, error))
    }

    /// The connection broke under it. What may be done twice goes out again where the connection was an old
    /// one and nothing has come: then most likely the other side was closing it anyway.
    func broke(_ transfer: PlainTransfer, _ error: any Error) {
        guard transfer.mayRepeat else { return end(transfer, .failed(error)) }
        transfer.connection?.close()
        transfer.prepareRepetition()
        connect(transfer)
    }

    func end(_ transfer: PlainTransfer, _ end: Exchange.End, keepsConnection: Bool = false) {
        let exchange = transfer.exchange
        let place = exchange.place.load(ordering: .relaxed)
        guard transfers.indices.contains(place), transfers[place] === transfer else { return }
        transfer.isOver = true
        if let last = transfers.popLast(), last !== transfer {
            transfers[place] = last
            last.exchange.place.store(place, ordering: .relaxed)
        }
        if let connection = transfer.connection {
            connection.drop()
            // Where the other side has closed it along with the answer, nobody will tell so again.
            if keepsConnection, !connection.isBroken { park(connection) } else { connection.close() }
        }
        let head = transfer.head
        // Whether the end comes in the same packet as the head makes no difference to the caller: there is
        // an answer, and its body breaks off.
        if case .failed = end, head.isComplete { exchange.deliver(head) }
        exchange.finish(end, head: head)
        core.count(exchange, end, status: head.status, now: now)
        if let loop, let next = core.leave(exchange, loop: loop) { start(next, loop) }
    }

    func readMore(_ connection: PlainConnection) { unread.append(connection) }

    func isDelivered(_ transfer: PlainTransfer) {
        transfer.due = now + transfer.exchange.request.idle
        nextDue = min(nextDue ?? transfer.due, transfer.due)
    }

    // MARK: - Kept connections

    private func park(_ connection: PlainConnection) {
        guard idleCount < core.settings.limits.idleConnections else { return connection.close() }
        connection.idleEnd = now + core.settings.keepAlive
        nextIdleEnd = nextIdleEnd ?? connection.idleEnd
        idle[connection.origin, default: []].append(connection)
        idleCount += 1
    }

    /// The other side has closed one that nobody uses, or speaks unasked: what it says would be taken for the
    /// answer to the next request.
    func lost(_ connection: PlainConnection) {
        if let index = idle[connection.origin]?.firstIndex(where: { $0 === connection }) {
            idle[connection.origin]?.remove(at: index)
            idleCount -= 1
        }
        connection.close()
    }

    private func closeIdle(upTo moment: Duration?) {
        nextIdleEnd = nil
        for (origin, connections) in idle {
            let kept = connections.filter { connection in moment.map { connection.idleEnd > $0 } ?? false }
            for connection in connections where !kept.contains(where: { $0 === connection }) {
                connection.close()
                idleCount -= 1
            }
            idle[origin] = kept.isEmpty ? nil : kept
            if let first = kept.first { nextIdleEnd = min(nextIdleEnd ?? first.idleEnd, first.idleEnd) }
        }
    }

    // MARK: - Deadlines and the end

    private func checkDeadlines() {
        if let due = nextDue, due <= now {
            nextDue = nil
            var over: [PlainTransfer] = []
            for transfer in transfers {
                if transfer.due <= now {
                    if transfer.isDelivered, !transfer.exchange.isOthersTurn {
                        // Our own side takes its time: that is no fault of the other's.
                        transfer.due = now + transfer.exchange.request.idle
                    } else {
                        over.append(transfer)
                        continue
                    }
                }
                nextDue = min(nextDue ?? transfer.due, transfer.due)
            }
            for transfer in over {
                end(transfer, .failed(ClientError.timedOut(mayHaveArrived: transfer.sendings > 0)))
            }
        }
        if let due = nextQueueDue, due <= now { nextQueueDue = core.expireWaiting(now: now) }
        if let due = nextIdleEnd, due <= now { closeIdle(upTo: now) }
    }

    private func close() {
        isOver = true
        while let transfer = transfers.last {
            end(transfer, .failed(core.closedError(wasSent: transfer.sendings > 0)))
        }
        closeIdle(upTo: nil)
        events.leave(self)
        loop = nil
    }
}
