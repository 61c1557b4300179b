import CCurl
import Core
import HTTP
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A thread of libcurl's transfers, as seen from outside: an inbox, and a way to wake it.
final class CurlLoop: TransferLoop {
    private struct Inbox {
        var commands: [LoopCommand] = []
        /// Whether the loop sleeps, or is about to: only then it has to be woken.
        var isAsleep = false
        var isClosed = false
    }
    private let core: ClientCore
    private let inbox = Mutex(Inbox())
    private let bell: Int32
    let load = LoopLoad()

    init(number: Int, core: ClientCore) {
        self.core = core
        bell = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
        precondition(bell >= 0, "the system refuses another descriptor")
        startThread(name: "http-client-\(number)") { [self] in
            LoopThread(self, bell: bell, core: core).run()
        }
    }

    deinit { close(bell) }

    func post(_ command: LoopCommand) {
        let (isClosed, mustWake) = inbox.withLock { inbox in
            if inbox.isClosed { return (true, false) }
            inbox.commands.append(command)
            defer { inbox.isAsleep = false }
            return (false, inbox.isAsleep)
        }
        if isClosed { core.refuse(command, from: self) }
        if mustWake { eventfd_write(bell, 1) }
    }

    /// What has come in since the last time; none means that the loop may sleep and will be woken.
    fileprivate func takeCommands(into commands: inout [LoopCommand]) {
        inbox.withLock { inbox in
            swap(&commands, &inbox.commands)
            inbox.isAsleep = commands.isEmpty
        }
    }

    /// Says that the loop is awake: what is posted from now on is seen without ringing.
    fileprivate func awake() { inbox.withLock { $0.isAsleep = false } }

    /// Takes nothing any more, and refuses what has come too late.
    fileprivate func closeInbox() {
        let late = inbox.withLock { inbox in
            inbox.isClosed = true
            defer { inbox.commands = [] }
            return inbox.commands
        }
        for command in late { core.refuse(command, from: self) }
    }
}

/// The thread's own side: libcurl's multi handle, its sockets in an epoll, its timer, our deadlines.
///
/// Nothing here is shared. It uses `curl_multi_socket_action`, not `curl_multi_poll`: the latter looks at
/// every transfer at every turn, so that each open event stream would slow down each small request.
final class LoopThread {
    private struct Socket {
        /// What libcurl wants to hear of, and what the epoll has been told.
        var wanted: UInt32 = 0
        var registered: UInt32 = 0
        /// Which socket it is, while it is one that was opened here; 0 otherwise. A descriptor alone does not
        /// say: others in this process may have got it since.
        var identity: UInt64 = 0
        /// Whether it can still serve. Libcurl closes what cannot when it looks at it next.
        var isAlive = true
        /// The exchange that used it last.
        var exchangeNumber = 0
    }

    private let loop: CurlLoop
    private let core: ClientCore
    private let epoll: Int32
    private let bell: Int32
    private let time = SystemTime()
    private(set) var now: Duration
    private var multi: UnsafeMutableRawPointer
    private var sockets: [Socket] = []
    private var timer: Duration?

    private var transfers: [Transfer] = []
    private var free: [Transfer] = []
    private var touched: [Transfer] = []
    /// No transfer's time is over before this moment. It is only looked for anew when it has come, since
    /// nearly all transfers end long before.
    private var nextDue: Duration?
    private var nextQueueDue: Duration?
    private var idleSince: Duration?
    private var openCount = 0
    private var lastNumber = 0
    private var waste = [UInt8](repeating: 0, count: 4096)
    private var whenEnded: (@Sendable () -> Void)?

    init(_ loop: CurlLoop, bell: Int32, core: ClientCore) {
        self.loop = loop
        self.core = core
        self.bell = bell
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        precondition(epoll >= 0, "the system refuses another descriptor")
        guard let multi = curl_multi_init() else { preconditionFailure("libcurl cannot start") }
        self.multi = multi
        now = time.uptime
        // Edge-triggered: the bell's count need not be read.
        convoke_epoll_set(epoll, EPOLL_CTL_ADD, bell, CONVOKE_EPOLL_IN | CONVOKE_EPOLL_EDGE)
        prepare(multi)
    }

    private func prepare(_ multi: UnsafeMutableRawPointer) {
        convoke_curl_multi_set_callbacks(multi, Unmanaged.passUnretained(self).toOpaque(), onSocket, onTimer)
        convoke_curl_multi_set_number(multi, CURLMOPT_PIPELINING, Int(CURLPIPE_NOTHING))
        convoke_curl_multi_set_number(multi, CURLMOPT_MAXCONNECTS, core.settings.limits.idleConnections)
    }

    deinit {
        curl_multi_cleanup(multi)
        Glibc.close(epoll)
    }

    // MARK: - Turning

    func run() {
        // What TLS writes to a connection that is gone must not end the process.
        var pipe = sigset_t()
        sigemptyset(&pipe)
        sigaddset(&pipe, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipe, nil)

        var commands: [LoopCommand] = []
        let descriptors = UnsafeMutablePointer<Int32>.allocate(capacity: Int(CONVOKE_EPOLL_BATCH))
        let events = UnsafeMutablePointer<UInt32>.allocate(capacity: Int(CONVOKE_EPOLL_BATCH))
        defer {
            descriptors.deallocate()
            events.deallocate()
        }
        while true {
            loop.takeCommands(into: &commands)
            for command in commands { obey(command) }
            let wasIdle = commands.isEmpty
            commands.removeAll(keepingCapacity: true)
            if let whenEnded {
                close()
                loop.closeInbox()
                whenEnded()
                return
            }
            // Before libcurl picks connections for new requests, all that has happened to them is seen.
            let count = convoke_epoll_wait(epoll, descriptors, events, wasIdle ? patience : 0)
            now = time.uptime
            if wasIdle { loop.awake() }
            for index in 0..<Int(max(count, 0)) { take(events[index], of: descriptors[index]) }
            if let timer, timer <= now {
                self.timer = nil
                act(CURL_SOCKET_TIMEOUT, 0)
            }
            finishEnded()
            tellTouched()
            checkDeadlines()
        }
    }

    /// For how many milliseconds nothing is to be done by itself.
    private var patience: Int32 {
        var next = timer
        for other in [nextDue, nextQueueDue, idleSince.map({ $0 + core.settings.keepAlive })] {
            if let other { next = min(next ?? other, other) }
        }
        guard let next else { return -1 }
        // Rounded up, or it would wake too early and look again.
        return next <= now ? 0 : Int32(clamping: (next - now).milliseconds + 1)
    }

    private func obey(_ command: LoopCommand) {
        switch command {
        case .start(let exchange): start(exchange)
        case .stop(let exchange):
            if let transfer = transfer(of: exchange) { end(transfer, .failed(CancellationError())) }
        case .receive(let exchange):
            guard let transfer = transfer(of: exchange) else { return }
            if transfer.isDelivered { transfer.due = now + exchange.request.idle }
            curl_easy_pause(transfer.easy, CURLPAUSE_CONT)
        case .send(let exchange):
            guard let transfer = transfer(of: exchange) else { return }
            curl_easy_pause(transfer.easy, CURLPAUSE_CONT)
        case .watch(let due): nextQueueDue = min(nextQueueDue ?? due, due)
        case .shutDown(let ended): whenEnded = ended
        }
    }

    private func act(_ socket: curl_socket_t, _ events: Int32) {
        var running: Int32 = 0
        curl_multi_socket_action(multi, socket, events, &running)
    }

    // MARK: - Transfers

    private func transfer(of exchange: Exchange) -> Transfer? {
        let place = exchange.place.load(ordering: .relaxed)
        guard transfers.indices.contains(place), transfers[place].exchange === exchange else { return nil }
        return transfers[place]
    }

    private func start(_ first: Exchange) {
        var next: Exchange? = first
        while let exchange = next {
            next = nil
            guard exchange.begin(on: loop) else {
                core.count(exchange, .failed(CancellationError()), status: 0, now: now)
                next = core.leave(exchange, loop: loop)
                continue
            }
            guard let transfer = free.popLast() ?? Transfer(loop: self, settings: core.settings) else {
                core.refuse(exchange, ClientError.notSent(reason: "no memory for another transfer"))
                next = core.leave(exchange, loop: loop)
                continue
            }
            idleSince = nil
            exchange.place.store(transfers.count, ordering: .relaxed)
            transfers.append(transfer)
            lastNumber += 1
            transfer.begin(exchange, number: lastNumber)
            nextDue = min(nextDue ?? exchange.due, exchange.due)
            let code = curl_multi_add_handle(multi, transfer.easy)
            if code != CURLM_OK {
                end(
                    transfer, .failed(ClientError.notSent(reason: String(cString: curl_multi_strerror(code))))
                )
            }
        }
    }

    /// Ends the transfer's exchange and lets the next one begin. A transfer that is not at its end loses
    /// its connection.
    private func end(_ transfer: Transfer, _ end: Exchange.End) {
        guard let exchange = transfer.exchange else { return }
        curl_multi_remove_handle(multi, transfer.easy)
        let place = exchange.place.load(ordering: .relaxed)
        if let last = transfers.popLast(), last !== transfer {
            transfers[place] = last
            last.exchange?.place.store(place, ordering: .relaxed)
        }
        forgetLost(transfer.opened)
        let head = transfer.head
        // Whether the end comes in the same packet as the head makes no difference to the caller: there is
        // an answer, and its body breaks off.
        if case .failed = end, head.isComplete { exchange.deliver(head) }
        exchange.finish(end, head: head)
        transfer.end()
        if free.count < core.settings.limits.idleConnections { free.append(transfer) }
        core.count(exchange, end, status: head.status, now: now)
        if let next = core.leave(exchange, loop: loop) { start(next) }
        if transfers.isEmpty { idleSince = now }
    }

    private func finishEnded() {
        var code = CURLE_OK
        while let easy = convoke_curl_next_ended(multi, &code) {
            guard let owner = convoke_curl_owner(easy) else { continue }
            let transfer = Unmanaged<Transfer>.fromOpaque(owner).takeUnretainedValue()
            if code == CURLE_OK, transfer.head.isComplete {
                end(transfer, .complete)
            } else if code == CURLE_OK {
                end(transfer, .failed(ClientError.inDoubt(reason: "the answer ended within its head")))
            } else if !repeats(transfer, after: code) {
                end(transfer, .failed(transfer.failure(for: code)))
            }
        }
    }

    private func repeats(_ transfer: Transfer, after code: CURLcode) -> Bool {
        guard transfer.mayRepeat(after: code) else { return false }
        curl_multi_remove_handle(multi, transfer.easy)
        return curl_multi_add_handle(multi, transfer.easy) == CURLM_OK
    }

    func touch(_ transfer: Transfer) {
        guard !transfer.isTouched else { return }
        transfer.isTouched = true
        touched.append(transfer)
    }

    /// Hands on what this turn has brought. Answers that have ended within the turn are gone already, head
    /// and body in one piece.
    private func tellTouched() {
        while let transfer = touched.popLast() {
            guard transfer.isTouched, let exchange = transfer.exchange else { continue }
            transfer.isTouched = false
            if transfer.head.isComplete, !transfer.isDelivered {
                transfer.isDelivered = true
                transfer.due = now + exchange.request.idle
                nextDue = min(nextDue ?? transfer.due, transfer.due)
                exchange.deliver(transfer.head)
                if transfer.mustWakeSender { curl_easy_pause(transfer.easy, CURLPAUSE_CONT) }
            }
            exchange.wakeReader()
        }
    }

    // MARK: - Deadlines

    private func checkDeadlines() {
        if let due = nextDue, due <= now {
            nextDue = nil
            var over: [Transfer] = []
            for transfer in transfers {
                if transfer.due <= now {
                    if transfer.isDelivered, let exchange = transfer.exchange, !exchange.isOthersTurn {
                        // Our own side takes its time: that is no fault of the other's.
                        transfer.due = now + exchange.request.idle
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
        if let since = idleSince, since + core.settings.keepAlive <= now {
            idleSince = nil
            closeIdleConnections()
        }
    }

    /// libcurl notices that a pooled connection was closed by the other side only when it needs one. So that
    /// such descriptors do not stay for ever, an idle loop throws its pool away.
    private func closeIdleConnections() {
        guard openCount > 0, transfers.isEmpty, let fresh = curl_multi_init() else { return }
        curl_multi_cleanup(multi)
        timer = nil
        multi = fresh
        prepare(fresh)
    }

    private func close() {
        for transfer in transfers {
            end(transfer, .failed(core.closedError(wasSent: transfer.sendings > 0)))
        }
        closeIdleConnections()
    }

    // MARK: - Sockets

    private func take(_ events: UInt32, of socket: Int32) {
        guard socket != bell else { return }
        guard sockets.indices.contains(Int(socket)), sockets[Int(socket)].wanted != 0 else {
            takeUnwanted(socket)
            return
        }
        var mask: Int32 = 0
        if events & (CONVOKE_EPOLL_IN | CONVOKE_EPOLL_BROKEN) != 0 { mask |= CURL_CSELECT_IN }
        if events & CONVOKE_EPOLL_OUT != 0 { mask |= CURL_CSELECT_OUT }
        if events & CONVOKE_EPOLL_BROKEN != 0 { mask |= CURL_CSELECT_ERR }
        act(socket, mask)
    }

    /// Something happened to a connection that libcurl does not look at: its transfer is paused, or it is
    /// in the pool. There it was closed or speaks unasked, and libcurl 7.88 would take such bytes for the
    /// answer to the next request: so the connection is ended, which libcurl notices and makes another.
    private func takeUnwanted(_ descriptor: Int32) {
        convoke_epoll_set(epoll, EPOLL_CTL_DEL, descriptor, 0)
        guard sockets.indices.contains(Int(descriptor)) else { return }
        sockets[Int(descriptor)].registered = 0
        let socket = sockets[Int(descriptor)]
        let isPaused = transfers.contains { $0.number == socket.exchangeNumber }
        guard socket.identity != 0, !isPaused, socket.isAlive,
            convoke_socket_identity(descriptor) == socket.identity
        else { return }
        shutdown(descriptor, Int32(SHUT_RDWR))
        sockets[Int(descriptor)].isAlive = false
        core.connections.wrappingSubtract(1, ordering: .relaxed)
        // What has come already could still be read after that.
        while recv(descriptor, &waste, waste.count, Int32(MSG_DONTWAIT)) > 0 {}
    }

    fileprivate func watch(_ socket: curl_socket_t, _ what: Int32, for easy: UnsafeMutableRawPointer?) {
        let index = Int(socket)
        guard index >= 0 else { return }
        grow(to: index)
        if let easy, let owner = convoke_curl_owner(easy) {
            sockets[index].exchangeNumber = Unmanaged<Transfer>.fromOpaque(owner).takeUnretainedValue().number
        }
        var wanted: UInt32 = 0
        if what & CURL_POLL_IN != 0, what != CURL_POLL_REMOVE { wanted |= CONVOKE_EPOLL_IN }
        if what & CURL_POLL_OUT != 0, what != CURL_POLL_REMOVE { wanted |= CONVOKE_EPOLL_OUT }
        sockets[index].wanted = wanted
        let registered = sockets[index].registered
        if wanted == 0 {
            guard registered != 0 else { return }
            // A pooled connection is mostly wanted again at once: it stays in the epoll, which saves two
            // system calls a request. Others we would not hear of any more.
            if sockets[index].identity == 0 {
                convoke_epoll_set(epoll, EPOLL_CTL_DEL, socket, 0)
                sockets[index].registered = 0
            } else if registered != CONVOKE_EPOLL_IN {
                // An answer that is read in the turn that connected or sent: that it can be written to is no
                // news of a connection in the pool, and would be taken for the other side's.
                convoke_epoll_set(epoll, EPOLL_CTL_MOD, socket, CONVOKE_EPOLL_IN)
                sockets[index].registered = CONVOKE_EPOLL_IN
            }
        } else if wanted != registered {
            if registered == 0 || convoke_epoll_set(epoll, EPOLL_CTL_MOD, socket, wanted) != 0 {
                convoke_epoll_set(epoll, EPOLL_CTL_ADD, socket, wanted)
            }
            sockets[index].registered = wanted
        }
    }

    fileprivate func setTimer(_ milliseconds: Int) {
        // Counted from this moment, not from the turn's: it must not fire before libcurl expects it.
        timer = milliseconds < 0 ? nil : milliseconds == 0 ? now : time.uptime + .milliseconds(milliseconds)
    }

    func open(_ address: curl_sockaddr, for transfer: Transfer) -> curl_socket_t {
        let socket = Glibc.socket(
            address.family, address.socktype | Int32(SOCK_CLOEXEC.rawValue), address.protocol)
        guard socket >= 0 else { return -1 }
        grow(to: Int(socket))
        forget(socket)
        sockets[Int(socket)] = Socket(identity: convoke_socket_identity(socket))
        transfer.opened.append(socket)
        openCount += 1
        core.connections.wrappingAdd(1, ordering: .relaxed)
        return socket
    }

    func close(_ socket: curl_socket_t) -> Int32 {
        forget(socket)
        return Glibc.close(socket)
    }

    /// libcurl 7.88 closes by itself, and tells nobody, what has not become a connection: an address that
    /// did not answer, or one that was given up.
    private func forgetLost(_ opened: [curl_socket_t]) {
        for socket in opened where convoke_socket_identity(socket) != sockets[Int(socket)].identity {
            forget(socket)
        }
    }

    private func forget(_ socket: curl_socket_t) {
        guard sockets.indices.contains(Int(socket)), sockets[Int(socket)].identity != 0 else { return }
        if sockets[Int(socket)].isAlive { core.connections.wrappingSubtract(1, ordering: .relaxed) }
        sockets[Int(socket)] = Socket()
        openCount -= 1
    }

    private func grow(to index: Int) {
        while sockets.count <= index { sockets.append(Socket()) }
    }
}

private let onSocket:
    @convention(c) (
        UnsafeMutableRawPointer?, curl_socket_t, CInt, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?
    ) -> CInt = { easy, socket, what, owner, _ in
        if let owner {
            Unmanaged<LoopThread>.fromOpaque(owner).takeUnretainedValue().watch(socket, what, for: easy)
        }
        return 0
    }

private let onTimer: @convention(c) (UnsafeMutableRawPointer?, Int, UnsafeMutableRawPointer?) -> CInt = {
    _, milliseconds, owner in
    if let owner { Unmanaged<LoopThread>.fromOpaque(owner).takeUnretainedValue().setTimer(milliseconds) }
    return 0
}
