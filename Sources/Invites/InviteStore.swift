public import Core
import Security
public import Storage

/// Campaigns in SQL. What is due stands here; a message of a queue only says "look".
public struct InviteStore: Sendable {
    public let database: any Database
    public let digests: SuppressionDigests
    let random: any RandomSource

    public init(_ database: any Database, digests: SuppressionDigests, random: any RandomSource) {
        self.database = database
        self.digests = digests
        self.random = random
    }

    // MARK: - Tasks

    public func create(_ new: NewTask, of user: Int64, at now: Timestamp) async throws -> InviteTask {
        let key = CommunityKey(new.settings.group)
        let channel = key.flatMap { $0.isPrivateLink ? nil : $0.description }
        let rows = try await database.run(
            """
            INSERT INTO invite_tasks (user_id, name, name_key, platform, description, status, priority,
                invite_message, settings, community, channel, scheduled_at, created_at, updated_at)
            VALUES (\(user), \(new.name), \(new.name.lowercased()), \(new.platform), \(new.description),
                'pending', \(new.priority.rank), \(new.inviteMessage), \(new.settings.json),
                \(key?.description ?? new.settings.group), \(channel), \(new.scheduledAt), \(now), \(now))
            RETURNING *
            """)
        guard let row = rows.first else { throw InviteError.unknownTask }
        return try InviteTask(row)
    }

    public func task(_ id: Int64, of user: Int64) async throws -> InviteTask {
        let rows = try await database.run(
            "SELECT * FROM invite_tasks WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw InviteError.unknownTask }
        return try InviteTask(row)
    }

    /// For workers, who act for whoever it belongs to.
    public func task(_ id: Int64) async throws -> InviteTask? {
        try await database.run("SELECT * FROM invite_tasks WHERE id = \(id)").first.map { try InviteTask($0) }
    }

    public func tasks(of user: Int64, _ query: TaskQuery, offset: Int, limit: Int) async throws
        -> (tasks: [InviteTask], total: Int)
    {
        var filter: SQL = "user_id = \(user)"
        if let status = query.status { filter = "\(filter) AND status = \(status.rawValue)" }
        if let platform = query.platform { filter = "\(filter) AND platform = \(platform)" }
        if let priority = query.priority { filter = "\(filter) AND priority = \(priority.rank)" }
        if let moment = query.createdAfter { filter = "\(filter) AND created_at >= \(moment)" }
        if let moment = query.createdBefore { filter = "\(filter) AND created_at <= \(moment)" }
        if let text = query.nameContains {
            filter = "\(filter) AND name_key LIKE \(likePattern(text.lowercased())) ESCAPE '!'"
        }
        let column: StaticString =
            switch query.sort {
            case .createdAt: "created_at"
            case .updatedAt: "updated_at"
            case .name: "name_key"
            case .priority: "priority"
            case .progress: "progress"
            }
        let direction: StaticString = query.descends ? "DESC" : "ASC"
        let rows = try await database.run(
            """
            SELECT * FROM invite_tasks WHERE \(filter)
            ORDER BY \(raw: column) \(raw: direction), id \(raw: direction) LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run("SELECT COUNT(*) AS count FROM invite_tasks WHERE \(filter)")
        return (try rows.map { try InviteTask($0) }, try total.first?.int("count") ?? 0)
    }

    /// Changes what an operator may change; refused where somebody has changed it since `version` was read.
    public func update(
        _ id: Int64, of user: Int64, version: Int64?, at now: Timestamp,
        _ change: @escaping @Sendable (inout InviteTask) throws -> Void
    ) async throws -> InviteTask {
        try await database.transaction { transaction in
            var task = try transaction.lockedTask(id, of: user)
            if let version, version != task.version { throw InviteError.changed(version: task.version) }
            let before = task
            try change(&task)
            let isElsewhere = task.settings.group != before.settings.group
            if isElsewhere {
                let key = CommunityKey(task.settings.group)
                task.community = key?.description ?? task.settings.group
                task.channel = key.flatMap { $0.isPrivateLink ? nil : $0.description }
            }
            // A running task looks again at once: its pace may have changed.
            let wake = task.status == .inProgress ? now : nil
            let rows = try transaction.run(
                """
                UPDATE invite_tasks SET name = \(task.name), name_key = \(task.name.lowercased()),
                    description = \(task.description), priority = \(task.priority.rank),
                    invite_message = \(task.inviteMessage), settings = \(task.settings.json),
                    community = \(task.community), channel = \(task.channel),
                    scheduled_at = \(task.scheduledAt), wish = wish + 1, version = version + 1, updated_at = \(now),
                    wake_at = COALESCE(CAST(\(wake) AS BIGINT), wake_at)
                WHERE id = \(id) RETURNING *
                """)
            guard let row = rows.first else { throw InviteError.unknownTask }
            return try InviteTask(row)
        }
    }

    /// Deletes a campaign with all that belongs to it. A running one is refused: it has to be stopped first.
    public func delete(_ id: Int64, of user: Int64) async throws {
        try await database.transaction { transaction in
            let task = try transaction.lockedTask(id, of: user)
            guard task.status != .inProgress else { throw InviteError.running }
            // What is on its way needs its attempt to be told apart from one never made.
            let busy = try transaction.run(
                """
                SELECT 1 AS one FROM invite_targets WHERE task_id = \(id)
                    AND status IN ('sending', 'in_doubt') LIMIT 1
                """)
            guard busy.isEmpty else { throw InviteError.running }
            try transaction.run("DELETE FROM invite_logs WHERE task_id = \(id)")
            try transaction.run("DELETE FROM invite_attempts WHERE task_id = \(id)")
            try transaction.run("DELETE FROM invite_targets WHERE task_id = \(id)")
            try transaction.run("DELETE FROM invite_tasks WHERE id = \(id)")
        }
    }

    public func duplicate(
        _ id: Int64, of user: Int64, name: String, copiesTargets: Bool, copiesSettings: Bool,
        resetsSchedule: Bool, at now: Timestamp
    ) async throws -> InviteTask {
        return try await database.transaction { transaction in
            let source = try transaction.lockedTask(id, of: user)
            let settings = copiesSettings ? source.settings : TaskSettings(group: source.settings.group)
            let scheduled = resetsSchedule ? nil : source.scheduledAt.flatMap { $0 > now ? $0 : nil }
            let rows = try transaction.run(
                """
                INSERT INTO invite_tasks (user_id, name, name_key, platform, description, status, priority,
                    invite_message, settings, community, channel, scheduled_at, created_at, updated_at)
                VALUES (\(user), \(name), \(name.lowercased()), \(source.platform), \(source.description),
                    'pending', \(source.priority.rank), \(source.inviteMessage), \(settings.json),
                    \(source.community), \(source.channel), \(scheduled), \(now), \(now))
                RETURNING *
                """)
            guard let row = rows.first else { throw InviteError.unknownTask }
            let copy = try InviteTask(row)
            if copiesTargets {
                try transaction.run(
                    """
                    INSERT INTO invite_targets (task_id, user_id, username, phone, platform_id, email,
                        full_name, source, source_detail, consent_basis, created_at, updated_at)
                    SELECT \(copy.id), user_id, username, phone, platform_id, email, full_name, source,
                        source_detail, consent_basis, \(now), \(now)
                    FROM invite_targets WHERE task_id = \(id) ORDER BY id
                    """)
            }
            return copy
        }
    }

    // MARK: - Moving a task

    /// Applies an event to a task and writes it down. From the commit on no worker begins a send that the new
    /// state forbids: each asks in the transaction that begins it.
    @discardableResult
    public func apply(
        _ event: TaskEvent, to id: Int64, of user: Int64, at now: Timestamp, reason: WaitReason? = nil,
        endedReason: String? = nil
    ) async throws -> InviteTask {
        try await database.transaction { transaction in
            try transaction.apply(
                event, to: transaction.lockedTask(id, of: user), at: now, reason: reason,
                endedReason: endedReason)
        }
    }

    /// Those that may still be on their way at Telegram.
    public func inFlight(_ task: Int64, at now: Timestamp) async throws -> Int {
        try await database.run(
            """
            SELECT COUNT(*) AS count FROM invite_targets
            WHERE task_id = \(task) AND status = 'sending' AND held_until > \(now)
            """
        ).first?.int("count") ?? 0
    }

    /// Failed targets that are to be tried once more, of these reasons or of all that another attempt may
    /// change.
    public func retryFailed(_ id: Int64, of user: Int64, codes: [String]?, at now: Timestamp) async throws
        -> (task: InviteTask, count: Int)
    {
        try await database.transaction { transaction in
            let task = try transaction.lockedTask(id, of: user)
            do throws(TaskTransitionError) { _ = try task.status.after(.retryFailed) } catch {
                throw InviteError.transition(error)
            }
            var filter: SQL = "task_id = \(id) AND status = 'failed'"
            if let codes { filter = "\(filter) AND error_code IN \(list: codes)" }
            // A person's no is final, whoever asks again.
            let nos = ["not_mutual_contact", "user_banned_in_group"]
            filter = "\(filter) AND (error_code IS NULL OR error_code NOT IN \(list: nos))"
            let count = try transaction.run(
                """
                UPDATE invite_targets SET status = 'pending', error_code = NULL, error_detail = NULL,
                    detours = 0, looks = 0, not_before = 0, as_message = FALSE, updated_at = \(now)
                WHERE \(filter)
                """
            ).affected
            guard count > 0 else { return (task, 0) }
            return (try transaction.apply(.retryFailed, to: task, at: now), count)
        }
    }

    // MARK: - Counts

    public func counts(of tasks: [Int64]) async throws -> [Int64: TargetCounts] {
        guard !tasks.isEmpty else { return [:] }
        var counts: [Int64: TargetCounts] = [:]
        for row in try await database.run(
            """
            SELECT task_id, status, COUNT(*) AS count FROM invite_targets WHERE task_id IN \(list: tasks)
            GROUP BY task_id, status
            """)
        {
            guard let stage = TargetStage(rawValue: try row.text("status")) else { continue }
            counts[try row.int64("task_id"), default: TargetCounts()].add(stage, try row.int("count"))
        }
        return counts
    }

    public func counts(of task: Int64) async throws -> TargetCounts {
        try await counts(of: [task])[task] ?? TargetCounts()
    }

    public func attemptCounts(of tasks: [Int64]) async throws -> [Int64: AttemptCounts] {
        guard !tasks.isEmpty else { return [:] }
        var counts: [Int64: AttemptCounts] = [:]
        for row in try await database.run(
            """
            SELECT task_id, counts, COUNT(*) AS count FROM invite_attempts WHERE task_id IN \(list: tasks)
            GROUP BY task_id, counts
            """)
        {
            let count = try row.int("count")
            let task = try row.int64("task_id")
            switch NextStep.Count(rawValue: try row.text("counts")) {
            case .accepted?:
                counts[task, default: AttemptCounts()].accepted += count
                counts[task, default: AttemptCounts()].attempted += count
            case .refused?:
                counts[task, default: AttemptCounts()].refused += count
                counts[task, default: AttemptCounts()].attempted += count
            case .unknown?: counts[task, default: AttemptCounts()].attempted += count
            // What was not the target's fault, or is not known yet.
            case .none?, nil: break
            }
        }
        for row in try await database.run(
            """
            SELECT task_id, COUNT(*) AS count FROM invite_targets
            WHERE task_id IN \(list: tasks) AND status = 'invited' AND is_member = TRUE GROUP BY task_id
            """)
        {
            counts[try row.int64("task_id"), default: AttemptCounts()].verified = try row.int("count")
        }
        return counts
    }

    /// Notes how far a task is, for lists that are sorted by it.
    public func noteProgress(_ task: Int64, _ counts: TargetCounts) async throws {
        try await database.run(
            "UPDATE invite_tasks SET progress = \(counts.progress) WHERE id = \(task)")
    }

    // MARK: - Log

    public func logs(
        of task: Int64, after id: Int64 = 0, action: LogAction? = nil, offset: Int = 0, limit: Int,
        newestFirst: Bool = true
    ) async throws -> [LogEntry] {
        var filter: SQL = "task_id = \(task) AND id > \(id)"
        if let action { filter = "\(filter) AND action = \(action.rawValue)" }
        let direction: StaticString = newestFirst ? "DESC" : "ASC"
        return try await database.run(
            """
            SELECT * FROM invite_logs WHERE \(filter) ORDER BY id \(raw: direction)
            LIMIT \(limit) OFFSET \(offset)
            """
        ).map { try LogEntry($0) }
    }

    public func logCount(of task: Int64, action: LogAction? = nil) async throws -> Int {
        var filter: SQL = "task_id = \(task)"
        if let action { filter = "\(filter) AND action = \(action.rawValue)" }
        return try await database.run("SELECT COUNT(*) AS count FROM invite_logs WHERE \(filter)")
            .first?.int("count") ?? 0
    }

    /// How many Telegram has taken since then.
    public func acceptedSince(_ moment: Timestamp, of task: Int64) async throws -> Int {
        try await database.run(
            """
            SELECT COUNT(*) AS count FROM invite_attempts
            WHERE task_id = \(task) AND started_at >= \(moment) AND counts = 'accepted'
            """
        ).first?.int("count") ?? 0
    }

    public func linkCounts(of task: Int64) async throws -> (links: Int, joined: Int) {
        let row = try await database.run(
            """
            SELECT COUNT(*) AS links, COALESCE(SUM(joined), 0) AS joined FROM invite_targets
            WHERE task_id = \(task) AND invite_link IS NOT NULL
            """
        ).first
        return (try row?.int("links") ?? 0, try row?.int("joined") ?? 0)
    }

    /// How many of those to come are on the stop-list now.
    public func suppressedCount(in task: InviteTask) async throws -> Int {
        let list = try await database.run(
            """
            SELECT digest FROM invite_suppressions
            WHERE user_id = \(task.userID) AND community IN ('', \(task.community))
            """)
        let stopped = Set(try list.map { try $0.text("digest") })
        guard !stopped.isEmpty else { return 0 }
        var count = 0
        try await streamTargets(of: task.id, user: task.userID, TargetQuery(statusName: "PENDING")) {
            targets in
            count += targets.count { target in
                digests.digests(target.identity).contains { stopped.contains($0) }
            }
        }
        return count
    }

    /// Forgets the lines of campaigns that ended long ago.
    public func tidy(before moment: Timestamp) async throws {
        try await database.run(
            """
            DELETE FROM invite_logs WHERE at < \(moment) AND task_id IN (
                SELECT id FROM invite_tasks WHERE status IN ('completed', 'failed', 'cancelled'))
            """)
        try await database.run("DELETE FROM invite_rights WHERE valid_until < \(moment)")
    }

    /// Everything of a user who is gone.
    public func erase(user: Int64) async throws {
        try await database.transaction { transaction in
            try transaction.run("DELETE FROM invite_logs WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_attempts WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_targets WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_tasks WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_suppressions WHERE user_id = \(user)")
            try transaction.run("DELETE FROM invite_rights WHERE user_id = \(user)")
        }
    }
}

/// `%text%` with the wildcards in the text made harmless, for `ESCAPE '!'`.
func likePattern(_ text: String) -> String {
    var result = "%"
    for character in text {
        if "%_!".contains(character) { result.append("!") }
        result.append(character)
    }
    return result + "%"
}

extension Transaction {
    /// The task, its row held until the end of the transaction.
    func lockedTask(_ id: Int64, of user: Int64? = nil) throws -> InviteTask {
        let lock: StaticString = dialect == .postgres ? "FOR UPDATE" : ""
        let rows = try run("SELECT * FROM invite_tasks WHERE id = \(id) \(raw: lock)")
        guard let row = rows.first else { throw InviteError.unknownTask }
        let task = try InviteTask(row)
        guard user == nil || user == task.userID else { throw InviteError.unknownTask }
        return task
    }

    func apply(
        _ event: TaskEvent, to task: InviteTask, at now: Timestamp, reason: WaitReason? = nil,
        endedReason: String? = nil
    ) throws -> InviteTask {
        let status: TaskStatus
        do throws(TaskTransitionError) { status = try task.status.after(event) } catch {
            throw InviteError.transition(error)
        }
        guard status != task.status else { return task }
        let starts = status == .inProgress
        let ends = status.isFinal
        // Only a start of its own begins a new sample for the automatic pause.
        let run: Int64 = starts ? 1 : 0
        let waiting: Waiting? =
            status == .paused ? Waiting(event == .autoPaused ? reason ?? .autoPaused : .operatorPaused) : nil
        let rows = try self.run(
            """
            UPDATE invite_tasks SET status = \(status.rawValue), version = version + 1, updated_at = \(now),
                started_at = CASE WHEN \(starts) THEN COALESCE(started_at, CAST(\(now) AS BIGINT)) ELSE started_at END,
                run_started_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE run_started_at END,
                finished_at = CASE WHEN \(ends) THEN CAST(\(now) AS BIGINT) ELSE NULL END, run = run + \(run),
                wish = wish + 1,
                wake_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE NULL END,
                next_action_at = CASE WHEN \(starts) THEN CAST(\(now) AS BIGINT) ELSE NULL END, scheduled_at = NULL,
                waiting_for = \(waiting?.reason.rawValue), waiting_detail = NULL,
                ended_reason = \(ends ? endedReason : nil)
            WHERE id = \(task.id) RETURNING *
            """)
        if status == .cancelled {
            // Whoever is on the way comes to an end of their own.
            try self.run(
                """
                UPDATE invite_targets SET status = 'skipped', error_code = 'task_cancelled',
                    updated_at = \(now), held_by = NULL, held_until = NULL
                WHERE task_id = \(task.id) AND status IN ('pending', 'claimed')
                """)
        }
        let action: LogAction =
            switch event {
            case .execute: .taskStarted
            case .resume, .retryFailed: .taskResumed
            case .pause, .autoPaused: .taskPaused
            case .cancel: .taskCancelled
            case .ended, .failed: .taskFinished
            }
        let code: String? = event == .autoPaused ? waiting?.reason.rawValue : endedReason
        try log(NewLogEntry(action, code: code), of: task, at: now)
        guard let row = rows.first else { throw InviteError.unknownTask }
        return try InviteTask(row)
    }

    func log(_ entry: NewLogEntry, of task: InviteTask, at now: Timestamp) throws {
        try log(entry, task: task.id, user: task.userID, at: now)
    }

    public func log(_ entry: NewLogEntry, task: Int64, user: Int64, at now: Timestamp) throws {
        try run(
            """
            INSERT INTO invite_logs (task_id, user_id, target_id, account_id, action, code, details, at)
            VALUES (\(task), \(user), \(entry.targetID), \(entry.accountID), \(entry.action.rawValue),
                \(entry.code), \(entry.details), \(now))
            """)
    }
}

// MARK: - Rows

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
            consentBasis: try row.optionalText("consent_basis"), stage: stage,
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
