public import Core

/// How people are invited.
public enum InviteType: String, Sendable, CaseIterable {
    /// Added to the group by an administrator.
    case groupInvite = "group_invite"
    case directMessage = "direct_message"
    /// A personal link that asks the administrators, sent as a message or exported.
    case inviteLink = "invite_link"
}

/// When a campaign may send: days of the week and hours, on the clock of its people.
public struct SendWindow: Equatable, Sendable {
    /// 1 is Monday.
    public var days: Set<Int>
    /// Minutes since midnight. An end before the start is on the next day; equal ones are the whole day.
    public var from: Int
    public var to: Int
    public var zone: CampaignTimeZone

    public init(days: Set<Int> = Set(1...7), from: Int = 0, to: Int = 0, zone: CampaignTimeZone = .utc) {
        self.days = days.isEmpty ? Set(1...7) : days
        self.from = from
        self.to = to
        self.zone = zone
    }

    /// The first moment, not before `now`, at which sending is allowed. A night's hours belong to the day they
    /// began on.
    public func opening(from now: Timestamp) -> Timestamp {
        let wall = zone.wall(at: now)
        let today = wall.day
        let length = from < to ? to - from : to + 1440 - from
        for ahead in Int64(-1)...8 {
            let day = UTCDay(number: today.number + ahead)
            guard days.contains(day.start.isoWeekday) else { continue }
            let start = day.start + .minutes(Int64(from))
            let end = start + .minutes(Int64(length))
            if wall < start { return max(now, zone.moment(ofWall: start)) }
            if wall < end { return now }
        }
        return now
    }

    public func isOpen(at now: Timestamp) -> Bool { opening(from: now) <= now }
}

/// A new campaign begins with fewer a day, and more each day.
public struct CampaignRampUp: Equatable, Sendable {
    public var start: Int
    public var step: Int

    public init(start: Int, step: Int) {
        self.start = start
        self.step = step
    }

    public func cap(onDay index: Int) -> Int { start + step * max(0, index) }
}

/// Stops a campaign that goes badly.
public struct AutoPause: Equatable, Sendable {
    /// From 0 to 1.
    public var failureRate: Double
    public var minSample: Int

    public init(failureRate: Double, minSample: Int) {
        self.failureRate = failureRate
        self.minSample = minSample
    }

    public func stops(tried: Int, failed: Int) -> Bool {
        tried >= minSample && tried > 0 && Double(failed) / Double(tried) >= failureRate
    }
}

/// What an operator asked of a campaign.
public struct TaskSettings: Equatable, Sendable {
    public enum LinkDelivery: String, Sendable, CaseIterable {
        case send
        /// The operator sends the links by other means.
        case export
    }

    public var group: String
    public var inviteType: InviteType
    /// How many targets an account takes at a time.
    public var batchSize: Int
    /// Between two invitations of this campaign, whichever accounts send them.
    public var delay: Duration
    public var fallsBackToMessages: Bool
    public var window: SendWindow?
    public var dailyCap: Int?
    public var rampUp: CampaignRampUp?
    public var autoPause: AutoPause?
    public var verifiesMembership: Bool
    public var linkDelivery: LinkDelivery

    public init(
        group: String, inviteType: InviteType = .groupInvite, batchSize: Int = 10, delay: Duration = .zero,
        fallsBackToMessages: Bool = false, window: SendWindow? = nil, dailyCap: Int? = nil,
        rampUp: CampaignRampUp? = nil, autoPause: AutoPause? = nil, verifiesMembership: Bool = true,
        linkDelivery: LinkDelivery = .send
    ) {
        self.group = group
        self.inviteType = inviteType
        self.batchSize = batchSize
        self.delay = delay
        self.fallsBackToMessages = fallsBackToMessages
        self.window = window
        self.dailyCap = dailyCap
        self.rampUp = rampUp
        self.autoPause = autoPause
        self.verifiesMembership = verifiesMembership
        self.linkDelivery = linkDelivery
    }

    /// A campaign that says nothing about its pace needs nothing looked up before each send.
    public var isPaced: Bool { delay > .zero || dailyCap != nil || rampUp != nil || window != nil }
}

// MARK: - As JSON

extension SendWindow: JSONEncodable, JSONDecodable {
    public var json: JSONValue {
        [
            "days": .array(days.sorted().map { JSONValue($0) }), "from": .string(Self.clock(from)),
            "to": .string(Self.clock(to)), "timezone": .string(zone.description),
        ]
    }

    public init(from fields: inout Fields) {
        var days: Set<Int> = []
        if let raw = fields.raw("days") {
            for value in raw.arrayValue ?? [] {
                if let day = value.intValue, (1...7).contains(day) {
                    days.insert(Int(day))
                } else if let name = value.stringValue, let day = Self.day(named: name) {
                    days.insert(day)
                } else {
                    days = []
                    break
                }
            }
            if days.isEmpty {
                fields.fail(
                    "days", "wrong_value",
                    .init(
                        "A list of weekdays is expected: 1 (Monday) to 7, or mon to sun",
                        "Ожидается список дней недели: от 1 (понедельник) до 7 или mon … sun"))
            }
        }
        func minutes(_ name: String, _ fallback: Int) -> Int {
            guard let text = fields.optionalString(name, length: 1...5) else { return fallback }
            let parts = text.split(separator: ":").map { Int($0) }
            if parts.count <= 2, let hours = parts.first.flatMap({ $0 }), (0...24).contains(hours) {
                let minutes = parts.count == 2 ? parts[1] : 0
                if let minutes, (0..<60).contains(minutes), hours < 24 || minutes == 0 {
                    return (hours * 60 + minutes) % 1440
                }
            }
            fields.fail(
                name, "wrong_value",
                .init("A time such as 09:30 is expected", "Ожидается время вида 09:30"))
            return fallback
        }
        let from = minutes("from", 0)
        let to = minutes("to", 0)
        var zone = CampaignTimeZone.utc
        if let name = fields.optionalString("timezone", length: 1...64) {
            if let found = CampaignTimeZone(name) {
                zone = found
            } else {
                fields.fail(
                    "timezone", "unknown_time_zone",
                    .init(
                        "A time zone such as Europe/Berlin or +03:00 is expected",
                        "Ожидается часовой пояс вида Europe/Moscow или +03:00"))
            }
        }
        self.init(days: days, from: from, to: to, zone: zone)
    }

    private static func clock(_ minutes: Int) -> String {
        let (hours, rest) = (minutes / 60, minutes % 60)
        return (hours < 10 ? "0" : "") + "\(hours):" + (rest < 10 ? "0" : "") + "\(rest)"
    }

    private static func day(named name: String) -> Int? {
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
        return names.firstIndex(of: String(name.lowercased().prefix(3))).map { $0 + 1 }
    }
}

extension CampaignRampUp: JSONEncodable, JSONDecodable {
    public var json: JSONValue { ["start": JSONValue(start), "step": JSONValue(step)] }
    public init(from fields: inout Fields) {
        self.init(
            start: Int(fields.int("start", in: 1...1_000_000)),
            step: Int(fields.int("step", in: 0...1_000_000, default: 0)))
    }
}

extension AutoPause: JSONEncodable, JSONDecodable {
    public var json: JSONValue {
        ["failure_rate": .double(failureRate), "min_sample": JSONValue(minSample)]
    }
    public init(from fields: inout Fields) {
        self.init(
            failureRate: fields.optionalDouble("failure_rate", in: 0.01...1) ?? 0.5,
            minSample: Int(fields.int("min_sample", in: 1...100_000, default: 20)))
    }
}

extension TaskSettings: JSONEncodable, JSONDecodable {
    public var json: JSONValue {
        .object(present: [
            "group_id": .string(group), "invite_type": .string(inviteType.rawValue),
            "batch_size": JSONValue(batchSize), "delay_between_invites": .double(delay.inSeconds),
            "auto_add_contacts": false, "fallback_to_messages": .bool(fallsBackToMessages),
            "window": window?.json, "daily_cap": dailyCap.map { JSONValue($0) }, "ramp_up": rampUp?.json,
            "auto_pause": autoPause?.json, "verify_membership": .bool(verifiesMembership),
            "link_delivery": .string(linkDelivery.rawValue),
        ])
    }

    public init(from fields: inout Fields) {
        let written: String
        if let number = fields.raw("group_id")?.intValue {
            written = String(number)
        } else {
            written = fields.string("group_id", length: 1...256)
        }
        if !written.isEmpty, CommunityKey(written) == nil {
            fields.fail(
                "group_id", "not_a_group",
                .init(
                    "A group's @name, link or id is expected",
                    "Ожидается @имя, ссылка или идентификатор группы"))
        }
        // Telegram lets an account add a few contacts a day, and a campaign would use those up for people who can
        // be found without: an invitation reaches a phone number just so.
        if fields.bool("auto_add_contacts", default: false) {
            fields.fail(
                "auto_add_contacts", "not_supported",
                .init(
                    "Nobody is added to an account's contacts; leave it out or false: people are invited without",
                    "В контакты аккаунта никто не добавляется; уберите или укажите false: приглашение работает и так"
                ))
        }
        let type: InviteType = fields.choice("invite_type", default: .groupInvite)
        let delay = fields.optionalDouble("delay_between_invites", in: 0...86_400) ?? 0
        self.init(
            group: written, inviteType: type,
            batchSize: Int(fields.int("batch_size", in: 1...500, default: 10)),
            delay: .milliseconds(Int64(delay * 1000)),
            fallsBackToMessages: fields.bool("fallback_to_messages", default: false),
            window: fields.object("window"),
            dailyCap: fields.optionalInt("daily_cap", in: 1...1_000_000).map { Int($0) },
            rampUp: fields.object("ramp_up"), autoPause: fields.object("auto_pause"),
            verifiesMembership: fields.bool("verify_membership", default: true),
            linkDelivery: fields.choice("link_delivery", default: .send))
    }
}
