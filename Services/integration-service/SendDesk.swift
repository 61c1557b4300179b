import Core
import Integration
import Storage
import Telegram

/// What somebody wants an account to do.
struct SendWish: Sendable {
    let attempt: Attempt
    let target: Target
    /// Of a group invite.
    let group: String
    /// Of a message.
    let text: String
    /// For the address book.
    let name: String
    /// Nothing is begun later.
    let notAfter: Timestamp?
    let subject: Journal.Subject

    /// A caller that slept through its permit must not act on it.
    func checkInTime(_ now: Timestamp) throws(SendFailure) {
        if let notAfter, now > notAfter { throw SendFailure(.unreachable, original: "asked for too late") }
    }
}

extension SendFailure {
    /// The outcome of an attempt that was taken back before anything was sent.
    fileprivate static let withdrawn = SendFailure(.unreachable, original: "withdrawn")
}

/// Sends: each attempt once, however often and by however many it is asked for at the same moment.
///
/// The attempt is in SQL before anything goes out. A crash between the sending and the answer leaves it in
/// doubt; then Telegram is looked at, and nothing is ever sent a second time.
struct SendDesk: Sendable {
    let store: SendStore
    let sessions: Sessions
    let resolver: Resolver
    let errands: Errands
    let gate: Gate
    let journal: Journal
    let time: any TimeSource
    let log: Log
    let turns = Turns<String>()

    struct Answer: Sendable {
        let outcome: SendOutcome
        /// Somebody had asked for the same attempt before.
        let isRepeated: Bool
        /// Whether it stands in the log already.
        var isNoted: Bool {
            if case .failed(let failure) = outcome, failure.code == .inDoubt { return false }
            return !isRepeated
        }
    }

    /// Throws `IntegrationError`, and `SendFailure` where nothing went out and the same attempt may be made
    /// again; every other failure is an outcome, and kept.
    func send(_ wish: SendWish, from account: LinkedAccount) async throws -> Answer {
        try await gate.pass(time)
        // To its end, also when the caller goes away; and one caller of the same attempt after the other.
        return try await errands.run { [self] in
            try await turns.take("\(wish.attempt.userID)/\(wish.attempt.id)") {
                switch try await store.claim(wish.attempt, at: time.now) {
                case .granted: return Answer(outcome: try await carryOut(wish, account), isRepeated: false)
                case .done(let outcome): return Answer(outcome: outcome, isRepeated: true)
                case .inDoubt: return Answer(outcome: try await lookUp(wish, account), isRepeated: true)
                // This process has turns, so another one would have to be at it.
                case .underWay: throw IntegrationError.busy
                }
            }
        }
    }

    /// What became of an attempt; nil for one that was not made, and from now on never is, whoever still asks for
    /// it: so its caller may try the same person under another one.
    func withdraw(_ wish: SendWish, from account: LinkedAccount) async throws -> Answer? {
        try await gate.pass(time)
        return try await errands.run { [self] in
            try await turns.take("\(wish.attempt.userID)/\(wish.attempt.id)") {
                switch try await store.claim(wish.attempt, at: time.now) {
                case .granted:
                    try await store.finish(wish.attempt, with: .failed(.withdrawn), at: time.now)
                    return nil
                case .done(.failed(.withdrawn)): return nil
                case .done(let outcome): return Answer(outcome: outcome, isRepeated: true)
                case .inDoubt: return Answer(outcome: try await lookUp(wish, account), isRepeated: true)
                case .underWay: throw IntegrationError.busy
                }
            }
        }
    }

    /// What the log says of an attempt.
    private func line(of outcome: SendOutcome, _ wish: SendWish, _ duration: Duration) -> LogEntry {
        switch outcome {
        case .sent: journal.entry(Action(wish.attempt.kind), .success, wish.subject, [:], duration)
        case .failed(let failure):
            journal.entry(
                Action(wish.attempt.kind), .error, wish.subject, code: failure.code.rawValue, [:],
                duration)
        }
    }

    private func carryOut(_ wish: SendWish, _ account: LinkedAccount) async throws -> SendOutcome {
        let start = time.uptime
        let outcome: SendOutcome
        do {
            outcome = try await sessions.with(account) { client in try await act(wish, client) }
        } catch let failure as SendFailure {
            outcome = .failed(failure)
        } catch let failure as TelegramFailure {
            outcome = .failed(SendFailure(failure))
        } catch {
            // Refused before anything went out, as for an old lease; or a crash of ours, which is told as it is.
            try await store.withdraw(wish.attempt)
            throw error
        }
        switch outcome {
        case .failed(let failure) where failure.code == .unreachable || failure.code == .personUnseen:
            try await store.withdraw(wish.attempt)
            // Where it had begun, it stands as it came out.
            try await store.finish(wish.attempt, with: outcome, at: time.now)
            throw failure
        case .failed(let failure) where failure.code == .inDoubt: try await store.doubt(wish.attempt)
        default:
            try await store.finishUse(
                wish.attempt, with: outcome, noting: line(of: outcome, wish, time.uptime - start),
                at: time.now)
        }
        return outcome
    }

    private func act(_ wish: SendWish, _ client: TelegramClient) async throws -> SendOutcome {
        switch wish.attempt.kind {
        case .groupInvite: try await invite(wish, client)
        case .directMessage: try await write(wish, client)
        case .addContact: try await addContact(wish, client)
        }
    }

    // MARK: - Into a group

    private func invite(_ wish: SendWish, _ client: TelegramClient) async throws -> SendOutcome {
        let chat = try await resolver.chat(wish.group, for: client)
        guard try await client.standing(in: chat).mayInvite else { throw SendFailure(.adminRequired) }
        let person = try await resolver.person(wish.target, for: client)
        // Telegram takes the invitation of a member without a word; asked for nothing, it would count.
        if try await isMember(person, chat, client) == true {
            return .failed(SendFailure(.alreadyParticipant, original: "USER_ALREADY_PARTICIPANT"))
        }
        try wish.checkInTime(time.now)
        try await store.begin(wish.attempt)
        do {
            switch try await client.add(person, to: chat) {
            case .alreadyMember:
                return .failed(SendFailure(.alreadyParticipant, original: "USER_ALREADY_PARTICIPANT"))
            case .refused(let reason):
                return .failed(SendFailure(FailureCode(reason), original: reason.rawValue))
            case .accepted: break
            }
        } catch let failure as TelegramFailure where failure.isInDoubt {
            guard try await isMember(person, chat, client) == true else { throw failure }
        }
        // A yes of Telegram's adds nobody for sure.
        let isMember = try await isMember(person, chat, client)
        if isMember == false { return .failed(SendFailure(.notInMembersAfterInvite)) }
        return .sent(.init(targetUserID: person, at: time.now, isMember: isMember))
    }

    /// Nil where nobody can tell.
    private func isMember(_ person: UserID, _ chat: ChatID, _ client: TelegramClient) async throws -> Bool? {
        do {
            return try await client.membership(of: person, in: chat).isMember
        } catch is TelegramFailure {
            return nil
        }
    }

    // MARK: - To a person

    private func write(_ wish: SendWish, _ client: TelegramClient) async throws -> SendOutcome {
        let person = try await resolver.person(wish.target, for: client)
        switch try await client.mayWrite(to: person) {
        case .yes, .unknown: break
        case .deleted: return .failed(SendFailure(.userNotFound, original: "the account is deleted"))
        case .costsStars: return .failed(SendFailure(.privacyRestricted, original: "ALLOW_PAYMENT_REQUIRED"))
        case .restrictsNewChats:
            return .failed(SendFailure(.privacyRestricted, original: "PRIVACY_PREMIUM_REQUIRED"))
        }
        let chat = try await client.privateChat(with: person)
        try wish.checkInTime(time.now)
        try await store.begin(wish.attempt)
        let message = try await client.send(wish.text, to: chat)
        return .sent(.init(messageID: message.id, targetUserID: person, at: message.date))
    }

    private func addContact(_ wish: SendWish, _ client: TelegramClient) async throws -> SendOutcome {
        guard let phone = wish.target.phone else {
            throw SendFailure(.invalidUsername, original: "a phone number is needed")
        }
        try wish.checkInTime(time.now)
        try await store.begin(wish.attempt)
        let found = try await client.importContacts([
            NewContact(phone: phone, firstName: wish.name.isEmpty ? wish.target.username ?? phone : wish.name)
        ])
        guard let person = found.first.flatMap({ $0 }) else { return .failed(SendFailure(.userNotFound)) }
        return .sent(.init(targetUserID: person, at: time.now))
    }

    // MARK: - What became of it

    /// An attempt of which nobody knows whether it arrived. What is found is kept; what is not stays in doubt.
    private func lookUp(_ wish: SendWish, _ account: LinkedAccount) async throws -> SendOutcome {
        let started = try await store.startedAt(wish.attempt) ?? time.now
        do {
            let found = try await sessions.with(account) { client in
                try await trace(wish, since: started, client)
            }
            if let found {
                try await store.finish(wish.attempt, with: found, at: time.now)
                return found
            }
        } catch  where error is TelegramFailure || error is SendFailure || error is IntegrationError {
            log.info("send.still-in-doubt", ["account": .id(account.id), "error": .error(error)])
        }
        return .failed(SendFailure(.inDoubt))
    }

    private func trace(_ wish: SendWish, since started: Timestamp, _ client: TelegramClient) async throws
        -> SendOutcome?
    {
        let person = try await resolver.person(wish.target, for: client)
        switch wish.attempt.kind {
        case .groupInvite:
            // Nobody was a member when the attempt began: a member now was let in by it.
            let chat = try await resolver.chat(wish.group, for: client)
            guard try await isMember(person, chat, client) == true else { return nil }
            return .sent(.init(targetUserID: person, at: time.now, isMember: true))
        case .directMessage:
            let chat = try await client.privateChat(with: person)
            // Telegram's clock and ours may differ by a little.
            let page = try await client.history(of: chat, limit: 50)
            let mine = page.messages.first {
                $0.isOutgoing && $0.text == wish.text && $0.date >= started - .minutes(1)
            }
            return mine.map { .sent(.init(messageID: $0.id, targetUserID: person, at: $0.date)) }
        case .addContact:
            guard try await client.person(person).isContact else { return nil }
            return .sent(.init(targetUserID: person, at: time.now))
        }
    }
}
