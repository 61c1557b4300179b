import Broker
import Core
import Synchronization

/// Remembers what handlers were given, and lets a test wait for it.
final class Collector: Sendable {
    private struct State {
        var deliveries: [Delivery] = []
        var waiters: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }
    private let state = Mutex(State())

    var deliveries: [Delivery] { state.withLock { $0.deliveries } }
    var ids: [String] { deliveries.map(\.message.id) }

    func add(_ delivery: Delivery) {
        let reached = state.withLock { state in
            state.deliveries.append(delivery)
            let reached = state.waiters.filter { $0.count <= state.deliveries.count }
            state.waiters.removeAll { $0.count <= state.deliveries.count }
            return reached
        }
        for waiter in reached { waiter.continuation.resume() }
    }

    @discardableResult
    func wait(for count: Int) async -> [Delivery] {
        await withCheckedContinuation { continuation in
            let isReached = state.withLock { state in
                if state.deliveries.count >= count { return true }
                state.waiters.append((count, continuation))
                return false
            }
            if isReached { continuation.resume() }
        }
        return deliveries
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

/// Polls `condition`, for what only a real server knows.
func eventually(_ limit: Duration = .seconds(60), _ condition: () async throws -> Bool) async throws {
    let time = SystemTime()
    let end = time.uptime + limit
    while try await !condition() {
        guard time.uptime < end else { throw NeverHappened() }
        try await time.sleep(for: .milliseconds(20))
    }
}

struct NeverHappened: Error {}

extension Message {
    static func named(_ id: String) -> Message { Message(id: id, body: Array("{}".utf8)) }
}

final class TimesOfArrival: Sendable {
    private let times = Mutex<[Duration]>([])
    var all: [Duration] { times.withLock { $0 } }
    func add(_ moment: Duration) { times.withLock { $0.append(moment) } }
}

/// A set that many tasks add to.
final class Names: Sendable {
    private let names = Mutex<Set<String>>([])
    var all: Set<String> { names.withLock { $0 } }
    func add(_ name: String) { names.withLock { _ = $0.insert(name) } }
}
