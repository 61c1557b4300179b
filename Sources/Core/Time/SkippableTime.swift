import Synchronization

/// Time that can skip what nobody needs to wait through: it runs with the machine's and jumps ahead when told to.
/// So a demonstration shows days of pauses in a minute, and everything that is at work has its full time.
///
/// For one process alone: nobody else would know of the jumps.
public final class SkippableTime: TimeSource {
    /// How soon a sleeper notices a jump.
    private static let attention: Duration = .milliseconds(10)

    public let machine: any TimeSource
    private let origin: Timestamp
    private let start: Duration
    private let skipped = Mutex(Duration.zero)

    public init(origin: Timestamp, machine: any TimeSource = SystemTime()) {
        self.origin = origin
        self.machine = machine
        start = machine.uptime
    }

    public var uptime: Duration { machine.uptime - start + skipped.withLock { $0 } }
    public var now: Timestamp { origin + uptime }

    /// Whoever would wake within `duration` wakes now.
    public func skip(_ duration: Duration) {
        skipped.withLock { $0 += max(duration, .zero) }
    }

    public func sleep(for duration: Duration) async throws {
        let end = uptime + duration
        while true {
            let left = end - uptime
            guard left > .zero else { return try Task.checkCancellation() }
            try await machine.sleep(for: min(left, Self.attention))
        }
    }
}
