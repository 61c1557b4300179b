public import Core

/// How far a campaign is: each person counts once.
public struct TargetCounts: Equatable, Sendable {
    public var total = 0
    /// Still to come, those in a worker's hands included.
    public var pending = 0
    public var inDoubt = 0
    public var invited = 0
    public var failed = 0
    public var skipped = 0

    public init() {}

    public var isDone: Bool { pending == 0 && inDoubt == 0 }
    public var progress: Double {
        total == 0 ? 0 : Double((invited + failed + skipped) * 10_000 / total) / 100
    }

    mutating func add(_ stage: TargetStage, _ count: Int) {
        total += count
        switch stage {
        case .pending, .claimed, .sending: pending += count
        case .inDoubt: inDoubt += count
        case .invited: invited += count
        case .failed: failed += count
        case .skipped: skipped += count
        }
    }
}

/// What became of the attempts: four numbers that are never one.
public struct AttemptCounts: Equatable, Sendable {
    public var attempted = 0
    /// Telegram said yes.
    public var accepted = 0
    public var refused = 0
    /// Found among the members afterwards.
    public var verified = 0
    public init() {}
}

extension AttemptCounts: JSONEncodable {
    public var json: JSONValue {
        [
            "attempted": JSONValue(attempted), "accepted": JSONValue(accepted),
            "refused": JSONValue(refused), "verified": JSONValue(verified),
        ]
    }
}

/// What a campaign waits for.
public struct Waiting: Equatable, Sendable {
    public var reason: WaitReason
    /// When it goes on; nil where nobody knows.
    public var until: Timestamp?
    /// In the words of whoever made it wait.
    public var detail: String?

    public init(_ reason: WaitReason, until: Timestamp? = nil, detail: String? = nil) {
        self.reason = reason
        self.until = until
        self.detail = detail
    }
}

/// A campaign.
public struct InviteTask: Equatable, Sendable {
    public let id: Int64
    public let userID: Int64
    public var name: String
    public var platform: String
    public var description: String
    public var status: TaskStatus
    public var priority: TaskPriority
    public var inviteMessage: String?
    public var settings: TaskSettings
    /// Under which the community's stop-list and rights are kept.
    public var community: String
    /// What account-manager knows the group as; nil until an account has looked behind a private link.
    public var channel: String?
    public var version: Int64
    public var scheduledAt: Timestamp?
    public var createdAt: Timestamp
    public var updatedAt: Timestamp
    public var startedAt: Timestamp?
    public var finishedAt: Timestamp?
    /// Counts the starts: what an earlier one began does not decide about a later.
    public var run: Int64
    public var runStartedAt: Timestamp?
    public var lastSentAt: Timestamp?
    public var nextActionAt: Timestamp?
    public var waiting: Waiting?
    public var endedReason: String?
    /// Counts the wishes that somebody look at it.
    public var wish: Int64
}

/// A campaign that does not exist yet.
public struct NewTask: Equatable, Sendable {
    public var name: String
    public var platform: String
    public var description: String
    public var priority: TaskPriority
    public var inviteMessage: String?
    public var settings: TaskSettings
    public var scheduledAt: Timestamp?

    public init(
        name: String, platform: String = "telegram", description: String = "",
        priority: TaskPriority = .medium, inviteMessage: String? = nil, settings: TaskSettings,
        scheduledAt: Timestamp? = nil
    ) {
        self.name = name
        self.platform = platform
        self.description = description
        self.priority = priority
        self.inviteMessage = inviteMessage
        self.settings = settings
        self.scheduledAt = scheduledAt
    }
}

public enum InviteError: Error, Equatable, Sendable {
    case unknownTask, unknownTarget
    /// Somebody has changed it since it was read.
    case changed(version: Int64)
    case transition(TaskTransitionError)
    /// Only what has not been sent may be changed.
    case targetInUse
    case noTargets
    /// The same person stands in the task already.
    case duplicateTarget
    /// Nobody can be added directly to a channel of more than 200 members.
    case broadcastChannel
    /// Nothing may be changed about a running task but its pace.
    case running
}

/// Orders of a list of campaigns.
public struct TaskQuery: Equatable, Sendable {
    public enum Sort: String, Sendable, CaseIterable {
        case createdAt = "created_at"
        case updatedAt = "updated_at"
        case name, priority, progress
    }
    public var status: TaskStatus?
    public var platform: String?
    public var priority: TaskPriority?
    public var createdAfter: Timestamp?
    public var createdBefore: Timestamp?
    public var nameContains: String?
    public var sort: Sort
    public var descends: Bool

    public init(
        status: TaskStatus? = nil, platform: String? = nil, priority: TaskPriority? = nil,
        createdAfter: Timestamp? = nil, createdBefore: Timestamp? = nil, nameContains: String? = nil,
        sort: Sort = .createdAt, descends: Bool = true
    ) {
        self.status = status
        self.platform = platform
        self.priority = priority
        self.createdAfter = createdAfter
        self.createdBefore = createdBefore
        self.nameContains = nameContains
        self.sort = sort
        self.descends = descends
    }
}
