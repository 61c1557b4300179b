public import Core

/// Why an account is not handed out, as clients count it.
public enum RefusalReason: String, Sendable, CaseIterable, Hashable {
    case leased
    case cooldown
    case hourly
    case daily
    case channelDaily = "channel_daily"
    case channelTotal = "channel_total"
    case floodWait = "flood_wait"
    case blocked
    case frozen
    case disabled

    init(_ check: LimitCheck, status: AccountStatus) {
        switch check.name {
        case .cooldown, .burst: self = .cooldown
        case .hourly: self = .hourly
        case .daily: self = .daily
        case .perChannel: self = .channelDaily
        case .perChannelTotal: self = .channelTotal
        case .status:
            switch status {
            case .floodWait: self = .floodWait
            case .blocked: self = .blocked
            case .frozen: self = .frozen
            case .disabled, .active: self = .disabled
            }
        }
    }

    public var text: LocalizedText {
        switch self {
        case .leased: LocalizedText("in use by another task", "заняты другой задачей")
        case .cooldown: LocalizedText("pausing between two actions", "на паузе между действиями")
        case .hourly: LocalizedText("used up for this hour", "исчерпали часовой лимит")
        case .daily: LocalizedText("used up for today", "исчерпали дневной лимит")
        case .channelDaily:
            LocalizedText("used up for this channel today", "исчерпали дневной лимит для этого канала")
        case .channelTotal:
            LocalizedText("used up for this channel for ever", "навсегда исчерпали лимит для этого канала")
        case .floodWait: LocalizedText("told by Telegram to wait", "ждут по требованию Telegram")
        case .blocked: LocalizedText("blocked for a while", "временно заблокированы")
        case .frozen: LocalizedText("frozen by Telegram", "заморожены Telegram")
        case .disabled: LocalizedText("disabled", "отключены")
        }
    }
}

/// Which of several eligible accounts comes first: least used today, then fewest recent errors, then longest
/// idle. The id settles what is left, so that the same question has the same answer.
public struct Score: Equatable, Comparable, Sendable {
    public let usedToday: Int
    public let errors: Int
    public let lastUsed: Timestamp?
    public let account: AccountID

    public init(usedToday: Int, errors: Int, lastUsed: Timestamp?, account: AccountID) {
        self.usedToday = usedToday
        self.errors = errors
        self.lastUsed = lastUsed
        self.account = account
    }

    /// The better one is smaller.
    public static func < (left: Score, right: Score) -> Bool {
        if left.usedToday != right.usedToday { return left.usedToday < right.usedToday }
        if left.errors != right.errors { return left.errors < right.errors }
        let (first, second) = (left.lastUsed?.milliseconds ?? .min, right.lastUsed?.milliseconds ?? .min)
        return first != second ? first < second : left.account < right.account
    }
}

/// All that decides whether and how gladly an account is handed out.
public struct Candidate: Equatable, Sendable {
    public let account: AccountID
    public var standing: Standing
    public var leases: LeaseBook
    public var usage: [ActionType: Usage]
    public var limits: Limits
    public var rampUp: RampUp
    public var connectedOn: UTCDay
    public var lastUsed: Timestamp?

    public init(
        account: AccountID, standing: Standing = .active, leases: LeaseBook = LeaseBook(),
        usage: [ActionType: Usage] = [:], limits: Limits = .ceilings, rampUp: RampUp = .none,
        connectedOn: UTCDay = UTCDay(number: 0), lastUsed: Timestamp? = nil
    ) {
        self.account = account
        self.standing = standing
        self.leases = leases
        self.usage = usage
        self.limits = limits
        self.rampUp = rampUp
        self.connectedOn = connectedOn
        self.lastUsed = lastUsed
    }

    public func allowance(_ action: ActionType) -> Allowance {
        Allowance(limits[action], rampUp: rampUp, connectedOn: connectedOn)
    }

    public func verdict(_ action: ActionType, into channel: ChannelKey? = nil, at now: Timestamp) -> Verdict {
        Verdict(
            action, into: channel, usage: usage[action] ?? .none, allowance: allowance(action),
            standing: standing, at: now)
    }

    /// Everything that speaks against this account for this purpose, each with its end.
    public func refusals(
        for purpose: Purpose, into channel: ChannelKey? = nil, at now: Timestamp
    ) -> [Refusal] {
        var found: [Refusal] = []
        if let lease = leases.holder(at: now) { found.append(Refusal(.leased, .at(lease.expiresAt))) }
        if let action = purpose.action {
            let verdict = verdict(action, into: channel, at: now)
            for check in verdict.checks {
                guard let end = check.refusal else { continue }
                found.append(Refusal(RefusalReason(check, status: verdict.status), end))
            }
        } else if let end = standing.refusal(at: now) {
            let check = LimitCheck(.status, refusal: end)
            found.append(Refusal(RefusalReason(check, status: standing.status(at: now)), end))
        }
        return found
    }

    public func score(for purpose: Purpose, at now: Timestamp) -> Score {
        let actions = purpose.action.map { [$0] } ?? ActionType.allCases
        let used = actions.reduce(0) { $0 + (usage[$1]?.recorded(on: now.day) ?? 0) }
        return Score(usedToday: used, errors: standing.errorCount, lastUsed: lastUsed, account: account)
    }

    public struct Refusal: Equatable, Sendable {
        public let reason: RefusalReason
        public let end: RefusalEnd
        public init(_ reason: RefusalReason, _ end: RefusalEnd) {
            self.reason = reason
            self.end = end
        }
    }
}

/// Nobody can be handed out, and why, and when that changes.
public struct NoAccountAvailable: Error, Equatable, Sendable {
    /// Each account counts once, under the reason that keeps it off longest.
    public private(set) var counts: [RefusalReason: Int] = [:]
    /// The first moment at which one becomes eligible; nil when waiting helps none.
    public private(set) var retryAt: Timestamp?

    public init() {}
    public init(counts: [RefusalReason: Int], retryAt: Timestamp?) {
        self.counts = counts
        self.retryAt = retryAt
    }

    /// Notes an account that was refused; `refusals` has at least one element.
    public mutating func add(_ refusals: [Candidate.Refusal]) {
        guard
            let binding = refusals.enumerated().max(by: { left, right in
                left.element.end == right.element.end
                    ? left.offset > right.offset : left.element.end < right.element.end
            })?.element
        else { return }
        counts[binding.reason, default: 0] += 1
        if let moment = binding.end.moment { retryAt = min(retryAt ?? moment, moment) }
    }

    public var text: LocalizedText {
        let known = RefusalReason.allCases.filter { counts[$0, default: 0] > 0 }
        guard !known.isEmpty else {
            return LocalizedText("There is no account", "Нет ни одного аккаунта")
        }
        func sentence(_ language: Language) -> String {
            known.map { "\(counts[$0, default: 0]) \($0.text(language))" }.joined(separator: ", ")
        }
        return LocalizedText(
            "No account is free: \(sentence(.english))."
                + (retryAt.map { " The first is free at \($0)." } ?? " Waiting helps none of them."),
            "Нет свободного аккаунта: \(sentence(.russian))."
                + (retryAt.map { " Первый освободится в \($0)." } ?? " Ожидание не поможет ни одному."))
    }
}

/// Chooses the account to hand out: the preferred one when it is eligible, else the best score.
public func choose(
    from candidates: some Sequence<Candidate>, for purpose: Purpose, into channel: ChannelKey? = nil,
    preferring preferred: AccountID? = nil, excluding excluded: Set<AccountID> = [], at now: Timestamp
) throws(NoAccountAvailable) -> Candidate {
    var best: (candidate: Candidate, score: Score)?
    var refused = NoAccountAvailable()
    for candidate in candidates where !excluded.contains(candidate.account) {
        let refusals = candidate.refusals(for: purpose, into: channel, at: now)
        guard refusals.isEmpty else {
            refused.add(refusals)
            continue
        }
        if candidate.account == preferred { return candidate }
        let score = candidate.score(for: purpose, at: now)
        if let found = best, found.score < score { continue }
        best = (candidate, score)
    }
    guard let best else { throw refused }
    return best.candidate
}
