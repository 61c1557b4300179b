public import Core

/// Why a send did not succeed, in the one word that other services act on.
public enum FailureCode: String, Sendable, CaseIterable {
    case floodWait = "flood_wait"
    case peerFlood = "peer_flood"
    case userNotFound = "user_not_found"
    /// This account has never met the person, and of whom it has not met a number says nothing. Telegram was not
    /// asked to act.
    case personUnseen = "person_unseen"
    case invalidUsername = "invalid_username"
    case privacyRestricted = "privacy_restricted"
    case notMutualContact = "not_mutual_contact"
    case alreadyParticipant = "already_participant"
    case notInMembersAfterInvite = "not_in_members_after_invite"
    case tooManyChannels = "too_many_channels"
    case groupRestriction = "group_restriction"
    case adminRequired = "admin_required"
    case userBannedInGroup = "user_banned_in_group"
    case accountDisabled = "account_disabled"
    case accountFrozen = "account_frozen"
    case inviteFailed = "invite_failed"
    /// Nothing was sent; Telegram cannot be reached.
    case unreachable = "telegram_unreachable"
    /// It was sent, or not: the answer is missing. It has to be looked up before anything is sent again.
    case inDoubt = "in_doubt"

    /// Whose fault it is decides who else should try.
    public enum Fault: String, Sendable { case account, target, group, passing, unknown }

    public var fault: Fault {
        switch self {
        case .floodWait, .peerFlood, .accountDisabled, .accountFrozen, .personUnseen: .account
        case .userNotFound, .invalidUsername, .privacyRestricted, .notMutualContact, .alreadyParticipant,
            .notInMembersAfterInvite, .tooManyChannels, .userBannedInGroup:
            .target
        case .groupRestriction, .adminRequired: .group
        case .unreachable, .inDoubt: .passing
        case .inviteFailed: .unknown
        }
    }

    public var status: Int {
        switch self {
        case .floodWait, .peerFlood: 429
        case .userNotFound: 404
        case .invalidUsername, .privacyRestricted, .notMutualContact: 400
        case .alreadyParticipant, .notInMembersAfterInvite, .tooManyChannels, .userBannedInGroup, .inDoubt,
            .personUnseen:
            409
        case .groupRestriction, .adminRequired, .accountDisabled, .accountFrozen: 403
        case .inviteFailed: 502
        case .unreachable: 503
        }
    }

    /// Whether another attempt, later or with another account, may succeed. What is in doubt is looked up
    /// first, and what nobody knows is not tried blindly.
    public var canRetry: Bool {
        switch self {
        case .floodWait, .peerFlood, .accountDisabled, .accountFrozen, .adminRequired, .unreachable,
            .personUnseen:
            true
        default: false
        }
    }

    public var explanation: LocalizedText {
        switch self {
        case .floodWait:
            .init(
                "Telegram asks this account to wait before it goes on",
                "Telegram просит этот аккаунт подождать, прежде чем продолжать")
        case .peerFlood:
            .init(
                "Telegram has limited this account: for a day or more it may not write to or add people who do not know it",
                "Telegram ограничил этот аккаунт: сутки или дольше он не может писать незнакомым людям и добавлять их"
            )
        case .userNotFound:
            .init(
                "Telegram does not find this person: there is no such account, it was deleted, or it hides from this one",
                "Telegram не находит этого человека: такого аккаунта нет, он удалён или скрыт от этого аккаунта"
            )
        case .personUnseen:
            .init(
                "This account has never met this person, and Telegram shows nobody by a bare id; name them by username or phone, or let this account read the community they are in",
                "Этот аккаунт не встречал этого человека, а по одному id Telegram никого не показывает; укажите имя пользователя или телефон либо прочитайте этим аккаунтом сообщество, где человек состоит"
            )
        case .invalidUsername: .init("This is no Telegram username", "Это не имя пользователя Telegram")
        case .privacyRestricted:
            .init(
                "This person's privacy settings forbid it; send an invite link instead",
                "Это запрещают настройки приватности человека; отправьте ссылку-приглашение")
        case .notMutualContact:
            .init(
                "This person left the group, or lets only mutual contacts add them; treat it as a no",
                "Человек вышел из группы или разрешает добавлять себя только взаимным контактам; считайте это отказом"
            )
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
                "The group does not allow it: it is full, closed, or restricts this account",
                "Группа этого не допускает: она заполнена, закрыта или ограничивает этот аккаунт")
        case .adminRequired:
            .init(
                "This account does not have the right to invite into the group",
                "У этого аккаунта нет права приглашать в группу")
        case .userBannedInGroup:
            .init(
                "This person was removed from the group; only its administrators can let them in again",
                "Человека удалили из группы; вернуть его могут только её администраторы")
        case .accountDisabled:
            .init(
                "Telegram has ended this account's session or banned the account; connect it again",
                "Telegram завершил сеанс этого аккаунта или заблокировал его; подключите его заново")
        case .accountFrozen:
            .init(
                "Telegram has frozen this account: it can only read until an appeal succeeds",
                "Telegram заморозил этот аккаунт: до успешного обжалования он может только читать")
        case .inviteFailed:
            .init(
                "Telegram refused for a reason that is not known here; the account should rest",
                "Telegram отказал по неизвестной здесь причине; аккаунту лучше сделать паузу")
        case .unreachable:
            .init(
                "Telegram does not answer just now; nothing was sent",
                "Telegram сейчас не отвечает; ничего не отправлено")
        case .inDoubt:
            .init(
                "It is not known whether Telegram carried this out; look before sending again",
                "Неизвестно, выполнил ли это Telegram; проверьте, прежде чем отправлять снова")
        }
    }
}

/// One failed send, with all that is known of it.
public struct SendFailure: Error, Equatable, Sendable {
    public var code: FailureCode
    /// Telegram's own words, such as `PEER_FLOOD`.
    public var original: String
    public var retryAfter: Int64?

    public init(_ code: FailureCode, original: String = "", retryAfter: Int64? = nil) {
        self.code = code
        self.original = original
        self.retryAfter = retryAfter
    }

    /// The constant at the start of Telegram's words, for programs that know it.
    public var telegramType: String {
        let constant = original.prefix { $0.isASCII && ($0.isUppercase || $0.isNumber || $0 == "_") }
        return constant.count > 3 ? String(constant) : code.rawValue.uppercased()
    }

    public var explanation: LocalizedText {
        guard let retryAfter, code == .floodWait else { return code.explanation }
        return LocalizedText(
            "\(code.explanation.english): \(retryAfter) s", "\(code.explanation.russian): \(retryAfter) с")
    }
}

/// What a send came to.
public enum SendOutcome: Equatable, Sendable {
    case sent(Sent)
    case failed(SendFailure)

    public struct Sent: Equatable, Sendable {
        public var messageID: Int64?
        public var targetUserID: Int64?
        public var at: Timestamp
        /// Whether the person was found among the members afterwards; nil where nobody could look.
        public var isMember: Bool?

        public init(messageID: Int64? = nil, targetUserID: Int64? = nil, at: Timestamp, isMember: Bool? = nil)
        {
            self.messageID = messageID
            self.targetUserID = targetUserID
            self.at = at
            self.isMember = isMember
        }
    }
}

extension SendOutcome {
    /// As it is kept, so that a repeated attempt gets the same answer. Whom it was for is not kept: who asks
    /// again says so again.
    var stored: JSONValue {
        switch self {
        case .sent(let sent):
            .object(present: [
                "message_id": sent.messageID.map { .int($0) },
                "at": sent.at.json, "is_member": sent.isMember.map { .bool($0) },
            ])
        case .failed(let failure):
            .object(present: [
                "failure": .string(failure.code.rawValue), "original": .string(failure.original),
                "retry_after": failure.retryAfter.map { .int($0) },
            ])
        }
    }

    init?(stored: JSONValue) {
        if let word = stored["failure"]?.stringValue {
            guard let code = FailureCode(rawValue: word) else { return nil }
            self = .failed(
                SendFailure(
                    code, original: stored["original"]?.stringValue ?? "",
                    retryAfter: stored["retry_after"]?.intValue))
        } else {
            guard let at = stored["at"]?.stringValue.flatMap({ Timestamp($0) }) else { return nil }
            self = .sent(
                Sent(
                    messageID: stored["message_id"]?.intValue, at: at,
                    isMember: stored["is_member"]?.boolValue))
        }
    }
}
