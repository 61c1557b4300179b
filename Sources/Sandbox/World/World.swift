import Core

/// A client by the connection it came over and its number there.
struct ClientKey: Hashable, Sendable {
    let link: Int
    let number: Int32
}

/// The state of a whole simulated Telegram. Not `Sendable`: `SandboxWorld` keeps it behind a lock.
final class World {
    /// Comments under one post take this many places in the discussion group, the post's copy the first.
    static let threadSpan: Int64 = 32

    struct Session {
        let key: String
        let account: Int
        let began: Timestamp
        /// Why the session is worth nothing any more; seen when it is opened.
        var lost: String?
    }
    struct Pair: Hashable {
        let account: Int
        let user: Int64
    }

    let options: WorldOptions
    let seed: UInt64
    let random: SeededRandom
    var now: Timestamp
    var accounts: [Account] = []
    var groups: [Int64: Group] = [:]
    var usernames: [String: Int64] = [:]
    var sessions: [String: Session] = [:]
    /// Logins that were begun and whose client was closed: opened again they go on.
    var unfinished: [String: (key: String, stage: Client.Stage)] = [:]
    var clients: [ClientKey: Client] = [:]
    var privateMessages: [Pair: [StoredMessage]] = [:]
    /// People who blocked an account.
    var blocks: Set<Pair> = []
    var ledger: [LedgerEntry] = []
    var faults = Faults()
    /// Connections whose other end is gone. Their clients hold their folders only until somebody else wants them.
    var silentLinks: Set<Int> = []

    // What a request leads to, taken out by whoever holds the lock.
    var outbox: [(client: ClientKey, event: JSONValue)] = []
    var logLines: [(client: ClientKey, line: String)] = []
    var jobs: [(delay: Duration, job: Job)] = []
    var journal: [Effect] = []

    init(_ options: WorldOptions) {
        self.options = options
        seed = options.seed
        random = SeededRandom(seed: options.seed)
        now = options.start
        generate()
    }

    /// Something that happens later.
    enum Job: Sendable {
        case request(ClientKey, JSONValue, fault: Fault?)
        case renewQR(ClientKey, token: String)
        case react(user: Int64, hash: String)
    }

    // MARK: - Changes

    /// Makes a change, and notes it.
    func make(_ effect: Effect) {
        apply(effect)
        journal.append(effect)
    }

    func apply(_ effect: Effect) {
        switch effect {
        case .sessionBegan(let directory, let key, let account, let at):
            sessions[directory] = Session(key: key, account: account, began: at)
        case .sessionEnded(let directory): sessions[directory] = nil
        case .standing(let group, let user, let kind, let mayInvite, let inviter, let at):
            groups[group]?.set(Standing(kind, mayInvite: mayInvite, inviter: inviter, since: at), for: user)
        case .groupMessage(let group, let sender, let text, let thread, let at):
            guard let known = groups[group] else { return }
            let number = known.historyCount + Int64(known.messages.count) + 1
            groups[group]?.messages.append(
                StoredMessage(number: number, sender: sender, text: text, date: at, thread: thread))
        case .privateMessage(let account, let user, let text, let at):
            let pair = Pair(account: account, user: user)
            let number = Int64(privateMessages[pair]?.count ?? 0) + 1
            privateMessages[pair, default: []].append(
                StoredMessage(number: number, sender: Account.firstID + Int64(account), text: text, date: at))
        case .link(let group, let hash, let creator, let name, let expires, let limit, let asks, let at):
            groups[group]?.links[hash] = Group.Link(
                hash: hash, creator: creator, name: name, expires: expires, memberLimit: limit,
                asksFirst: asks,
                created: at)
        case .linkRevoked(let group, let hash): groups[group]?.links[hash]?.isRevoked = true
        case .joinedByLink(let group, let hash, let user, let approver, let at):
            groups[group]?.links[hash]?.joined.append((user, at, approver))
        case .joinAsked(let group, let hash, let user, let at):
            groups[group]?.joinRequests.append(Group.JoinAsk(user: user, link: hash, at: at))
        case .joinAnswered(let group, let user): groups[group]?.joinRequests.removeAll { $0.user == user }
        case .contact(let account, let user, let isContact):
            guard accounts.indices.contains(account) else { return }
            if isContact {
                accounts[account].contacts.insert(user)
            } else {
                accounts[account].contacts.remove(user)
            }
        case .account(let number, let isFrozen, let isBanned, let isLimited):
            guard accounts.indices.contains(number) else { return }
            accounts[number].isFrozen = isFrozen
            accounts[number].isBanned = isBanned
            accounts[number].isLimited = isLimited
        case .membersHidden(let group, let isHidden): groups[group]?.hidesMembers = isHidden
        case .entry(let entry): ledger.append(entry)
        }
    }

    func record(
        _ client: Client?, _ kind: LedgerEntry.Kind, target: Int64, group: Group?, outcome: String,
        accepted: Bool,
        words: String = ""
    ) {
        let account = client?.account.map { accounts[$0] }
        let hadRight = account.flatMap { account in group?.standing(of: account.id).mayInvite } ?? false
        make(
            .entry(
                LedgerEntry(
                    number: ledger.count + 1, time: now, account: account?.phone ?? "", kind: kind,
                    target: target,
                    group: group?.chatID ?? 0, outcome: outcome, isAccepted: accepted, hadRight: hadRight,
                    words: wordsNumber(words))))
    }

    private func wordsNumber(_ text: String) -> Int64 {
        guard !text.isEmpty else { return 0 }
        return Int64(
            bitPattern: text.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) {
                ($0 ^ UInt64($1)) &* 0x100_0000_01B3
            } >> 1)
    }

    // MARK: - Finding

    func group(ofChat chat: Int64) -> Group? {
        if chat <= -1_000_000_000_000 { return groups[-1_000_000_000_000 - chat] }
        return chat < 0 ? groups[-chat] : nil
    }

    func human(_ id: Int64) -> Human? {
        guard id >= Human.firstID, id < Human.firstID + Int64(options.people) else { return nil }
        return Human(id: id, seed: seed)
    }

    func account(withID id: Int64) -> Int? {
        // Any number may come in; subtracting from it unlooked could overflow.
        guard id >= Account.firstID, id < Account.firstID + Int64(accounts.count) else { return nil }
        return Int(id - Account.firstID)
    }

    func human(named username: String) -> Human? {
        let parts = username.split(separator: "_")
        let digits = parts.last == "bot" ? parts.dropLast().last : parts.last
        guard let digits, let index = Int64(digits), (0..<Int64(options.people)).contains(index),
            let human = human(Human.firstID + index), human.username == username
        else { return nil }
        return human
    }

    // MARK: - Telling

    func emit(_ client: Client, _ event: JSONValue) {
        var members = event.objectValue ?? []
        members.append(JSONMember("@client_id", .int(Int64(client.key.number))))
        outbox.append((client.key, .object(members)))
    }

    func answer(_ client: Client, _ answer: JSONValue, to request: JSONValue) {
        var members = answer.objectValue ?? []
        if let extra = request["@extra"] { members.append(JSONMember("@extra", extra)) }
        members.append(JSONMember("@client_id", .int(Int64(client.key.number))))
        outbox.append((client.key, .object(members)))
    }

    func later(_ delay: Duration, _ job: Job) { jobs.append((delay, job)) }

    /// All clients an account is open in.
    func clients(of account: Int) -> [Client] {
        clients.values.filter { $0.account == account && $0.stage == .ready }
            .sorted { ($0.key.link, $0.key.number) < ($1.key.link, $1.key.number) }
    }
}

/// One client of the library: what TDLib would hold in memory for it.
final class Client {
    enum Stage: Equatable {
        case waitParameters, waitPhone
        case waitScan(token: String)
        case waitCode(account: Int, sentAt: Timestamp, resent: Bool)
        case waitPassword(account: Int)
        case waitEmailAddress, waitRegistration, waitPremium
        case ready, closed
    }
    let key: ClientKey
    var stage = Stage.waitParameters
    var directory = ""
    var encryptionKey = ""
    var account: Int?
    var seenUsers: Set<Int64> = []
    var seenChats: Set<Int64> = []
    var values: [String: JSONValue] = [:]
    /// Requests that wait: for parameters, for latency, or for ever.
    var waiting: [JSONValue] = []
    var loginTurn = 0
    var temporary: Int64 = 0
    var isOnline = true

    init(key: ClientKey) { self.key = key }
}

/// An error of TDLib's or the server's.
struct Refusal: Error, Equatable {
    let code: Int32
    let message: String

    init(_ code: Int32, _ message: String) {
        self.code = code
        self.message = message
    }

    var json: JSONValue { ["@type": "error", "code": .int(Int64(code)), "message": .string(message)] }
}

/// Why a request is not answered now.
enum Postponed: Error {
    /// TDLib waits out a short flood and asks again by itself.
    case flood(seconds: Int)
    case never
}
