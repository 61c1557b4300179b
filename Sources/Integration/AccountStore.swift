public import Core
public import Storage

/// The accounts of all users. Whatever takes a user's id sees that user's rows alone.
public struct AccountStore: Sendable {
    let database: any Database
    let random: any RandomSource

    public init(_ database: any Database, random: any RandomSource = SystemRandom()) {
        self.database = database
        self.random = random
    }

    public struct Connected: Sendable {
        public let account: LinkedAccount
        /// The session this one has replaced; it has to be ended.
        public let replaced: (session: UniqueID, sealedKey: String)?
    }

    /// Makes the finished login an account, or gives a known account its new session; and notes that
    /// account-manager has to hear of it.
    public func connect(_ profile: AccountProfile, through login: Login, at now: Timestamp) async throws
        -> Connected
    {
        let candidate = UniqueID(at: now, random)
        let notice = UniqueID(at: now, random)
        do {
            return try await database.transaction { transaction in
                let taken = try transaction.run(
                    """
                    SELECT 1 AS found FROM telegram_accounts WHERE telegram_user_id = \(profile.telegramUserID)
                        AND status = 'connected' AND user_id <> \(login.userID)
                    """)
                guard taken.isEmpty else { throw IntegrationError.accountTaken }
                let before = try transaction.run(
                    """
                    SELECT session_id, sealed_key FROM telegram_accounts
                    WHERE user_id = \(login.userID) AND telegram_user_id = \(profile.telegramUserID)
                        AND session_id IS NOT NULL AND session_id <> \(login.id)
                    """
                ).first.map { (session: try $0.uuid("session_id"), sealedKey: try $0.text("sealed_key")) }
                let rows = try transaction.run(
                    """
                    INSERT INTO telegram_accounts (id, user_id, telegram_user_id, phone, username, first_name,
                        last_name, is_premium, status, session_id, sealed_key, created_at, connected_at)
                    VALUES (\(candidate), \(login.userID), \(profile.telegramUserID), \(profile.phone),
                        \(profile.username), \(profile.firstName), \(profile.lastName), \(profile.isPremium),
                        'connected', \(login.id), \(login.sealedKey), \(now), \(now))
                    ON CONFLICT (user_id, telegram_user_id) DO UPDATE SET phone = excluded.phone,
                        username = excluded.username, first_name = excluded.first_name,
                        last_name = excluded.last_name, is_premium = excluded.is_premium, status = 'connected',
                        reason = NULL, frozen_until = NULL, appeal_link = NULL, session_id = excluded.session_id,
                        sealed_key = excluded.sealed_key, connected_at = excluded.connected_at
                    RETURNING *
                    """)
                guard let row = rows.first else { throw IntegrationError.unknownAccount }
                let account = try LinkedAccount(row)
                try transaction.run(
                    """
                    UPDATE telegram_logins SET stage = 'done', account_id = \(account.id) WHERE id = \(login.id)
                    """)
                try transaction.note(.connected(phone: profile.phone), of: account, id: notice, at: now)
                return Connected(account: account, replaced: before)
            }
        } catch StorageError.uniqueViolation {
            // Two users finished with the same account at the same moment; this one was second.
            throw IntegrationError.accountTaken
        }
    }

    public func account(_ id: UniqueID, of user: Int64) async throws -> LinkedAccount {
        let rows = try await database.run(
            "SELECT * FROM telegram_accounts WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw IntegrationError.unknownAccount }
        return try LinkedAccount(row)
    }

    /// Notes the newest lease of an account and refuses an older one; nothing is written for one that is known.
    public func fence(_ account: LinkedAccount, _ token: Int64) async throws {
        guard account.fencingToken != token else { return }
        let noted = try await database.run(
            """
            UPDATE telegram_accounts SET fencing_token = \(token)
            WHERE id = \(account.id) AND fencing_token <= \(token)
            """)
        guard noted.affected == 0 else { return }
        throw IntegrationError.leaseLost(newest: account.fencingToken)
    }

    /// Whoever owns it; for this service's own upkeep.
    public func account(_ id: UniqueID) async throws -> LinkedAccount? {
        try await database.run("SELECT * FROM telegram_accounts WHERE id = \(id)").first.map {
            try LinkedAccount($0)
        }
    }

    public func accounts(of user: Int64, offset: Int, limit: Int) async throws -> (
        items: [LinkedAccount], total: Int
    ) {
        let rows = try await database.run(
            """
            SELECT * FROM telegram_accounts WHERE user_id = \(user) AND status <> 'disconnected'
            ORDER BY created_at, id LIMIT \(limit) OFFSET \(offset)
            """)
        let total = try await database.run(
            "SELECT count(*) AS total FROM telegram_accounts WHERE user_id = \(user) AND status <> 'disconnected'"
        )
        return (try rows.map { try LinkedAccount($0) }, try total.first?.int("total") ?? 0)
    }

    /// Of one user or of all, behind `after`; for other services.
    public func connected(of user: Int64?, after: UniqueID?, limit: Int) async throws -> [LinkedAccount] {
        let owner: SQL = if let user { "AND user_id = \(user)" } else { "" }
        return try await database.run(
            """
            SELECT * FROM telegram_accounts WHERE status = 'connected' AND id > \(after?.description ?? "") \(owner)
            ORDER BY id LIMIT \(limit)
            """
        ).map { try LinkedAccount($0) }
    }

    /// The key of a session as it is stored: sealed.
    public func sealedKey(of session: UniqueID) async throws -> String? {
        let account = try await database.run(
            "SELECT sealed_key FROM telegram_accounts WHERE session_id = \(session)"
        ).first
        if let found = try account?.optionalText("sealed_key") { return found }
        return try await database.run("SELECT sealed_key FROM telegram_logins WHERE id = \(session)").first?
            .optionalText("sealed_key")
    }

    /// Logged out here, or lost. Its row stays, so that its id and limits do; its session's key goes.
    /// False when it was over already, or another session has taken its place.
    @discardableResult
    public func end(
        _ id: UniqueID, session: UniqueID, as status: LinkedAccount.Status, reason: String?, at now: Timestamp
    ) async throws -> Bool {
        precondition(status != .connected, "a session ends")
        let notice = UniqueID(at: now, random)
        return try await database.transaction { transaction in
            let rows = try transaction.run(
                """
                UPDATE telegram_accounts SET status = \(status.rawValue), reason = \(reason), session_id = NULL,
                    sealed_key = NULL
                WHERE id = \(id) AND session_id = \(session) RETURNING *
                """)
            guard let row = rows.first else { return false }
            let account = try LinkedAccount(row)
            try transaction.note(
                status == .lost ? .lost(reason: reason ?? "unknown") : .disconnected, of: account, id: notice,
                at: now)
            return true
        }
    }

    /// Telegram froze the account, or thawed it.
    public func setFreeze(_ id: UniqueID, until: Timestamp?, appeal: String?, at now: Timestamp) async throws
    {
        let notice = UniqueID(at: now, random)
        try await database.transaction { transaction in
            let rows = try transaction.run(
                """
                UPDATE telegram_accounts SET frozen_until = \(until), appeal_link = \(appeal)
                WHERE id = \(id) AND frozen_until IS DISTINCT FROM \(until) RETURNING *
                """)
            guard let row = rows.first, let until else { return }
            try transaction.note(
                .frozen(until: until, appeal: appeal), of: try LinkedAccount(row), id: notice, at: now)
        }
    }

    static func noting(useOf id: UniqueID, at now: Timestamp) -> SQL {
        "UPDATE telegram_accounts SET last_used_at = \(now) WHERE id = \(id)"
    }

    /// The sessions of a user with their sealed keys, for logging out of all.
    public func sessions(of user: Int64) async throws -> [(session: UniqueID, sealedKey: String)] {
        try await database.run(
            """
            SELECT session_id, sealed_key FROM telegram_accounts WHERE user_id = \(user) AND session_id IS NOT NULL
            UNION ALL
            SELECT id AS session_id, sealed_key FROM telegram_logins
            WHERE user_id = \(user) AND stage IN ('starting', 'scan', 'code', 'password')
            """
        ).map { (try $0.uuid("session_id"), try $0.text("sealed_key")) }
    }

    /// Everything of a user who is gone, once its sessions were logged out.
    public func erase(user: Int64) async throws {
        try await database.transaction { transaction in
            try transaction.run("DELETE FROM telegram_accounts WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_logins WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_notices WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_sends WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_bots WHERE user_id = \(user)")
            try transaction.run("DELETE FROM telegram_channels WHERE user_id = \(user)")
            try transaction.run("DELETE FROM integration_logs WHERE user_id = \(user)")
        }
    }
}

extension LinkedAccount {
    init(_ row: Row) throws {
        id = try row.uuid("id")
        userID = try row.int64("user_id")
        profile = AccountProfile(
            telegramUserID: try row.int64("telegram_user_id"), phone: try row.text("phone"),
            username: try row.optionalText("username"), firstName: try row.text("first_name"),
            lastName: try row.text("last_name"), isPremium: try row.bool("is_premium"))
        guard let known = Status(rawValue: try row.text("status")) else {
            throw StorageError.unexpectedColumn("status holds no known word")
        }
        status = known
        reason = try row.optionalText("reason")
        sessionID = try row.optionalUUID("session_id")
        fencingToken = try row.int64("fencing_token")
        frozenUntil = try row.optionalTimestamp("frozen_until")
        appealLink = try row.optionalText("appeal_link")
        createdAt = try row.timestamp("created_at")
        connectedAt = try row.timestamp("connected_at")
        lastUsedAt = try row.optionalTimestamp("last_used_at")
    }
}
