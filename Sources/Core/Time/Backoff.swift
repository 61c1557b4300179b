/// How long to wait before trying again: exponential, bounded, with jitter so that callers that failed
/// together do not come back together.
public struct Backoff: Equatable, Sendable {
    public var first: Duration
    public var factor: Double
    public var ceiling: Duration
    /// The share of each delay that is random: 0.5 gives a delay between half and all of the computed one.
    public var jitter: Double

    public init(
        first: Duration = .milliseconds(100), factor: Double = 2, ceiling: Duration = .seconds(30),
        jitter: Double = 0.5
    ) {
        self.first = first
        self.factor = factor
        self.ceiling = ceiling
        self.jitter = jitter
    }

    /// The delay after the failure number `attempt`, counted from 1.
    public func delay(after attempt: Int, _ random: some RandomSource) -> Duration {
        var delay = first
        for _ in 1..<max(attempt, 1) {
            delay = delay * factor
            if delay >= ceiling { break }
        }
        return min(delay, ceiling) * (1 - jitter * random.fraction())
    }
}

/// Runs `work` up to `attempts` times, waiting by `backoff` between two, as long as `isWorthwhile` says so
/// of the error. The last error is thrown; a cancelled task stops waiting at once.
public func retry<Result>(
    attempts: Int, backoff: Backoff = Backoff(), time: any TimeSource,
    random: any RandomSource = SystemRandom(), isWorthwhile: (any Error) -> Bool,
    _ work: () async throws -> Result
) async throws -> Result {
    precondition(attempts > 0, "work is tried at least once")
    var attempt = 1
    while true {
        do {
            return try await work()
        } catch {
            guard attempt < attempts, !(error is CancellationError), isWorthwhile(error) else { throw error }
            try await time.sleep(for: backoff.delay(after: attempt, random))
            attempt += 1
        }
    }
}
