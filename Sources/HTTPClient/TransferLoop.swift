import Core
import Synchronization

/// A thread that carries out exchanges, as the rest of the client sees it.
protocol TransferLoop: AnyObject, Sendable {
    var load: LoopLoad { get }
    /// Hands it something to do, from whatever thread. Never carried out before this returns, since the one
    /// who calls may hold the exchange's lock; only `start` may be.
    func post(_ command: LoopCommand)
}

enum LoopCommand: Sendable {
    case start(Exchange)
    /// The exchange was given up.
    case stop(Exchange)
    /// The reader has caught up.
    case receive(Exchange)
    /// The producer has more.
    case send(Exchange)
    /// Somebody waits for his turn until this moment.
    case watch(Duration)
    case shutDown(@Sendable () -> Void)
}

/// How many exchanges were given to a loop and have not ended.
final class LoopLoad: Sendable {
    let count = Atomic<Int>(0)
}

extension ClientCore {
    /// Answers for a loop that takes nothing any more.
    func refuse(_ command: LoopCommand, from loop: any TransferLoop) {
        switch command {
        case .start(let exchange):
            refuse(exchange, closedError(wasSent: false))
            if let next = leave(exchange, loop: loop) { refuse(.start(next), from: loop) }
        case .shutDown(let ended): ended()
        case .stop, .receive, .send, .watch: break
        }
    }
}
