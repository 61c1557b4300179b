public import Core
public import Security
import Storage

/// Registration, signing in and out: the rules of `user-service`, short of HTTP.
public struct SignIn: Sendable {
    public static let refreshLifetime: Duration = .days(30)

    /// Signs an access token that names its session.
    public typealias AccessIssuer = @Sendable (User, _ session: String, Timestamp) -> (Secret<String>, Duration)

    public let store: UserStore
    private let passwords: Passwords
    private let time: any TimeSource
    private let random: any RandomSource
    private let issueAccess: AccessIssuer
    /// Told of sessions that ended, so that their access tokens stop counting everywhere at once.
    private let sessionsEnded: @Sendable ([EndedSession]) async throws -> Void

    public init(
        store: UserStore, passwords: Passwords, time: any TimeSource, random: any RandomSource,
        issueAccess: @escaping AccessIssuer,
        sessionsEnded: @escaping @Sendable ([EndedSession]) async throws -> Void
    ) {
        self.store = store
        self.passwords = passwords
        self.time = time
        self.random = random
        self.issueAccess = issueAccess
        self.sessionsEnded = sessionsEnded
    }

    /// What a person signs up with.
    public struct Registration: Sendable {
        public let email: String
        public let username: String?
        public let password: Secret<String>

        public init(email: String, username: String?, password: Secret<String>) {
            self.email = email
            self.username = username
            self.password = password
        }
    }

    public func register(_ registration: Registration) async throws -> User {
        let (email, username) = try checked(registration)
        let hash = try await passwords.hash(registration.password)
        return try await store.create(
            email: email, username: username, passwordHash: hash, plan: "free", at: time.now)
    }

    private func checked(_ registration: Registration) throws -> (EmailAddress, Username?) {
        guard let email = EmailAddress(registration.email) else { throw UserError.invalidEmail }
        let username = try registration.username.map { raw in
            guard let username = Username(raw) else { throw UserError.invalidUsername }
            return username
        }
        if let weakness = PasswordPolicy.weakness(
            of: registration.password.expose(), email: email.text, username: username?.text)
        {
            throw UserError.weakPassword(weakness)
        }
        return (email, username)
    }

    // MARK: - The first operator

    /// A fresh claim link's token while there are no users; it replaces any earlier one.
    public func offerClaim() async throws -> Secret<String>? {
        let token = RandomToken.make(random)
        return try await store.offerClaim(TokenDigest.of(token), at: time.now) ? token : nil
    }

    public func claim(_ token: Secret<String>, _ registration: Registration) async throws -> User {
        let (email, username) = try checked(registration)
        let hash = try await passwords.hash(registration.password)
        return try await store.claim(
            TokenDigest.of(token), email: email, username: username, passwordHash: hash, at: time.now)
    }

    // MARK: - Sessions

    /// Where a sign-in comes from.
    public struct Origin: Sendable {
        public let address: String
        public let device: String

        public init(address: String, device: String) {
            self.address = address
            self.device = String(device.unicodeScalars.filter { $0.value >= 0x20 }.prefix(200).map(Character.init))
        }
    }

    /// Checks the password and opens a session. An unknown user costs the same time as a wrong password.
    public func logIn(_ login: String, _ password: Secret<String>, from origin: Origin) async throws -> Grant {
        let found = try await store.credentials(of: login)
        // Failures are counted for the account where there is one, and for the very words where there is
        // none, so that slowing down tells nothing about who exists.
        let account = found?.user.email ?? "?" + login.lowercased().prefix(300)
        let throttle = try await store.throttle(account: account, address: origin.address)
        if let until = throttle.mustWait(until: time.now) { throw UserError.tooManyFailures(until: until) }
        let isRight: Bool
        if let found {
            isRight = try await passwords.verify(password, against: found.passwordHash)
        } else {
            isRight = try await passwords.verifyAgainstNothing(password)
        }
        guard isRight, let found else {
            try await store.noteFailure(account: account, address: origin.address, at: time.now)
            throw UserError.wrongCredentials
        }
        if throttle.failures > 0 { try await store.forgetFailures(account: account, address: origin.address) }
        if passwords.needsRehash(found.passwordHash) {
            try await store.rehash(found.user.id, from: found.passwordHash, to: passwords.hash(password))
        }
        return try await openSession(for: found.user, origin)
    }

    private func openSession(for user: User, _ origin: Origin) async throws -> Grant {
        let now = time.now
        let session = UniqueID(random).description
        let refresh = RandomToken.make(random)
        try await store.open(
            UserStore.NewSession(
                id: session, refreshDigest: TokenDigest.of(refresh), expiry: now + Self.refreshLifetime,
                device: origin.device, address: origin.address), for: user.id, at: now)
        let (access, lifetime) = issueAccess(user, session, now)
        return Grant(accessToken: access, refreshToken: refresh, lifetime: lifetime)
    }

    public func refresh(_ token: Secret<String>) async throws -> Grant {
        let now = time.now
        let next = RandomToken.make(random)
        let rotation = try await store.rotate(
            from: TokenDigest.of(token), to: TokenDigest.of(next), expiry: now + Self.refreshLifetime, at: now)
        switch rotation {
        case .rotated(let user, let session):
            let (access, lifetime) = issueAccess(user, session, now)
            return Grant(accessToken: access, refreshToken: next, lifetime: lifetime)
        case .reused(let ended):
            try await sessionsEnded(ended)
            throw UserError.invalidRefreshToken
        case .unknown: throw UserError.invalidRefreshToken
        }
    }

    /// Ends one session. Ending it twice is no error for the one who signs out.
    public func logOut(session: String, of user: Int64) async throws {
        do {
            try await end(session: session, of: user)
        } catch UserError.unknownSession {
            // Already over in SQL. The cache may have been out of reach when that happened, so it is told again.
            try await sessionsEnded([EndedSession(id: session, blockedUntil: time.now + longestAccess)])
        }
    }

    public func end(session: String, of user: Int64) async throws {
        try await sessionsEnded(store.end(session: session, of: user, at: time.now))
    }

    // MARK: - The account itself

    public func changePassword(
        of id: Int64, from current: Secret<String>, to new: Secret<String>
    ) async throws {
        guard let user = try await store.user(id: id), let hash = try await store.passwordHash(of: id) else {
            throw UserError.unknownUser
        }
        guard try await passwords.verify(current, against: hash) else { throw UserError.wrongPassword }
        if let weakness = PasswordPolicy.weakness(of: new.expose(), email: user.email, username: user.username) {
            throw UserError.weakPassword(weakness)
        }
        try await sessionsEnded(store.changePassword(of: id, to: passwords.hash(new), at: time.now))
    }

    public func rename(_ id: Int64, to raw: String?) async throws -> User {
        let username = try raw.map { raw in
            guard let username = Username(raw) else { throw UserError.invalidUsername }
            return username
        }
        guard let user = try await store.rename(id, to: username) else { throw UserError.unknownUser }
        return user
    }

    public func delete(_ id: Int64) async throws {
        let ended = try await store.delete(id, at: time.now, event: UniqueID(at: time.now, random))
        try await sessionsEnded(ended)
    }
}
