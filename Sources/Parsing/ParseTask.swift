public import Core

public enum TaskType: String, Sendable, CaseIterable {
    case members, messages, comments
    /// Whatever the community allows.
    case parse
}

public enum TaskPriority: String, Sendable, CaseIterable {
    case low, normal, high

    /// Smaller goes first.
    var rank: Int64 {
        switch self {
        case .high: 0
        case .normal: 1
        case .low: 2
        }
    }

    init?(rank: Int64) {
        guard let found = Self.allCases.first(where: { $0.rank == rank }) else { return nil }
        self = found
    }

    public var queue: String { "parsing-\(rawValue)" }
}

/// Where a task stands. `docs/parsing-service.md` draws what moves it.
public enum TaskStatus: String, Sendable, CaseIterable {
    case pending, running, paused, completed, failed, cancelled

    public var isFinal: Bool {
        switch self {
        case .completed, .failed, .cancelled: true
        case .pending, .running, .paused: false
        }
    }

    /// Where an order leads; nil where it cannot be followed. Repeating an order changes nothing.
    public func after(_ order: TaskOrder) -> TaskStatus? {
        switch (order, self) {
        case (.pause, .pending), (.pause, .running), (.pause, .paused): .paused
        // What failed goes on where it stopped.
        case (.resume, .paused), (.resume, .failed): .pending
        case (.resume, .pending), (.resume, .running): self
        case (.cancel, .pending), (.cancel, .running), (.cancel, .paused), (.cancel, .cancelled): .cancelled
        default: nil
        }
    }

    static func list(_ statuses: [TaskStatus]) -> [String] { statuses.map(\.rawValue) }
}

/// What a user may tell a task to do.
public enum TaskOrder: String, Sendable, CaseIterable { case pause, resume, cancel }

/// Which of the people and messages are kept.
public struct ParseFilters: Equatable, Sendable {
    public var hasUsername = false
    public var hasPhone = false
    public var excludesBots = false
    public var excludesDeleted = false
    public var excludesAdmins = false
    public var premiumOnly = false
    /// Seen there since; who hides when they were last there is kept.
    public var activeSince: Timestamp?
    /// A message is kept when it holds one of them.
    public var keywords: [String] = []
    public var mediaOnly = false

    public init() {}

    func keeps(_ person: PersonRecord) -> Bool {
        if hasUsername, person.username == nil { return false }
        if hasPhone, person.phone == nil { return false }
        if excludesBots, person.isBot { return false }
        if excludesDeleted, person.isDeleted { return false }
        if excludesAdmins, person.isAdmin { return false }
        if premiumOnly, !person.isPremium { return false }
        if let activeSince, person.lastSeen != nil, let there = person.lastThere, there < activeSince {
            return false
        }
        return true
    }

    /// Whether a message, and with it its author's mention, is kept.
    func keeps(_ message: MessageRecord) -> Bool {
        if mediaOnly, message.media == nil { return false }
        guard !keywords.isEmpty else { return true }
        let text = message.content.lowercased()
        return keywords.contains { text.contains($0) }
    }

    var json: JSONValue {
        .object(present: [
            "has_username": hasUsername ? true : nil, "has_phone": hasPhone ? true : nil,
            "exclude_bots": excludesBots ? true : nil, "exclude_deleted": excludesDeleted ? true : nil,
            "exclude_admins": excludesAdmins ? true : nil, "premium_only": premiumOnly ? true : nil,
            "active_since": activeSince?.json,
            "keywords": keywords.isEmpty ? nil : .array(keywords.map { .string($0) }),
            "media_only": mediaOnly ? true : nil,
        ])
    }

    init(stored json: JSONValue?) {
        func flag(_ name: String) -> Bool { json?[name]?.boolValue ?? false }
        hasUsername = flag("has_username")
        hasPhone = flag("has_phone")
        excludesBots = flag("exclude_bots")
        excludesDeleted = flag("exclude_deleted")
        excludesAdmins = flag("exclude_admins")
        premiumOnly = flag("premium_only")
        activeSince = json?["active_since"]?.stringValue.flatMap { Timestamp($0) }
        keywords = (json?["keywords"]?.arrayValue ?? []).compactMap { $0.stringValue }
        mediaOnly = flag("media_only")
    }
}

/// How much is read, and how fast.
public struct ParseConfig: Equatable, Sendable {
    public var messageLimit: Int64?
    public var memberLimit: Int64?
    public var speed = Speed.medium
    public var includesMedia = true
    public var since: Timestamp?
    public var until: Timestamp?
    /// Only what is new since the last finished run of the same link.
    public var isIncremental = false
    public var filters = ParseFilters()

    public init() {}

    public var json: JSONValue {
        .object(present: [
            "message_limit": messageLimit.map { .int($0) }, "member_limit": memberLimit.map { .int($0) },
            "speed_config": .string(speed.rawValue), "include_media": .bool(includesMedia),
            "since": since?.json, "until": until?.json, "incremental": .bool(isIncremental),
            "filters": filters.json,
        ])
    }

    init(stored json: JSONValue) {
        messageLimit = json["message_limit"]?.intValue
        memberLimit = json["member_limit"]?.intValue
        speed = json["speed_config"]?.stringValue.flatMap { Speed(rawValue: $0) } ?? .medium
        includesMedia = json["include_media"]?.boolValue ?? true
        since = json["since"]?.stringValue.flatMap { Timestamp($0) }
        until = json["until"]?.stringValue.flatMap { Timestamp($0) }
        isIncremental = json["incremental"]?.boolValue ?? false
        filters = ParseFilters(stored: json["filters"])
    }
}

/// What a user asks for.
public struct NewTask: Equatable, Sendable {
    public var user: Int64
    public var platform: Platform
    public var link: CommunityLink
    public var title: String?
    public var type: TaskType
    public var priority: TaskPriority
    public var config: ParseConfig

    public init(
        user: Int64, platform: Platform = .telegram, link: CommunityLink, title: String? = nil,
        type: TaskType = .parse, priority: TaskPriority = .normal, config: ParseConfig = ParseConfig()
    ) {
        self.user = user
        self.platform = platform
        self.link = link
        self.title = title
        self.type = type
        self.priority = priority
        self.config = config
    }
}

/// Why a task stopped for good.
public struct TaskFailure: Equatable, Sendable {
    public var code: String
    public var message: LocalizedText
    /// The platform's own words.
    public var original: String

    public init(_ code: String, _ message: LocalizedText, original: String = "") {
        self.code = code
        self.message = message
        self.original = original
    }

    var stored: JSONValue {
        [
            "code": .string(code), "en": .string(message.english), "ru": .string(message.russian),
            "original": .string(original),
        ]
    }

    init?(stored json: JSONValue?) {
        guard let code = json?["code"]?.stringValue else { return nil }
        self.init(
            code, .init(json?["en"]?.stringValue ?? "", json?["ru"]?.stringValue ?? ""),
            original: json?["original"]?.stringValue ?? "")
    }

    public func json(_ language: Language) -> JSONValue {
        .object(present: [
            "code": .string(code), "message": .string(message(language)),
            "original_error": original.isEmpty ? nil : .string(original),
        ])
    }
}

/// What a task waits for, and until when it does not look again.
public struct Waiting: Equatable, Sendable {
    public enum Reason: String, Sendable, CaseIterable {
        case noAccount = "no_account"
        case floodWait = "flood_wait"
        case unreachable
    }
    public var reason: Reason
    public var until: Timestamp
    /// How many of the user's accounts are out for which reason.
    public var details: JSONValue

    public init(_ reason: Reason, until: Timestamp, details: JSONValue = [:]) {
        self.reason = reason
        self.until = until
        self.details = details
    }

    var sentence: LocalizedText {
        switch reason {
        case .noAccount where details["reasons"]?.objectValue?.isEmpty == true:
            .init(
                "There is no account to read with: connect one first",
                "Нет аккаунта, которым можно читать: сначала подключите его")
        case .noAccount:
            .init(
                "None of the accounts is free to read just now",
                "Сейчас ни один аккаунт не свободен для чтения")
        case .floodWait:
            .init(
                "Telegram asks to wait, and no other account is free",
                "Telegram просит подождать, а другого свободного аккаунта нет")
        case .unreachable:
            .init("Something this needs does not answer", "Не отвечает то, что для этого нужно")
        }
    }

    public func json(_ language: Language) -> JSONValue {
        [
            "reason": .string(reason.rawValue), "message": .string(sentence(language)), "until": until.json,
            "accounts": details,
        ]
    }

    var stored: JSONValue {
        ["reason": .string(reason.rawValue), "until": until.json, "details": details]
    }

    init?(stored json: JSONValue?) {
        guard let reason = json?["reason"]?.stringValue.flatMap({ Reason(rawValue: $0) }),
            let until = json?["until"]?.stringValue.flatMap({ Timestamp($0) })
        else { return nil }
        self.init(reason, until: until, details: json?["details"] ?? [:])
    }
}

/// A task as it is kept.
public struct ParseTask: Equatable, Sendable {
    /// Within our tables.
    public let number: Int64
    public let id: String
    public let user: Int64
    public let platform: Platform
    public let link: CommunityLink
    public let title: String?
    public let type: TaskType
    public let priority: TaskPriority
    public internal(set) var status: TaskStatus
    public let config: ParseConfig
    public internal(set) var course: Course
    public internal(set) var counts: TaskCounts
    public internal(set) var failure: TaskFailure?
    public internal(set) var waiting: Waiting?
    /// Changes with every change of the row: what an event of the progress stream is called.
    public internal(set) var revision: Int64
    public let createdAt: Timestamp
    public internal(set) var updatedAt: Timestamp
    public internal(set) var startedAt: Timestamp?
    public internal(set) var finishedAt: Timestamp?
    /// When the results are erased; nil until the task has ended.
    public internal(set) var resultsUntil: Timestamp?
    public internal(set) var areResultsErased: Bool
    /// The account it reads with.
    public internal(set) var lease: AccountLease?
    var claim: String?

    public var progress: TaskProgress { TaskProgress(self) }
}

/// What has been read and kept so far.
public struct TaskCounts: Equatable, Sendable {
    public var messages: Int64 = 0
    public var media: Int64 = 0
    public var users: Int64 = 0
    /// People in the result.
    public var results: Int64 = 0
    /// Messages in the result.
    public var storedMessages: Int64 = 0
    /// People and messages that the filters left out.
    public var filtered: Int64 = 0
    /// How long it has been reading, pauses of its pace included and waiting for accounts left out.
    public var active: Duration = .zero
    /// How many rows have been erased: their places stay empty.
    public var erased: Int64 = 0
    var lastPerson: Int64 = 0
    var lastMessage: Int64 = 0
    var countedMessage: Int64 = 0

    public init() {}

    /// Messages that are in no person's count yet.
    var uncounted: Int64 { lastMessage - countedMessage }
}

/// How far a task is, from what was really read.
public struct TaskProgress: Equatable, Sendable {
    public let percent: Int
    public let estimatedTotal: Int64?
    public let processed: Int64
    public let ratePerMinute: Double?
    public let remaining: Duration?

    init(_ task: ParseTask) {
        let done = task.course.itemsRead
        processed = done
        let total = task.course.estimate(task.config)
        estimatedTotal = total.map { max($0, done) }
        let fraction = task.course.fraction(task.config)
        switch task.status {
        case .completed: percent = 100
        case .pending, .running, .paused, .failed, .cancelled:
            // A hundred is said when it is finished and not before.
            percent = min(99, max(0, Int((fraction ?? 0) * 100)))
        }
        let minutes = task.counts.active.inSeconds / 60
        let rate = minutes > 0 && done > 0 ? Double(done) / minutes : nil
        ratePerMinute = rate
        guard !task.status.isFinal else {
            remaining = nil
            return
        }
        let active = task.counts.active
        // The first minute may be quicker than its speed allows in the long run.
        let allowed = total.map { max(task.config.speed.duration(of: $0, asking: .messages) - active, .zero) }
        if let fraction, fraction > 0, done > 0 {
            let measured = max(active * (1 / min(fraction, 1)) - active, .zero)
            remaining = max(measured, allowed ?? .zero)
        } else {
            remaining = allowed
        }
    }
}
