import Core
import Integration
import Storage
import Telegram

/// Leads people through connecting an account: keeps a client for each login under way, follows what Telegram
/// says of it, and makes it an account in the end. A restart finds the logins in SQL and goes on with them.
actor LoginDesk {
    private let telegram: Telegram
    private let sessions: Sessions
    private let accounts: AccountStore
    private let logins: LoginStore
    private let seals: SessionSeals
    private let errands: Errands
    private let journal: Journal
    private let gate: Gate
    private let time: any TimeSource
    private let random: any RandomSource
    private let log: Log

    /// A login under way, with what is known of it in this process alone.
    struct Live: Sendable {
        var login: Login
        var client: TelegramClient?
        var link: String?
        var code: LoginCodeInfo?
        var passwordHint = ""
    }
    private var live: [UniqueID: Live] = [:]
    /// One after the other for each login: a scan and a password may arrive at the same moment.
    private let turns = Turns<UniqueID>()
    private let followers: (stream: AsyncStream<UniqueID>, continuation: AsyncStream<UniqueID>.Continuation)

    init(
        _ telegram: Telegram, sessions: Sessions, accounts: AccountStore, logins: LoginStore,
        seals: SessionSeals,
        errands: Errands, journal: Journal, gate: Gate, time: any TimeSource, random: any RandomSource,
        log: Log
    ) {
        self.telegram = telegram
        self.sessions = sessions
        self.accounts = accounts
        self.logins = logins
        self.seals = seals
        self.errands = errands
        self.journal = journal
        self.gate = gate
        self.time = time
        self.random = random
        self.log = log
        followers = AsyncStream.makeStream(of: UniqueID.self)
    }

    // MARK: - Beginning

    /// A login by QR code: the one the user has open already, or a new one. Returns once there is a link.
    func beginQR(user: Int64) async throws -> Live {
        // One at a time for a user, so that a page that asks twice gets one code.
        for known in live.values.filter({ $0.login.userID == user && $0.login.method == .qr }) {
            guard [.starting, .scan].contains(known.login.stage), known.login.expiresAt > time.now,
                known.link != nil
            else { continue }
            return known
        }
        let login = newLogin(user: user, method: .qr)
        return try await begin(login) { client in try await client.requestQRCode() }
    }

    /// A login by code. Returns once Telegram has sent it.
    func beginCode(user: Int64, phone: String) async throws -> Live {
        let login = newLogin(user: user, method: .code, phone: phone)
        return try await begin(login) { client in try await client.submit(phone: phone) }
    }

    private func newLogin(user: Int64, method: Login.Method, phone: String = "") -> Login {
        let id = UniqueID(at: time.now, random)
        return Login(
            id: id, userID: user, method: method, phone: phone, sealedKey: seals.newKey(for: id).sealed,
            at: time.now)
    }

    /// Goes on when the caller goes away: the next look finds what came of it.
    private func begin(
        _ login: Login, _ firstStep: @escaping @Sendable (TelegramClient) async throws -> AuthorizationState
    ) async throws -> Live {
        // Known before it is in SQL: a start that looks for unfinished ones must not take it up as well.
        live[login.id] = Live(login: login)
        do { try await logins.open(login) } catch {
            live[login.id] = nil
            throw error
        }
        return try await errands.run { [self] in
            try await turns.take(login.id) {
                do {
                    let client = try await open(login)
                    let state = try await firstStep(client)
                    try await reached(state, login.id)
                } catch let failure as TelegramFailure {
                    await fail(login.id, with: LoginFailure(failure))
                }
            }
            return try await outcome(of: login.id, user: login.userID)
        }
    }

    /// What became of it, as an error where it failed.
    private func outcome(of id: UniqueID, user: Int64) async throws -> Live {
        let found = try await find(id, user: user)
        if let failure = found.login.failure, found.login.stage == .failed { throw failure }
        return found
    }

    private func open(_ login: Login) async throws -> TelegramClient {
        try await gate.pass(time)
        let key = try seals.open(login.sealedKey, of: login.id)
        let client = try await telegram.open(try sessions.parameters(of: login.id, key: key))
        live[login.id]?.client = client
        followers.continuation.yield(login.id)
        return client
    }

    // MARK: - Looking

    func find(_ id: UniqueID, user: Int64) async throws -> Live {
        if let known = live[id], known.login.userID == user {
            await expireIfDue(id)
            // Given up just now: what is in SQL says so.
            if let still = live[id] { return still }
        }
        return Live(login: try await logins.login(id, of: user))
    }

    /// The one a page means that names none: its newest.
    func newest(_ method: Login.Method, phone: String? = nil, user: Int64) async throws -> Live {
        guard let login = try await logins.latest(method, phone: phone, of: user) else {
            throw IntegrationError.unknownLogin
        }
        return try await find(login.id, user: user)
    }

    func account(of login: Login) async throws -> LinkedAccount? {
        guard let account = login.accountID else { return nil }
        return try await accounts.account(account, of: login.userID)
    }

    // MARK: - Steps of the person

    /// Hands over a code or a password. A wrong one is thrown and leaves the login as it was.
    func submit(
        _ id: UniqueID, user: Int64, code: Secret<String>? = nil, password: Secret<String>? = nil
    ) async throws -> Live {
        _ = try await find(id, user: user)
        return try await errands.run { [self] in
            try await turns.take(id) {
                // Signed in already, and only its last step was lost.
                if await isSignedIn(id) { return try await finish(id) }
                if let code, let client = await client(of: id, at: .code) {
                    try await step(id) { try await client.submit(code: code) }
                }
                if let password, let client = await client(of: id, at: .password) {
                    try await step(id) { try await client.submit(password: password) }
                }
            }
            return try await outcome(of: id, user: user)
        }
    }

    func resend(_ id: UniqueID, user: Int64) async throws -> Live {
        _ = try await find(id, user: user)
        return try await errands.run { [self] in
            try await turns.take(id) {
                guard let client = await client(of: id, at: .code) else { return }
                try await step(id) { try await client.resendCode() }
            }
            return try await outcome(of: id, user: user)
        }
    }

    private func isSignedIn(_ id: UniqueID) -> Bool { live[id]?.client?.authorization == .ready }

    private func client(of id: UniqueID, at stage: Login.Stage) -> TelegramClient? {
        guard let known = live[id], known.login.stage == stage else { return nil }
        return known.client
    }

    private func step(
        _ id: UniqueID, _ work: @Sendable () async throws -> AuthorizationState
    ) async throws {
        do {
            try await reached(try await work(), id)
        } catch let failure as TelegramFailure {
            let failure = LoginFailure(failure)
            if !failure.keepsLogin { await fail(id, with: failure) }
            throw failure
        }
    }

    // MARK: - What Telegram says

    /// Takes in a state of the login's client; also the end of all steps, for TDLib's states come as updates.
    private func reached(_ state: AuthorizationState, _ id: UniqueID) async throws {
        guard var known = live[id], known.login.stage.isOpen else { return }
        let before = known.login
        switch state {
        case .waitQRScan(let link):
            known.link = link
            known.login.reached(.scan, at: time.now)
        case .waitCode(let info):
            known.code = info
            known.login.reached(.code, at: time.now)
        case .waitPassword(let info):
            known.link = nil
            known.passwordHint = info.hint
            known.login.reached(.password, at: time.now)
        case .ready:
            return try await finish(id)
        case .loggingOut, .closed:
            return await fail(id, with: .sessionLost(reason: known.client?.sessionLoss?.word ?? "unknown"))
        case .starting, .waitParameters, .waitPhoneNumber, .closing: return
        default:
            if let failure = LoginFailure(obstacle: state) { await fail(id, with: failure) }
            return
        }
        live[id] = known
        if known.login != before { try await logins.save(known.login) }
    }

    private func finish(_ id: UniqueID) async throws {
        guard let known = live[id], known.login.stage.isOpen, let client = known.client else { return }
        let me = try await client.me()
        let connected: AccountStore.Connected
        do {
            connected = try await accounts.connect(AccountProfile(me), through: known.login, at: time.now)
        } catch IntegrationError.accountTaken {
            return await fail(id, with: .accountTaken)
        }
        sessions.adopt(client, as: id, of: connected.account.id)
        live[id]?.login.finish(as: connected.account.id)
        live[id] = nil
        await journal.write(
            .loginFinished, .success, subject(known.login, connected.account.id),
            ["method": .string(known.login.method.rawValue)])
        if let replaced = connected.replaced {
            // The account's session of before: it would stay in its owner's list for ever.
            do { try await sessions.logOut(replaced.session, sealedKey: replaced.sealedKey) } catch {
                log.warning("session.not-replaced", ["error": .error(error)])
            }
        }
    }

    private func fail(_ id: UniqueID, with failure: LoginFailure) async {
        guard var known = live[id], known.login.stage.isOpen else { return }
        known.login.fail(with: failure)
        await giveUp(known)
    }

    private func expireIfDue(_ id: UniqueID) async {
        guard var known = live[id], known.login.expire(at: time.now) else { return }
        await giveUp(known)
        await journal.write(.loginExpired, .error, subject(known.login), code: "login_expired")
    }

    /// The login is over without an account: its client is logged out, its folder goes.
    private func giveUp(_ known: Live) async {
        live[known.login.id] = nil
        do {
            try await logins.save(known.login)
            try await sessions.abandon(known.client, known.login.id)
        } catch {
            log.warning("login.not-given-up", ["login": .id(known.login.id), "error": .error(error)])
        }
    }

    private func subject(_ login: Login, _ account: UniqueID? = nil) -> Journal.Subject {
        Journal.Subject(user: login.userID, account: account, requestID: "")
    }

    /// Forgets the logins of a user who is gone, and ends them.
    func forget(user: Int64) async {
        for known in live.values where known.login.userID == user {
            var known = known
            known.login.fail(with: .other("the user is gone"))
            await giveUp(known)
        }
    }

    // MARK: - Upkeep

    /// Follows the clients of logins, takes up those of an earlier run, and gives up those whose time is over.
    func run() async throws {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.resumeAll() }
            group.addTask { await self.expireAll() }
            for await id in followers.stream {
                group.addTask { await self.follow(id) }
            }
        }
    }

    private func follow(_ id: UniqueID) async {
        guard let client = live[id]?.client else { return }
        let updates = client.updates()
        // What was said before anybody listened.
        await heard(client.authorization, id)
        for await update in updates {
            guard case .authorization(let state) = update else { continue }
            await heard(state, id)
            guard live[id] != nil else { return }
        }
    }

    private func heard(_ state: AuthorizationState, _ id: UniqueID) async {
        do {
            try await turns.take(id) { try await reached(state, id) }
        } catch let failure as TelegramFailure {
            await fail(id, with: LoginFailure(failure))
        } catch {
            log.warning("login.not-followed", ["login": .id(id), "error": .error(error)])
        }
    }

    private func expireAll() async {
        while true {
            do { try await time.sleep(for: .seconds(2)) } catch { return }
            for id in live.keys {
                // A step that failed after the sign-in, as for a moment without Telegram, is taken again.
                if isSignedIn(id) { await heard(.ready, id) }
                await turns.take(id) { await expireIfDue(id) }
            }
        }
    }

    private func resumeAll() async {
        let found: [Login]
        do { found = try await logins.underWay() } catch {
            return log.error("logins.not-resumed", ["error": .error(error)])
        }
        let new = found.filter { live[$0.id] == nil }
        for login in new { live[login.id] = Live(login: login) }
        await withDiscardingTaskGroup { group in
            for login in new {
                group.addTask {
                    // Telegram may not be there yet when everything starts at once.
                    while await !self.resume(login), !Task.isCancelled {
                        do { try await self.time.sleep(for: .seconds(1)) } catch { return }
                    }
                }
            }
        }
    }

    /// Takes up a login of an earlier run. Telegram keeps the step it was at; a QR code is asked for anew.
    /// False where Telegram did not answer.
    private func resume(_ login: Login) async -> Bool {
        await turns.take(login.id) {
            await expireIfDue(login.id)
            guard live[login.id] != nil else { return true }
            do {
                let client = try await open(login)
                if client.authorization != .waitPhoneNumber {
                    try await reached(client.authorization, login.id)
                } else if login.method == .qr {
                    try await reached(try await client.requestQRCode(), login.id)
                } else {
                    // The code that was sent is not remembered: it can only be asked for again.
                    await fail(login.id, with: .codeExpired)
                }
            } catch let failure as TelegramFailure {
                guard LoginFailure(failure) != .unreachable else { return false }
                await fail(login.id, with: LoginFailure(failure))
            } catch {
                log.warning("login.not-resumed", ["login": .id(login.id), "error": .error(error)])
                return false
            }
            return true
        }
    }
}

extension AccountProfile {
    init(_ person: Person) {
        self.init(
            telegramUserID: person.id, phone: person.phone.isEmpty ? "" : "+\(person.phone)",
            username: person.username,
            firstName: person.firstName, lastName: person.lastName, isPremium: person.isPremium)
    }
}
