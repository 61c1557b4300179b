public import Core

/// How much of one action an account may do. A value above the ceiling cannot be made from outside: see
/// `LimitsOverride`.
public struct ActionLimits: Equatable, Sendable {
    public var daily: Int
    public var hourly: Int
    /// Nil where the action is not into a channel.
    public var perChannelDaily: Int?
    public var perChannelTotal: Int?
    /// Least time between two actions.
    public var pause: Duration
    /// How many actions with less than `burstPause` between neighbours may follow each other.
    public var burst: Int
    public var burstPause: Duration

    public init(
        daily: Int, hourly: Int, perChannelDaily: Int? = nil, perChannelTotal: Int? = nil, pause: Duration,
        burst: Int, burstPause: Duration
    ) {
        self.daily = daily
        self.hourly = hourly
        self.perChannelDaily = perChannelDaily
        self.perChannelTotal = perChannelTotal
        self.pause = pause
        self.burst = burst
        self.burstPause = burstPause
    }

    /// As far back as an action can still matter to anything but the day and the channel's total.
    var memory: Duration { max(.hours(1), pause, burstPause * burst) }
}

/// The limits of one account for every action: the shipped numbers, or tighter ones.
public struct Limits: Equatable, Sendable {
    public var invite: ActionLimits
    public var message: ActionLimits
    public var addContact: ActionLimits

    /// What is shipped, and at the same time the most that is ever allowed.
    public static let ceilings = Limits(
        invite: ActionLimits(
            daily: 30, hourly: 2, perChannelDaily: 15, perChannelTotal: 200, pause: .seconds(900), burst: 3,
            burstPause: .seconds(900)),
        message: ActionLimits(
            daily: 30, hourly: 10, pause: .seconds(60), burst: 5, burstPause: .seconds(180)),
        addContact: ActionLimits(
            daily: 15, hourly: 3, pause: .seconds(300), burst: 2, burstPause: .seconds(600)))

    public subscript(action: ActionType) -> ActionLimits {
        get {
            switch action {
            case .invite: invite
            case .message: message
            case .addContact: addContact
            }
        }
        set {
            switch action {
            case .invite: invite = newValue
            case .message: message = newValue
            case .addContact: addContact = newValue
            }
        }
    }

    /// The ceilings with every override applied: for each number the tightest wins, whoever asked for it.
    public static func tightest(_ overrides: LimitsOverride...) -> Limits { tightest(overrides) }

    public static func tightest(_ overrides: [LimitsOverride]) -> Limits {
        var limits = ceilings
        for override in overrides {
            for (setting, value) in override.values { setting.tighten(&limits, to: value) }
        }
        return limits
    }
}

/// One number of the table of limits.
public struct LimitSetting: Hashable, Comparable, Sendable {
    public enum Number: String, Sendable, CaseIterable {
        case daily
        case hourly
        case perChannelDaily = "per_channel_daily"
        case perChannelTotal = "per_channel_total"
        case pauseSeconds = "pause_seconds"
        case burst
        case burstPauseSeconds = "burst_pause_seconds"
    }
    public let action: ActionType
    public let number: Number

    /// Nil where the table has no such number: a message goes into no channel.
    public init?(_ action: ActionType, _ number: Number) {
        if action != .invite, number == .perChannelDaily || number == .perChannelTotal { return nil }
        self.action = action
        self.number = number
    }

    public static let all: [LimitSetting] = ActionType.allCases.flatMap { action in
        Number.allCases.compactMap { LimitSetting(action, $0) }
    }

    /// `invite.daily`: how settings and the API name it.
    public var name: String { "\(action.rawValue).\(number.rawValue)" }

    public init?(name: String) {
        guard let found = LimitSetting.all.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    /// A pause is tighter when it is longer, a count when it is smaller.
    var isPause: Bool { number == .pauseSeconds || number == .burstPauseSeconds }

    /// What an operator may choose: from shut to the ceiling.
    public var allowed: ClosedRange<Int> {
        let ceiling = read(Limits.ceilings)
        if isPause { return ceiling...(7 * 86_400) }
        return (number == .burst ? 1 : 0)...ceiling
    }

    public func read(_ limits: Limits) -> Int {
        let of = limits[action]
        switch number {
        case .daily: return of.daily
        case .hourly: return of.hourly
        case .perChannelDaily: return of.perChannelDaily ?? 0
        case .perChannelTotal: return of.perChannelTotal ?? 0
        case .pauseSeconds: return Int(of.pause.components.seconds)
        case .burst: return of.burst
        case .burstPauseSeconds: return Int(of.burstPause.components.seconds)
        }
    }

    func tighten(_ limits: inout Limits, to value: Int) {
        let now = read(limits)
        let value = isPause ? max(now, value) : min(now, value)
        switch number {
        case .daily: limits[action].daily = value
        case .hourly: limits[action].hourly = value
        case .perChannelDaily: limits[action].perChannelDaily = value
        case .perChannelTotal: limits[action].perChannelTotal = value
        case .pauseSeconds: limits[action].pause = .seconds(value)
        case .burst: limits[action].burst = value
        case .burstPauseSeconds: limits[action].burstPause = .seconds(value)
        }
    }

    public static func < (left: LimitSetting, right: LimitSetting) -> Bool { left.name < right.name }
}

/// Tighter numbers that an operator chose for an account, a user or everybody.
public struct LimitsOverride: Equatable, Sendable {
    public private(set) var values: [LimitSetting: Int] = [:]

    public static let none = LimitsOverride()

    private init() {}

    /// Refuses every value beyond its ceiling at once, each by name.
    public init(_ values: [LimitSetting: Int]) throws(LimitsError) {
        let beyond = values.filter { !$0.key.allowed.contains($0.value) }
        guard beyond.isEmpty else {
            throw LimitsError(
                violations: beyond.sorted { $0.key < $1.key }.map {
                    LimitsError.Violation(setting: $0.key, value: $0.value)
                })
        }
        self.values = values
    }
}

/// Values that would allow more than is shipped, or mean nothing.
public struct LimitsError: Error, Equatable, Sendable {
    public struct Violation: Equatable, Sendable {
        public let setting: LimitSetting
        public let value: Int

        public var text: LocalizedText {
            let range = setting.allowed
            if setting.isPause, value < range.lowerBound {
                return LocalizedText(
                    "\(setting.name) = \(value) is below the shipped pause of \(range.lowerBound) s",
                    "\(setting.name) = \(value) меньше поставляемой паузы \(range.lowerBound) с")
            }
            if !setting.isPause, value > range.upperBound {
                return LocalizedText(
                    "\(setting.name) = \(value) is above the ceiling of \(range.upperBound)",
                    "\(setting.name) = \(value) превышает потолок \(range.upperBound)")
            }
            return LocalizedText(
                "\(setting.name) = \(value) is outside \(range.lowerBound)...\(range.upperBound)",
                "\(setting.name) = \(value) вне диапазона \(range.lowerBound)...\(range.upperBound)")
        }
    }
    public let violations: [Violation]

    public var text: LocalizedText {
        LocalizedText(
            violations.map { $0.text(.english) }.joined(separator: "; "),
            violations.map { $0.text(.russian) }.joined(separator: "; "))
    }
}
