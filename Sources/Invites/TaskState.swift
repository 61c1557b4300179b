public import Core

/// Where a campaign stands.
public enum TaskStatus: String, Sendable, CaseIterable {
    case pending, inProgress = "in_progress", paused, completed, failed, cancelled

    /// As the API writes it.
    public var name: String { rawValue.uppercased() }

    public var isFinal: Bool { self == .completed || self == .failed || self == .cancelled }
}

/// What moves a campaign.
public enum TaskEvent: String, Sendable, CaseIterable {
    case execute, pause, resume, cancel
    /// Some failed targets are to be tried once more.
    case retryFailed
    /// No target is left that can still be tried.
    case ended
    /// The campaign cannot be carried out at all.
    case failed
    /// A rule of the campaign's own has stopped it.
    case autoPaused
}

/// An event came that means nothing in this state.
public struct TaskTransitionError: Error, Equatable, Sendable {
    public let status: TaskStatus
    public let event: TaskEvent
    public init(_ status: TaskStatus, _ event: TaskEvent) {
        self.status = status
        self.event = event
    }
}

extension TaskStatus {
    /// The next state; the same one where the event has come about already, so that repeating it does no harm.
    public func after(_ event: TaskEvent) throws(TaskTransitionError) -> TaskStatus {
        switch (self, event) {
        case (.pending, .execute), (.inProgress, .execute), (.paused, .execute): return .inProgress
        // A finished campaign to which people were added since goes on.
        case (.completed, .execute): return .inProgress
        case (.inProgress, .pause), (.paused, .pause): return .paused
        case (.paused, .resume), (.inProgress, .resume): return .inProgress
        case (.pending, .cancel), (.inProgress, .cancel), (.paused, .cancel), (.cancelled, .cancel):
            return .cancelled
        case (.inProgress, .retryFailed), (.completed, .retryFailed), (.failed, .retryFailed):
            return .inProgress
        case (.paused, .retryFailed): return .paused
        case (.inProgress, .ended): return .completed
        case (.inProgress, .failed): return .failed
        case (.inProgress, .autoPaused): return .paused
        default: throw TaskTransitionError(self, event)
        }
    }
}

/// How urgent a campaign is among those of all users.
public enum TaskPriority: String, Sendable, CaseIterable {
    case low, medium, high
    public var name: String { rawValue.uppercased() }
    /// For sorting.
    public var rank: Int {
        switch self {
        case .low: 0
        case .medium: 1
        case .high: 2
        }
    }
}

/// Where a target stands. Only between `sending` and a final state may Telegram have acted without our knowing.
public enum TargetStage: String, Sendable, CaseIterable {
    case pending
    /// In a worker's hands; nothing has gone out.
    case claimed
    /// An attempt is stored and may be on its way.
    case sending
    /// The worker ended between the sending and the answer.
    case inDoubt = "in_doubt"
    case invited, failed, skipped

    public var isFinal: Bool { self == .invited || self == .failed || self == .skipped }

    /// As the API writes it: what a worker holds is still to come for whoever reads.
    public var name: String {
        switch self {
        case .pending, .claimed, .sending: "PENDING"
        case .inDoubt: "IN_DOUBT"
        case .invited: "INVITED"
        case .failed: "FAILED"
        case .skipped: "SKIPPED"
        }
    }

    /// The stages that the API shows under a name.
    public static func stages(named name: String) -> [TargetStage] {
        allCases.filter { $0.name == name.uppercased() }
    }
}

/// What moves a target.
public enum TargetEvent: String, Sendable, CaseIterable {
    case claim, begin
    /// It goes back: nothing was sent, or another account has to try.
    case giveBack
    case succeed, fail, skip
    /// Nobody knows whether it was sent.
    case doubt
    case retry
}

public struct TargetTransitionError: Error, Equatable, Sendable {
    public let stage: TargetStage
    public let event: TargetEvent
    public init(_ stage: TargetStage, _ event: TargetEvent) {
        self.stage = stage
        self.event = event
    }
}

extension TargetStage {
    public func after(_ event: TargetEvent) throws(TargetTransitionError) -> TargetStage {
        switch (self, event) {
        case (.pending, .claim): .claimed
        case (.claimed, .begin): .sending
        case (.claimed, .giveBack), (.sending, .giveBack), (.inDoubt, .giveBack): .pending
        case (.sending, .succeed), (.inDoubt, .succeed): .invited
        case (.claimed, .fail), (.sending, .fail), (.inDoubt, .fail): .failed
        case (.pending, .skip), (.claimed, .skip), (.sending, .skip), (.inDoubt, .skip): .skipped
        case (.sending, .doubt), (.inDoubt, .doubt): .inDoubt
        case (.failed, .retry): .pending
        default: throw TargetTransitionError(self, event)
        }
    }
}

extension TaskTransitionError {
    public var text: LocalizedText {
        LocalizedText(
            "A task that is \(status.name) cannot take \(event.rawValue)",
            "Задача в состоянии \(status.name) не может выполнить \(event.rawValue)")
    }
}
