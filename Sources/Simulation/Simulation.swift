public import Core
import Synchronization

/// A world that owns time, order and luck: everything uncertain in it hangs on one seed, so a failure that a
/// seed has found comes back with it.
///
/// It is a task executor, a clock and a source of luck. What `run` starts runs on the calling thread, job by
/// job, in an order drawn from the seed; when nothing can run, the clock jumps to the next deadline. Child
/// tasks and default actors follow. What does not, breaks the replay: a task detached from it, an actor with a
/// thread of its own, the system's clock or luck, and the order of a `Set` or `Dictionary` (run with
/// `SWIFT_DETERMINISTIC_HASHING=1`).
public final class Simulation: TaskExecutor, TimeSource, RandomSource {
    public let seed: UInt64
    private let luck: SeededRandom
    private let state: Mutex<State>

    private struct Sleeper {
        let id: UInt64
        let deadline: Duration
        let waiter: CheckedContinuation<Void, any Error>
    }
    private struct State {
        var ready: [UnownedJob] = []
        var sleepers: [Sleeper] = []
        var nextID: UInt64 = 0
        var uptime: Duration = .zero
        /// What the wall clock shows at uptime zero; moved by `setWallClock`.
        var origin: Timestamp
        var steps = 0
        var trace: [String] = []
    }

    public init(seed: UInt64, start: Timestamp = Timestamp(seconds: 1_756_036_800)) {
        self.seed = seed
        luck = SeededRandom(seed: seed)
        state = Mutex(State(origin: start))
    }

    public func next() -> UInt64 { luck.next() }

    // MARK: - Running

    /// Runs `body` and all it starts until it returns. Throws what it throws, `Stalled` when nothing can ever
    /// go on, and `Endless` after `steps` jobs. Whatever is thrown, the seed is printed.
    public func run<Result: Sendable>(
        steps: Int = 5_000_000, _ body: @escaping @Sendable (Simulation) async throws -> Result
    ) throws -> Result {
        let outcome = Outcome<Result>()
        // The root of the simulated world: there is no parent it could be a child of.
        Task(executorPreference: self) {  // rule: no-bare-task
            do { outcome.set(.success(try await body(self))) } catch { outcome.set(.failure(error)) }
        }
        do {
            while true {
                if let result = outcome.value { return try result.get() }
                guard step() else { throw Stalled(seed: seed) }
                guard state.withLock({ $0.steps }) < steps else { throw Endless(seed: seed) }
            }
        } catch {
            print("simulation failed with seed \(seed): \(error)")
            throw error
        }
    }

    /// Runs one ready job; when there is none, moves the clock to the next deadline; false when neither.
    private func step() -> Bool {
        let (job, due) = state.withLock { state -> (UnownedJob?, [Sleeper]) in
            state.steps += 1
            if !state.ready.isEmpty {
                return (state.ready.remove(at: luck.int(in: 0...(state.ready.count - 1))), [])
            }
            guard let next = state.sleepers.map(\.deadline).min() else { return (nil, []) }
            state.uptime = max(state.uptime, next)
            let due = state.sleepers.filter { $0.deadline <= next }
            state.sleepers.removeAll { $0.deadline <= next }
            return (nil, due)
        }
        if let job { unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
        for sleeper in due { sleeper.waiter.resume() }
        return job != nil || !due.isEmpty
    }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        state.withLock { $0.ready.append(job) }
    }

    /// Nothing is ready and nobody sleeps: a deadlock, or something waits for a world outside.
    public struct Stalled: Error, Equatable {
        public let seed: UInt64
        public init(seed: UInt64) { self.seed = seed }
    }
    /// More jobs ran than the test allows.
    public struct Endless: Error, Equatable {
        public let seed: UInt64
        public init(seed: UInt64) { self.seed = seed }
    }

    // MARK: - Time

    public var now: Timestamp { state.withLock { $0.origin + $0.uptime } }
    public var uptime: Duration { state.withLock { $0.uptime } }

    /// Sets the wall clock as a time server or an administrator would; sleepers do not notice.
    public func moveWallClock(by jump: Duration) { state.withLock { $0.origin += jump } }

    public func sleep(for duration: Duration) async throws {
        guard duration > .zero else { return try Task.checkCancellation() }
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<Void, any Error>) in
                let isCancelled = state.withLock { state in
                    if Task.isCancelled { return true }
                    state.sleepers.append(Sleeper(id: id, deadline: state.uptime + duration, waiter: waiter))
                    return false
                }
                if isCancelled { waiter.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            let woken = state.withLock { state in
                state.sleepers.firstIndex { $0.id == id }.map { state.sleepers.remove(at: $0) }
            }
            woken?.waiter.resume(throwing: CancellationError())
        }
    }

    // MARK: - Luck

    public func happens(_ probability: Double) -> Bool { probability > 0 && luck.fraction() < probability }

    public func duration(in range: ClosedRange<Duration>) -> Duration {
        range.lowerBound + (range.upperBound - range.lowerBound) * luck.fraction()
    }

    // MARK: - Trace

    /// Writes a line into the trace, with the moment.
    public func note(_ line: String) {
        state.withLock { state in state.trace.append("\(state.origin + state.uptime) \(line)") }
    }

    public var trace: [String] { state.withLock { $0.trace } }
}

private final class Outcome<Value: Sendable>: Sendable {
    private let stored = Mutex<Result<Value, any Error>?>(nil)
    var value: Result<Value, any Error>? { stored.withLock { $0 } }
    func set(_ value: Result<Value, any Error>) { stored.withLock { $0 = value } }
}
