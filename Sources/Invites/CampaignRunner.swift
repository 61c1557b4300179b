public import Contracts
public import Core
import Storage

/// Carries campaigns out. It is told to look at a task, or to work on it for a while; what it finds stands in
/// SQL, so it may be told twice, late, or not at all, and be killed at any point.
public struct CampaignRunner: Sendable {
    public struct Settings: Equatable, Sendable {
        /// How many work on one task at once.
        public var lanes: Int
        /// How many people one takes at a time.
        public var chunk: Int
        /// How many accounts one uses before it makes room for other tasks.
        public var leases: Int
        /// How long the right to invite is believed.
        public var rightsLast: Duration
        /// How often a task that waits for accounts looks whether there are new ones.
        public var lookAgain: Duration

        public init(
            lanes: Int = 4, chunk: Int = 5, leases: Int = 25, rightsLast: Duration = .hours(1),
            lookAgain: Duration = .minutes(10)
        ) {
            self.lanes = lanes
            self.chunk = chunk
            self.leases = leases
            self.rightsLast = rightsLast
            self.lookAgain = lookAgain
        }
    }

    let store: InviteStore
    let manager: AccountManagerClient
    let integration: IntegrationClient
    let settings: Settings
    let metrics: CampaignMetrics
    let time: any TimeSource
    let random: any RandomSource
    let log: Log
    private let leftOut = LeftOutAccounts()

    public init(
        store: InviteStore, manager: AccountManagerClient, integration: IntegrationClient,
        settings: Settings = Settings(), metrics: CampaignMetrics, time: any TimeSource,
        random: any RandomSource, log: Log
    ) {
        self.store = store
        self.manager = manager
        self.integration = integration
        self.settings = settings
        self.metrics = metrics
        self.time = time
        self.random = random
        self.log = log
    }

    // MARK: - Looking

    /// What a look at a task has found to do.
    public struct Orders: Equatable, Sendable {
        public var lanes = 0
        public var doubts = false
        public init() {}
    }

    /// Ends a task, notes what it waits for, or says how many should work on it.
    public func look(at id: Int64) async throws -> Orders {
        var orders = Orders()
        let now = time.now
        _ = try await store.releaseHeld(at: now)
        guard let outlook = try await store.outlook(id, at: now), outlook.task.status == .inProgress else {
            return orders
        }
        let task = outlook.task
        let counts = try await store.counts(of: id)
        try await store.noteProgress(id, counts)
        if let rule = task.settings.autoPause {
            let (tried, failed) = try await store.sample(of: task)
            if rule.stops(tried: tried, failed: failed) {
                try await store.apply(.autoPaused, to: id, of: task.userID, at: now, reason: .autoPaused)
                log.warning(
                    "campaign.auto-paused", ["task": .int(id), "tried": .int(tried), "failed": .int(failed)])
                return orders
            }
        }
        orders.doubts = outlook.doubtsDue > 0
        guard outlook.due > 0 else {
            let next = [outlook.nextDue, outlook.nextExpiry.map { $0 + .milliseconds(1) }].compactMap { $0 }
                .min()
            if let next {
                let waiting: Waiting? =
                    outlook.held > 0 ? nil : Waiting(outlook.inDoubt > 0 ? .inDoubt : .retry, until: next)
                try await store.wait(task, waiting, wakeAt: next, at: now)
            } else if outlook.doubtsDue == 0 {
                try await end(task, counts, at: now)
            }
            return orders
        }
        let pace = task.settings.pace(try await store.paceState(of: task, at: now), at: now)
        if case .wait(let until, let reason) = pace {
            try await store.wait(task, Waiting(reason, until: until), wakeAt: until, at: now)
            return orders
        }
        // With a pause between any two, one after the other is all there can be.
        let most = task.settings.delay > .zero ? 1 : settings.lanes
        let useful = (outlook.due + settings.chunk - 1) / settings.chunk
        orders.lanes = max(0, min(most, useful) - outlook.holders)
        return orders
    }

    private func end(_ task: InviteTask, _ counts: TargetCounts, at now: Timestamp) async throws {
        do {
            try await store.apply(
                .ended, to: task.id, of: task.userID, at: now,
                endedReason: counts.invited > 0 || counts.total == 0 ? "done" : "nobody_invited")
            metrics.ended["completed"].increment()
            log.info("campaign.ended", ["task": .int(task.id), "invited": .int(counts.invited)])
        } catch InviteError.transition {
            // Somebody has paused or cancelled it meanwhile.
        }
    }

    // MARK: - Working

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

    private func giveBack(_ hands: Hands) async throws {
        let people = hands.takeAll()
        try await store.giveBack(people, by: hands.lane)
    }

    /// Takes people, with the task as it is now.
    private func fill(_ hands: Hands, from id: Int64, limit: Int) async throws -> TargetClaim {
        let (found, _, task) = try await metrics.step("claim", time) {
            try await store.claim(id, limit: limit, by: hands.lane, at: time.now)
        }
        if case .claimed(let people) = found, let task { hands.take(people, of: task) }
        return found
    }

    /// One account's turn. False when there is nothing more to do just now. Whom it does not come to stays in the
    /// lane's hands for the next account.
    private func shift(_ id: Int64, _ hands: Hands) async throws -> Bool {
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
                let loan = try await loan(for: task, first: first, hands.lane)
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

    private func waitUnreachable(_ id: Int64, _ hands: Hands) async throws {
        let task = hands.task
        // First, so that whoever looks at the task meanwhile finds them.
        try await giveBack(hands)
        if let task { try await wait(task, .unreachable, until: time.now + .seconds(15)) }
    }

    /// Gives an account back whose permit, where it still has it, nobody has used.
    private func giveBack(_ loan: Loan) async throws {
        if let permit = loan.takePermit() { try? await manager.release(permit: permit, of: loan.account) }
        try await manager.release(loan.account)
    }

    /// Sends in the name of one lease until the account, the people or the turn are used up.
    private func turn(_ task: InviteTask, _ loan: Loan, _ hands: Hands) async throws -> Bool {
        var sent = 0
        var task = task
        func done(_ goesOn: Bool) async throws -> Bool {
            do {
                try await metrics.step("release", time) { try await giveBack(loan) }
            } catch is PeerError {
                // It ends by its time.
            }
            return goesOn
        }
        while sent < task.settings.batchSize {
            if hands.isEmpty {
                let most = min(settings.chunk, task.settings.batchSize - sent)
                _ = try await fill(hands, from: task.id, limit: most)
                task = hands.task ?? task
            }
            guard let target = hands.next else { break }
            switch try await attempt(task, target, loan, hands.lane) {
            case .sent(let step, let standing):
                sent += 1
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

    /// How an account stands after an attempt.
    enum AccountStanding: Equatable, Sendable {
        case mayGoOn
        /// It may not do the same again now.
        case rests
        /// The same, and it is in nobody's hands any more.
        case givenBack
        /// account-manager could not be told.
        case unheard
    }

    /// A failure between the decision to send and the moment at which all is written down.
    private struct Unsettled: Error { let cause: any Error }

    private enum AttemptEnd {
        case sent(NextStep, AccountStanding)
        /// The target has come to its end without a send.
        case settled
        /// The account may not do this now; the next one may.
        case accountDone
        /// This target has to wait, others need not.
        case postponed(until: Timestamp)
        case taskWaits(until: Timestamp, WaitReason)
        case taskFailed
        case stopped
    }

    private func attempt(
        _ task: InviteTask, _ target: InviteTarget, _ loan: Loan, _ lane: String,
        isTest: Bool = false
    ) async throws -> AttemptEnd {
        let lease = loan.account
        let action = task.action(for: target)
        let channel = action == .invite ? task.channel : nil
        if task.settings.inviteType == .inviteLink, task.settings.linkDelivery == .export {
            switch try await existingOrNewLink(task, target, lease) {
            case .success:
                try await store.noteExport(target, by: lease.accountID, worker: lane, at: time.now)
                return .settled
            case .failure(let refusal):
                return try await handle(
                    .refused(refusal, original: refusal.rawValue, telegramType: "", retryAfter: nil), task,
                    lease)
            }
        }
        // Behind the end of its permit an action would stand in the ledger where it has not happened.
        var latest = time.now + Self.permitLasts
        let permit: String?
        if let held = loan.takePermit(for: action, channel, at: time.now) {
            (permit, latest) = (held, loan.askedAt + Self.permitLasts)
        } else {
            let verdict = try await metrics.step("check", time) {
                try await manager.check(action, lease, channel: channel, reserve: true)
            }
            switch verdict {
            case .allowed(let given): permit = given
            case .refused(_, let retryAt, _):
                // Somebody who is to be written to waits for this kind of action, not for another account.
                if target.asMessage, let retryAt { return .postponed(until: retryAt) }
                return .accountDone
            }
        }
        func giveUp(_ end: AttemptEnd) async throws -> AttemptEnd {
            if let permit { try? await manager.release(permit: permit, of: lease) }
            return end
        }
        var target = target
        if task.needsLink(for: target), target.inviteLink == nil {
            switch try await makeLink(task, target, lease) {
            case .success(let link): target.inviteLink = link
            case .failure(let refusal):
                let step = try await handle(
                    .refused(refusal, original: refusal.rawValue, telegramType: "", retryAfter: nil), task,
                    lease)
                return try await giveUp(step)
            }
        }
        let content = task.content(for: target)
        let attempt = InviteAttempt(
            id: "inv-\(UniqueID(at: time.now, random))", target: target, run: task.run, action, lease,
            channel: channel, permit: permit, content: content.stored, isTest: isTest, at: time.now)
        let permission = try await metrics.step("begin", time) {
            try await store.begin(attempt, of: task, by: lane, at: time.now)
        }
        switch permission {
        case .granted: break
        case .wait(let until, let reason): return try await giveUp(.taskWaits(until: until, reason))
        case .stopped: return try await giveUp(.stopped)
        }
        do {
            let result = try await metrics.step("send", time) {
                try await send(attempt, content, target, lease, notAfter: latest)
            }
            let (step, standing) = try await conclude(
                attempt, result, target, task, lease, givesBack: !isTest && !target.asMessage)
            return .sent(step, standing)
        } catch {
            throw Unsettled(cause: error)
        }
    }

    /// How long after the check something may still be begun: account-manager keeps the place for two minutes.
    private static let permitLasts = Duration.seconds(110)

    /// Asks until there is an answer that says what happened, as long as that is not long.
    private func send(
        _ attempt: InviteAttempt, _ content: SendOrder.Content, _ target: InviteTarget,
        _ lease: LeasedAccount,
        notAfter latest: Timestamp
    ) async throws -> SendResult {
        let order = SendOrder(attemptID: attempt.id, content, to: target.person)
        var result = try await integration.send(order, from: lease, notAfter: latest)
        for pause in [Duration.milliseconds(200), .milliseconds(700)] {
            guard case .unknown = result, time.now < latest else { return result }
            // The same attempt is carried out once, however often it is asked for.
            try await time.sleep(for: pause)
            let again = try await integration.send(order, from: lease, notAfter: latest)
            // What could not be asked says nothing about the first time.
            if case .notSent = again { continue }
            if again == .leaseLost || again == .notConnected { return result }
            result = again
        }
        return result
    }

    /// Records what happened, writes it down, and tells account-manager what befell its account. With `givesBack`
    /// an account that may not go on is given back as it is recorded.
    @discardableResult
    func conclude(
        _ attempt: InviteAttempt, _ result: SendResult, _ target: InviteTarget, _ task: InviteTask,
        _ lease: LeasedAccount?, givesBack: Bool = false, overriding override: NextStep? = nil
    ) async throws -> (step: NextStep, account: AccountStanding) {
        let step =
            override
            ?? OutcomePolicy.step(
                after: result,
                AttemptContext(
                    isMessage: attempt.action == .message,
                    fallsBackToMessages: task.settings.fallsBackToMessages, detours: target.detours))
        let code = result.code
        var standing = AccountStanding.mayGoOn
        switch step.permit {
        case .record(let success):
            do {
                let answer = try await metrics.step("record", time) {
                    try await manager.record(
                        attempt.action, account: attempt.accountID, user: attempt.userID,
                        channel: attempt.channel, success: success, permit: attempt.permitID,
                        lease: attempt.leaseID, error: code,
                        then: givesBack && step.account == .keep ? .releaseWhenResting : .keep)
                }
                if !answer.mayGoOn { standing = answer.isReleased ? .givenBack : .rests }
            } catch is PeerError {
                standing = .unheard
            }
        case .release:
            if let permit = attempt.permitID, let lease {
                try? await manager.release(permit: permit, of: lease)
            }
        case .keep: break
        }
        let isNew = try await metrics.step("finish", time) {
            try await store.finish(
                attempt, result, step, of: target, in: task, isRecorded: standing != .unheard, at: time.now)
        }
        if isNew {
            metrics.attempts[attempt.action.rawValue, code ?? (step.target == .invited ? "sent" : "other")]
                .increment()
        }
        if isNew { try await tell(step, result, attempt, task) }
        return (step, standing)
    }

    private func tell(_ step: NextStep, _ result: SendResult, _ attempt: InviteAttempt, _ task: InviteTask)
        async throws
    {
        switch step.account {
        case .report(let error, let seconds):
            var message = ""
            if case .refused(_, let original, _, _) = result { message = original }
            do {
                _ = try await manager.handleError(
                    error, message: message, seconds: seconds, account: attempt.accountID,
                    user: attempt.userID)
            } catch is PeerError {
                // integration-service tells of what ends an account; the rest shows itself again.
                log.warning("campaign.error-not-told", ["account": .id(attempt.accountID)])
            }
        case .excludeHere:
            var reason = "not_connected"
            if case .refused(let refusal, _, _, _) = result { reason = refusal.rawValue }
            leftOut.forget(task)
            try await store.noteRight(
                false, of: attempt.accountID, user: attempt.userID, in: task.community, reason: reason,
                until: time.now + settings.rightsLast)
        case .keep, .leave, .wait: break
        }
    }

    /// A refusal that came before there was an attempt.
    private func handle(_ result: SendResult, _ task: InviteTask, _ lease: LeasedAccount) async throws
        -> AttemptEnd
    {
        let step = OutcomePolicy.step(after: result, AttemptContext())
        switch step.account {
        case .report(let error, let seconds):
            _ = try? await manager.handleError(
                error, message: "", seconds: seconds, account: lease.accountID, user: lease.userID)
            return .accountDone
        case .excludeHere:
            leftOut.forget(task)
            try await store.noteRight(
                false, of: lease.accountID, user: lease.userID, in: task.community,
                reason: SendRefusal.adminRequired.rawValue, until: time.now + settings.rightsLast)
            return .accountDone
        case .wait: return .taskWaits(until: time.now + .seconds(30), .unreachable)
        case .keep, .leave: return .accountDone
        }
    }

    private enum LinkResult { case success(String), failure(SendRefusal) }

    /// One that was made before a crash is there still.
    private func existingOrNewLink(
        _ task: InviteTask, _ target: InviteTarget, _ lease: LeasedAccount
    ) async throws -> LinkResult {
        if let link = target.inviteLink { return .success(link) }
        return try await makeLink(task, target, lease)
    }

    private func makeLink(_ task: InviteTask, _ target: InviteTarget, _ lease: LeasedAccount) async throws
        -> LinkResult
    {
        do {
            let link = try await integration.createInviteLink(
                to: task.settings.group, named: "t\(target.id)", by: lease.accountID, user: lease.userID)
            try await store.setLink(link.link, by: lease.accountID, of: target.id)
            return .success(link.link)
        } catch LookFailure.account(let refusal) {
            return .failure(refusal ?? .accountDisabled)
        } catch LookFailure.unseen(let refusal) {
            return .failure(refusal)
        }
    }

    // MARK: - Accounts

    /// An account that may invite in this community; nil when the task has to wait, which is noted.
    private func loan(for task: InviteTask, first: InviteTarget, _ lane: String) async throws -> Loan? {
        let action = task.action(for: first)
        let channel = action == .invite ? task.channel : nil
        // A link that is handed out by other means counts nowhere.
        let isCounted = task.settings.inviteType != .inviteLink || task.settings.linkDelivery != .export
        for _ in 0..<200 {
            let now = time.now
            let recent = leftOut.recent(task, at: now)
            let out: LeftOut
            if let recent {
                out = recent
            } else {
                out = try await store.exclusions(of: task.userID, in: task.community, at: now)
                leftOut.note(out, task, at: now)
            }
            let answer = try await metrics.step("allocate", time) {
                try await manager.allocate(
                    action == .invite ? .inviteCampaign : .messaging, for: task.userID, channel: channel,
                    excluding: out.accounts, reserve: isCounted)
            }
            switch answer {
            case .refused where recent != nil:
                // One who was left out may be back.
                leftOut.forget(task)
            case .refused(let refusal):
                // What others that work on the same task hold is no reason to be told of: they say what there is
                // to say when they are done.
                if refusal.reasons["leased"] ?? 0 > 0,
                    try await store.holders(of: task.id, besides: lane, at: now) > 0
                {
                    try await store.wait(task, nil, wakeAt: now + InviteStore.hold, at: now)
                    return nil
                }
                try await noteRefusal(refusal, out, task, at: now)
                return nil
            case .granted(let lease):
                let loan = Loan(lease, for: action, channel, askedAt: now)
                guard task.needsAdministrator(for: first) else { return loan }
                do {
                    switch try await mayInvite(lease, task) {
                    case .yes: return loan
                    case .no: try await giveBack(loan)
                    case .never:
                        try await giveBack(loan)
                        return nil
                    }
                } catch {
                    try? await giveBack(loan)
                    throw error
                }
            }
        }
        return nil
    }

    private func noteRefusal(
        _ refusal: AllocationRefusal, _ out: LeftOut, _ task: InviteTask, at now: Timestamp
    ) async throws {
        var waiting = Waiting(.noAccount, until: refusal.retryAt, detail: refusal.message)
        if refusal.reasons.isEmpty, let first = out.first {
            let turnedAway = out.reasons == [SendRefusal.groupRestriction.rawValue]
            waiting = Waiting(turnedAway ? .groupRefuses : .noAdministrator, until: first)
        } else if let first = out.first, refusal.retryAt.map({ first < $0 }) ?? true {
            waiting.until = first
        }
        metrics.refusals[waiting.reason.rawValue].increment()
        // Somebody may connect a new account long before.
        let wake = min(
            max(waiting.until ?? now + settings.lookAgain, now + .seconds(1)), now + settings.lookAgain)
        try await store.wait(task, waiting, wakeAt: wake, at: now)
    }

    private enum Right { case yes, no, never }

    /// Whether the account holds the right to invite here: known and fresh, or looked up now.
    private func mayInvite(_ lease: LeasedAccount, _ task: InviteTask) async throws -> Right {
        let now = time.now
        if leftOut.mayInvite(lease.accountID, task, at: now) { return .yes }
        if let known = try await store.right(
            of: lease.accountID, user: task.userID, in: task.community, at: now)
        {
            guard known.mayInvite else {
                leftOut.forget(task)
                return .no
            }
            leftOut.note(lease.accountID, mayInviteUntil: known.until, task)
            return .yes
        }
        let verdict: AdminVerdict
        do {
            verdict = try await metrics.step("rights", time) {
                try await integration.checkAdmin(lease.accountID, in: task.settings.group, user: task.userID)
            }
        } catch LookFailure.account(let refusal) {
            if let refusal {
                let step = OutcomePolicy.step(
                    after: .refused(refusal, original: refusal.rawValue, telegramType: "", retryAfter: nil),
                    AttemptContext())
                if case .report(let error, let seconds) = step.account {
                    _ = try await manager.handleError(
                        error, message: refusal.rawValue, seconds: seconds, account: lease.accountID,
                        user: lease.userID)
                    return .no
                }
            }
            try await exclude(lease, task, "not_connected", for: .minutes(10))
            return .no
        } catch LookFailure.unseen(let refusal) {
            try await exclude(lease, task, refusal.rawValue, for: settings.rightsLast)
            return .no
        }
        if verdict.refusesDirectAdds, task.settings.inviteType == .groupInvite {
            try await store.apply(
                .failed, to: task.id, of: task.userID, at: now, endedReason: "broadcast_channel")
            return .never
        }
        guard verdict.mayInvite else {
            try await exclude(
                lease, task, verdict.error ?? SendRefusal.adminRequired.rawValue, for: settings.rightsLast)
            return .no
        }
        if task.channel == nil, let chat = verdict.chatID {
            try await store.setChannel(String(chat), of: task.id)
        }
        try await store.noteRight(
            true, of: lease.accountID, user: task.userID, in: task.community, reason: nil,
            until: now + settings.rightsLast)
        return .yes
    }

    private func exclude(_ lease: LeasedAccount, _ task: InviteTask, _ reason: String, for duration: Duration)
        async throws
    {
        log.info(
            "campaign.account-left-out",
            ["task": .int(task.id), "account": .id(lease.accountID), "reason": .id(reason)])
        leftOut.forget(task)
        try await store.noteRight(
            false, of: lease.accountID, user: task.userID, in: task.community, reason: reason,
            until: time.now + duration)
    }

    private func wait(_ task: InviteTask, _ reason: WaitReason, until: Timestamp) async throws {
        try await store.wait(task, Waiting(reason, until: until), wakeAt: until, at: time.now)
    }

    // MARK: - One by hand

    /// What a test has come to, when it did not come to a send.
    public struct TestOutcome: Sendable {
        public var account: String?
        public var reason: String?
        public var message: LocalizedText?
        public var retryAt: Timestamp?
    }

    /// Invites one person now, through this account or any, under all limits.
    public func test(_ task: InviteTask, target id: Int64, account: String?) async throws -> TestOutcome {
        let lane = "test-\(UniqueID(at: time.now, random))"
        guard let target = try await store.claimForTest(id, of: task, by: lane, at: time.now) else {
            return TestOutcome(
                reason: "not_available",
                message: .init(
                    "This person is being invited, has been, or is on the stop-list",
                    "Этого человека уже приглашают, пригласили или он в стоп-листе"))
        }
        do {
            let action = task.action(for: target)
            let answer = try await manager.allocate(
                action == .invite ? .inviteCampaign : .messaging, for: task.userID,
                channel: action == .invite ? task.channel : nil, preferred: account, minutes: 5)
            guard case .granted(let lease) = answer else {
                try await store.giveBack([target], by: lane)
                guard case .refused(let refusal) = answer else { return TestOutcome() }
                return TestOutcome(
                    reason: "no_account_available", message: .init(refusal.message, refusal.message),
                    retryAt: refusal.retryAt)
            }
            var outcome = TestOutcome(account: lease.accountID)
            // What may have been sent and counts nowhere yet keeps the account in our hands.
            var isFree = true
            if let account, lease.accountID != account {
                outcome.reason = "account_not_free"
                outcome.message = .init("This account is not free now", "Этот аккаунт сейчас не свободен")
            } else if task.needsAdministrator(for: target), try await mayInvite(lease, task) != .yes {
                outcome.reason = SendRefusal.adminRequired.rawValue
                outcome.message = SendRefusal.adminRequired.text
            } else {
                let loan = Loan(lease, for: action, task.channel, askedAt: time.now)
                switch try await attempt(task, target, loan, lane, isTest: true) {
                case .sent(let step, let standing):
                    isFree = standing != .unheard && step.target != .inDoubt
                    if case .back(let reason, _) = step.target {
                        (outcome.reason, outcome.message) = (reason.code, reason.text)
                    }
                case .postponed(let until), .taskWaits(let until, _):
                    (outcome.reason, outcome.retryAt) = ("limits", until)
                case .accountDone: outcome.reason = "limits"
                case .settled, .taskFailed, .stopped: outcome.reason = "not_available"
                }
            }
            try await store.giveBack([target], by: lane)
            if isFree { try? await manager.release(lease) }
            return outcome
        } catch {
            try? await store.giveBack([target], by: lane)
            throw (error as? Unsettled)?.cause ?? error
        }
    }

    // MARK: - What was left open

    /// States attempts that account-manager has not heard of for sure; under one permit they count once.
    public func settleRecords() async throws {
        for (attempt, isAccepted, code) in try await store.unrecorded(before: time.now) {
            try await manager.record(
                attempt.action, account: attempt.accountID, user: attempt.userID, channel: attempt.channel,
                success: isAccepted, permit: attempt.permitID, lease: attempt.leaseID, error: code)
            try await store.noteRecorded(attempt.id)
            await release(attempt)
        }
    }

    /// Finds out what became of attempts whose worker is gone: by membership first; then by asking
    /// integration-service for what it knows, which from then on never carries out what it has not.
    public func resolveDoubts(of id: Int64? = nil, limit: Int = 20) async throws {
        for (target, attempt) in try await store.claimDoubts(of: id, limit: limit, at: time.now) {
            guard let task = try await store.task(target.taskID) else { continue }
            try await resolve(target, attempt, task)
            try await store.wake(task.id, at: time.now)
        }
    }

    private func resolve(_ target: InviteTarget, _ attempt: InviteAttempt, _ task: InviteTask) async throws {
        if attempt.action == .invite, let isMember = await membership(of: target, attempt.accountID, task),
            isMember
        {
            let result = SendResult.sent(
                SentMessage(
                    targetUserID: nil, messageID: nil, at: attempt.startedAt, isMember: true,
                    isRepeated: true))
            try await conclude(attempt, result, target, task, nil)
            await release(attempt)
            return
        }
        if let result = await known(attempt, target) {
            try await conclude(attempt, result, target, task, account(of: attempt))
            await release(attempt)
            return
        }
        guard target.looks >= DoubtPolicy.mostLooks, task.status != .paused else {
            let pause = DoubtPolicy.pause(beforeLook: target.looks)
            // What may have been sent counts nowhere yet, so the account has to stay in our hands.
            _ = try? await manager.extend(
                account(of: attempt), minutes: Int(pause.components.seconds / 60) + 60)
            try await store.postpone(doubt: target.id, until: time.now + pause)
            return
        }
        // Counted as if it had arrived: the limits are a promise.
        let step = NextStep(
            .failed(.outcomeUnknown), count: .unknown, permit: .record(success: true))
        try await conclude(
            attempt, .unknown(reason: "looked up too often"), target, task, nil, overriding: step)
        await release(attempt)
    }

    /// How an attempt came out, `notSent` for one that never will; nil while nobody can say. It is not made now: the
    /// account may have done something else since its check, and a limit would be broken.
    private func known(_ attempt: InviteAttempt, _ target: InviteTarget) async -> SendResult? {
        // Nobody can ask about somebody who was erased.
        guard !target.identity.isErased else { return nil }
        let order = SendOrder(
            attemptID: attempt.id, SendOrder.Content(stored: attempt.content), to: target.person)
        do {
            let result = try await integration.withdraw(order, from: attempt.accountID, user: attempt.userID)
            switch result {
            case nil: return .notSent(reason: "it was never carried out")
            case .unknown, .notSent, .leaseLost, .notConnected, .refused(.inDoubt, _, _, _): return nil
            case .sent, .refused: return result
            }
        } catch {
            return nil
        }
    }

    private func account(of attempt: InviteAttempt) -> LeasedAccount {
        LeasedAccount(
            accountID: attempt.accountID, userID: attempt.userID, phone: "", leaseID: attempt.leaseID,
            fencingToken: attempt.fencingToken, expiresAt: .epoch)
    }

    private func membership(of target: InviteTarget, _ account: String, _ task: InviteTask) async -> Bool? {
        try? await integration.isMember(
            target.person, of: task.settings.group, seenBy: account, user: task.userID)
    }

    private func release(_ attempt: InviteAttempt) async {
        try? await manager.release(account(of: attempt))
    }

    /// Looks for those who were invited among the members, a while later.
    public func verifyMembers(limit: Int = 50) async throws {
        for target in try await store.claimVerifications(limit: limit, at: time.now) {
            guard let task = try await store.task(target.taskID), let account = target.accountID else {
                continue
            }
            if let link = target.inviteLink, let maker = target.linkAccountID {
                if let seen = try? await integration.inviteLink(
                    link, of: task.settings.group, by: maker, user: task.userID)
                {
                    try await store.noteJoins(seen.joined, through: target, at: time.now)
                }
                continue
            }
            do {
                let isMember = try await integration.isMember(
                    target.person, of: task.settings.group, seenBy: account, user: task.userID)
                try await store.verified(target, isMember: isMember, at: time.now)
            } catch LookFailure.account {
                try await store.verified(target, isMember: nil, at: time.now)
            } catch LookFailure.unseen {
                try await store.verified(target, isMember: nil, at: time.now)
            }
        }
    }
}

/// An account in a lane's hands, with the permit that came with it until it is used.
private final class Loan {
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
private final class Hands {
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

extension InviteTask {
    /// What the limits count when this target's turn comes.
    func action(for target: InviteTarget) -> LimitedAction {
        settings.inviteType == .groupInvite && !target.asMessage ? .invite : .message
    }

    func needsAdministrator(for target: InviteTarget) -> Bool {
        action(for: target) == .invite || needsLink(for: target)
    }

    /// Whether the message carries a link of the target's own.
    func needsLink(for target: InviteTarget) -> Bool {
        action(for: target) == .message
            && (settings.inviteType == .inviteLink || (inviteMessage ?? "").contains("{link}"))
    }

    func content(for target: InviteTarget) -> SendOrder.Content {
        guard action(for: target) == .message else { return .invite(group: settings.group) }
        let link = target.inviteLink ?? ""
        let text = inviteMessage ?? ""
        if text.contains("{link}") { return .message(text.replacing("{link}", with: link)) }
        if link.isEmpty { return .message(text) }
        return .message(text.isEmpty ? link : "\(text)\n\(link)")
    }
}

extension SendOrder.Content {
    /// As it is kept with the attempt.
    var stored: String {
        switch self {
        case .invite(let group): "i\(group)"
        case .message(let text): "m\(text)"
        case .addContact(let name): "c\(name)"
        }
    }

    init(stored: String) {
        let rest = String(stored.dropFirst())
        switch stored.first {
        case "m": self = .message(rest)
        case "c": self = .addContact(name: rest)
        default: self = .invite(group: rest)
        }
    }
}
