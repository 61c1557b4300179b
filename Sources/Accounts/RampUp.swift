public import Core

/// Lets a newly connected account start gently: the age of its connection in UTC days decides which share of
/// the daily limit it may use.
public struct RampUp: Equatable, Sendable {
    /// From `age` days on, `percent` of the daily limit.
    public struct Step: Equatable, Sendable {
        public let age: Int
        public let percent: Int
        public init(age: Int, percent: Int) {
            self.age = age
            self.percent = percent
        }
    }
    public let steps: [Step]

    /// The whole limit from the first day.
    public static let none = RampUp(checked: [])

    /// Nil unless ages and shares both grow: an account never gets less for being older.
    public init?(_ steps: [Step]) {
        for (earlier, later) in zip(steps, steps.dropFirst()) {
            guard earlier.age < later.age, earlier.percent <= later.percent else { return nil }
        }
        guard steps.allSatisfy({ (0...365).contains($0.age) && (0...100).contains($0.percent) }) else {
            return nil
        }
        self.steps = steps
    }

    /// `0:20,3:50,7:100`, as settings write it.
    public init?(text: String) {
        var steps: [Step] = []
        for part in text.split(separator: ",") {
            let numbers = part.split(separator: ":", omittingEmptySubsequences: false)
            guard numbers.count == 2, let age = Int(numbers[0]), let percent = Int(numbers[1]) else {
                return nil
            }
            steps.append(Step(age: age, percent: percent))
        }
        self.init(steps)
    }

    private init(checked steps: [Step]) { self.steps = steps }

    public var text: String { steps.map { "\($0.age):\($0.percent)" }.joined(separator: ",") }

    /// The share of `limit` that an account of this age may use; before the first step, none of its own, the
    /// first step's. A share above nothing is at least one action.
    public func share(of limit: Int, age: Int) -> Int {
        guard let step = steps.last(where: { $0.age <= age }) ?? steps.first else { return limit }
        guard step.percent > 0, limit > 0 else { return 0 }
        return max(1, limit * step.percent / 100)
    }

    /// The age from which nothing changes any more.
    var lastAge: Int { steps.last?.age ?? 0 }
}

/// What one account may do of one action: the limits as they are for it, on any day.
public struct Allowance: Equatable, Sendable {
    public var limits: ActionLimits
    public var rampUp: RampUp
    public var connectedOn: UTCDay

    public init(_ limits: ActionLimits, rampUp: RampUp = .none, connectedOn: UTCDay = UTCDay(number: 0)) {
        self.limits = limits
        self.rampUp = rampUp
        self.connectedOn = connectedOn
    }

    public func daily(on day: UTCDay) -> Int {
        // A clock set back must not make an account older than it is.
        let age = Int(clamping: max(0, day.number - connectedOn.number))
        return rampUp.share(of: limits.daily, age: age)
    }

    /// The day from which the daily limit stays as it is.
    var settledOn: UTCDay { UTCDay(number: connectedOn.number + Int64(rampUp.lastAge)) }
}
