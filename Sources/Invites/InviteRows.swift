import Core
import Storage

// Rows of SQL, read into values.

extension InviteTask {
    init(_ row: Row) throws {
        let settings: TaskSettings
        do {
            settings = try Fields.decode(from: row.json("settings"))
        } catch is ValidationError {
            throw StorageError.unexpectedColumn("settings cannot be read")
        }
        guard let status = TaskStatus(rawValue: try row.text("status")) else {
            throw StorageError.unexpectedColumn("status is unknown")
        }
        let rank = try row.int("priority")
        let nextAction = try row.optionalTimestamp("next_action_at")
        let reason = try row.optionalText("waiting_for").flatMap { WaitReason(rawValue: $0) }
        self.init(
            id: try row.int64("id"), userID: try row.int64("user_id"), name: try row.text("name"),
            platform: try row.text("platform"), description: try row.text("description"), status: status,
            priority: TaskPriority.allCases.first { $0.rank == rank } ?? .medium,
            inviteMessage: try row.optionalText("invite_message"), settings: settings,
            community: try row.text("community"), channel: try row.optionalText("channel"),
            version: try row.int64("version"), scheduledAt: try row.optionalTimestamp("scheduled_at"),
            createdAt: try row.timestamp("created_at"), updatedAt: try row.timestamp("updated_at"),
            startedAt: try row.optionalTimestamp("started_at"),
            finishedAt: try row.optionalTimestamp("finished_at"), run: try row.int64("run"),
            runStartedAt: try row.optionalTimestamp("run_started_at"),
            lastSentAt: try row.optionalTimestamp("last_sent_at"), nextActionAt: nextAction,
            waiting: try reason.map {
                Waiting($0, until: nextAction, detail: try row.optionalText("waiting_detail"))
            }, endedReason: try row.optionalText("ended_reason"),
            wish: try row.int64("wish"))
    }
}

extension InviteTarget {
    init(_ row: Row) throws {
        guard let stage = TargetStage(rawValue: try row.text("status")) else {
            throw StorageError.unexpectedColumn("status is unknown")
        }
        self.init(
            id: try row.int64("id"), taskID: try row.int64("task_id"), userID: try row.int64("user_id"),
            identity: PersonIdentity(
                username: try row.optionalText("username"), phone: try row.optionalText("phone"),
                platformID: try row.optionalInt64("platform_id")),
            email: try row.optionalText("email"), fullName: try row.optionalText("full_name"),
            source: TargetSource(rawValue: try row.text("source")) ?? .manual,
            sourceDetail: try row.optionalText("source_detail"),
            consentBasis: try row.optionalText("consent_basis"), seenIn: try row.optionalText("seen_in"),
            strangers: (try row.optionalText("strangers") ?? "").split(separator: " ").map(String.init),
            stage: stage,
            asMessage: try row.bool("as_message"), errorCode: try row.optionalText("error_code"),
            errorDetail: try row.optionalText("error_detail"), attempts: try row.int("attempts"),
            detours: try row.int("detours"), looks: try row.int("looks"),
            notBefore: try row.timestamp("not_before"), attemptID: try row.optionalText("attempt_id"),
            accountID: try row.optionalText("account_id"),
            invitedAt: try row.optionalTimestamp("invited_at"), isMember: try row.optionalBool("is_member"),
            inviteLink: try row.optionalText("invite_link"),
            linkAccountID: try row.optionalText("link_account_id"), joined: try row.int("joined"),
            createdAt: try row.timestamp("created_at"), updatedAt: try row.timestamp("updated_at"))
    }
}

extension LogEntry {
    init(_ row: Row) throws {
        self.init(
            id: try row.int64("id"), taskID: try row.int64("task_id"),
            targetID: try row.optionalInt64("target_id"), accountID: try row.optionalText("account_id"),
            action: LogAction(rawValue: try row.text("action")) ?? .errorOccurred,
            code: try row.optionalText("code"), details: try row.json("details"), at: try row.timestamp("at"))
    }
}
