public import Core

/// A run in numbers: what the accounts' limits give each day, within the campaign's own pace.
public struct Forecast: Equatable, Sendable {
    public struct Day: Equatable, Sendable {
        public let day: UTCDay
        public let invites: Int
        public let binding: String?
    }
    public let days: [Day]
    /// Those that would not be reached within `horizon` days.
    public let left: Int
    public static let horizon = 3660

    /// - Parameter perDay: what the accounts can do on each day from now on; the last one goes on. Empty where
    ///   no limit is known.
    public init(settings: TaskSettings, wanted: Int, perDay: [Int], from now: Timestamp) {
        let zone = settings.window?.zone ?? .utc
        let first = zone.wall(at: now).day
        var days: [Day] = []
        var left = wanted
        var saved = 0
        for index in 0..<Self.horizon where left > 0 {
            let day = UTCDay(number: first.number + Int64(index))
            // What the limits gave for a day on which nothing may be sent is there the next day at most once.
            let allowed = index < perDay.count ? perDay[index] : perDay.isEmpty ? Int.max : 0
            saved = allowed == .max ? .max : min(saved + allowed, wanted)
            guard settings.window?.days.contains(day.start.isoWeekday) ?? true else {
                days.append(Day(day: day, invites: 0, binding: WaitReason.window.rawValue))
                continue
            }
            var cap = Int.max
            var binding: String?
            if let daily = settings.dailyCap { (cap, binding) = (daily, WaitReason.dailyCap.rawValue) }
            if let ramp = settings.rampUp, ramp.cap(onDay: index) < cap {
                (cap, binding) = (ramp.cap(onDay: index), WaitReason.rampUp.rawValue)
            }
            if settings.delay > .zero {
                let minutes = settings.window.map {
                    $0.from < $0.to ? $0.to - $0.from : $0.to + 1440 - $0.from
                }
                let most = Int(Double(minutes ?? 1440) * 60 / settings.delay.inSeconds)
                if most < cap { (cap, binding) = (most, WaitReason.delay.rawValue) }
            }
            let invites = min(left, cap, saved)
            if invites == left { binding = nil } else if saved < cap { binding = "accounts" }
            if saved != .max { saved -= invites }
            left -= invites
            days.append(Day(day: day, invites: invites, binding: binding))
            if invites == 0, index >= perDay.count, saved == 0 { break }
        }
        self.days = days
        self.left = left
    }
}

extension Forecast: JSONEncodable {
    public var json: JSONValue {
        [
            "days": JSONValue(days.count),
            "finish_on": JSONValue(left == 0 ? days.last?.day.description : nil),
            "left": JSONValue(left),
            "schedule": .array(
                days.prefix(400).map {
                    [
                        "day": .string($0.day.description), "invites": JSONValue($0.invites),
                        "binding": JSONValue($0.binding),
                    ]
                }),
        ]
    }
}
