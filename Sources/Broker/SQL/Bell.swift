import Core
import Synchronization

/// Wakes one loop that waits for work. A ring while nobody waits is kept for whoever waits next.
final class Bell: Sendable {
    private struct State {
        var isRung = false
        var waiter: Waiter<Void>?
    }
    private let state = Mutex(State())

    func ring() {
        let waiter = state.withLock { state in
            state.isRung = state.waiter == nil
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.finish(.success(()))
    }

    /// Until rung; throws when cancelled.
    func wait() async throws { try await listen()?.value() }

    /// Until rung, cancelled or not.
    func waitRegardless() async throws { try await listen()?.valueRegardless() }

    /// Until rung or `limit` has passed; throws when cancelled.
    func wait(atMost limit: Duration, _ time: any TimeSource) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.wait() }
            group.addTask { try await time.sleep(for: limit) }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// `nil` when it has been rung already. One at a time: whoever waited before is let go.
    private func listen() -> Waiter<Void>? {
        let (waiter, former) = state.withLock { state -> (Waiter<Void>?, Waiter<Void>?) in
            if state.isRung {
                state.isRung = false
                return (nil, nil)
            }
            let former = state.waiter
            let waiter = Waiter<Void>()
            state.waiter = waiter
            return (waiter, former)
        }
        former?.finish(.success(()))
        return waiter
    }
}

/// Which consumers of this process wait for which queue.
final class Bells: Sendable {
    private let bells = Mutex<[(queues: [String], bell: Bell)]>([])

    func add(_ bell: Bell, for queues: [String]) { bells.withLock { $0.append((queues, bell)) } }
    func remove(_ bell: Bell) { bells.withLock { $0.removeAll { $0.bell === bell } } }

    func ring(_ queue: String) {
        for entry in bells.withLock({ $0 }) where entry.queues.contains(queue) { entry.bell.ring() }
    }
}
