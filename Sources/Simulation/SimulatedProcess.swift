public import Core
import Synchronization

/// What the world does to those who live in it.
public struct Faults: Sendable {
    /// How long a request and an answer travel, each.
    public var delay: ClosedRange<Duration>
    public var lostRequest: Double
    public var lostAnswer: Double
    /// The request arrives twice.
    public var repeated: Double
    /// The caller dies on the way: before its request arrives, or after, not knowing.
    public var crash: Double
    /// After which a caller without an answer gives up.
    public var patience: Duration

    public init(
        delay: ClosedRange<Duration> = .milliseconds(1)...(.milliseconds(20)), lostRequest: Double = 0,
        lostAnswer: Double = 0, repeated: Double = 0, crash: Double = 0, patience: Duration = .seconds(5)
    ) {
        self.delay = delay
        self.lostRequest = lostRequest
        self.lostAnswer = lostAnswer
        self.repeated = repeated
        self.crash = crash
        self.patience = patience
    }

    public static let none = Faults()
    public static let harsh = Faults(
        delay: .milliseconds(1)...(.seconds(3)), lostRequest: 0.05, lostAnswer: 0.05, repeated: 0.05,
        crash: 0.02)
}

/// No answer came. What was asked for may have happened.
public struct Unanswered: Error, Equatable {
    public init() {}
}

/// One incarnation of a program in the simulated world. When it crashes it simply never goes on: nothing is
/// unwound, no `defer` runs, its memory is gone, as if its machine had lost power.
public final class SimulatedProcess: TimeSource {
    public let name: String
    public let incarnation: Int
    private let world: Simulation
    private let end: Mutex<CheckedContinuation<Bool, Never>?>
    private let down = Mutex(false)

    fileprivate init(
        _ name: String, _ incarnation: Int, _ world: Simulation, _ end: CheckedContinuation<Bool, Never>
    ) {
        self.name = name
        self.incarnation = incarnation
        self.world = world
        self.end = Mutex(end)
    }

    public var now: Timestamp { world.now }
    public var uptime: Duration { world.uptime }

    public func sleep(for duration: Duration) async throws {
        try await world.sleep(for: duration)
        await dieIfDown()
    }

    /// Loses power now.
    public func crash() async {
        down.withLock { $0 = true }
        finish(crashed: true)
        await dieIfDown()
    }

    /// Asks somebody else, over a network that has `faults`.
    public func call<Answer: Sendable>(
        _ faults: Faults, _ work: @escaping @Sendable () async throws -> Answer
    ) async throws -> Answer {
        if world.happens(faults.crash / 2) { await crash() }
        try await sleep(for: world.duration(in: faults.delay))
        if world.happens(faults.lostRequest) {
            try await sleep(for: faults.patience)
            throw Unanswered()
        }
        if world.happens(faults.repeated) { _ = try? await work() }
        let answer: Result<Answer, any Error>
        do { answer = .success(try await work()) } catch { answer = .failure(error) }
        await dieIfDown()
        if world.happens(faults.crash / 2) { await crash() }
        if world.happens(faults.lostAnswer) {
            try await sleep(for: faults.patience)
            throw Unanswered()
        }
        try await sleep(for: world.duration(in: faults.delay))
        return try answer.get()
    }

    private func dieIfDown() async {
        guard down.withLock({ $0 }) else { return }
        // Never resumed, on purpose: the task stays where the power went out.
        await unsafe withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
    }

    fileprivate func finish(crashed: Bool) {
        let waiter = end.withLock { end in
            defer { end = nil }
            return end
        }
        waiter?.resume(returning: crashed)
    }
}

extension Simulation {
    /// Runs a program until it returns, starting it anew some time after each crash.
    public func supervise(
        _ name: String, restartAfter: ClosedRange<Duration> = .seconds(1)...(.seconds(60)),
        _ body: @escaping @Sendable (SimulatedProcess) async -> Void
    ) async {
        var incarnation = 1
        while true {
            let number = incarnation
            let crashed = await withCheckedContinuation { (end: CheckedContinuation<Bool, Never>) in
                let process = SimulatedProcess(name, number, self, end)
                // No child of ours: it has to be able to stop for ever without holding us up.
                Task(executorPreference: self) {  // rule: no-bare-task
                    await body(process)
                    process.finish(crashed: false)
                }
            }
            guard crashed else { return }
            note("\(name) crashed")
            try? await sleep(for: duration(in: restartAfter))
            incarnation += 1
        }
    }
}
