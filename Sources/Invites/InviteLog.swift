public import Core

/// What happened, in the documents' words.
public enum LogAction: String, Sendable, CaseIterable {
    case inviteSuccessful = "INVITE_SUCCESSFUL"
    case inviteFailed = "INVITE_FAILED"
    case inviteSkipped = "INVITE_SKIPPED"
    case accountSwitched = "ACCOUNT_SWITCHED"
    case waiting = "WAITING"
    case errorOccurred = "ERROR_OCCURRED"
    case taskStarted = "TASK_STARTED"
    case taskPaused = "TASK_PAUSED"
    case taskResumed = "TASK_RESUMED"
    case taskCancelled = "TASK_CANCELLED"
    case taskFinished = "TASK_FINISHED"
    case memberVerified = "MEMBER_VERIFIED"
    case memberLeft = "MEMBER_LEFT"
    case suppressed = "SUPPRESSED"
}

public struct LogEntry: Equatable, Sendable {
    public let id: Int64
    public let taskID: Int64
    public let targetID: Int64?
    public let accountID: String?
    public let action: LogAction
    public let code: String?
    public let details: JSONValue
    public let at: Timestamp
}

/// A line that is to be written, in the transaction of what it tells.
public struct NewLogEntry: Sendable {
    public var action: LogAction
    public var targetID: Int64?
    public var accountID: String?
    public var code: String?
    public var details: JSONValue

    public init(
        _ action: LogAction, target: Int64? = nil, account: String? = nil, code: String? = nil,
        details: JSONValue = [:]
    ) {
        self.action = action
        targetID = target
        accountID = account
        self.code = code
        self.details = details
    }
}

extension LogEntry {
    /// In plain words. Whom it is about stands in `details.target`, until they are erased.
    public func message(_ language: Language) -> String {
        let who = details["target"]?.stringValue ?? targetID.map { "#\($0)" } ?? ""
        let why = code.flatMap { TargetReason(code: $0)?.text(language) } ?? code ?? ""
        let sentence: LocalizedText =
            switch action {
            case .inviteSuccessful: .init("\(who) was invited", "\(who): приглашение отправлено")
            case .inviteFailed: .init("\(who) could not be invited: \(why)", "\(who): не приглашён. \(why)")
            case .inviteSkipped: .init("\(who) was left out: \(why)", "\(who): пропущен. \(why)")
            case .accountSwitched:
                .init("Another account goes on: \(why)", "Продолжает другой аккаунт: \(why)")
            case .waiting:
                (code.flatMap { WaitReason(rawValue: $0) } ?? .retry).text(
                    until: details["until"]?.stringValue.flatMap { Timestamp($0) })
            case .errorOccurred: .init("An error occurred: \(why)", "Произошла ошибка: \(why)")
            case .taskStarted: .init("The campaign was started", "Кампания запущена")
            case .taskPaused:
                (code.flatMap { WaitReason(rawValue: $0) } ?? .operatorPaused).text(until: nil)
            case .taskResumed: .init("The campaign goes on", "Кампания продолжена")
            case .taskCancelled: .init("The campaign was cancelled", "Кампания отменена")
            case .taskFinished: .init("The campaign has ended", "Кампания завершена")
            case .memberVerified:
                .init("\(who) was found among the members", "\(who): найден среди участников")
            case .memberLeft:
                .init("\(who) is not among the members any more", "\(who): больше не состоит в группе")
            case .suppressed:
                .init("\(who) was put on the stop-list: \(why)", "\(who): добавлен в стоп-лист. \(why)")
            }
        return sentence(language)
    }

    public func json(_ language: Language) -> JSONValue {
        [
            "id": .int(id), "task_id": .int(taskID), "target_id": JSONValue(targetID),
            "account_id": JSONValue(accountID), "action": .string(action.rawValue),
            "code": JSONValue(code), "message": .string(message(language)), "details": details,
            "created_at": at.json,
        ]
    }
}
