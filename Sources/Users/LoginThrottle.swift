public import Core

/// Slows guessing down: after ten failures in a row from one address at one account each further try has to
/// wait, longer every time. It never locks the owner out: another address is judged on its own, and the
/// wait has an end.
///
/// A try counts as a failure before its password is looked at, and no longer when it was right: else
/// any number of simultaneous guesses would all find the count low.
public struct LoginThrottle: Equatable, Sendable {
    public static let freeFailures = 10
    public static let longestWait: Duration = .minutes(15)
    /// Failures this old say nothing any more.
    public static let memory: Duration = .hours(24)

    public private(set) var failures: Int
    public private(set) var lastFailure: Timestamp

    public init(failures: Int = 0, lastFailure: Timestamp = .epoch) {
        self.failures = failures
        self.lastFailure = lastFailure
    }

    /// When the next try may be made; `nil` when it may be made now.
    public func mustWait(until now: Timestamp) -> Timestamp? {
        guard failures >= Self.freeFailures, now - lastFailure < Self.memory else { return nil }
        let doublings = min(failures - Self.freeFailures, 20)
        let wait = min(.seconds(1 << doublings), Self.longestWait)
        let allowed = lastFailure + wait
        return allowed > now ? allowed : nil
    }

    public mutating func failed(at now: Timestamp) {
        failures = now - lastFailure < Self.memory ? failures + 1 : 1
        lastFailure = now
    }
}
