public import Core
import Security
public import Storage

/// Users and their sessions in SQL, for whichever engine `database` is.
///
/// Each operation is one transaction; tokens are stored as digests, so that a copy of the database signs
/// nobody in.
public struct UserStore: Sendable {
    private let database: any Database

    public init(_ database: any Database) { self.database = database }

    // MARK: - Users

    public func create(
        email: EmailAddress, username: Username?, passwordHash: String, plan: String, at now: Timestamp
    ) async throws -> User {
        try await database.transaction {
            try insertUser($0, email, username, passwordHash, plan, now)
        }
    }

    /// What a sign-in by address or name has to compare with.
    public func credentials(of login: String) async throws -> (user: User, passwordHash: String)? {
        let email = EmailAddress(login)?.text ?? ""
        let rows = try await database.run(
            """
            SELECT * FROM app_user WHERE is_active AND (email = \(email) OR username_key = \(login.lowercased()))
            ORDER BY id LIMIT 1
            """)
        return try rows.first.map { (try readUser($0), try $0.text("password_hash")) }
    }

    public func user(id: Int64) async throws -> User? {
        try await database.run("SELECT * FROM app_user WHERE id = \(id) AND is_active").first.map(readUser)
    }

    public func user(email: EmailAddress) async throws -> User? {
        try await database.run("SELECT * FROM app_user WHERE email = \(email.text) AND is_active").first.map(
            readUser)
    }

    public func passwordHash(of id: Int64) async throws -> String? {
        try await database.run("SELECT password_hash FROM app_user WHERE id = \(id) AND is_active")
            .first?.text("password_hash")
    }

    public func hasUsers() async throws -> Bool {
        try await !database.run("SELECT 1 AS found FROM app_user LIMIT 1").isEmpty
    }

    public func rename(_ id: Int64, to username: Username?) async throws -> User? {
        do {
            return try await database.run(
                """
                UPDATE app_user SET username = \(username?.text), username_key = \(username?.key)
                WHERE id = \(id) AND is_active RETURNING *
                """
            ).first.map(readUser)
        } catch StorageError.uniqueViolation {
            throw UserError.usernameTaken
        }
    }

    /// Replaces a hash that was made with an older cost; does nothing when the password changed meanwhile.
    public func rehash(_ id: Int64, from old: String, to new: String) async throws {
        try await database.run(
            "UPDATE app_user SET password_hash = \(new) WHERE id = \(id) AND password_hash = \(old)")
    }

    /// Sets a new password and ends every session.
    public func changePassword(of id: Int64, to hash: String, at now: Timestamp) async throws
        -> [EndedSession]
    {
        try await database.transaction { transaction in
            // Waits for a sign-in that is just opening a session with the old password; it is ended then.
            try transaction.run("UPDATE app_user SET password_hash = \(hash) WHERE id = \(id)")
            return try endSessions(transaction, "user_id = \(id)", now)
        }
    }

    /// Erases the user and notes that the other services have to hear of it.
    public func delete(_ id: Int64, at now: Timestamp, event: UniqueID) async throws -> [EndedSession] {
        try await database.transaction { transaction in
            // Holding the user, so that no sign-in opens a session that nobody ends.
            let user = try transaction.run(
                "SELECT * FROM app_user WHERE id = \(id) \(raw: transaction.dialect == .postgres ? "FOR UPDATE" : "")"
            ).first.map(readUser)
            guard let user else { throw UserError.unknownUser }
            let blocked = try endSessions(transaction, "user_id = \(id)", now)
            try transaction.run("DELETE FROM app_user WHERE id = \(id)")
            for login in [user.email, user.username].compactMap({ $0 }) {
                try transaction.run("DELETE FROM login_failure WHERE account = \(loginKey(login))")
            }
            try transaction.run(
                "INSERT INTO user_deletion (id, user_id, deleted_at) VALUES (\(event), \(id), \(now))")
            return blocked
        }
    }

    // MARK: - Sessions

    public struct NewSession: Sendable {
        public let id: String
        public let refreshDigest: String
        public let expiry: Timestamp
        public let device: String
        public let address: String

        public init(
            id: String, refreshDigest: String, expiry: Timestamp, device: String, address: String
        ) {
            self.id = id
            self.refreshDigest = refreshDigest
            self.expiry = expiry
            self.device = device
            self.address = address
        }
    }

    /// Opens a session, unless the user is gone or has another password by now than the one behind `hash`.
    public func open(
        _ session: NewSession, for user: Int64, withPassword hash: String, at now: Timestamp
    ) async throws -> Bool {
        try await database.transaction { transaction in
            let found = try transaction.run(
                """
                SELECT 1 AS found FROM app_user WHERE id = \(user) AND password_hash = \(hash) AND is_active
                \(raw: transaction.dialect == .postgres ? "FOR SHARE" : "")
                """)
            guard !found.isEmpty else { return false }
            try transaction.run(
                """
                INSERT INTO user_session
                    (id, user_id, device, address, created_at, last_used_at, expires_at)
                VALUES (\(session.id), \(user), \(session.device), \(session.address), \(now), \(now),
                    \(session.expiry))
                """)
            try transaction.run(
                "INSERT INTO refresh_token (digest, session_id, is_used) VALUES (\(session.refreshDigest), \(session.id), \(false))"
            )
            return true
        }
    }

    public enum Rotation: Sendable {
        case rotated(User, session: String)
        /// Somebody showed a token that had been used: its family is over.
        case reused([EndedSession])
        case unknown
    }

    /// Replaces the refresh token `old` by `new`, once. A token that is shown a second time ends its family:
    /// either its holder or a thief has an old one, and nobody can tell who.
    public func rotate(
        from old: String, to new: String, expiry: Timestamp, at now: Timestamp
    ) async throws -> Rotation {
        try await database.transaction { transaction in
            let session = try transaction.run(
                "UPDATE refresh_token SET is_used = \(true) WHERE digest = \(old) AND NOT is_used RETURNING session_id"
            ).first?.text("session_id")
            guard let session else {
                let family = try transaction.run("SELECT session_id FROM refresh_token WHERE digest = \(old)")
                guard let id = try family.first?.text("session_id") else { return .unknown }
                return .reused(try endSessions(transaction, "id = \(id)", now))
            }
            // From here on the session is held: whoever ends it now waits, and ends the new token with it.
            let held = try transaction.run(
                """
                UPDATE user_session SET last_used_at = \(now), expires_at = \(expiry)
                WHERE id = \(session) AND expires_at > \(now) RETURNING user_id
                """)
            guard let user = try held.first?.int64("user_id") else { return .unknown }
            let owner = try transaction.run(
                "SELECT * FROM app_user WHERE id = \(user) AND is_active"
            ).first.map(readUser)
            guard let owner else { return .unknown }
            try transaction.run(
                "INSERT INTO refresh_token (digest, session_id, is_used) VALUES (\(new), \(session), \(false))"
            )
            return .rotated(owner, session: session)
        }
    }

    public func sessionCount(of user: Int64, at now: Timestamp) async throws -> Int {
        try await database.run(
            "SELECT count(*) AS count FROM user_session WHERE user_id = \(user) AND expires_at > \(now)"
        ).first?.int("count") ?? 0
    }

    /// The last used first.
    public func sessions(
        of user: Int64, at now: Timestamp, limit: Int = 100, offset: Int = 0
    ) async throws -> [UserSession] {
        try await database.run(
            """
            SELECT * FROM user_session WHERE user_id = \(user) AND expires_at > \(now)
            ORDER BY last_used_at DESC, id LIMIT \(limit) OFFSET \(offset)
            """
        ).map { row in
            UserSession(
                id: try row.text("id"), device: try row.text("device"), address: try row.text("address"),
                createdAt: try row.timestamp("created_at"), lastUsedAt: try row.timestamp("last_used_at"))
        }
    }

    /// Ends one session of the user's.
    public func end(session: String, of user: Int64, at now: Timestamp) async throws -> [EndedSession] {
        try await database.transaction { transaction in
            let ended = try endSessions(transaction, "id = \(session) AND user_id = \(user)", now)
            guard !ended.isEmpty else { throw UserError.unknownSession }
            return ended
        }
    }

    // MARK: - Sessions whose access tokens no longer count

    public func hasEnded(session id: String) async throws -> Bool {
        try await !database.run("SELECT 1 AS found FROM ended_session WHERE id = \(id)").isEmpty
    }

    public func endedSessions(at now: Timestamp) async throws -> [EndedSession] {
        try await database.run("SELECT id, blocked_until FROM ended_session WHERE blocked_until > \(now)").map
        {
            EndedSession(id: try $0.text("id"), blockedUntil: try $0.timestamp("blocked_until"))
        }
    }

    /// Forgets what time has settled.
    public func tidy(at now: Timestamp) async throws {
        try await database.run("DELETE FROM ended_session WHERE blocked_until <= \(now)")
        try await database.run("DELETE FROM user_session WHERE expires_at <= \(now)")
        try await database.run(
            "DELETE FROM login_failure WHERE last_failure <= \(now - LoginThrottle.memory)")
    }

    // MARK: - Failures

    /// Counts a try to sign in as `login` from `address`, before its password is looked at. Returns when the
    /// next may be made, where this one may not; then it is not counted.
    public func admit(_ login: String, from address: String, at now: Timestamp) async throws -> Timestamp? {
        let account = loginKey(login)
        return try await database.transaction { transaction in
            try transaction.run(
                """
                INSERT INTO login_failure (account, address, failures, last_failure)
                VALUES (\(account), \(address), 0, 0) ON CONFLICT DO NOTHING
                """)
            // Changes nothing and holds the row: simultaneous tries are counted one after another.
            let row = try transaction.run(
                """
                UPDATE login_failure SET failures = failures WHERE account = \(account) AND address = \(address)
                RETURNING failures, last_failure
                """
            ).first
            // A right password of another try has just cleared it.
            guard let row else { return nil }
            var throttle = LoginThrottle(
                failures: try row.int("failures"), lastFailure: try row.timestamp("last_failure"))
            if let until = throttle.mustWait(until: now) { return until }
            throttle.failed(at: now)
            try transaction.run(
                """
                UPDATE login_failure SET failures = \(throttle.failures), last_failure = \(throttle.lastFailure)
                WHERE account = \(account) AND address = \(address)
                """)
            return nil
        }
    }

    /// A try that came to no verdict, because of us.
    public func takeBackFailure(_ login: String, from address: String) async throws {
        try await database.run(
            """
            UPDATE login_failure SET failures = failures - 1
            WHERE account = \(loginKey(login)) AND address = \(address) AND failures > 0
            """)
    }

    public func forgetFailures(_ login: String, from address: String) async throws {
        try await database.run(
            "DELETE FROM login_failure WHERE account = \(loginKey(login)) AND address = \(address)")
    }

    // MARK: - The first operator

    /// Keeps the digest of a fresh claim link in place of any older one, while there are no users.
    public func offerClaim(_ digest: String, at now: Timestamp) async throws -> Bool {
        try await database.transaction(isolation: .serializable) { transaction in
            guard try transaction.run("SELECT 1 AS found FROM app_user LIMIT 1").isEmpty else { return false }
            try transaction.run("DELETE FROM claim")
            try transaction.run("INSERT INTO claim (digest, created_at) VALUES (\(digest), \(now))")
            return true
        }
    }

    /// Creates the first operator, once, for whoever holds the link.
    public func claim(
        _ digest: String, email: EmailAddress, username: Username?, passwordHash: String, at now: Timestamp
    ) async throws -> User {
        try await database.transaction { transaction in
            let taken = try transaction.run("DELETE FROM claim WHERE digest = \(digest) RETURNING digest")
            guard !taken.isEmpty else { throw UserError.invalidClaim }
            return try insertUser(transaction, email, username, passwordHash, "operator", now)
        }
    }

    // MARK: - Deletions that others have to hear of

    public func pendingDeletions() async throws -> [(event: UniqueID, user: Int64)] {
        try await database.run("SELECT id, user_id FROM user_deletion ORDER BY deleted_at LIMIT 100").map {
            (try $0.uuid("id"), try $0.int64("user_id"))
        }
    }

    public func deletionAnnounced(_ event: UniqueID) async throws {
        try await database.run("DELETE FROM user_deletion WHERE id = \(event)")
    }
}

/// A session that was ended: its access tokens, which name it, do not count until the last has expired.
public struct EndedSession: Equatable, Sendable {
    public let id: String
    public let blockedUntil: Timestamp

    public init(id: String, blockedUntil: Timestamp) {
        self.id = id
        self.blockedUntil = blockedUntil
    }
}

/// Under what the failures of a login are counted: the words that were typed, not the account they mean, so
/// that nothing about the count tells who exists. A digest, because people type their password there too.
private func loginKey(_ login: String) -> String {
    TokenDigest.of(Secret(EmailAddress(login)?.text ?? login.lowercased()))
}

private func readUser(_ row: Row) throws -> User {
    User(
        id: try row.int64("id"), email: try row.text("email"), username: try row.optionalText("username"),
        plan: try row.text("plan"), isActive: try row.bool("is_active"),
        createdAt: try row.timestamp("created_at"))
}

private func insertUser(
    _ transaction: any Transaction, _ email: EmailAddress, _ username: Username?, _ hash: String,
    _ plan: String,
    _ now: Timestamp
) throws -> User {
    // Asked first, because a violated constraint would not say which of the two it was on every engine.
    guard try transaction.run("SELECT 1 AS found FROM app_user WHERE email = \(email.text)").isEmpty else {
        throw UserError.emailTaken
    }
    if let username {
        let found = try transaction.run(
            "SELECT 1 AS found FROM app_user WHERE username_key = \(username.key)")
        guard found.isEmpty else { throw UserError.usernameTaken }
    }
    let rows = try transaction.run(
        """
        INSERT INTO app_user (email, username, username_key, password_hash, plan, is_active, created_at)
        VALUES (\(email.text), \(username?.text), \(username?.key), \(hash), \(plan), \(true), \(now))
        ON CONFLICT DO NOTHING RETURNING *
        """)
    // Another registration was quicker between the question and the answer.
    guard let row = rows.first else { throw UserError.emailTaken }
    return try readUser(row)
}

/// An access token lives no longer than this, so an ended session need not be remembered for longer.
let longestAccess: Duration = .minutes(16)

private func endSessions(_ transaction: any Transaction, _ which: SQL, _ now: Timestamp) throws
    -> [EndedSession]
{
    let ended = try transaction.run("DELETE FROM user_session WHERE \(which) RETURNING id").map {
        EndedSession(id: try $0.text("id"), blockedUntil: now + longestAccess)
    }
    for session in ended {
        try transaction.run(
            """
            INSERT INTO ended_session (id, blocked_until) VALUES (\(session.id), \(session.blockedUntil))
            ON CONFLICT (id) DO NOTHING
            """)
    }
    return ended
}
