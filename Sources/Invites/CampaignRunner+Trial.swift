import Contracts
public import Core
import Storage

extension CampaignRunner {
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
                    switch step.target {
                    case .back(let reason, _), .toAnother(let reason):
                        (outcome.reason, outcome.message) = (reason.code, reason.text)
                    case .invited, .failed, .skipped, .backAsMessage, .inDoubt: break
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
}
