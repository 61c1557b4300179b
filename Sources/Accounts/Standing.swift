public import Core

/// The state of an account towards Telegram, as it is named to clients and in SQL.
public enum AccountStatus: String, Sendable, CaseIterable {
    case active
    case floodWait = "flood_wait"
    case blocked
    case frozen
    case disabled
}

/// All that keeps an account from working, each with its own end: a short block does not shorten a long
/// flood wait. What is over counts as over at once, whether or not the recovery ran.
public struct Standing: Equatable, Sendable {
    public enum Disabled: String, Sendable, CaseIterable {
        /// Banned or deactivated by Telegram: only an operator turns it on again.
        case byTelegram = "by_telegram"
        /// The login is gone: connecting the account again turns it on.
        case loggedOut = "logged_out"
        /// Switched off by its owner.
        case byOwner = "by_owner"
        /// The ledger shows more than a limit allows: nothing more until an operator has looked.
        case byMonitor = "by_monitor"
    }
    public enum Freeze: Equatable, Sendable {
        case until(Timestamp)
        /// Telegram named no date.
        case untilLifted
    }

    public var floodWaitUntil: Timestamp?
    public var blockedUntil: Timestamp?
    public var freeze: Freeze?
    public var disabled: Disabled?
    /// Errors in a row, without a success between them.
    public var errorCount: Int

    public init(
        floodWaitUntil: Timestamp? = nil, blockedUntil: Timestamp? = nil, freeze: Freeze? = nil,
        disabled: Disabled? = nil, errorCount: Int = 0
    ) {
        self.floodWaitUntil = floodWaitUntil
        self.blockedUntil = blockedUntil
        self.freeze = freeze
        self.disabled = disabled
        self.errorCount = errorCount
    }

    public static let active = Standing()

    /// The gravest of what lasts at `now`.
    public func status(at now: Timestamp) -> AccountStatus {
        if disabled != nil { return .disabled }
        if isFrozen(at: now) { return .frozen }
        if let blockedUntil, blockedUntil > now { return .blocked }
        if let floodWaitUntil, floodWaitUntil > now { return .floodWait }
        return .active
    }

    /// When everything that lasts at `now` is over; nil when nothing lasts.
    public func refusal(at now: Timestamp) -> RefusalEnd? {
        if disabled != nil || freeze == .untilLifted { return .never }
        var ends = [floodWaitUntil, blockedUntil]
        if case .until(let end) = freeze { ends.append(end) }
        return ends.compactMap { $0 }.filter { $0 > now }.max().map(RefusalEnd.at)
    }

    public var recoveryIsByItself: Bool { disabled == nil && freeze != .untilLifted }

    private func isFrozen(at now: Timestamp) -> Bool {
        switch freeze {
        case .until(let end): end > now
        case .untilLifted: true
        case nil: false
        }
    }
}

// MARK: - Recovery

extension Standing {
    /// Forgets what is over. Correctness never waits for it: it tidies what people and queries look at.
    /// True when something was tidied.
    public mutating func recover(at now: Timestamp) -> Bool {
        let before = self
        if let end = floodWaitUntil, end <= now { floodWaitUntil = nil }
        if let end = blockedUntil, end <= now { blockedUntil = nil }
        if case .until(let end) = freeze, end <= now { freeze = nil }
        return self != before
    }

    /// When the recovery should look at this account next; nil when there is nothing to wait for.
    public var nextRecovery: Timestamp? {
        var ends = [floodWaitUntil, blockedUntil]
        if case .until(let end) = freeze { ends.append(end) }
        return ends.compactMap { $0 }.min()
    }

    public mutating func succeeded() { errorCount = 0 }

    /// An operator says that the account is well again, whatever Telegram said before. Running flood waits
    /// and blocks stay: they are limits, and nobody lifts a limit by hand.
    public mutating func turnOn() {
        disabled = nil
        if freeze == .untilLifted { freeze = nil }
        errorCount = 0
    }

    /// The account was connected again: the login is new. A ban stays until an operator lifts it.
    public mutating func reconnected() {
        if disabled == .loggedOut || disabled == .byOwner { disabled = nil }
    }
}
