import Accounts
import Core

/// The rules once more, as slowly and plainly as they can be said: in whole minutes, every count a filter over
/// everything that ever happened. Shares nothing with the rules but the numbers.
struct ReferenceAccount {
    struct Event { let minute: Int, channel: String?, success: Bool }
    struct Held { let id: String, minute: Int, channel: String? }

    var events: [Event] = []
    /// Neither recorded nor given back.
    var held: [Held] = []
    var connectedOnDay = 0
    var percents: [(age: Int, percent: Int)] = []
    let daily: Int, hourly: Int, channelDaily: Int, channelTotal: Int, pause: Int, burst: Int, burstPause: Int

    init(_ limits: ActionLimits) {
        daily = limits.daily
        hourly = limits.hourly
        channelDaily = limits.perChannelDaily ?? 1_000_000
        channelTotal = limits.perChannelTotal ?? 1_000_000
        pause = Int(limits.pause.components.seconds) / 60
        burst = limits.burst
        burstPause = Int(limits.burstPause.components.seconds) / 60
    }

    func dailyLimit(_ minute: Int) -> Int {
        if percents.isEmpty { return daily }
        let age = minute / 1440 - connectedOnDay
        var percent = percents[0].percent
        for step in percents where step.age <= age { percent = step.percent }
        if percent == 0 || daily == 0 { return 0 }
        return daily * percent / 100 < 1 ? 1 : daily * percent / 100
    }

    func open(_ minute: Int) -> [Held] { held.filter { minute < $0.minute + 2 } }

    /// The limits that refuse at this minute.
    func refusing(_ minute: Int, _ channel: String?) -> Set<String> {
        var found: Set<String> = []
        let open = open(minute)
        if events.filter({ $0.minute / 1440 >= minute / 1440 }).count + open.count >= dailyLimit(minute) {
            found.insert("daily")
        }
        if events.filter({ $0.minute > minute - 60 }).count + open.count >= hourly { found.insert("hourly") }
        if !open.isEmpty || events.contains(where: { minute - $0.minute < pause }) {
            found.insert("cooldown")
        }
        var run = 0
        var following = minute
        for event in events.map(\.minute).sorted(by: >) {
            if following - event >= burstPause { break }
            run += 1
            following = event
        }
        if run + open.count >= burst { found.insert("burst") }
        if let channel {
            let mine = events.filter { $0.success && $0.channel == channel }
            let held = open.filter { $0.channel == channel }.count
            if mine.filter({ $0.minute / 1440 >= minute / 1440 }).count + held >= channelDaily {
                found.insert("per_channel")
            }
            if mine.count + held >= channelTotal { found.insert("per_channel_total") }
        }
        return found
    }

    /// The first minute from `minute` on that allows, looking no further than `horizon` minutes.
    func firstAllowed(from minute: Int, _ channel: String?, horizon: Int) -> Int? {
        (minute...(minute + horizon)).first { refusing($0, channel).isEmpty }
    }
}
