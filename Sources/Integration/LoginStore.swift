public import Core
public import Storage

/// Logins in SQL, so that a restart finds those that were under way.
public struct LoginStore: Sendable {
    let database: any Database

    public init(_ database: any Database) { self.database = database }

    /// Keeps a new login; throws `tooManyLogins` where the user has as many open ones as there may be.
    public func open(_ login: Login) async throws {
        try await database.transaction(isolation: .serializable) { transaction in
            let open =
                try transaction.run(
                    """
                    SELECT count(*) AS open FROM telegram_logins WHERE user_id = \(login.userID)
                        AND stage IN ('starting', 'scan', 'code', 'password') AND expires_at > \(login.createdAt)
                    """
                ).first?.int("open") ?? 0
            guard open < Login.most else { throw IntegrationError.tooManyLogins(limit: Login.most) }
            try transaction.run(
                """
                INSERT INTO telegram_logins (id, user_id, method, phone, stage, sealed_key, created_at, expires_at)
                VALUES (\(login.id), \(login.userID), \(login.method.rawValue), \(login.phone),
                    \(login.stage.rawValue), \(login.sealedKey), \(login.createdAt), \(login.expiresAt))
                """)
        }
    }

    /// Writes where an open login stands; one that is over stays as it is.
    @discardableResult
    public func save(_ login: Login) async throws -> Bool {
        try await database.run(
            """
            UPDATE telegram_logins SET stage = \(login.stage.rawValue), expires_at = \(login.expiresAt),
                failure = \(login.failure?.stored), account_id = \(login.accountID)
            WHERE id = \(login.id) AND stage IN ('starting', 'scan', 'code', 'password')
            """
        ).affected > 0
    }

    public func login(_ id: UniqueID, of user: Int64) async throws -> Login {
        let rows = try await database.run(
            "SELECT * FROM telegram_logins WHERE id = \(id) AND user_id = \(user)")
        guard let row = rows.first else { throw IntegrationError.unknownLogin }
        return try Login(row)
    }

    /// The newest of a kind: for pages that do not say which they mean.
    public func latest(_ method: Login.Method, phone: String? = nil, of user: Int64) async throws -> Login? {
        let number: SQL = if let phone { "AND phone = \(phone)" } else { "" }
        return try await database.run(
            """
            SELECT * FROM telegram_logins WHERE user_id = \(user) AND method = \(method.rawValue) \(number)
            ORDER BY created_at DESC, id DESC LIMIT 1
            """
        ).first.map { try Login($0) }
    }

    /// All that are under way, for a service that starts again.
    public func underWay() async throws -> [Login] {
        try await database.run(
            """
            SELECT * FROM telegram_logins WHERE stage IN ('starting', 'scan', 'code', 'password')
            ORDER BY created_at
            """
        ).map { try Login($0) }
    }

    /// Forgets logins that were over long ago.
    public func tidy(before moment: Timestamp) async throws {
        try await database.run(
            """
            DELETE FROM telegram_logins
            WHERE stage NOT IN ('starting', 'scan', 'code', 'password') AND expires_at < \(moment)
            """)
    }
}

extension Login {
    init(_ row: Row) throws {
        guard let method = Method(rawValue: try row.text("method")),
            let known = Stage(rawValue: try row.text("stage"))
        else { throw StorageError.unexpectedColumn("stage or method holds no known word") }
        self.init(
            id: try row.uuid("id"), userID: try row.int64("user_id"), method: method,
            phone: try row.text("phone"),
            sealedKey: try row.text("sealed_key"), at: try row.timestamp("created_at"))
        stage = known
        expiresAt = try row.timestamp("expires_at")
        failure = try row.optionalText("failure").map { LoginFailure(stored: $0) }
        accountID = try row.optionalUUID("account_id")
    }
}
