import Synchronization

/// Work that goes on to its end although whoever asked for it goes away: what has been begun at Telegram must
/// be written down, also when the caller's connection is lost.
///
/// It is a service so that the end of the process waits for it. Nothing is taken on after it was stopped.
public final class Errands: Service {
    /// There is no room for more, or the process is stopping.
    public struct Refused: Error, Equatable {
        public init() {}
    }

    public let name: String
    private let capacity: Int

    private struct State {
        var running = 0
        var isStopped = false
        var idle: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    public init(_ name: String, capacity: Int = 10_000) {
        self.name = name
        self.capacity = capacity
    }

    public var count: Int { state.withLock { $0.running } }

    /// Runs `work` to its end. A caller that is cancelled stops waiting; the work does not stop.
    public func run<Result: Sendable>(
        _ work: @escaping @Sendable () async throws -> Result
    ) async throws -> Result {
        let isTaken = state.withLock { state in
            guard !state.isStopped, state.running < capacity else { return false }
            state.running += 1
            return true
        }
        guard isTaken else { throw Refused() }
        // Its own task, because a child would end with its caller. `run()` waits for it.
        let task = Task.detached {
            defer { self.finished() }
            return try await work()
        }
        let waiting = Waiting<Result>()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { caller in
                waiting.wait(caller)
                Task.detached { waiting.finish(await task.result) }
            }
        } onCancel: {
            waiting.finish(.failure(CancellationError()))
        }
    }

    /// Waits until it is cancelled, and then until everything is done.
    public func run() async throws {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        for await _ in stream {}
        continuation.finish()
        await withCheckedContinuation { (waiter: CheckedContinuation<Void, Never>) in
            let isIdle = state.withLock { state in
                state.isStopped = true
                if state.running == 0 { return true }
                state.idle.append(waiter)
                return false
            }
            if isIdle { waiter.resume() }
        }
        try Task.checkCancellation()
    }

    private func finished() {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.running -= 1
            guard state.running == 0 else { return [] }
            defer { state.idle = [] }
            return state.idle
        }
        for waiter in waiters { waiter.resume() }
    }
}

/// Whoever waits for an errand: told once, of its result or of having been cancelled.
private final class Waiting<Result: Sendable>: Sendable {
    private struct State {
        var caller: CheckedContinuation<Result, any Error>?
        var result: Swift.Result<Result, any Error>?
    }
    private let state = Mutex(State())

    func wait(_ caller: CheckedContinuation<Result, any Error>) {
        let known = state.withLock { state in
            if state.result == nil { state.caller = caller }
            return state.result
        }
        if let known { caller.resume(with: known) }
    }

    func finish(_ result: Swift.Result<Result, any Error>) {
        let caller = state.withLock { state -> CheckedContinuation<Result, any Error>? in
            guard state.result == nil else { return nil }
            state.result = result
            defer { state.caller = nil }
            return state.caller
        }
        caller?.resume(with: result)
    }
}
