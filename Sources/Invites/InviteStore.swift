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

    /// Changes what an operator may change; refused where somebody has changed it since one of `versions` was read.
    public func update(
        _ id: Int64, of user: Int64, versions: Set<Int64>?, at now: Timestamp,
        _ change: @escaping @Sendable (inout InviteTask) throws -> Void
    ) async throws -> InviteTask {
        try await database.transaction { transaction in
            var task = try transaction.lockedTask(id, of: user)
            if let versions, !versions.contains(task.version) {
                throw InviteError.changed(version: task.version)
            }
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
                        full_name, source, source_detail, consent_basis, seen_in, created_at, updated_at)
                    SELECT \(copy.id), user_id, username, phone, platform_id, email, full_name, source,
                        source_detail, consent_basis, seen_in, \(now), \(now)
                    FROM invite_targets WHERE task_id = \(id) ORDER BY id
                    """)
            }
            return copy
        }
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
