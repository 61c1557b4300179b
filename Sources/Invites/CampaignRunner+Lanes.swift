import Contracts
import Core
import Storage

/// How a lane works on a task: people in its hands, one account after the other.
extension CampaignRunner {
    /// Works on a task: takes people and an account, sends while both last, and goes on with the next account.
    public func work(on id: Int64) async throws {
        let hands = Hands("lane-\(UniqueID(at: time.now, random))")
        do {
            for _ in 0..<settings.leases {
                try Task.checkCancellation()
                guard try await shift(id, hands) else { return try await giveBack(hands) }
            }
            try await giveBack(hands)
        } catch {
            try? await giveBack(hands)
            throw error
        }
        try await store.wake(id, at: time.now)
    }

    func giveBack(_ hands: Hands) async throws {
        let people = hands.takeAll()
        try await store.giveBack(people, by: hands.lane)
    }

    /// Takes people, with the task as it is now.
    func fill(_ hands: Hands, from id: Int64, limit: Int) async throws -> TargetClaim {
        let (found, _, task) = try await metrics.step("claim", time) {
            try await store.claim(id, limit: limit, by: hands.lane, at: time.now)
        }
        if case .claimed(let people) = found, let task { hands.take(people, of: task) }
        return found
    }

    /// One account's turn. False when there is nothing more to do just now. Whom it does not come to stays in the
    /// lane's hands for the next account.
    func shift(_ id: Int64, _ hands: Hands) async throws -> Bool {
        do {
            if hands.isEmpty {
                if case .nobody = try await fill(hands, from: id, limit: settings.chunk) {
                    try await store.wake(id, at: time.now)
                }
                guard !hands.isEmpty else { return false }
                // What account-manager has not heard of, it cannot count.
                try await settleRecords()
            }
            guard let task = hands.task, let first = hands.next,
                let loan = try await loan(for: task, first: first, hands)
            else { return false }
            do {
                return try await turn(task, loan, hands)
            } catch let error as Unsettled {
                // Something may have been sent that account-manager has not heard of: nobody else may use the
                // account until it is known.
                throw error.cause
            } catch {
                try? await giveBack(loan)
                throw error
            }
        } catch let error as PeerError {
            log.warning("campaign.peer-away", ["task": .int(id), "error": .error(error)])
            try await waitUnreachable(id, hands)
            return false
        } catch LookFailure.unreachable {
            try await waitUnreachable(id, hands)
            return false
        }
    }

    func waitUnreachable(_ id: Int64, _ hands: Hands) async throws {
        let task = hands.task
        // First, so that whoever looks at the task meanwhile finds them.
        try await giveBack(hands)
        if let task { try await wait(task, .unreachable, until: time.now + .seconds(15)) }
    }

    /// Gives an account back whose permit, where it still has it, nobody has used.
    func giveBack(_ loan: Loan) async throws {
        if let permit = loan.takePermit() { try? await manager.release(permit: permit, of: loan.account) }
        try await manager.release(loan.account)
    }

    private static let mostUnseen = 200

    /// Sends in the name of one lease until the account, the people or the turn are used up.
    func turn(_ task: InviteTask, _ loan: Loan, _ hands: Hands) async throws -> Bool {
        var sent = 0
        // Whom the account does not know takes none of its turn, but not its whole lease either.
        var unseen = 0
        var task = task
        func done(_ goesOn: Bool) async throws -> Bool {
            do {
                try await metrics.step("release", time) { try await giveBack(loan) }
            } catch is PeerError {
                // It ends by its time.
            }
            return goesOn
        }
        while sent < task.settings.batchSize, unseen < Self.mostUnseen {
            if hands.isEmpty {
                let most = min(settings.chunk, task.settings.batchSize - sent)
                _ = try await fill(hands, from: task.id, limit: most)
                task = hands.task ?? task
            }
            guard let target = hands.next else { break }
            if target.strangers.contains(loan.account.accountID) {
                // This account's next people come first; then one is looked for that knows them.
                try await store.giveBack([target], by: hands.lane, notBefore: time.now + .seconds(10))
                hands.dropFirst()
                continue
            }
            switch try await attempt(task, target, loan, hands.lane) {
            case .sent(let step, let standing):
                if step.permit == .release { unseen += 1 } else { sent += 1 }
                hands.dropFirst()
                // As good as in doubt for the limits: the account is given back when it has been told.
                if standing == .unheard || standing == .givenBack { return true }
                switch step.account {
                // Who is to be written to instead waits for the account's own time: its check says until when.
                case .keep where standing == .rests && !target.asMessage: return try await done(true)
                case .keep: continue
                case .leave where step.target == .inDoubt:
                    // The account stays leased until it is known what happened in its name.
                    return true
                case .leave, .report, .excludeHere: return try await done(true)
                case .wait:
                    try await wait(task, .unreachable, until: time.now + .seconds(30))
                    return try await done(false)
                }
            case .settled: hands.dropFirst()
            case .accountDone: return try await done(true)
            case .postponed(let until):
                try await store.giveBack([target], by: hands.lane, notBefore: until)
                hands.dropFirst()
            case .taskWaits(let until, let reason):
                task = try await store.task(task.id) ?? task
                _ = try await done(false)
                try await wait(task, reason, until: until)
                return false
            case .taskFailed: return try await done(false)
            case .stopped: return try await done(false)
            }
        }
        return try await done(true)
    }
}

/// An account in a lane's hands, with the permit that came with it until it is used.
final class Loan {
    let account: LeasedAccount
    /// From then on at the latest its permit runs.
    let askedAt: Timestamp
    private let action: LimitedAction
    private let channel: String?
    private var permit: String?

    init(_ account: LeasedAccount, for action: LimitedAction, _ channel: String?, askedAt: Timestamp) {
        self.account = account
        self.action = action
        self.channel = channel
        self.askedAt = askedAt
        permit = account.permit
    }

    /// The permit, to be given back.
    func takePermit() -> String? {
        defer { permit = nil }
        return permit
    }

    /// The permit, to be used: for what it was given, and while there is time for a send under it.
    func takePermit(for action: LimitedAction, _ channel: String?, at now: Timestamp) -> String? {
        guard action == self.action, channel == self.channel, now < askedAt + .seconds(60) else { return nil }
        return takePermit()
    }
}

/// What a lane has taken and not come to yet: people, with the task as it was when they were taken.
final class Hands {
    let lane: String
    private(set) var task: InviteTask?
    private var people: ArraySlice<InviteTarget> = []

    init(_ lane: String) { self.lane = lane }

    var isEmpty: Bool { people.isEmpty }
    var next: InviteTarget? { people.first }
    func dropFirst() { people = people.dropFirst() }

    func take(_ more: [InviteTarget], of task: InviteTask) {
        people += more
        self.task = task
    }

    func takeAll() -> [InviteTarget] {
        defer { people = [] }
        return Array(people)
    }
}
