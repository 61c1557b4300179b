import Contracts
import Core

/// What workers that are gone have left open, and who is looked for once more.
extension CampaignRunner {
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

    func resolve(_ target: InviteTarget, _ attempt: InviteAttempt, _ task: InviteTask) async throws {
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
    func known(_ attempt: InviteAttempt, _ target: InviteTarget) async -> SendResult? {
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

    func account(of attempt: InviteAttempt) -> LeasedAccount {
        LeasedAccount(
            accountID: attempt.accountID, userID: attempt.userID, phone: "", leaseID: attempt.leaseID,
            fencingToken: attempt.fencingToken, expiresAt: .epoch)
    }

    func membership(of target: InviteTarget, _ account: String, _ task: InviteTask) async -> Bool? {
        try? await integration.isMember(
            target.person, of: task.settings.group, seenBy: account, user: task.userID)
    }

    func release(_ attempt: InviteAttempt) async {
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
