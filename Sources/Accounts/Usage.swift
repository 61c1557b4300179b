public import Core

/// One attempt that was recorded.
public struct ActionRecord: Equatable, Sendable {
    public let at: Timestamp
    public let channel: ChannelKey?
    public let success: Bool

    public init(at: Timestamp, channel: ChannelKey? = nil, success: Bool = true) {
        self.at = at
        self.channel = channel
        self.success = success
    }
}

/// A place under the limits that is held for somebody who is about to act.
public struct PermitHold: Equatable, Sendable {
    public let channel: ChannelKey?
    public let expiresAt: Timestamp

    public init(channel: ChannelKey? = nil, expiresAt: Timestamp) {
        self.channel = channel
        self.expiresAt = expiresAt
    }

    func isOpen(at moment: Timestamp) -> Bool { moment < expiresAt }
}

/// What one account did of one action, as far as it still matters: a slice of the ledger.
///
/// An open permit counts as used in every window while it is open, wherever the windows then are: its action
/// may be recorded at any moment until the permit ends, also after midnight. For the same reason the pause
/// lasts at least as long as a permit is open.
///
/// Records from the future (the clock was set back) count as made just now.
public struct Usage: Equatable, Sendable {
    /// By time; complete from `horizon(of:at:)` on.
    public private(set) var records: [ActionRecord]
    public private(set) var permits: [PermitHold]
    /// Successes for ever per channel; `records` are part of them.
    public private(set) var channelTotals: [ChannelKey: Int]

    public init(
        records: [ActionRecord] = [], permits: [PermitHold] = [], channelTotals: [ChannelKey: Int]? = nil
    ) {
        self.records = records.sorted { $0.at < $1.at }
        self.permits = permits
        self.channelTotals = channelTotals ?? Usage.totals(of: records)
    }

    public static let none = Usage()

    public mutating func record(_ record: ActionRecord) {
        let index = records.lastIndex { $0.at <= record.at }.map { $0 + 1 } ?? 0
        records.insert(record, at: index)
        if record.success, let channel = record.channel { channelTotals[channel, default: 0] += 1 }
    }

    public mutating func hold(_ permit: PermitHold) { permits.append(permit) }

    public mutating func settle(_ permit: PermitHold) {
        if let index = permits.firstIndex(of: permit) { permits.remove(at: index) }
    }

    /// Drops records and holds that were long ago; the totals keep what they counted.
    mutating func forget(before moment: Timestamp) { records.removeAll { $0.at < moment } }

    /// The moment from which on records are needed to answer at `now`.
    public static func horizon(of limits: ActionLimits, at now: Timestamp) -> Timestamp {
        min(now.day.start, now - limits.memory)
    }

    private static func totals(of records: [ActionRecord]) -> [ChannelKey: Int] {
        records.reduce(into: [:]) { totals, record in
            if record.success, let channel = record.channel { totals[channel, default: 0] += 1 }
        }
    }
}

// MARK: - What the windows hold at a moment

extension Usage {
    func openPermits(at moment: Timestamp, into channel: ChannelKey? = nil) -> Int {
        permits.count { $0.isOpen(at: moment) && (channel == nil || $0.channel == channel) }
    }

    public func daily(at moment: Timestamp) -> Int {
        let start = moment.day.start
        return records.count { $0.at >= start } + openPermits(at: moment)
    }

    /// Attempts of a day, without the permits that are open.
    func recorded(on day: UTCDay) -> Int { records.count { $0.at >= day.start } }

    public func hourly(at moment: Timestamp) -> Int {
        let start = moment - .hours(1)
        return records.count { $0.at > start } + openPermits(at: moment)
    }

    public func inChannelToday(_ channel: ChannelKey, at moment: Timestamp) -> Int {
        let start = moment.day.start
        return records.count { $0.at >= start && $0.success && $0.channel == channel }
            + openPermits(at: moment, into: channel)
    }

    public func inChannelForEver(_ channel: ChannelKey, at moment: Timestamp) -> Int {
        channelTotals[channel, default: 0] + openPermits(at: moment, into: channel)
    }

    public var last: Timestamp? { records.last?.at }

    /// How many actions the run has that an action at `moment` would prolong.
    public func run(at moment: Timestamp, within gap: Duration) -> Int {
        var count = 0
        var next = moment
        for record in records.reversed() {
            guard next - record.at < gap else { break }
            count += 1
            next = record.at
        }
        return count + openPermits(at: moment)
    }

    /// Moments after `now` at which a window may hold less than before.
    func permitEnds(after now: Timestamp) -> [Timestamp] {
        permits.map(\.expiresAt).filter { $0 > now }.sorted()
    }
}
