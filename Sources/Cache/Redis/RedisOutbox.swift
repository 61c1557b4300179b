import CRedis
import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Where callers leave their commands and the connection's thread fetches them.
final class RedisOutbox: Sendable {
    /// More callers than this at once are refused: the queue would only make them wait past their limit.
    static let longestQueue = 100_000

    private struct State {
        var calls: [RedisCall] = []
        var isParked = false
        var isClosed = false
        var isEnded = false
        /// Set while there is no connection and the last attempt to get one failed.
        var failure: CacheError?
        var closers: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())
    /// Wakes the thread out of `poll`.
    let signal: Int32

    init() {
        signal = convoke_eventfd()
        precondition(signal >= 0, "the system refuses another descriptor")
    }

    deinit { Glibc.close(signal) }

    /// Adds a call, unless it can be told at once that it has no chance.
    func add(_ call: RedisCall) -> CacheError? {
        let (error, mustWake): (CacheError?, Bool) = state.withLock { state in
            if state.isClosed { return (.unavailable(mayHaveRun: false), false) }
            if let failure = state.failure { return (failure, false) }
            guard state.calls.count < Self.longestQueue else {
                return (.unavailable(mayHaveRun: false), false)
            }
            state.calls.append(call)
            defer { state.isParked = false }
            return (nil, state.isParked)
        }
        if mustWake { wake() }
        return error
    }

    /// All calls that wait; when there are none the next one will wake the thread.
    func take(orPark parks: Bool) -> [RedisCall] {
        state.withLock { state in
            guard !state.calls.isEmpty else {
                state.isParked = parks
                return []
            }
            // Room for as many as came now: growing the array bit by bit would happen under the lock.
            var empty: [RedisCall] = []
            empty.reserveCapacity(min(state.calls.count, 1024))
            swap(&empty, &state.calls)
            return empty
        }
    }

    /// Ends the waiting of those whose time is over.
    func expire(at now: Duration) {
        let expired = state.withLock { state in
            let expired = state.calls.filter { $0.deadline <= now || !$0.isWaiting }
            if !expired.isEmpty { state.calls.removeAll { $0.deadline <= now || !$0.isWaiting } }
            return expired
        }
        for call in expired { call.fail(.unavailable(mayHaveRun: false)) }
    }

    var isClosed: Bool { state.withLock { $0.isClosed } }

    /// From now on calls fail with this at once; `nil` lets them in again.
    func setFailure(_ failure: CacheError?) {
        let refused = state.withLock { state in
            state.failure = failure
            guard failure != nil else { return [RedisCall]() }
            defer { state.calls = [] }
            return state.calls
        }
        for call in refused { call.fail(failure ?? .unavailable(mayHaveRun: false)) }
    }

    func close() {
        state.withLock { $0.isClosed = true }
        wake()
    }

    /// Called by the thread as the last thing it does.
    func end() {
        let (calls, closers) = state.withLock { state in
            state.isClosed = true
            state.isEnded = true
            defer { (state.calls, state.closers) = ([], []) }
            return (state.calls, state.closers)
        }
        for call in calls { call.fail(.unavailable(mayHaveRun: false)) }
        for closer in closers { closer.resume() }
    }

    func waitForEnd() async {
        await withCheckedContinuation { closer in
            let isEnded = state.withLock { state in
                if !state.isEnded { state.closers.append(closer) }
                return state.isEnded
            }
            if isEnded { closer.resume() }
        }
    }

    private func wake() {
        var one: UInt64 = 1
        _ = write(signal, &one, 8)
    }

    func drainSignal() {
        var count: UInt64 = 0
        _ = read(signal, &count, 8)
    }
}
