public import Core

/// A promise that was broken, judged from the sandbox's ledger alone.
public struct Violation: Sendable, Equatable, JSONEncodable {
    public enum Rule: String, Sendable, CaseIterable {
        case invitedTwice = "invited_twice"
        case wroteTwice = "wrote_twice"
        case noInviteRight = "no_invite_right"
        case askedAfterNo = "asked_after_no"
        case daily, hourly, pause, burst
        case channelDaily = "channel_daily"
        case channelTotal = "channel_total"
    }
    public let rule: Rule
    /// The entry that broke it.
    public let entry: LedgerEntry
    public let used: Int
    public let limit: Int

    public var json: JSONValue {
        [
            "rule": .string(rule.rawValue), "used": JSONValue(used), "limit": JSONValue(limit),
            "entry": entry.json,
        ]
    }
}

/// Reads the ledger from its beginning and finds what must not be in it. The numbers stand here a second time,
/// on purpose: a judge who asks the accused for the law finds nothing.
public struct Judge: Sendable {
    struct Law {
        let daily: Int
        let hourly: Int
        let pause: Duration
        let burst: Int
        let burstPause: Duration
        let channelDaily: Int?
        let channelTotal: Int?
    }
    static func law(for kind: LedgerEntry.Kind) -> Law? {
        switch kind {
        case .addMember:
            Law(
                daily: 30, hourly: 2, pause: .seconds(900), burst: 3, burstPause: .seconds(900),
                channelDaily: 15,
                channelTotal: 200)
        case .message:
            Law(
                daily: 30, hourly: 10, pause: .seconds(60), burst: 5, burstPause: .seconds(180),
                channelDaily: nil,
                channelTotal: nil)
        case .contact:
            Law(
                daily: 15, hourly: 3, pause: .seconds(300), burst: 2, burstPause: .seconds(600),
                channelDaily: nil,
                channelTotal: nil)
        default: nil
        }
    }

    private struct Track {
        var day = UTCDay(number: 0)
        var today = 0
        var hour: [Timestamp] = []
        var last: Timestamp?
        var run = 0
        var channelToday: [Int64: Int] = [:]
        var channelTotal: [Int64: Int] = [:]
    }

    /// How far the platform's clock at the moment of its promise and ours at the effect may lie apart.
    private let tolerance: Duration
    private var tracks: [String: Track] = [:]
    private var invited: Set<String> = []
    private var written: Set<String> = []
    private var refused: Set<String> = []
    public private(set) var violations: [Violation] = []

    public init(tolerance: Duration = .seconds(5)) { self.tolerance = tolerance }

    public static func judge(_ entries: [LedgerEntry], tolerance: Duration = .seconds(5)) -> [Violation] {
        var judge = Judge(tolerance: tolerance)
        for entry in entries { judge.hear(entry) }
        return judge.violations
    }

    public mutating func hear(_ entry: LedgerEntry) {
        let person = "\(entry.group)|\(entry.target)"
        if entry.kind == .addMember {
            if !entry.hadRight { note(.noInviteRight, entry, 0, 0) }
            if refused.contains(person) { note(.askedAfterNo, entry, 2, 1) }
            if entry.isAccepted, !invited.insert(person).inserted { note(.invitedTwice, entry, 2, 1) }
            if ["USER_NOT_MUTUAL_CONTACT", "USER_KICKED", "USER_IS_BLOCKED"].contains(entry.outcome) {
                refused.insert(person)
            }
        }
        if entry.kind == .message, entry.isAccepted,
            !written.insert("\(entry.target)|\(entry.words)").inserted
        {
            note(.wroteTwice, entry, 2, 1)
        }
        if let law = Self.law(for: entry.kind) { count(entry, law) }
    }

    private mutating func count(_ entry: LedgerEntry, _ law: Law) {
        let name = "\(entry.account)|\(entry.kind.rawValue)"
        var track = tracks[name] ?? Track()
        defer { tracks[name] = track }
        let day = day(of: entry, track, law)
        if track.day != day {
            track.day = day
            track.today = 0
            track.channelToday = [:]
        }
        track.today += 1
        if track.today > law.daily { note(.daily, entry, track.today, law.daily) }
        track.hour.removeAll { $0 + .hours(1) - tolerance <= entry.time }
        track.hour.append(entry.time)
        if track.hour.count > law.hourly { note(.hourly, entry, track.hour.count, law.hourly) }
        if let last = track.last {
            let gap = entry.time - last
            if gap + tolerance < law.pause {
                note(.pause, entry, Int(gap.wholeSecondsUp), Int(law.pause.wholeSecondsUp))
            }
            track.run = gap + tolerance < law.burstPause ? track.run + 1 : 1
        } else {
            track.run = 1
        }
        if track.run > law.burst { note(.burst, entry, track.run, law.burst) }
        track.last = entry.time
        guard entry.isAccepted else { return }
        if let limit = law.channelDaily {
            let used = (track.channelToday[entry.group] ?? 0) + 1
            track.channelToday[entry.group] = used
            if used > limit { note(.channelDaily, entry, used, limit) }
        }
        if let limit = law.channelTotal {
            let used = (track.channelTotal[entry.group] ?? 0) + 1
            track.channelTotal[entry.group] = used
            if used > limit { note(.channelTotal, entry, used, limit) }
        }
    }

    /// What was promised a moment before midnight and happened a moment after it belongs to the day before,
    /// where that has room.
    private func day(of entry: LedgerEntry, _ track: Track, _ law: Law) -> UTCDay {
        let promised = (entry.time - tolerance).day
        let hasRoom =
            track.today < law.daily
            && law.channelDaily.map { (track.channelToday[entry.group] ?? 0) < $0 } ?? true
        return promised == track.day && hasRoom ? promised : entry.time.day
    }

    private mutating func note(_ rule: Violation.Rule, _ entry: LedgerEntry, _ used: Int, _ limit: Int) {
        violations.append(Violation(rule: rule, entry: entry, used: used, limit: limit))
    }
}
