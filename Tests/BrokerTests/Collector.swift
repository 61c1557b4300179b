import Core
import Synchronization

@testable import Broker

/// Remembers what handlers were given, and lets a test wait for it.
final class Collector: Sendable {
    private struct Reached {
        let count: Int
        let waiter: Waiter<Void>
    }
    private struct State {
        var deliveries: [Delivery] = []
        var waiting: [Reached] = []
    }
    private let state = Mutex(State())

    var deliveries: [Delivery] { state.withLock { $0.deliveries } }
    var ids: [String] { deliveries.map(\.message.id) }

    func add(_ delivery: Delivery) {
        let reached = state.withLock { state in
            state.deliveries.append(delivery)
            let reached = state.waiting.filter { $0.count <= state.deliveries.count }
            state.waiting.removeAll { $0.count <= state.deliveries.count }
            return reached
        }
        for one in reached { one.waiter.finish(.success(())) }
    }

    /// Throws when the test is cancelled, as it is by its suite's time limit.
    func wait(for count: Int) async throws {
        let waiter = Waiter<Void>()
        state.withLock { state in
            if state.deliveries.count >= count {
                waiter.finish(.success(()))
            } else {
                state.waiting.append(Reached(count: count, waiter: waiter))
            }
        }
        try await waiter.value()
    }
}

/// Holds handlers back until a test opens it. Deaf to cancellation, as a handler in the middle of its work.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func pass() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
}

/// Polls `condition`, for what only a real server knows. It ends with the suite's time limit at the latest.
func eventually(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { try await SystemTime().sleep(for: .milliseconds(20)) }
}

struct NeverHappened: Error {}

extension Message {
    static func named(_ id: String) -> Message { Message(id: id, body: Array("{}".utf8)) }
}

/// A set that many tasks add to.
final class Names: Sendable {
    private let names = Mutex<Set<String>>([])
    var all: Set<String> { names.withLock { $0 } }
    func add(_ name: String) { names.withLock { _ = $0.insert(name) } }
}
