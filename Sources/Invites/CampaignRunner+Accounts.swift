import Contracts
import Core

/// Where a lane gets its accounts, and which may invite.
extension CampaignRunner {
    /// An account that may invite in this community; nil when the task has to wait, which is noted.
    func loan(for task: InviteTask, first: InviteTarget, _ hands: Hands) async throws -> Loan? {
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
                    preferred: first.seeker, excluding: out.accounts + first.strangers, reserve: isCounted)
            }
            switch answer {
            case .refused where recent != nil:
                // One who was left out may be back.
                leftOut.forget(task)
            case .refused(let refusal) where !first.strangers.isEmpty:
                try await passOver(first, of: task, refusal, hands, at: now)
                return nil
            case .refused(let refusal):
                // First, so that of several who are refused at once the last one sees that nobody is left.
                try await giveBack(hands)
                // What others that work on the same task hold is no reason to be told of: they say what there is
                // to say when they are done.
                if refusal.reasons["leased"] ?? 0 > 0,
                    try await store.holders(of: task.id, besides: hands.lane, at: now) > 0
                {
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

    /// Somebody whom the accounts that are free do not know: they wait for the others, or nobody is left to try.
    private func passOver(
        _ person: InviteTarget, of task: InviteTask, _ refusal: AllocationRefusal, _ hands: Hands,
        at now: Timestamp
    ) async throws {
        if refusal.reasons.isEmpty {
            try await store.giveUp(person, .refused(.personUnseen), of: task, by: hands.lane, at: now)
        } else {
            let moment = max(refusal.retryAt ?? now + settings.lookAgain, now + .seconds(30))
            try await store.giveBack([person], by: hands.lane, notBefore: moment)
        }
        // The others of the task have accounts still: whoever looks finds those of this lane as well.
        try await giveBack(hands)
        try await store.wake(task.id, at: now)
    }

    func noteRefusal(
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

    enum Right { case yes, no, never }

    /// Whether the account holds the right to invite here: known and fresh, or looked up now.
    func mayInvite(_ lease: LeasedAccount, _ task: InviteTask) async throws -> Right {
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

    func exclude(_ lease: LeasedAccount, _ task: InviteTask, _ reason: String, for duration: Duration)
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
}
