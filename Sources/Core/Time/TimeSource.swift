import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Where time comes from. Nothing outside `Core` asks the system for the time or sleeps on its own.
public protocol TimeSource: Sendable {
    /// The moment, for what is stored, compared with limits, or shown.
    var now: Timestamp { get }

    /// Time since some fixed point, never set back: for deadlines and measured durations.
    var uptime: Duration { get }

    /// Returns after `duration`, or throws `CancellationError` when the task is cancelled first.
    func sleep(for duration: Duration) async throws

    /// What machines need to answer passes in the machine's own time, however fast the time of the story runs:
    /// for the deadlines of drivers.
    var machine: any TimeSource { get }
}

extension TimeSource {
    public var machine: any TimeSource { self }

    public func sleep(until moment: Timestamp) async throws {
        let wait = moment - now
        if wait > .zero { try await sleep(for: wait) }
    }
}

/// The machine's clocks.
public struct SystemTime: TimeSource {
    public init() {}

    public var now: Timestamp {
        let read = systemClock(CLOCK_REALTIME)
        return Timestamp(milliseconds: read.milliseconds)
    }

    public var uptime: Duration { systemClock(CLOCK_MONOTONIC) }

    public func sleep(for duration: Duration) async throws {
        try await Task.sleep(for: duration, clock: .continuous)
    }
}

func systemClock(_ id: clockid_t) -> Duration {
    var read = timespec()
    unsafe clock_gettime(id, &read)
    return .seconds(read.tv_sec) + .nanoseconds(read.tv_nsec)
}

/// Time that runs `scale` times as fast as the machine's from `origin` on, so that a campaign of days can
/// be watched in a minute. All processes of a run are given the same origin and therefore agree.
public struct ScaledTime: TimeSource {
    public let origin: Timestamp
    public let scale: Double

    public init(origin: Timestamp, scale: Double) {
        precondition(scale > 0, "time has to go on")
        self.origin = origin
        self.scale = scale
    }

    public var now: Timestamp {
        let passed = SystemTime().now - origin
        return origin + passed * scale
    }

    public var uptime: Duration { SystemTime().uptime * scale }
    public var machine: any TimeSource { SystemTime() }

    public func sleep(for duration: Duration) async throws {
        try await SystemTime().sleep(for: duration / scale)
    }
}

/// Time that stands still until a test moves it.
public final class ManualTime: TimeSource {
    private struct Sleeper {
        let id: UInt64
        let deadline: Duration
        let waiter: CheckedContinuation<Void, any Error>
    }
    private struct State {
        var now: Timestamp
        var uptime: Duration = .zero
        var nextID: UInt64 = 0
        var sleepers: [Sleeper] = []
        var arrivals: [(count: Int, waiter: CheckedContinuation<Void, Never>)] = []
    }
    private let state: Mutex<State>

    public init(_ start: Timestamp) { state = Mutex(State(now: start)) }

    public var now: Timestamp { state.withLock { $0.now } }
    public var uptime: Duration { state.withLock { $0.uptime } }
    public var sleeperCount: Int { state.withLock { $0.sleepers.count } }

    /// Moves both clocks and wakes who is due, earliest first.
    public func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.now += duration
            state.uptime += duration
            let due = state.sleepers.filter { $0.deadline <= state.uptime }
            state.sleepers.removeAll { $0.deadline <= state.uptime }
            return due.sorted { ($0.deadline, $0.id) < ($1.deadline, $1.id) }
        }
        for sleeper in due { sleeper.waiter.resume() }
    }

    /// Sets the wall clock alone, as an administrator or a time server would: sleepers do not notice.
    public func setWallClock(to moment: Timestamp) { state.withLock { $0.now = moment } }

    /// Returns once at least `count` tasks sleep: how a test waits for the code under test without sleeping.
    public func waitForSleepers(_ count: Int) async {
        await withCheckedContinuation { waiter in
            let isReached = state.withLock { state in
                if state.sleepers.count >= count { return true }
                state.arrivals.append((count, waiter))
                return false
            }
            if isReached { waiter.resume() }
        }
    }

    public func sleep(for duration: Duration) async throws {
        guard duration > .zero else { return try Task.checkCancellation() }
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<Void, any Error>) in
                let arrived: [CheckedContinuation<Void, Never>]? = state.withLock { state in
                    if Task.isCancelled { return nil }
                    state.sleepers.append(Sleeper(id: id, deadline: state.uptime + duration, waiter: waiter))
                    let reached = state.arrivals.filter { $0.count <= state.sleepers.count }.map(\.waiter)
                    state.arrivals.removeAll { $0.count <= state.sleepers.count }
                    return reached
                }
                guard let arrived else { return waiter.resume(throwing: CancellationError()) }
                for waiting in arrived { waiting.resume() }
            }
        } onCancel: {
            let woken = state.withLock { state in
                let index = state.sleepers.firstIndex { $0.id == id }
                return index.map { state.sleepers.remove(at: $0) }
            }
            woken?.waiter.resume(throwing: CancellationError())
        }
    }
}
