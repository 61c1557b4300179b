public import Core

/// A campaign of invitations into one channel, asked about before it starts.
public struct PlanRequest: Sendable {
    public var channel: ChannelKey
    public var invites: Int
    public var start: Timestamp
    /// The accounts with all that they did already.
    public var accounts: [Candidate]
    /// Accounts that the operator thinks of adding: each as fresh as `newcomer`.
    public var accountsAdded: Int
    /// What an account would be that is connected at the start.
    public var newcomer: Candidate

    public init(
        channel: ChannelKey, invites: Int, start: Timestamp, accounts: [Candidate], accountsAdded: Int = 0,
        newcomer: Candidate
    ) {
        self.channel = channel
        self.invites = max(0, invites)
        self.start = start
        self.accounts = accounts
        self.accountsAdded = max(0, accountsAdded)
        self.newcomer = newcomer
    }
}

/// How a campaign would go: the rules, on virtual time.
///
/// What it assumes, and says to whoever relies on it:
/// - every invitation succeeds, and so counts against the channel (one that fails spends the day and the hour
///   of its account, so a campaign with failures lasts longer);
/// - each account invites at the first moment the rules allow, around the clock, and does no other
///   invitations: no hours of the day, no lease of somebody else, no permit that is taken and not used;
/// - limits, ramp-up and the state towards Telegram stay as they are now; a flood wait, a block or a dated
///   freeze ends on time, and an account that is off until somebody acts stays off;
/// - acting as early as possible is best. That holds for every limit but a burst pause that was made longer
///   than the pause: there, resting early on purpose can sometimes gain a little, and the plan does not try.
public struct Plan: Equatable, Sendable {
    public struct Day: Equatable, Sendable {
        public let day: UTCDay
        public let invites: Int
        /// From the start to the end of this day.
        public let total: Int
        /// What kept most accounts from doing more that day; nil where the campaign ended first.
        public let binding: LimitName?
        /// How many accounts each limit stopped for the rest of the day.
        public let stopped: [LimitName: Int]
    }
    public struct MoreAccounts: Equatable, Sendable {
        /// Nil when it is still not to be done.
        public let finish: Timestamp?
        public let saved: Duration
        /// How many more people can be reached at all.
        public let invitesGained: Int
    }
    public struct MoreTime: Equatable, Sendable {
        /// How many accounts it would take if it may last until the end of the day after.
        public let accounts: Int
        public let accountsSaved: Int
    }

    public let wanted: Int
    /// As many of them as these accounts can invite, now or ever.
    public let possible: Int
    /// When the last is invited; nil when it cannot be done.
    public let finish: Timestamp?
    /// When the last that is possible is invited; nil when none is.
    public let end: Timestamp?
    public let days: [Day]
    /// The accounts asked about, those to be added included.
    public let accounts: Int
    /// The fewest accounts with which it can be done at all; nil when no number is enough.
    public let accountsNeeded: Int?
    public let oneMoreAccount: MoreAccounts
    /// Nil when it cannot be done.
    public let oneMoreDay: MoreTime?

    public var isPossible: Bool { possible == wanted }
    public var busiestDay: Int { days.map(\.invites).max() ?? 0 }

    public init(_ request: PlanRequest) {
        let newcomer = Schedule(of: request.newcomer, in: request)
        var schedules = request.accounts.map { Schedule(of: $0, in: request) }
        schedules += Array(repeating: newcomer, count: request.accountsAdded)
        let times = Plan.earliest(schedules, count: request.invites)
        wanted = request.invites
        possible = times.count
        accounts = schedules.count
        end = times.last
        let isPossible = times.count == request.invites
        finish = isPossible ? times.last ?? request.start : nil
        days = Plan.days(times, schedules, request)
        accountsNeeded = Plan.accountsNeeded(schedules, newcomer, request.invites)

        let more = Plan.earliest(schedules + [newcomer], count: request.invites)
        let moreFinish = more.count == request.invites ? more.last ?? request.start : nil
        oneMoreAccount = MoreAccounts(
            finish: moreFinish,
            saved: finish.flatMap { now in moreFinish.map { now - $0 } } ?? .zero,
            invitesGained: more.count - times.count)
        oneMoreDay = finish.map { finish in
            let needed = Plan.accountsNeeded(schedules, until: finish.day.next.next.start, request.invites)
            let used = Plan.accountsNeeded(schedules, until: finish + .milliseconds(1), request.invites)
            return MoreTime(accounts: needed, accountsSaved: used - needed)
        }
    }

    /// The moments of the first `count` invitations of all accounts together.
    private static func earliest(_ schedules: [Schedule], count: Int) -> [Timestamp] {
        Array(schedules.flatMap(\.times).sorted().prefix(count))
    }

    /// The accounts that do most by `end`, as few as are enough.
    private static func accountsNeeded(_ schedules: [Schedule], until end: Timestamp, _ invites: Int) -> Int {
        var missing = invites
        var count = 0
        for reached in schedules.map({ $0.count(before: end) }).sorted(by: >) where missing > 0 {
            missing -= reached
            count += 1
        }
        return count
    }

    private static func accountsNeeded(
        _ schedules: [Schedule], _ newcomer: Schedule, _ invites: Int
    ) -> Int? {
        let reached = schedules.reduce(0) { $0 + $1.times.count }
        guard reached < invites else {
            return accountsNeeded(schedules, until: Timestamp(milliseconds: .max), invites)
        }
        guard !newcomer.times.isEmpty else { return nil }
        let useful = schedules.count { !$0.times.isEmpty }
        return useful + (invites - reached + newcomer.times.count - 1) / newcomer.times.count
    }

    private static func days(
        _ times: [Timestamp], _ schedules: [Schedule], _ request: PlanRequest
    ) -> [Day] {
        guard let last = times.last?.day else { return [] }
        let first = request.start.day
        let count = Int(last.number - first.number) + 1
        var invites = Array(repeating: 0, count: count)
        for time in times { invites[Int(time.day.number - first.number)] += 1 }
        var stopped: [[LimitName: Int]] = Array(repeating: [:], count: count)
        for schedule in schedules {
            for stop in schedule.stops {
                let from = Int(clamping: stop.first.number - first.number)
                let to = min(count, Int(clamping: stop.end.number - first.number))
                for index in from..<max(from, to) { stopped[index][stop.reason, default: 0] += 1 }
            }
        }
        var total = 0
        return (0..<count).map { index in
            total += invites[index]
            // On the last day an account that stopped may simply not have been needed.
            let isOver = index == count - 1 && times.count == request.invites
            let reasons = isOver ? [:] : stopped[index]
            return Day(
                day: UTCDay(number: first.number + Int64(index)), invites: invites[index], total: total,
                binding: LimitName.planOrder.max { reasons[$0, default: 0] < reasons[$1, default: 0] }
                    .flatMap { reasons[$0] == nil ? nil : $0 },
                stopped: reasons)
        }
    }
}

extension LimitName {
    /// The last of equally frequent ones is named: what is used up says more than a pause.
    fileprivate static let planOrder: [LimitName] = [
        .cooldown, .burst, .hourly, .perChannel, .daily, .perChannelTotal, .status,
    ]
}

/// The moments at which one account invites, each as early as the rules allow.
struct Schedule: Sendable {
    /// The account does no more on these days, and this is why.
    struct Stop: Sendable {
        let first: UTCDay
        let end: UTCDay
        let reason: LimitName
    }
    private(set) var times: [Timestamp] = []
    private(set) var stops: [Stop] = []

    private static let never = UTCDay(number: .max / 86_400_000)

    init(of candidate: Candidate, in request: PlanRequest) {
        let usage = candidate.usage[.invite] ?? .none
        let allowance = candidate.allowance(.invite)
        let limits = allowance.limits
        let total = (limits.perChannelTotal ?? .max) - usage.channelTotals[request.channel, default: 0]
        var now = request.start
        // No action is possible while a permit is open or the last pause runs; after that, the permits are
        // gone and no record lies in the future, which `Pace` relies on.
        if let permit = usage.permitEnds(after: now).last { now = permit }
        if let last = usage.last { now = max(now, last + limits.pause) }
        var reason = LimitName.cooldown
        switch candidate.standing.refusal(at: request.start) {
        case .never?:
            stops = [Stop(first: request.start.day, end: Self.never, reason: .status)]
            return
        case .at(let end)? where end > now: (now, reason) = (end, .status)
        default: break
        }
        if now.day > request.start.day {
            stops.append(Stop(first: request.start.day, end: now.day, reason: reason))
        }
        var pace = Pace(usage, allowance, channel: request.channel)
        for _ in 0..<max(0, min(total, request.invites)) {
            let (next, reason) = pace.next(from: now)
            if next?.day != now.day {
                stops.append(Stop(first: now.day, end: next?.day ?? Self.never, reason: reason ?? .cooldown))
            }
            guard let next else { return }
            pace.act(at: next)
            times.append(next)
            now = next
        }
        if total <= request.invites {
            stops.append(Stop(first: now.day, end: Self.never, reason: .perChannelTotal))
        }
    }

    func count(before end: Timestamp) -> Int {
        // Binary search: the times are in order.
        var (low, high) = (0, times.count)
        while low < high {
            let middle = (low + high) / 2
            if times[middle] < end { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// The windows of one account, moved forward action by action. It does what `Verdict` does, a hundred times
/// faster because it never looks back further than one number; the tests hold the two together.
private struct Pace {
    private let allowance: Allowance
    private let limits: ActionLimits
    /// Every action so far; those of an hour are at its end.
    private var times: [Timestamp]
    private var run: Int
    private var day: UTCDay
    private var onDay: Int
    private var inChannelOnDay: Int
    private let past: [ActionRecord]
    private let channel: ChannelKey

    init(_ usage: Usage, _ allowance: Allowance, channel: ChannelKey) {
        self.allowance = allowance
        self.channel = channel
        limits = allowance.limits
        past = usage.records
        times = usage.records.map(\.at)
        run = 0
        for index in times.indices {
            let isNext = index > 0 && times[index] - times[index - 1] < limits.burstPause
            run = isNext ? run + 1 : 1
        }
        day = UTCDay(number: .min / 86_400_000)
        onDay = 0
        inChannelOnDay = 0
    }

    /// The first moment from `now` on that every limit allows, and what made it wait past its day if it had
    /// to: what the day has used up, before what only pauses. No moment when none ever will.
    mutating func next(from now: Timestamp) -> (moment: Timestamp?, reason: LimitName?) {
        guard limits.hourly > 0 else { return (nil, .hourly) }
        guard limits.burst > 0 else { return (nil, .burst) }
        enter(now.day)
        var reason: LimitName?
        if onDay >= allowance.daily(on: day) {
            reason = .daily
        } else if isChannelUsedUp {
            reason = .perChannel
        }
        var moment = now
        func wait(until end: Timestamp, _ name: LimitName) {
            guard end > moment else { return }
            if end.day > now.day, reason == nil { reason = name }
            moment = end
        }
        if let last = times.last { wait(until: last + limits.pause, .cooldown) }
        // Ends: a day on which nothing was done yet is refused only while the account comes of age.
        while true {
            enter(moment.day)
            if onDay >= allowance.daily(on: day) {
                if onDay == 0, day >= allowance.settledOn { return (nil, .daily) }
                wait(until: day.next.start, .daily)
                continue
            }
            if isChannelUsedUp {
                if limits.perChannelDaily == 0 { return (nil, .perChannel) }
                wait(until: day.next.start, .perChannel)
                continue
            }
            let today = day
            if times.count >= limits.hourly {
                wait(until: times[times.count - limits.hourly] + .hours(1), .hourly)
            }
            if let last = times.last, run >= limits.burst { wait(until: last + limits.burstPause, .burst) }
            if moment.day == today { return (moment, reason) }
        }
    }

    private var isChannelUsedUp: Bool { limits.perChannelDaily.map { inChannelOnDay >= $0 } ?? false }

    mutating func act(at moment: Timestamp) {
        enter(moment.day)
        let isNext = times.last.map { moment - $0 < limits.burstPause } ?? false
        run = isNext ? run + 1 : 1
        times.append(moment)
        onDay += 1
        inChannelOnDay += 1
    }

    private mutating func enter(_ wanted: UTCDay) {
        guard wanted != day else { return }
        day = wanted
        // What was planned lies on earlier days: only the past can already be on a new one.
        onDay = past.count { $0.at >= wanted.start }
        inChannelOnDay = past.count { $0.at >= wanted.start && $0.success && $0.channel == channel }
    }
}

extension Plan {
    /// The answer in a sentence or two, with the arithmetic where it is no.
    public var text: LocalizedText {
        guard isPossible else {
            let needed = accountsNeeded
            return LocalizedText(
                "This cannot be done: \(accounts) account(s) end at \(possible) of \(wanted) for ever."
                    + (needed.map { " \($0) accounts is the minimum." } ?? ""),
                "Это невыполнимо: аккаунтов \(accounts), их предел \(possible) из \(wanted), навсегда."
                    + (needed.map { " Минимум аккаунтов: \($0)." } ?? ""))
        }
        guard let finish, wanted > 0 else {
            return LocalizedText("There is nothing to do.", "Делать нечего.")
        }
        return LocalizedText(
            "\(wanted) invitations end at \(finish), after \(days.count) day(s), at most \(busiestDay) a day.",
            "\(wanted) приглашений закончатся \(finish), дней: \(days.count), не более \(busiestDay) в день.")
    }
}
