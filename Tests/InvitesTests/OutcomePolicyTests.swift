import Contracts
import Core
import Invites
import Testing

/// Every answer of Telegram's, and what follows: the table of `docs/invite-service.md`.
@Suite struct `After an attempt` {
    struct Row: Sendable, CustomTestStringConvertible {
        let refusal: SendRefusal
        let target: NextStep.Target
        let account: NextStep.Account
        let suppression: NextStep.Suppression
        let permit: NextStep.PermitUse
        var testDescription: String { refusal.rawValue }
    }

    private static func why(_ refusal: SendRefusal) -> TargetReason { .refused(refusal) }
    private static func back(_ refusal: SendRefusal, _ account: NextStep.Account) -> Row {
        Row(
            refusal: refusal, target: .back(why(refusal), after: .zero), account: account, suppression: .none,
            permit: .record(success: false))
    }
    private static func failed(_ refusal: SendRefusal, _ suppression: NextStep.Suppression = .none) -> Row {
        Row(
            refusal: refusal, target: .failed(why(refusal)), account: .keep, suppression: suppression,
            permit: .record(success: false))
    }

    static let table: [Row] = [
        back(.floodWait, .report("flood_wait", seconds: 77)),
        back(.peerFlood, .report("peer_flood", seconds: nil)),
        back(.accountDisabled, .report("auth_key_error", seconds: nil)),
        back(.accountFrozen, .report("frozen", seconds: nil)),
        back(.adminRequired, .excludeHere),
        back(.groupRestriction, .excludeHere),
        Row(
            refusal: .personUnseen, target: .back(why(.personUnseen), after: .seconds(77)), account: .keep,
            suppression: .none, permit: .release),
        failed(.userNotFound), failed(.invalidUsername), failed(.privacyRestricted), failed(.tooManyChannels),
        failed(.notMutualContact, .community), failed(.userBannedInGroup, .community),
        Row(
            refusal: .alreadyParticipant, target: .skipped(why(.alreadyParticipant)), account: .keep,
            suppression: .none, permit: .record(success: false)),
        Row(
            refusal: .notInMembersAfterInvite, target: .failed(why(.notInMembersAfterInvite)),
            account: .keep, suppression: .none, permit: .record(success: true)),
        Row(
            refusal: .inviteFailed, target: .failed(why(.inviteFailed)),
            account: .report("invite_failed", seconds: nil), suppression: .none,
            permit: .record(success: false)),
        Row(
            refusal: .unreachable, target: .back(why(.unreachable), after: .seconds(30)), account: .wait,
            suppression: .none, permit: .release),
        Row(
            refusal: .inDoubt, target: .inDoubt, account: .leave, suppression: .none, permit: .keep),
    ]

    @Test func `every refusal has its row`() {
        #expect(Set(Self.table.map(\.refusal)) == Set(SendRefusal.allCases))
    }

    @Test(arguments: table)
    func `the documented steps are taken`(row: Row) {
        let result = SendResult.refused(
            row.refusal, original: "WORDS", telegramType: "WORDS", retryAfter: 77)
        let step = OutcomePolicy.step(after: result, AttemptContext())
        #expect(step.target == row.target)
        #expect(step.account == row.account)
        #expect(step.suppression == row.suppression)
        #expect(step.permit == row.permit)
        // What is not the person's fault costs them no attempt.
        let isTheirs = if case .back = step.target { false } else { step.target != .inDoubt }
        #expect((step.count != .none) == isTheirs)
        for language in Language.allCases { #expect(!row.refusal.text(language).isEmpty) }
    }

    @Test func `a person who may not be added is written to, once, where that is wished`() {
        let result = SendResult.refused(
            .privacyRestricted, original: "", telegramType: "USER_PRIVACY_RESTRICTED", retryAfter: nil)
        let wished = AttemptContext(fallsBackToMessages: true)
        #expect(OutcomePolicy.step(after: result, wished).target == .backAsMessage)
        let written = AttemptContext(isMessage: true, fallsBackToMessages: true)
        #expect(
            OutcomePolicy.step(after: result, written).target == .failed(.refused(.privacyRestricted)))
    }

    @Test func `a person who has blocked the account has said no to its owner`() {
        let result = SendResult.refused(
            .privacyRestricted, original: "USER_IS_BLOCKED", telegramType: "USER_IS_BLOCKED", retryAfter: nil)
        #expect(OutcomePolicy.step(after: result, AttemptContext()).suppression == .operatorWide)
    }

    @Test func `a person with whom every account goes wrong takes not all of them down`() {
        let result = SendResult.refused(.peerFlood, original: "", telegramType: "", retryAfter: nil)
        let often = AttemptContext(detours: OutcomePolicy.mostDetours - 1)
        #expect(OutcomePolicy.step(after: result, often).target == .failed(.refused(.peerFlood)))
        let away = SendResult.notSent(reason: "down")
        #expect(OutcomePolicy.step(after: away, often).target == .failed(.gaveUp))
        #expect(
            OutcomePolicy.step(after: away, AttemptContext(detours: 3)).target
                == .back(.refused(.unreachable), after: .seconds(240)))
    }

    /// Telegram was asked nothing, so nothing counts; but for one word that is Telegram's own.
    @Test func `a person whom the account does not know goes to others, as far as there are some`() {
        func step(_ words: String, _ strangers: Int) -> NextStep {
            OutcomePolicy.step(
                after: .refused(
                    .personUnseen, original: words, telegramType: words == "User not found" ? "" : words,
                    retryAfter: nil), AttemptContext(strangers: strangers))
        }
        let reason = TargetReason.refused(.personUnseen)
        let local = step("User not found", 0)
        #expect(local == NextStep(.toAnother(reason), count: .none, permit: .release))
        #expect(step("USER_ID_INVALID", 0).permit == .record(success: false))
        let last = step("User not found", OutcomePolicy.mostStrangers - 1)
        #expect(last == NextStep(.failed(reason), count: .none, permit: .release))
    }

    @Test(arguments: [
        (SendResult.leaseLost, NextStep.Account.leave), (.notConnected, .excludeHere),
        (.notSent(reason: ""), .wait),
    ])
    func `what was surely not sent gives the permit back`(result: SendResult, account: NextStep.Account) {
        let step = OutcomePolicy.step(after: result, AttemptContext())
        #expect(step.permit == .release)
        #expect(step.account == account)
        #expect(step.count == .none)
    }

    @Test func `what nobody knows is in doubt, and its permit stays taken`() {
        let step = OutcomePolicy.step(after: .unknown(reason: ""), AttemptContext())
        #expect(step.target == .inDoubt)
        #expect(step.permit == .keep)
    }
}

@Suite struct `The states of` {
    @Test func `a task lead nowhere but where the diagram says`() throws {
        var allowed: [String] = []
        for status in TaskStatus.allCases {
            for event in TaskEvent.allCases {
                guard let next = try? status.after(event) else { continue }
                allowed.append("\(status.rawValue) \(event.rawValue) \(next.rawValue)")
            }
        }
        #expect(
            Set(allowed) == [
                "pending execute in_progress", "in_progress execute in_progress",
                "paused execute in_progress", "completed execute in_progress", "in_progress pause paused",
                "paused pause paused", "paused resume in_progress", "in_progress resume in_progress",
                "pending cancel cancelled", "in_progress cancel cancelled", "paused cancel cancelled",
                "cancelled cancel cancelled", "in_progress retryFailed in_progress",
                "completed retryFailed in_progress", "failed retryFailed in_progress",
                "paused retryFailed paused", "in_progress ended completed", "in_progress failed failed",
                "in_progress autoPaused paused",
            ])
    }

    @Test func `a target never leave a final one but for another try`() {
        for stage in TargetStage.allCases where stage.isFinal {
            for event in TargetEvent.allCases {
                let next = try? stage.after(event)
                #expect(next == nil || stage == .failed && event == .retry)
            }
        }
    }

    @Test func `a target are told from before the sending on`() {
        #expect((try? TargetStage.pending.after(.begin)) == nil)
        #expect((try? TargetStage.claimed.after(.succeed)) == nil)
        #expect((try? TargetStage.sending.after(.doubt)) == .inDoubt)
    }
}
