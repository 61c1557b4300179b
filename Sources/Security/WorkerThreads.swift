import Core
import Synchronization

/// A few threads for work that takes long and must not run on the shared pool, with a bounded queue before
/// them. A thread starts when it is first needed.
final class WorkerThreads: Sendable {
    private struct State {
        var idle: [ThreadExecutor] = []
        var started = 0
        var nextID: UInt64 = 0
        var waiters: [(id: UInt64, place: CheckedContinuation<ThreadExecutor, any Error>)] = []
    }

    private let name: String
    private let count: Int
    private let waiting: Int
    private let state = Mutex(State())

    init(name: String, count: Int, waiting: Int) {
        precondition(count > 0 && waiting >= 0, "someone has to work")
        self.name = name
        self.count = count
        self.waiting = waiting
    }

    /// How many wait for a thread.
    var waitingCount: Int { state.withLock { $0.waiters.count } }

    /// Runs `work` on a thread as soon as one is free; throws `busy` where too many wait already. A task
    /// cancelled while it waits gives its place back.
    func run<Result: Sendable>(_ work: @escaping @Sendable () throws -> Result) async throws -> Result {
        let thread = try await takeThread()
        return try await withCheckedThrowingContinuation { result in
            thread.perform {
                let outcome = Swift.Result { try work() }
                self.giveBack(thread)
                result.resume(with: outcome)
            }
        }
    }

    private enum Turn {
        case go(ThreadExecutor)
        case wait
        case refuse(any Error)
    }

    private func takeThread() async throws -> ThreadExecutor {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { place in
                let turn = state.withLock { state -> Turn in
                    if Task.isCancelled { return .refuse(CancellationError()) }
                    if let thread = state.idle.popLast() { return .go(thread) }
                    if state.started < count {
                        state.started += 1
                        return .go(ThreadExecutor(name: "\(name)-\(state.started)"))
                    }
                    guard state.waiters.count < waiting else { return .refuse(PasswordError.busy) }
                    state.waiters.append((id, place))
                    return .wait
                }
                switch turn {
                case .go(let thread): place.resume(returning: thread)
                case .refuse(let error): place.resume(throwing: error)
                case .wait: break
                }
            }
        } onCancel: {
            let place = state.withLock { state in
                state.waiters.firstIndex { $0.id == id }.map { state.waiters.remove(at: $0).place }
            }
            place?.resume(throwing: CancellationError())
        }
    }

    private func giveBack(_ thread: ThreadExecutor) {
        let next = state.withLock { state -> CheckedContinuation<ThreadExecutor, any Error>? in
            guard !state.waiters.isEmpty else {
                state.idle.append(thread)
                return nil
            }
            return state.waiters.removeFirst().place
        }
        next?.resume(returning: thread)
    }
}
