import Core

/// How long a token of Vault's lasts and what has to be done about it. Told the time, it answers: no clock.
struct VaultLease: Equatable {
    enum Step: Equatable {
        /// Nothing to do before this much `uptime`.
        case wait(until: Duration)
        case renew
        case logIn
        /// The token never ends.
        case rest
    }

    let obtained: Duration
    /// Zero: for ever, as a root token has it.
    let lifetime: Duration
    let isRenewable: Bool

    var end: Duration { obtained + lifetime }

    /// Acts when two thirds of the time are over: the last third is there for retries. A token that can only
    /// be looked at is not looked at sooner than after five seconds, ever faster towards its end.
    func step(at uptime: Duration) -> Step {
        guard lifetime > .zero else { return .rest }
        if uptime >= end { return .logIn }
        let soonest = isRenewable ? .zero : min(lifetime, .seconds(5))
        let due = obtained + max(lifetime * 2 / 3, soonest)
        guard uptime >= due else { return .wait(until: due) }
        return isRenewable ? .renew : .logIn
    }

    /// Whether a renewal gave so little that the token nears the end no renewal moves (`token_max_ttl`).
    func isFading(after before: VaultLease) -> Bool { lifetime < before.lifetime / 2 }
}
