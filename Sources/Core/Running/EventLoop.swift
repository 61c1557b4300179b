import CSystem
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A descriptor's owner, told on the loop's thread what happened to it.
public protocol LoopSocket: AnyObject {
    func isReady(_ events: LoopEvents)
}

/// Something that lives on a loop and is looked after by its thread alone.
public protocol LoopPassenger: AnyObject {
    /// Called once in every turn, behind what the sockets brought and the tasks made of it. Returns when it
    /// wants to be called at the latest, though nothing happens.
    func turn(now: Duration) -> Duration?
}

/// What has happened to a descriptor.
public struct LoopEvents: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let readable = LoopEvents(rawValue: 0x001)
    public static let writable = LoopEvents(rawValue: 0x004)
    /// The other side has closed its half, or all of it, or an error stands at the socket.
    public static let closed = LoopEvents(rawValue: 0x2018)
}

/// One thread that waits for sockets and runs tasks in between.
///
/// It is a task executor: a task that prefers it runs on its thread, so a request that is read there, handled
/// there, and asked of another server over a socket that is watched there is never handed from thread to
/// thread, which costs more than handling it. In return what runs on a loop must not block it: it holds up
/// everything else that lives there.
///
/// The thread ends when the loop is released, and every passenger and task with it.
public final class EventLoop: TaskExecutor {
    private let thread: LoopThread

    public init(name: String) {
        let thread = LoopThread()
        self.thread = thread
        startThread(name: name) { thread.run() }
    }

    deinit { thread.close() }

    public func enqueue(_ job: consuming ExecutorJob) { thread.add(.job(UnownedJob(job), self)) }

    /// Runs plain work on the thread, behind what waits already.
    public func perform(_ work: @escaping @Sendable () -> Void) { thread.add(.work(work)) }

    /// The loop whose task this is; `nil` elsewhere.
    public static var current: EventLoop? { LoopThread.current?.owner }

    public var isCurrent: Bool { LoopThread.current === thread }

    // MARK: - On the loop's thread

    /// Tells `socket` of every change (edge-triggered), or of there being something to read as long as there is.
    public func watch(_ descriptor: Int32, for socket: any LoopSocket, onlyReadable: Bool = false) -> Bool {
        precondition(isCurrent, "a loop's own thread watches")
        return thread.watch(descriptor, socket, onlyReadable: onlyReadable)
    }

    /// Before the descriptor is closed.
    public func forget(_ descriptor: Int32) {
        precondition(isCurrent, "a loop's own thread watches")
        thread.forget(descriptor)
    }

    public func board(_ passenger: any LoopPassenger) {
        precondition(isCurrent, "passengers are the thread's own")
        thread.passengers.append(passenger)
    }

    public func leave(_ passenger: any LoopPassenger) {
        precondition(isCurrent, "passengers are the thread's own")
        thread.passengers.removeAll { $0 === passenger }
    }

    /// Runs what waits, within something else that the thread does: a task that needs nothing but the thread
    /// is over when this returns.
    public func runWaiting() {
        precondition(isCurrent, "the thread runs it")
        thread.runWaiting()
    }

    /// As of the beginning of the turn.
    public var now: Duration { thread.now }
}

// Safe: what is not behind the lock or constant is touched by the loop's own thread alone.
private final class LoopThread: @unchecked Sendable {
    enum Entry: Sendable {
        case job(UnownedJob, EventLoop)
        case work(@Sendable () -> Void)
    }
    private struct Inbox {
        var entries: [Entry] = []
        /// Whether the thread sleeps, or is about to: only then it has to be woken.
        var isAsleep = false
        var isClosed = false
    }
    private struct Watched {
        var socket: (any LoopSocket)?
        /// Tells apart those that had the same descriptor: what was reported of one is not the next one's.
        var generation: UInt32 = 0
    }
    /// After so many entries the sockets are looked at, whatever else there is to run.
    private static let mostInARow = 1000
    private static let bellTag = UInt64.max

    private let inbox = Mutex(Inbox())
    private let epoll: Int32
    private let bell: Int32

    // The thread's own.
    private var queue: [Entry] = []
    private var next = 0
    private var sockets: [Watched] = []
    private(set) var now: Duration = SystemTime().uptime
    private(set) var owner: EventLoop?
    var passengers: [any LoopPassenger] = []

    init() {
        epoll = convoke_loop_epoll()
        bell = convoke_loop_bell()
        precondition(epoll >= 0 && bell >= 0, "the system refuses another descriptor")
        // Edge-triggered: its count need not be read.
        let code = convoke_loop_watch(epoll, convoke_loop_add, bell, Self.readable | Self.edge, Self.bellTag)
        precondition(code == 0, "the system refuses to watch")
    }

    deinit {
        Glibc.close(epoll)
        Glibc.close(bell)
    }

    private static let readable: UInt32 = 0x001
    private static let writable: UInt32 = 0x004
    private static let peerClosed: UInt32 = 0x2000
    private static let edge: UInt32 = 1 << 31

    // MARK: - From any thread

    func add(_ entry: Entry) {
        if LoopThread.current === self { return queue.append(entry) }
        let mustWake = inbox.withLock { inbox in
            inbox.entries.append(entry)
            defer { inbox.isAsleep = false }
            return inbox.isAsleep
        }
        if mustWake { _ = convoke_add_event(bell, 1) }
    }

    func close() {
        inbox.withLock { $0.isClosed = true }
        _ = convoke_add_event(bell, 1)
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let code = unsafe pthread_key_create(&key, nil)
        precondition(code == 0, "the system refuses another thread-specific value")
        return key
    }()

    static var current: LoopThread? {
        unsafe pthread_getspecific(key).map { unsafe Unmanaged.fromOpaque($0).takeUnretainedValue() }
    }

    // MARK: - The thread

    func run() {
        unsafe pthread_setspecific(Self.key, Unmanaged.passUnretained(self).toOpaque())
        let tags = UnsafeMutablePointer<UInt64>.allocate(capacity: Int(convoke_loop_batch))
        let events = UnsafeMutablePointer<UInt32>.allocate(capacity: Int(convoke_loop_batch))
        defer {
            unsafe tags.deallocate()
            unsafe events.deallocate()
        }
        while true {
            takeInbox()
            runWaiting()
            var due: Duration?
            for passenger in passengers {
                if let wish = passenger.turn(now: now) { due = min(due ?? wish, wish) }
            }
            let (isIdle, isClosed) = inbox.withLock { inbox in
                inbox.isAsleep = inbox.entries.isEmpty && queue.isEmpty
                return (inbox.isAsleep, inbox.isClosed)
            }
            if isIdle, isClosed, passengers.isEmpty { return }
            let patience = isIdle ? patience(until: due) : 0
            let count = unsafe convoke_loop_wait(epoll, tags, events, patience)
            now = SystemTime().uptime
            for index in 0..<Int(max(count, 0)) { unsafe tell(tags[index], events[index]) }
        }
    }

    private func patience(until due: Duration?) -> Int32 {
        guard let due else { return -1 }
        // Rounded up, or it would wake too early and look again.
        return due <= now ? 0 : Int32(clamping: (due - now).milliseconds + 1)
    }

    private func takeInbox() {
        inbox.withLock { inbox in
            inbox.isAsleep = false
            guard !inbox.entries.isEmpty else { return }
            if queue.isEmpty {
                swap(&queue, &inbox.entries)
            } else {
                queue += inbox.entries
                inbox.entries.removeAll(keepingCapacity: true)
            }
        }
    }

    func runWaiting() {
        // A job may come here itself: both count on in the same places.
        var left = Self.mostInARow
        while next < queue.count, left > 0 {
            let entry = queue[next]
            next += 1
            left -= 1
            switch entry {
            case .job(let job, let loop):
                let outer = owner
                owner = loop
                unsafe job.runSynchronously(on: loop.asUnownedTaskExecutor())
                owner = outer
            case .work(let work): work()
            }
        }
        if next == queue.count {
            queue.removeAll(keepingCapacity: true)
        } else {
            queue.removeFirst(next)
        }
        next = 0
    }

    // MARK: - Sockets

    func watch(_ descriptor: Int32, _ socket: any LoopSocket, onlyReadable: Bool) -> Bool {
        let index = Int(descriptor)
        while sockets.count <= index { sockets.append(Watched()) }
        sockets[index].socket = socket
        sockets[index].generation &+= 1
        let events =
            onlyReadable ? Self.readable : Self.readable | Self.writable | Self.peerClosed | Self.edge
        let tag = UInt64(sockets[index].generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        return convoke_loop_watch(epoll, convoke_loop_add, descriptor, events, tag) == 0
    }

    func forget(_ descriptor: Int32) {
        guard sockets.indices.contains(Int(descriptor)), sockets[Int(descriptor)].socket != nil else {
            return
        }
        sockets[Int(descriptor)].socket = nil
        convoke_loop_watch(epoll, convoke_loop_drop, descriptor, 0, 0)
    }

    private func tell(_ tag: UInt64, _ events: UInt32) {
        guard tag != Self.bellTag else { return }
        let watched = sockets[Int(UInt32(truncatingIfNeeded: tag))]
        guard watched.generation == UInt32(truncatingIfNeeded: tag >> 32) else { return }
        watched.socket?.isReady(LoopEvents(rawValue: events))
    }
}
