public import Contracts
public import Core

/// Why a target ended, or went back, in one word for programs and one sentence for people.
public enum TargetReason: Hashable, Sendable {
    case refused(SendRefusal)
    /// On the stop-list.
    case suppressed
    /// Another target of the task has turned out to be the same person.
    case duplicate
    /// The task was cancelled before their turn.
    case cancelled
    /// Nobody could find out whether the invitation arrived; nothing more was sent.
    case outcomeUnknown
    /// Attempts failed in passing as often as may be.
    case gaveUp
    /// The parse result named nobody that could be invited.
    case noIdentifier
    /// The operator left them out.
    case byOperator
    /// They asked to be forgotten, before their turn.
    case erased
    /// Nobody is remembered longer than the retention allows.
    case retention

    public init?(code: String) {
        let own: [TargetReason] = [
            .suppressed, .duplicate, .cancelled, .outcomeUnknown, .gaveUp, .noIdentifier, .byOperator,
            .erased, .retention,
        ]
        if let found = own.first(where: { $0.code == code }) {
            self = found
        } else if let refusal = SendRefusal(rawValue: code) {
            self = .refused(refusal)
        } else {
            return nil
        }
    }

    public var code: String {
        switch self {
        case .refused(let refusal): refusal.rawValue
        case .suppressed: "suppressed"
        case .duplicate: "duplicate_person"
        case .cancelled: "task_cancelled"
        case .outcomeUnknown: "outcome_unknown"
        case .gaveUp: "gave_up"
        case .noIdentifier: "no_identifier"
        case .byOperator: "left_out"
        case .erased: "erased"
        case .retention: "retention"
        }
    }

    public var text: LocalizedText {
        switch self {
        case .refused(let refusal): refusal.text
        case .suppressed:
            .init(
                "This person is on the stop-list: they left, objected, or were put there",
                "Человек в стоп-листе: он вышел, отказался или добавлен туда вручную")
        case .duplicate:
            .init(
                "The same person stands in this task twice; they were invited once",
                "Этот человек встречается в задаче дважды; он приглашён один раз")
        case .cancelled:
            .init("The task was cancelled before their turn", "Задача отменена раньше, чем дошла очередь")
        case .outcomeUnknown:
            .init(
                "Nobody could find out whether the invitation arrived; it was not sent again",
                "Не удалось узнать, дошло ли приглашение; повторно оно не отправлялось")
        case .gaveUp:
            .init(
                "Telegram could not be reached for this person many times; try again later",
                "Много раз не удалось обратиться к Telegram для этого человека; повторите позже")
        case .noIdentifier:
            .init(
                "Neither a username, nor a phone number, nor an id is known",
                "Не известны ни имя пользователя, ни телефон, ни идентификатор")
        case .byOperator: .init("Left out by the operator", "Исключён оператором")
        case .erased:
            .init(
                "This person was erased at their wish; nothing is known of them any more",
                "Данные человека удалены по его требованию")
        case .retention:
            .init(
                "The time for which this person's data may be kept is over",
                "Срок хранения данных этого человека истёк")
        }
    }
}

extension SendRefusal {
    public var text: LocalizedText {
        switch self {
        case .floodWait:
            .init("Telegram asks this account to wait", "Telegram просит этот аккаунт подождать")
        case .peerFlood:
            .init(
                "Telegram has limited this account for a day",
                "Telegram ограничил этот аккаунт на сутки")
        case .userNotFound:
            .init(
                "Telegram does not find this person: no such account, deleted, or hidden",
                "Telegram не находит этого человека: аккаунта нет, он удалён или скрыт")
        case .personUnseen:
            .init(
                "None of your accounts has met this person, and Telegram shows nobody by a bare id: import them with a username or phone, or read the community they are in with an account of this campaign",
                "Ни один ваш аккаунт не встречал этого человека, а по одному id Telegram никого не показывает: импортируйте его с именем пользователя или телефоном либо прочитайте его сообщество аккаунтом этой кампании"
            )
        case .invalidUsername: .init("This is no Telegram username", "Это не имя пользователя Telegram")
        case .privacyRestricted:
            .init(
                "This person's privacy settings forbid it; an invite link is the way",
                "Это запрещают настройки приватности человека; поможет ссылка-приглашение")
        case .notMutualContact:
            .init(
                "This person left the group, or lets only mutual contacts add them: taken as a no",
                "Человек вышел из группы или разрешает это только взаимным контактам: считается отказом")
        case .alreadyParticipant: .init("This person is a member already", "Человек уже состоит в группе")
        case .notInMembersAfterInvite:
            .init(
                "Telegram accepted the invitation, but the person is not among the members",
                "Telegram принял приглашение, но человека нет среди участников")
        case .tooManyChannels:
            .init(
                "This person is in as many groups and channels as Telegram allows",
                "Человек состоит в предельном для Telegram числе групп и каналов")
        case .groupRestriction:
            .init(
                "The group does not allow it: it is full, closed, or restricts the account",
                "Группа этого не допускает: она заполнена, закрыта или ограничивает аккаунт")
        case .adminRequired:
            .init(
                "The account does not have the right to invite into the group",
                "У аккаунта нет права приглашать в группу")
        case .userBannedInGroup:
            .init(
                "This person was removed from the group; taken as a no",
                "Человека удалили из группы; считается отказом")
        case .accountDisabled:
            .init("The account's session has ended", "Сеанс аккаунта завершён")
        case .accountFrozen: .init("Telegram has frozen the account", "Telegram заморозил аккаунт")
        case .inviteFailed:
            .init(
                "Telegram refused for a reason that is not known here; it is not tried blindly again",
                "Telegram отказал по неизвестной здесь причине; вслепую повтора не будет")
        case .unreachable:
            .init(
                "Telegram did not answer; nothing was sent", "Telegram не ответил; ничего не отправлено")
        case .inDoubt:
            .init(
                "It is not known yet whether the invitation arrived",
                "Пока неизвестно, дошло ли приглашение")
        }
    }
}

/// What is done after an attempt.
public struct NextStep: Equatable, Sendable {
    public enum Target: Equatable, Sendable {
        case invited
        case failed(TargetReason)
        case skipped(TargetReason)
        /// Goes back to be tried again, by another account or later.
        case back(TargetReason, after: Duration)
        /// Goes back for an account that knows them: this one does not, and is not tried for them again.
        case toAnother(TargetReason)
        /// Goes back to be written to instead of added.
        case backAsMessage
        case inDoubt
    }
    public enum Account: Equatable, Sendable {
        /// Goes on with the next target.
        case keep
        /// account-manager hears of this error, and another account goes on.
        case report(String, seconds: Int64?)
        /// The account holds no right here, or the group turns it away: it is left out of this community, and
        /// its cached right is void.
        case excludeHere
        /// It is given back and another one goes on.
        case leave
        /// Telegram or integration-service is away: the whole campaign waits.
        case wait
    }
    /// Which of the person's nos becomes an entry of the stop-list.
    public enum Suppression: Equatable, Sendable { case none, community, operatorWide }

    /// How an attempt stands in the counts.
    public enum Count: String, Equatable, Sendable {
        /// It did not reach Telegram, or was not the target's fault: no attempt was lost.
        case none
        case accepted, refused
        /// Nobody will ever know.
        case unknown
    }

    /// What becomes of the permit the attempt was made under.
    public enum PermitUse: Equatable, Sendable {
        case record(success: Bool)
        /// Nothing has happened: it goes back unused.
        case release
        /// Nobody knows yet.
        case keep

        static func use(_ wasAsked: Bool) -> PermitUse { wasAsked ? .record(success: false) : .release }
    }

    public var target: Target
    public var account: Account
    public var suppression: Suppression
    public var count: Count
    public var permit: PermitUse

    public init(
        _ target: Target, account: Account = .keep, suppression: Suppression = .none, count: Count,
        permit: PermitUse
    ) {
        self.target = target
        self.account = account
        self.suppression = suppression
        self.count = count
        self.permit = permit
    }
}

/// What is known of a target when its attempt has come out.
public struct AttemptContext: Equatable, Sendable {
    public var isMessage: Bool
    public var fallsBackToMessages: Bool
    /// How often it has gone back already for what was not its fault.
    public var detours: Int
    /// How many accounts have turned out not to know them.
    public var strangers: Int

    public init(
        isMessage: Bool = false, fallsBackToMessages: Bool = false, detours: Int = 0, strangers: Int = 0
    ) {
        self.isMessage = isMessage
        self.fallsBackToMessages = fallsBackToMessages
        self.detours = detours
        self.strangers = strangers
    }
}

/// Which result leads to which state, message and next step: the table of `docs/invite-service.md`.
public enum OutcomePolicy {
    /// As often as a target may go back for what is not its fault. One that goes wrong with every account must
    /// not take them all down.
    public static let mostDetours = 20
    /// As many accounts are tried for a person who is known by an id alone.
    public static let mostStrangers = 10

    /// Telegram's own constants for a person who has blocked the account: a no to this operator.
    static let blockedTypes: Set<String> = ["USER_IS_BLOCKED", "YOU_BLOCKED_USER", "USER_BLOCKED"]

    public static func step(after result: SendResult, _ context: AttemptContext) -> NextStep {
        let step = unbounded(result, context)
        guard case .back(let reason, _) = step.target, context.detours + 1 >= mostDetours else { return step }
        var bounded = step
        bounded.target = .failed(reason == .refused(.unreachable) ? .gaveUp : reason)
        return bounded
    }

    private static func unbounded(_ result: SendResult, _ context: AttemptContext) -> NextStep {
        switch result {
        case .sent: NextStep(.invited, count: .accepted, permit: .record(success: true))
        case .leaseLost:
            NextStep(
                .back(.refused(.unreachable), after: .zero), account: .leave, count: .none, permit: .release)
        case .notConnected:
            NextStep(
                .back(.refused(.accountDisabled), after: .zero), account: .excludeHere, count: .none,
                permit: .release)
        case .notSent:
            NextStep(
                .back(.refused(.unreachable), after: pause(context)), account: .wait, count: .none,
                permit: .release)
        case .unknown: NextStep(.inDoubt, account: .leave, count: .none, permit: .keep)
        case .refused(let refusal, _, let type, let retryAfter):
            step(after: refusal, type: type, retryAfter: retryAfter, context)
        }
    }

    private static func step(
        after refusal: SendRefusal, type: String, retryAfter: Int64?, _ context: AttemptContext
    ) -> NextStep {
        let reason = TargetReason.refused(refusal)
        switch refusal {
        case .floodWait:
            return NextStep(
                .back(reason, after: .zero), account: .report("flood_wait", seconds: retryAfter),
                count: .none, permit: .record(success: false))
        case .peerFlood:
            return NextStep(
                .back(reason, after: .zero), account: .report("peer_flood", seconds: nil), count: .none,
                permit: .record(success: false))
        case .accountDisabled:
            return NextStep(
                .back(reason, after: .zero), account: .report("auth_key_error", seconds: nil), count: .none,
                permit: .record(success: false))
        case .accountFrozen:
            return NextStep(
                .back(reason, after: .zero), account: .report("frozen", seconds: nil), count: .none,
                permit: .record(success: false))
        case .adminRequired, .groupRestriction:
            return NextStep(
                .back(reason, after: .zero), account: .excludeHere, count: .none,
                permit: .record(success: false))
        case .privacyRestricted:
            if blockedTypes.contains(type) {
                return NextStep(
                    .failed(reason), suppression: .operatorWide, count: .refused,
                    permit: .record(success: false))
            }
            return context.fallsBackToMessages && !context.isMessage
                ? NextStep(.backAsMessage, count: .refused, permit: .record(success: false))
                : NextStep(.failed(reason), count: .refused, permit: .record(success: false))
        case .notMutualContact, .userBannedInGroup:
            return NextStep(
                .failed(reason), suppression: .community, count: .refused, permit: .record(success: false))
        case .alreadyParticipant:
            return NextStep(.skipped(reason), count: .refused, permit: .record(success: false))
        // Telegram has taken it, so it counts against the limits as a success.
        case .notInMembersAfterInvite:
            return NextStep(.failed(reason), count: .accepted, permit: .record(success: true))
        case .personUnseen:
            // Telegram was asked to do nothing, but for one word, which is its own.
            let permit = NextStep.PermitUse.use(type == "USER_ID_INVALID")
            if let retryAfter {
                return NextStep(.back(reason, after: .seconds(retryAfter)), count: .none, permit: permit)
            }
            let isLast = context.strangers + 1 >= mostStrangers
            return NextStep(isLast ? .failed(reason) : .toAnother(reason), count: .none, permit: permit)
        case .userNotFound, .invalidUsername, .tooManyChannels:
            return NextStep(.failed(reason), count: .refused, permit: .record(success: false))
        case .inviteFailed:
            return NextStep(
                .failed(reason), account: .report("invite_failed", seconds: nil), count: .refused,
                permit: .record(success: false))
        case .unreachable:
            return NextStep(
                .back(reason, after: pause(context)), account: .wait, count: .none, permit: .release)
        case .inDoubt: return NextStep(.inDoubt, account: .leave, count: .none, permit: .keep)
        }
    }

    /// Half a minute, twice as long each time, to half an hour.
    static func pause(_ context: AttemptContext) -> Duration {
        .seconds(min(1800, Int64(30) << Int64(min(context.detours, 6))))
    }
}

/// How one whose outcome is not known is found out about.
public enum DoubtPolicy {
    /// How often it is looked up before nobody asks any more.
    public static let mostLooks = 6

    /// Before the first look an attempt may still be under way.
    public static func pause(beforeLook number: Int) -> Duration {
        number == 0 ? .seconds(20) : .minutes(min(60, Int64(2) << Int64(min(number, 5))))
    }
}
