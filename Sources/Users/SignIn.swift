public import Core
public import Security
import Storage

/// Registration, signing in and out: the rules of `user-service`, short of HTTP.
public struct SignIn: Sendable {
    public static let refreshLifetime: Duration = .days(30)

    /// Signs an access token that names its session.
    public typealias AccessIssuer =
        @Sendable (User, _ session: String, Timestamp) -> (Secret<String>, Duration)

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

        /// All that is wrong with it.
        public var mistakes: [UserError] {
            var mistakes: [UserError] = []
            let address = EmailAddress(email)
            if address == nil { mistakes.append(.invalidEmail) }
            let name = username.flatMap { Username($0) }
            if username != nil, name == nil { mistakes.append(.invalidUsername) }
            if let weakness = PasswordPolicy.weakness(
                of: password.expose(), email: address?.text ?? email.lowercased(), username: name?.text)
            {
                mistakes.append(.weakPassword(weakness))
            }
            return mistakes
        }
    }

    public func register(_ registration: Registration) async throws -> User {
        let (email, username) = try checked(registration)
        let hash = try await passwords.hash(registration.password)
        return try await store.create(
            email: email, username: username, passwordHash: hash, plan: "free", at: time.now)
    }

    private func checked(_ registration: Registration) throws -> (EmailAddress, Username?) {
        if let mistake = registration.mistakes.first { throw mistake }
        guard let email = EmailAddress(registration.email) else { throw UserError.invalidEmail }
        return (email, registration.username.flatMap { Username($0) })
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
            self.device = String(
                device.unicodeScalars.filter { $0.value >= 0x20 }.prefix(200).map(Character.init))
        }
    }

    /// Checks the password and opens a session. An unknown user costs the same work as a wrong password.
    public func logIn(_ login: String, _ password: Secret<String>, from origin: Origin) async throws -> Grant
    {
        try await slowingDown(login, origin) {
            // Once more where the stored hash was replaced meanwhile: by a dearer one, or by a new password.
            for _ in 0..<3 {
                guard let found = try await rightCredentials(login, password) else { return nil }
                guard let grant = try await openSession(for: found.user, found.passwordHash, origin) else {
                    continue
                }
                if passwords.needsRehash(found.passwordHash) {
                    try await store.rehash(
                        found.user.id, from: found.passwordHash, to: passwords.hash(password))
                }
                return grant
            }
            return nil
        }
    }

    private func rightCredentials(
        _ login: String, _ password: Secret<String>
    ) async throws -> (user: User, passwordHash: String)? {
        let found = try await store.credentials(of: login)
        // No password of anybody's is that long, and looking would only cost us.
        guard password.expose().utf8.count <= Passwords.longest else { return nil }
        guard let found else {
            _ = try await passwords.verifyAgainstNothing(password)
            return nil
        }
        return try await passwords.verify(password, against: found.passwordHash) ? found : nil
    }

    /// Tries `attempt` unless it has failed too often from there; `nil` is a failure.
    private func slowingDown<Result>(
        _ login: String, _ origin: Origin, _ attempt: () async throws -> Result?
    ) async throws -> Result {
        if let until = try await store.admit(login, from: origin.address, at: time.now) {
            throw UserError.tooManyFailures(until: until)
        }
        let result: Result?
        do {
            result = try await attempt()
        } catch {
            try await store.takeBackFailure(login, from: origin.address)
            throw error
        }
        guard let result else { throw UserError.wrongCredentials }
        try await store.forgetFailures(login, from: origin.address)
        return result
    }

    private func openSession(for user: User, _ passwordHash: String, _ origin: Origin) async throws -> Grant?
    {
        let now = time.now
        let session = UniqueID(random).description
        let refresh = RandomToken.make(random)
        let isOpen = try await store.open(
            UserStore.NewSession(
                id: session, refreshDigest: TokenDigest.of(refresh), expiry: now + Self.refreshLifetime,
                device: origin.device, address: origin.address), for: user.id, withPassword: passwordHash,
            at: now)
        guard isOpen else { return nil }
        let (access, lifetime) = issueAccess(user, session, now)
        return Grant(accessToken: access, refreshToken: refresh, lifetime: lifetime)
    }

    public func refresh(_ token: Secret<String>) async throws -> Grant {
        let now = time.now
        let next = RandomToken.make(random)
        let rotation = try await store.rotate(
            from: TokenDigest.of(token), to: TokenDigest.of(next), expiry: now + Self.refreshLifetime, at: now
        )
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

    /// Guessing here is slowed down as it is at the door: an access token that was stolen must not help.
    public func changePassword(
        of id: Int64, from current: Secret<String>, to new: Secret<String>, _ origin: Origin
    ) async throws {
        guard let user = try await store.user(id: id), let hash = try await store.passwordHash(of: id) else {
            throw UserError.unknownUser
        }
        do {
            try await slowingDown(user.email, origin) { () -> Void? in
                guard current.expose().utf8.count <= Passwords.longest else { return nil }
                return try await passwords.verify(current, against: hash) ? () : nil
            }
        } catch UserError.wrongCredentials {
            throw UserError.wrongPassword
        }
        if let weakness = PasswordPolicy.weakness(
            of: new.expose(), email: user.email, username: user.username)
        {
            throw UserError.weakNewPassword(weakness)
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
