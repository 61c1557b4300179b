import Core
import Integration
import Storage
import Synchronization
import Telegram

/// The clients of connected accounts: opened when they are needed, one for each session, closed when nobody
/// has needed them for a while. Sees sessions end and accounts freeze.
final class Sessions: Service {
    /// How long a folder that somebody still holds is waited for.
    private static let patience: Duration = .seconds(15)
    private static let fewestAttempts = 5

    let name = "telegram-sessions"
    private let telegram: Telegram
    private let accounts: AccountStore
    private let seals: SessionSeals
    private let errands: Errands
    private let journal: Journal
    private let gate: Gate
    private let folder: String
    private let idle: Duration
    private let time: any TimeSource
    private let log: Log

    private struct Open {
        let client: TelegramClient
        let account: UniqueID
        var users = 0
        var lastUse: Duration
    }
    private let open = Mutex<[UniqueID: Open]>([:])
    /// Sessions that we end ourselves, so that their end is no loss.
    private let ending = Mutex<Set<UniqueID>>([])
    private let turns = Turns<UniqueID>()
    private let followers: (stream: AsyncStream<Follow>, continuation: AsyncStream<Follow>.Continuation)

    private struct Follow: Sendable {
        let session: UniqueID
        let account: UniqueID
        let client: TelegramClient
    }

    init(
        _ telegram: Telegram, accounts: AccountStore, seals: SessionSeals, errands: Errands, journal: Journal,
        gate: Gate, settings: IntegrationSettings, time: any TimeSource, log: Log
    ) {
        self.telegram = telegram
        self.accounts = accounts
        self.seals = seals
        self.errands = errands
        self.journal = journal
        self.gate = gate
        folder = settings.sessionFolder
        idle = settings.idle
        self.time = time
        self.log = log
        followers = AsyncStream.makeStream(of: Follow.self)
    }

    var openCount: Int { open.withLock { $0.count } }

    func parameters(of session: UniqueID, key: Secret<[UInt8]>) throws -> SessionParameters {
        let directory = "\(folder)/\(session)"
        try FileSystem.makeFolder(directory, mode: 0o700)
        return SessionParameters(directory: directory, encryptionKey: key)
    }

    // MARK: - Using

    /// Lends the account's client to `work`; it is not closed meanwhile.
    func with<Result>(
        _ account: LinkedAccount, _ work: (TelegramClient) async throws -> Result
    ) async throws -> Result {
        let (session, client) = try await borrow(account)
        defer { giveBack(session) }
        return try await work(client)
    }

    /// For as long as a stream lasts; to be given back.
    func borrow(_ account: LinkedAccount) async throws -> (UniqueID, TelegramClient) {
        guard account.isConnected, let session = account.sessionID else {
            throw IntegrationError.accountNotConnected(reason: account.reason)
        }
        if let client = take(session) { return (session, client) }
        // Opening goes on when this caller goes away: others wait for the same client.
        try await errands.run { [self] in
            try await turns.take(session) {
                if isOpen(session) { return }
                try await openClient(of: account, session)
            }
        }
        guard let client = take(session) else { throw IntegrationError.accountNotConnected(reason: nil) }
        return (session, client)
    }

    func giveBack(_ session: UniqueID) {
        let now = time.uptime
        open.withLock { open in
            guard let users = open[session]?.users else { return }
            // A client that was replaced meanwhile has never been lent by this caller.
            open[session]?.users = max(users - 1, 0)
            open[session]?.lastUse = now
        }
    }

    private func take(_ session: UniqueID) -> TelegramClient? {
        let now = time.uptime
        return open.withLock { open in
            guard let found = open[session], found.client.authorization == .ready else { return nil }
            open[session]?.users += 1
            open[session]?.lastUse = now
            return found.client
        }
    }

    private func isOpen(_ session: UniqueID) -> Bool {
        open.withLock { $0[session]?.client.authorization == .ready }
    }

    private func openClient(of account: LinkedAccount, _ session: UniqueID) async throws {
        try await gate.pass(time)
        guard let sealed = try await accounts.sealedKey(of: session) else {
            throw IntegrationError.accountNotConnected(reason: nil)
        }
        let client = try await opened(try parameters(of: session, key: try seals.open(sealed, of: session)))
        let state = try await client.authorization { ![.starting, .waitParameters].contains($0) }
        guard state == .ready else {
            // The session was ended while nobody looked, unless it is only we who are stopping.
            if state != .closing, state != .closed { await lost(account.id, session, client) }
            throw IntegrationError.accountNotConnected(reason: client.sessionLoss?.word)
        }
        keep(client, as: session, of: account.id)
    }

    /// A folder is held a moment longer than the process that had it open lived: the library, the sandbox and
    /// our own book each let go of it a little after its client is gone. Whoever waits for that moment is
    /// served; without it the first callers after a kill would be turned away.
    private func opened(_ parameters: SessionParameters) async throws -> TelegramClient {
        let end = time.uptime + Self.patience
        var attempts = 0
        while true {
            do {
                attempts += 1
                return try await telegram.open(parameters)
            } catch let failure as TelegramFailure where failure.reason == .databaseInUse {
                // A slow machine tries as often as a fast one at least.
                guard time.uptime < end || attempts < Self.fewestAttempts else { throw failure }
                try await time.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Takes over the client of a login that has become an account.
    func adopt(_ client: TelegramClient, as session: UniqueID, of account: UniqueID) {
        keep(client, as: session, of: account)
    }

    private func keep(_ client: TelegramClient, as session: UniqueID, of account: UniqueID) {
        let now = time.uptime
        open.withLock { $0[session] = Open(client: client, account: account, lastUse: now) }
        followers.continuation.yield(Follow(session: session, account: account, client: client))
    }

    // MARK: - Ending

    /// Logs out at Telegram and wipes what is kept of the session here.
    func logOut(_ session: UniqueID, sealedKey: String?) async throws {
        try await errands.run { [self] in
            try await turns.take(session) {
                _ = ending.withLock { $0.insert(session) }
                defer { ending.withLock { _ = $0.remove(session) } }
                let known = open.withLock { $0.removeValue(forKey: session) }
                if let known {
                    await known.client.logOut()
                } else if let sealedKey {
                    let key = try seals.open(sealedKey, of: session)
                    try await opened(try parameters(of: session, key: key)).logOut()
                }
                wipe(session)
            }
        }
    }

    /// The same where the folder may be beyond opening: then there is nothing to log out with.
    func logOutOrWipe(_ session: UniqueID, sealedKey: String?) async throws {
        do {
            try await logOut(session, sealedKey: sealedKey)
        } catch let failure as TelegramFailure where failure.blame != .passing {
            log.warning("session.not-logged-out", ["error": .error(failure)])
            wipe(session)
        }
    }

    /// Ends a login that came to nothing.
    func abandon(_ client: TelegramClient?, _ session: UniqueID) async throws {
        try await errands.run { [self] in
            await client?.logOut()
            wipe(session)
        }
    }

    func wipe(_ session: UniqueID) {
        // What cannot be removed is sealed, and its key is gone.
        try? FileSystem.remove("\(folder)/\(session)")
    }

    private func lost(_ account: UniqueID, _ session: UniqueID, _ client: TelegramClient) async {
        _ = open.withLock { $0.removeValue(forKey: session) }
        guard !ending.withLock({ $0.contains(session) }) else { return }
        let reason = client.sessionLoss?.word ?? "unknown"
        do {
            if client.authorization != .closed { await client.destroy() }
            guard try await accounts.end(account, session: session, as: .lost, reason: reason, at: time.now)
            else { return }
            wipe(session)
            guard let owner = try await accounts.account(account)?.userID else { return }
            log.warning("session.lost", ["account": .id(account), "reason": .text(reason)])
            await journal.write(
                .sessionLost, .error, .init(user: owner, account: account, requestID: ""),
                code: "session_lost",
                ["reason": .string(reason)])
        } catch {
            log.error("session.loss-not-noted", ["account": .id(account), "error": .error(error)])
        }
    }

    // MARK: - Following

    func run() async throws {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.closeIdle() }
            for await follow in self.followers.stream {
                group.addTask { await self.follow(follow) }
            }
        }
    }

    private func follow(_ follow: Follow) async {
        let updates = follow.client.updates()
        await noteFreeze(follow.client.freeze, of: follow.account, isNews: false)
        for await update in updates {
            guard case .freeze(let notice) = update else { continue }
            await noteFreeze(notice, of: follow.account, isNews: true)
        }
        guard !Task.isCancelled, follow.client.sessionLoss != nil else { return }
        await lost(follow.account, follow.session, follow.client)
    }

    private func noteFreeze(_ notice: FreezeNotice?, of account: UniqueID, isNews: Bool) async {
        guard notice != nil || isNews else { return }
        do {
            // Telegram names the day on which a frozen account is deleted; until then an appeal may thaw it.
            let until = notice.map { $0.deletionDate ?? time.now + .days(30) }
            try await accounts.setFreeze(account, until: until, appeal: notice?.appealLink, at: time.now)
            guard until != nil, isNews, let owner = try await accounts.account(account)?.userID else {
                return
            }
            await journal.write(
                .frozen, .error, .init(user: owner, account: account, requestID: ""), code: "account_frozen")
        } catch {
            log.error("freeze.not-noted", ["account": .id(account), "error": .error(error)])
        }
    }

    private func closeIdle() async {
        while !Task.isCancelled {
            do { try await time.sleep(for: min(idle, .seconds(60))) } catch { return }
            let now = time.uptime
            let due = open.withLock { open in
                open.filter { $0.value.users == 0 && now - $0.value.lastUse >= idle }.keys
            }
            for session in due {
                // In turn with who opens it: a folder is never open twice.
                await turns.take(session) {
                    let unused = open.withLock { open in
                        open[session]?.users == 0 ? open.removeValue(forKey: session) : nil
                    }
                    await unused?.client.close()
                }
            }
        }
    }
}

extension SessionLoss {
    /// As it stands in the database and in the log.
    var word: String {
        switch self {
        case .revoked: "SESSION_REVOKED"
        case .expired: "SESSION_EXPIRED"
        case .banned: "USER_DEACTIVATED_BAN"
        case .deactivated: "USER_DEACTIVATED"
        case .keyDuplicated: "AUTH_KEY_DUPLICATED"
        case .unknown(let reason): reason ?? "unknown"
        }
    }
}
