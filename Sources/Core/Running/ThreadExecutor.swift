import CSystem
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A serial executor on a thread of its own: where an actor that calls blocking C runs, so that the shared
/// pool is never blocked.
///
/// The thread ends when the executor is released and its inbox is empty.
public final class ThreadExecutor: SerialExecutor {
    private let inbox: Inbox

    public init(name: String) {
        inbox = Inbox()
        startThread(name: name) { [inbox] in inbox.runJobs() }
    }

    deinit { inbox.close() }

    public func enqueue(_ job: consuming ExecutorJob) {
        inbox.add(.job(UnownedJob(job), self))
    }

    /// Runs plain work on the thread, behind what is already waiting.
    public func perform(_ work: @escaping @Sendable () -> Void) { inbox.add(.work(work)) }

    /// How many jobs wait: what has queued up while the last ran can go out as one batch.
    public var waiting: Int { inbox.count }
}

extension ThreadExecutor {
    fileprivate enum Entry: Sendable {
        case job(UnownedJob, ThreadExecutor)
        case work(@Sendable () -> Void)
    }

    fileprivate final class Inbox: Sendable {
        private struct State {
            var entries: [Entry] = []
            var isClosed = false
        }
        private let state = Mutex(State())
        private let signal = Semaphore()

        var count: Int { state.withLock { $0.entries.count } }

        func add(_ entry: Entry) {
            let wasEmpty = state.withLock { state in
                state.entries.append(entry)
                return state.entries.count == 1
            }
            if wasEmpty { signal.post() }
        }

        func close() {
            state.withLock { $0.isClosed = true }
            signal.post()
        }

        func runJobs() {
            while true {
                let (entries, isClosed) = state.withLock { state in
                    defer { state.entries = [] }
                    return (state.entries, state.isClosed)
                }
                if entries.isEmpty {
                    if isClosed { return }
                    signal.wait()
                }
                for entry in entries {
                    switch entry {
                    case .job(let job, let executor):
                        unsafe job.runSynchronously(on: executor.asUnownedSerialExecutor())
                    case .work(let work): work()
                    }
                }
            }
        }
    }
}

/// A counting semaphore of the C library.
@safe final class Semaphore: Sendable {
    // Safe: a POSIX semaphore is made to be shared by threads; the pointer itself never changes.
    private nonisolated(unsafe) let pointer: UnsafeMutablePointer<sem_t>

    init() {
        unsafe pointer = .allocate(capacity: 1)
        unsafe sem_init(pointer, 0, 0)
    }

    deinit {
        unsafe sem_destroy(pointer)
        unsafe pointer.deallocate()
    }

    func post() { unsafe sem_post(pointer) }

    func wait() {
        while unsafe sem_wait(pointer) != 0 {}
    }
}

/// Starts a detached thread; `name` shows in `top -H` and a debugger, as far as its first 15 bytes.
public func startThread(name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start: Sendable {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var attributes = pthread_attr_t()
    unsafe pthread_attr_init(&attributes)
    unsafe pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    defer { unsafe pthread_attr_destroy(&attributes) }
    var thread = pthread_t()
    let start = unsafe Unmanaged.passRetained(Start(name: String(name.prefix(15)), body: body))
    let failure = unsafe pthread_create(
        &thread, &attributes,
        { argument in
            guard let argument = unsafe argument else { return nil }
            let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
            unsafe convoke_name_this_thread(start.name)
            start.body()
            return nil
        }, start.toOpaque())
    precondition(failure == 0, "the system refuses another thread")
}
