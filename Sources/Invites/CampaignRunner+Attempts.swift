import Contracts
import Core
import Storage

/// One attempt, from its permit to the words that are written down about it.
extension CampaignRunner {
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
    struct Unsettled: Error { let cause: any Error }

    enum AttemptEnd {
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

    func attempt(
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
    static let permitLasts = Duration.seconds(110)

    /// Asks until there is an answer that says what happened, as long as that is not long.
    func send(
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
                    fallsBackToMessages: task.settings.fallsBackToMessages, detours: target.detours,
                    strangers: target.strangers.count))
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

    func tell(_ step: NextStep, _ result: SendResult, _ attempt: InviteAttempt, _ task: InviteTask)
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
    func handle(_ result: SendResult, _ task: InviteTask, _ lease: LeasedAccount) async throws
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

    enum LinkResult { case success(String), failure(SendRefusal) }

    /// One that was made before a crash is there still.
    func existingOrNewLink(
        _ task: InviteTask, _ target: InviteTarget, _ lease: LeasedAccount
    ) async throws -> LinkResult {
        if let link = target.inviteLink { return .success(link) }
        return try await makeLink(task, target, lease)
    }

    func makeLink(_ task: InviteTask, _ target: InviteTarget, _ lease: LeasedAccount) async throws
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
