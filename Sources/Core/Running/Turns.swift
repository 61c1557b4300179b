import Synchronization

/// Lets those who want the same thing have it one after another, in the order they came.
public final class Turns<Key: Hashable & Sendable>: Sendable {
    /// Who waits for each key; the key is there as long as somebody has the turn.
    private let queues = Mutex<[Key: [CheckedContinuation<Void, Never>]]>([:])

    public init() {}

    public func take<Result: Sendable>(
        _ key: Key, _ work: () async throws -> Result
    ) async rethrows -> Result {
        await withCheckedContinuation { (waiter: CheckedContinuation<Void, Never>) in
            let isFree = queues.withLock { queues in
                guard queues[key] != nil else {
                    queues[key] = []
                    return true
                }
                queues[key]?.append(waiter)
                return false
            }
            if isFree { waiter.resume() }
        }
        defer { pass(key) }
        return try await work()
    }

    private func pass(_ key: Key) {
        let next = queues.withLock { queues -> CheckedContinuation<Void, Never>? in
            guard var waiting = queues[key], !waiting.isEmpty else {
                queues[key] = nil
                return nil
            }
            let next = waiting.removeFirst()
            queues[key] = waiting
            return next
        }
        next?.resume()
    }
}
