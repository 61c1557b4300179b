import Core
import Synchronization

/// One command under way, and the caller who waits for its answer.
///
/// Answer, deadline, cancellation and the loss of the connection may all come at once from different threads:
/// whoever is first takes the waiter out, so that it is resumed exactly once.
final class RedisCall: Sendable {
    private enum Phase {
        case new
        case waiting(UnsafeContinuation<CacheReply, any Error>)
        case finished((any Error)?)
    }
    let bytes: [UInt8]
    let database: Int
    let deadline: Duration
    private let phase = Mutex(Phase.new)

    init(_ bytes: [UInt8], database: Int, deadline: Duration) {
        self.bytes = bytes
        self.database = database
        self.deadline = deadline
    }

    /// Whether somebody still waits: what nobody waits for is not sent.
    var isWaiting: Bool {
        phase.withLock { phase in
            if case .waiting = phase { true } else { false }
        }
    }

    /// False when it was cancelled before it began; the waiter is resumed then.
    func begin(_ waiter: UnsafeContinuation<CacheReply, any Error>) -> Bool {
        let error: (any Error)? = phase.withLock { phase in
            switch phase {
            case .finished(let error): return error ?? CancellationError()
            case .new, .waiting:
                phase = .waiting(waiter)
                return nil
            }
        }
        guard let error else { return true }
        waiter.resume(throwing: error)
        return false
    }

    func finish(_ result: Result<CacheReply, any Error>) {
        let waiter = phase.withLock { phase -> UnsafeContinuation<CacheReply, any Error>? in
            switch phase {
            case .new:
                if case .failure(let error) = result { phase = .finished(error) }
                return nil
            case .waiting(let waiter):
                phase = .finished(nil)
                return waiter
            case .finished: return nil
            }
        }
        waiter?.resume(with: result)
    }

    func fail(_ error: CacheError) { finish(.failure(error)) }
}

/// The server answered with an error; its text is read by the caller, not on the connection's thread.
struct RedisErrorReply: Error {
    let text: String
}
