import Core

/// Decides whether a replica is asked at all. After several failures in a row it is left alone for a while;
/// then one request probes it, and its outcome opens the way again or not.
struct CircuitBreaker: Equatable, Sendable {
    static let failuresToOpen = 5
    static let firstPause: Duration = .seconds(2)
    static let longestPause: Duration = .seconds(30)
    /// A probe that was never answered for must not keep the breaker half open for ever.
    static let probePatience: Duration = .seconds(30)

    enum State: Equatable, Sendable {
        case closed(failures: Int)
        case open(until: Duration, pause: Duration)
        case halfOpen(since: Duration, pause: Duration)
    }
    private(set) var state = State.closed(failures: 0)

    /// Whether a request may go out now; in the half-open state one may, as the probe.
    mutating func permits(at now: Duration) -> Bool {
        switch state {
        case .closed: return true
        case .open(let until, let pause):
            guard now >= until else { return false }
            state = .halfOpen(since: now, pause: pause)
            return true
        case .halfOpen(let since, let pause):
            guard now - since >= Self.probePatience else { return false }
            state = .halfOpen(since: now, pause: pause)
            return true
        }
    }

    mutating func succeeded() { state = .closed(failures: 0) }

    mutating func failed(at now: Duration) {
        switch state {
        case .closed(let failures) where failures + 1 < Self.failuresToOpen:
            state = .closed(failures: failures + 1)
        case .closed:
            state = .open(until: now + Self.firstPause, pause: Self.firstPause)
        case .halfOpen(_, let pause):
            let longer = min(pause * 2, Self.longestPause)
            state = .open(until: now + longer, pause: longer)
        case .open: break
        }
    }

    /// How long until somebody may ask again.
    func remaining(at now: Duration) -> Duration {
        switch state {
        case .closed: .zero
        case .open(let until, _): max(until - now, .zero)
        case .halfOpen: .seconds(1)
        }
    }
}
