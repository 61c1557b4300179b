internal import Core

/// The form in which a view of an account lies in the cache: small and quick to read, because a check is
/// hardly more than reading it. It holds no phone number and nothing of the lease.
extension StoredAccount {
    /// Another form gets another number; a reader that does not know it asks SQL.
    private static let form: Int64 = 1

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.int(Self.form)
        writer.text(id.description)
        for number in [user, revision, limitsRevision, usageDay.number, candidate.connectedOn.number] {
            writer.int(number)
        }
        writer.flag(isActive)
        for moment in [knownFrom, readAt] { writer.int(moment.milliseconds) }
        writer.moment(candidate.lastUsed)
        let standing = candidate.standing
        writer.moment(standing.floodWaitUntil)
        writer.moment(standing.blockedUntil)
        switch standing.freeze {
        case nil: writer.int(0)
        case .untilLifted: writer.int(1)
        case .until(let end):
            writer.int(2)
            writer.int(end.milliseconds)
        }
        writer.text(standing.disabled?.rawValue ?? "")
        writer.int(Int64(standing.errorCount))
        let channels = channels?.counters ?? [:]
        writer.int(Int64(channels.count))
        for (channel, counter) in channels {
            writer.text(channel.description)
            for number in [Int64(counter.today), Int64(counter.total), counter.day.number] {
                writer.int(number)
            }
        }
        for action in ActionType.allCases {
            writer.int(Int64(usedToday[action] ?? 0))
            for setting in LimitSetting.all where setting.action == action {
                writer.int(Int64(setting.read(candidate.limits)))
            }
            let records = candidate.usage[action]?.records ?? []
            writer.int(Int64(records.count))
            for record in records {
                writer.int(record.at - readAt)
                writer.flag(record.success)
                writer.text(record.channel?.description ?? "")
            }
        }
        writer.int(Int64(permits.count))
        for permit in permits {
            writer.text(permit.id)
            writer.text(permit.action.rawValue)
            writer.text(permit.channel?.description ?? "")
            writer.int(permit.reservedAt.milliseconds)
        }
        return writer.bytes
    }

    /// Nil for bytes of another form, or that are none of ours.
    init?(encoded bytes: ArraySlice<UInt8>, _ rampUp: RampUp) {
        var reader = ByteReader(bytes)
        guard reader.int() == Self.form, let id = AccountID(reader.text()) else { return nil }
        let user = reader.int()
        let revision = reader.int()
        let limitsRevision = reader.int()
        let day = UTCDay(number: reader.int())
        let connectedOn = UTCDay(number: reader.int())
        let isActive = reader.flag()
        let knownFrom = Timestamp(milliseconds: reader.int())
        let readAt = Timestamp(milliseconds: reader.int())
        let lastUsed = reader.moment()
        var standing = Standing()
        standing.floodWaitUntil = reader.moment()
        standing.blockedUntil = reader.moment()
        switch reader.int() {
        case 1: standing.freeze = .untilLifted
        case 2: standing.freeze = .until(Timestamp(milliseconds: reader.int()))
        default: break
        }
        standing.disabled = Standing.Disabled(rawValue: reader.text())
        standing.errorCount = Int(clamping: reader.int())
        var channels = ChannelCounters()
        for _ in 0..<reader.count() {
            let channel = ChannelKey(stored: reader.text())
            channels.put(
                channel,
                ChannelCounters.Counter(
                    today: Int(clamping: reader.int()), total: Int(clamping: reader.int()),
                    day: UTCDay(number: reader.int())))
        }
        var limits = Limits.ceilings
        var usedToday: [ActionType: Int] = [:]
        var records: [ActionType: [ActionRecord]] = [:]
        for action in ActionType.allCases {
            usedToday[action] = Int(clamping: reader.int())
            for setting in LimitSetting.all where setting.action == action {
                setting.tighten(&limits, to: Int(clamping: reader.int()))
            }
            let count = reader.count()
            var list: [ActionRecord] = []
            list.reserveCapacity(count)
            for _ in 0..<count {
                let at = readAt + .milliseconds(reader.int())
                let success = reader.flag()
                let channel = reader.text()
                list.append(
                    ActionRecord(
                        at: at, channel: channel.isEmpty ? nil : ChannelKey(stored: channel), success: success
                    ))
            }
            records[action] = list
        }
        var permits: [Permit] = []
        for _ in 0..<reader.count() {
            let name = reader.text()
            let action = ActionType(rawValue: reader.text())
            let channel = reader.text()
            let at = Timestamp(milliseconds: reader.int())
            guard let action else { return nil }
            permits.append(
                Permit(
                    id: name, account: id, action: action,
                    channel: channel.isEmpty ? nil : ChannelKey(stored: channel), reservedAt: at))
        }
        guard reader.isWhole else { return nil }
        var candidate = Candidate(account: id, standing: standing, limits: limits, rampUp: rampUp)
        candidate.connectedOn = connectedOn
        candidate.lastUsed = lastUsed
        for action in ActionType.allCases {
            candidate.usage[action] = Usage(
                records: records[action] ?? [],
                permits: permits.filter { $0.action == action }.map(\.hold),
                channelTotals: action == .invite ? channels.totals : [:])
        }
        self.init(
            user: user, phone: "", isActive: isActive, candidate: candidate, usedToday: usedToday,
            usageDay: day, channels: channels, revision: revision, limitsRevision: limitsRevision,
            permits: permits, knownFrom: knownFrom, readAt: readAt)
    }

    /// Whether this state, read earlier, answers at `now` what a fresh one would.
    func isComplete(at now: Timestamp) -> Bool {
        // A clock that was set back looks further into the past than what was read.
        guard now >= readAt else { return false }
        return ActionType.allCases.allSatisfy {
            Usage.horizon(of: candidate.limits[$0], at: now) >= knownFrom
        }
    }

    /// Forgets records that no longer matter, so that a view that lives long does not grow for ever.
    mutating func prune(at now: Timestamp) {
        for action in ActionType.allCases {
            let horizon = Usage.horizon(of: candidate.limits[action], at: now)
            candidate.usage[action]?.forget(before: horizon)
        }
        permits.removeAll { $0.expiresAt <= now }
        readAt = max(readAt, now)
    }
}

extension Timestamp {
    fileprivate static func - (left: Timestamp, right: Timestamp) -> Int64 {
        left.milliseconds - right.milliseconds
    }
}

/// Numbers as variable-length integers, texts with their length before them.
private struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func int(_ value: Int64) {
        // Zigzag: small numbers of either sign are short.
        var rest = UInt64(bitPattern: (value << 1) ^ (value >> 63))
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    mutating func flag(_ value: Bool) { int(value ? 1 : 0) }
    /// Every moment but the far end of time, which stands for none.
    mutating func moment(_ value: Timestamp?) { int(value?.milliseconds ?? .min) }
    mutating func text(_ value: String) {
        int(Int64(value.utf8.count))
        bytes.append(contentsOf: value.utf8)
    }
}

private struct ByteReader {
    private var rest: ArraySlice<UInt8>
    private var isBroken = false

    init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// Everything was read and nothing was missing.
    var isWhole: Bool { !isBroken && rest.isEmpty }

    mutating func int() -> Int64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while shift < 64, let byte = rest.popFirst() {
            value |= UInt64(byte & 0x7F) << shift
            guard byte & 0x80 != 0 else { return Int64(bitPattern: value >> 1) ^ -Int64(value & 1) }
            shift += 7
        }
        isBroken = true
        return 0
    }

    mutating func flag() -> Bool { int() != 0 }

    mutating func moment() -> Timestamp? {
        let value = int()
        return value == .min ? nil : Timestamp(milliseconds: value)
    }

    /// A number of elements, of which each takes a byte at least.
    mutating func count() -> Int {
        let count = int()
        guard count >= 0, count <= Int64(rest.count) else {
            isBroken = true
            return 0
        }
        return Int(count)
    }

    mutating func text() -> String {
        let length = count()
        let text = String(decoding: rest.prefix(length), as: UTF8.self)
        rest = rest.dropFirst(length)
        return text
    }
}
