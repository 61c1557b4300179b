public import Contracts
public import Core
import Storage

/// One attempt as it is kept before anything goes out.
public struct InviteAttempt: Equatable, Sendable {
    public let id: String
    public let taskID: Int64
    public let targetID: Int64
    public let userID: Int64
    public let run: Int64
    public let action: LimitedAction
    public let accountID: String
    public let channel: String?
    public let leaseID: String
    public let fencingToken: Int64
    public let permitID: String?
    /// What was to be sent, for asking again under the same id.
    public let content: String
    public let isTest: Bool
    public let startedAt: Timestamp

    public init(
        id: String, target: InviteTarget, run: Int64, _ action: LimitedAction, _ lease: LeasedAccount,
        channel: String?, permit: String?, content: String, isTest: Bool = false, at now: Timestamp
    ) {
        self.init(
            id: id, taskID: target.taskID, targetID: target.id, userID: target.userID, run: run,
            action: action, accountID: lease.accountID, channel: channel, leaseID: lease.leaseID,
            fencingToken: lease.fencingToken, permitID: permit, content: content, isTest: isTest,
            startedAt: now)
    }

    init(
        id: String, taskID: Int64, targetID: Int64, userID: Int64, run: Int64, action: LimitedAction,
        accountID: String, channel: String?, leaseID: String, fencingToken: Int64, permitID: String?,
        content: String, isTest: Bool, startedAt: Timestamp
    ) {
        self.id = id
        self.taskID = taskID
        self.targetID = targetID
        self.userID = userID
        self.run = run
        self.action = action
        self.accountID = accountID
        self.channel = channel
        self.leaseID = leaseID
        self.fencingToken = fencingToken
        self.permitID = permitID
        self.content = content
        self.isTest = isTest
        self.startedAt = startedAt
    }
}

extension InviteAttempt {
    init(_ row: Row) throws {
        self.init(
            id: try row.text("id"), taskID: try row.int64("task_id"), targetID: try row.int64("target_id"),
            userID: try row.int64("user_id"), run: try row.int64("run"),
            action: LimitedAction(rawValue: try row.text("action")) ?? .invite,
            accountID: try row.text("account_id"), channel: try row.optionalText("channel"),
            leaseID: try row.text("lease_id"), fencingToken: try row.int64("fencing_token"),
            permitID: try row.optionalText("permit_id"), content: try row.text("content"),
            isTest: try row.bool("is_test"), startedAt: try row.timestamp("started_at"))
    }
}
