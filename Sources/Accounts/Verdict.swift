public import Core

/// One line of the table of limits, as it is named to clients.
public enum LimitName: String, Sendable, CaseIterable, Hashable {
    case status
    case daily
    case hourly
    case cooldown
    case burst
    case perChannel = "per_channel"
    case perChannelTotal = "per_channel_total"
}

/// When something that is refused now is allowed again, if nothing else happens.
public enum RefusalEnd: Equatable, Comparable, Sendable {
    case at(Timestamp)
    /// Not by waiting.
    case never

    public var moment: Timestamp? {
        if case .at(let moment) = self { moment } else { nil }
    }
}

/// The answer of one limit.
public struct LimitCheck: Equatable, Sendable {
    public let name: LimitName
    /// For the counted limits.
    public let used: Int?
    public let limit: Int?
    /// Nil: this limit allows the action.
    public let refusal: RefusalEnd?

    public var isAllowed: Bool { refusal == nil }
    public var until: Timestamp? { refusal?.moment }
    public var remaining: Int? {
        guard let used, let limit else { return nil }
        return max(0, limit - used)
    }

    public init(_ name: LimitName, used: Int? = nil, limit: Int? = nil, refusal: RefusalEnd?) {
        self.name = name
        self.used = used
        self.limit = limit
        self.refusal = refusal
    }
}

/// Whether an account may do an action now, and what every single limit says to it.
public struct Verdict: Equatable, Sendable {
    public let action: ActionType
    public let channel: ChannelKey?
    public let status: AccountStatus
    public let checks: [LimitCheck]

    public var allowed: Bool { checks.allSatisfy(\.isAllowed) }

    /// The refusal that ends last; of equal ones the one that says most.
    public var binding: LimitCheck? {
        checks.filter { !$0.isAllowed }.enumerated().max { left, right in
            let (first, second) = (left.element.refusal ?? .never, right.element.refusal ?? .never)
            return first == second ? left.offset > right.offset : first < second
        }?.element
    }

    public var reason: LimitName? { binding?.name }

    /// When the latest-ending refusal ends; then this check is allowed, if nothing else happens. Nil when it
    /// is allowed now, and when no waiting helps.
    public var retryAt: Timestamp? { binding?.until }

    public subscript(name: LimitName) -> LimitCheck? { checks.first { $0.name == name } }

    /// Asks every limit. `channel` matters to invitations alone.
    public init(
        _ action: ActionType, into channel: ChannelKey? = nil, usage: Usage, allowance: Allowance,
        standing: Standing = .active, at now: Timestamp
    ) {
        let limits = allowance.limits
        let question = Question(usage: usage, allowance: allowance, now: now)
        // In the order in which they explain most, which decides between refusals that end together.
        var checks = [LimitCheck(.status, refusal: standing.refusal(at: now))]
        let channel = action == .invite ? channel : nil
        if let channel {
            checks.append(question.channelTotal(channel, limit: limits.perChannelTotal ?? .max))
        }
        checks.append(question.daily())
        if let channel {
            checks.append(question.channelToday(channel, limit: limits.perChannelDaily ?? .max))
        }
        checks += [question.hourly(), question.burst(), question.cooldown()]
        self.action = action
        self.channel = channel
        self.status = standing.status(at: now)
        self.checks = checks
    }
}

/// The arithmetic of each limit. Every count here can only fall while nothing happens, so the first moment
/// that allows is found among the few moments at which it falls.
private struct Question {
    let usage: Usage
    let allowance: Allowance
    let now: Timestamp

    var limits: ActionLimits { allowance.limits }

    func daily() -> LimitCheck {
        let limit = allowance.daily(on: now.day)
        let used = usage.daily(at: now)
        var moments = usage.permitEnds(after: now)
        if used >= limit { moments += midnights() }
        return check(.daily, used, limit, moments) { usage.daily(at: $0) < allowance.daily(on: $0.day) }
    }

    func hourly() -> LimitCheck {
        let moments = usage.permitEnds(after: now) + usage.records.map { $0.at + .hours(1) }
        return check(.hourly, usage.hourly(at: now), limits.hourly, moments) {
            usage.hourly(at: $0) < limits.hourly
        }
    }

    func channelToday(_ channel: ChannelKey, limit: Int) -> LimitCheck {
        let used = usage.inChannelToday(channel, at: now)
        var moments = usage.permitEnds(after: now)
        if used >= limit { moments += midnights() }
        return check(.perChannel, used, limit, moments) { usage.inChannelToday(channel, at: $0) < limit }
    }

    func channelTotal(_ channel: ChannelKey, limit: Int) -> LimitCheck {
        let used = usage.inChannelForEver(channel, at: now)
        return check(.perChannelTotal, used, limit, usage.permitEnds(after: now)) {
            usage.inChannelForEver(channel, at: $0) < limit
        }
    }

    func cooldown() -> LimitCheck {
        var end = usage.permitEnds(after: now).last ?? now
        if let last = usage.last { end = max(end, last + limits.pause) }
        return LimitCheck(.cooldown, refusal: end > now ? .at(end) : nil)
    }

    func burst() -> LimitCheck {
        let run = usage.run(at: now, within: limits.burstPause)
        var moments = usage.permitEnds(after: now)
        if let last = usage.last { moments.append(last + limits.burstPause) }
        return check(.burst, run, limits.burst, moments) {
            usage.run(at: $0, within: limits.burstPause) < limits.burst
        }
    }

    private func check(
        _ name: LimitName, _ used: Int, _ limit: Int, _ moments: [Timestamp], allows: (Timestamp) -> Bool
    ) -> LimitCheck {
        guard used >= limit else { return LimitCheck(name, used: used, limit: limit, refusal: nil) }
        let end = moments.filter { $0 > now }.sorted().first(where: allows)
        return LimitCheck(name, used: used, limit: limit, refusal: end.map(RefusalEnd.at) ?? .never)
    }

    /// The days on which a day's count or limit can be another: until the account has come of age and the
    /// last record (of a clock that was set back since) lies behind.
    private func midnights() -> [Timestamp] {
        let lastChange = max(allowance.settledOn, usage.last?.day ?? now.day, now.day).next
        let count = min(lastChange.number - now.day.number, 400)
        return (1...max(count, 1)).map { UTCDay(number: now.day.number + $0).start }
    }
}
