import Synchronization

/// Time whose pace changes while it runs: the machine's own while something goes on, far faster while everybody
/// waits. So a demonstration shows days of pauses without shortening any deadline that guards a running call.
///
/// For one process alone: nobody else would know of the changes.
public final class PacedTime: TimeSource {
    /// The moment of the last change, in the machine's time and in ours.
    private struct Pace {
        let factor: Double
        let machine: Duration
        let uptime: Duration
    }
    /// How soon a sleeper notices that the pace has changed.
    private static let attention: Duration = .milliseconds(10)

    private let origin: Timestamp
    private let machine: any TimeSource
    private let pace: Mutex<Pace>

    public init(origin: Timestamp, machine: any TimeSource = SystemTime()) {
        self.origin = origin
        self.machine = machine
        pace = Mutex(Pace(factor: 1, machine: machine.uptime, uptime: .zero))
    }

    public var uptime: Duration { pace.withLock { uptime(at: $0) } }
    public var now: Timestamp { origin + uptime }

    /// Time goes `factor` times as fast as the machine's from now on.
    public func run(_ factor: Double) {
        precondition(factor > 0, "time has to go on")
        pace.withLock { pace in
            pace = Pace(factor: factor, machine: machine.uptime, uptime: uptime(at: pace))
        }
    }

    public func sleep(for duration: Duration) async throws {
        let end = uptime + duration
        while true {
            let (left, factor) = pace.withLock { (end - uptime(at: $0), $0.factor) }
            guard left > .zero else { return try Task.checkCancellation() }
            try await machine.sleep(for: min(left / factor, Self.attention))
        }
    }

    private func uptime(at pace: Pace) -> Duration {
        pace.uptime + (machine.uptime - pace.machine) * pace.factor
    }
}
