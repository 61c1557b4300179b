public import Core
public import HTTP
public import Integration
public import Telegram

// What Telegram says, in the words of our API.

extension FailureCode {
    /// `Telegram`'s reasons are many; what other services act on are these few.
    init(_ reason: FailureReason) {
        switch reason {
        case .floodWait: self = .floodWait
        case .peerFlood, .bannedFromGroups: self = .peerFlood
        case .frozen, .frozenForGroup: self = .accountFrozen
        case .sessionLost, .accountBanned, .accountDeactivated, .duplicatedKey, .unauthorized:
            self = .accountDisabled
        case .inTooManyGroups, .blockedByUs, .noStars: self = .inviteFailed
        case .adminRequired: self = .adminRequired
        case .writeForbidden, .restrictedInGroup, .bannedInGroup: self = .groupRestriction
        case .privacy, .premiumWouldAllow, .premiumRequired, .blockedUs, .paidMessages, .targetBlocked,
            .botNotAddable:
            self = .privacyRestricted
        case .notMutualContact: self = .notMutualContact
        case .targetInTooManyGroups: self = .tooManyChannels
        case .targetKicked: self = .userBannedInGroup
        case .invalidName, .invalidPhone: self = .invalidUsername
        case .noSuchName, .targetDeleted, .noSuchPerson: self = .userNotFound
        case .unknownPerson: self = .personUnseen
        case .groupInaccessible, .groupFull, .membersInaccessible, .nothingToRead, .paidGroup,
            .groupDeactivated,
            .staleChat, .unknownChat, .deadInviteLink, .wrongKindOfChat, .noSuchMessage:
            self = .groupRestriction
        case .alreadyParticipant: self = .alreadyParticipant
        case .serverTrouble, .couldNotAdd, .dataInaccessible, .noAnswer, .aborted, .databaseInUse, .stepAgain:
            self = .unreachable
        case .badText, .joinRequestSent, .repeatedSend, .phoneInvalid, .phoneFlood, .passwordFlood,
            .signUpForbidden,
            .codeInvalid, .codeExpired, .noAccount, .passwordInvalid, .updateRequired, .signInFailed,
            .noMoreCodes,
            .startAgain, .overtakenByOtherStep, .unexpectedStep, .wrongAPIKey, .wrongDatabaseKey,
            .notConfigured,
            .badRequest, .unknown:
            self = .inviteFailed
        }
    }
}

extension SendFailure {
    init(_ failure: TelegramFailure) {
        self.init(
            failure.isInDoubt ? .inDoubt : FailureCode(failure.reason), original: failure.message,
            retryAfter: failure.wait?.wholeSecondsUp)
    }

    func problem(about target: String?, in language: Language) -> Problem {
        var problem = Problem(code.status, code.rawValue, explanation)
            .with([
                "error": .string(code.rawValue), "message": .string(explanation(language)),
                "target": JSONValue(target),
                "original_error": .string(original), "telegram_error_type": .string(telegramType),
                "fault": .string(code.fault.rawValue), "can_retry": .bool(code.canRetry),
            ])
        if let retryAfter { problem.members.append(JSONMember("retry_after", .int(retryAfter))) }
        if code.status == 429 || code.status == 503 {
            // PEER_FLOOD names no time; limits.md rests the account for a day.
            let seconds = retryAfter ?? (code == .peerFlood ? 86_400 : 5)
            problem = problem.with(header: "Retry-After", String(max(seconds, 1)))
        }
        return problem
    }
}

extension SendFailure: ProblemConvertible {
    public var problem: Problem { problem(about: nil, in: .english) }
}

extension LoginFailure {
    init(_ failure: TelegramFailure) {
        switch failure.reason {
        case .phoneInvalid: self = .phoneInvalid
        case .accountBanned: self = .phoneBanned
        case .phoneFlood, .passwordFlood: self = .phoneFlood
        case .floodWait: self = .floodWait(seconds: failure.wait?.wholeSecondsUp ?? 60)
        case .codeInvalid: self = .codeInvalid
        case .codeExpired, .startAgain: self = .codeExpired
        case .passwordInvalid: self = .passwordWrong
        case .noMoreCodes: self = .cannotResend
        case .noAccount, .signUpForbidden: self = .notRegistered
        case .sessionLost, .accountDeactivated, .duplicatedKey, .unauthorized:
            self = .sessionLost(reason: failure.message)
        case .wrongAPIKey, .notConfigured, .wrongDatabaseKey: self = .misconfigured
        case .serverTrouble, .noAnswer, .aborted, .dataInaccessible, .databaseInUse, .stepAgain,
            .signInFailed:
            self = .unreachable
        default: self = .other(failure.message)
        }
    }

    /// States in which a login cannot go on here; nil for all others.
    init?(obstacle state: AuthorizationState) {
        switch state {
        case .waitEmailAddress, .waitEmailCode: self = .emailRequired
        case .waitRegistration: self = .notRegistered
        case .waitPremiumPurchase: self = .premiumRequired
        case .unknown(let name): self = .other(name)
        default: return nil
        }
    }
}

extension LoginFailure: ProblemConvertible {
    public var problem: Problem {
        let status =
            switch self {
            case .phoneInvalid, .codeInvalid, .codeExpired, .passwordWrong: 400
            case .phoneBanned, .notRegistered, .emailRequired, .premiumRequired: 403
            case .phoneFlood, .floodWait: 429
            case .cannotResend, .accountTaken, .sessionLost: 409
            case .misconfigured, .unreachable: 503
            case .other: 502
            }
        let problem = Problem(status, code, explanation)
        return switch self {
        case .floodWait(let seconds):
            problem.with(header: "Retry-After", String(max(seconds, 1))).with(["retry_after": .int(seconds)])
        case .phoneFlood: problem.with(header: "Retry-After", "86400")
        case .unreachable: problem.with(header: "Retry-After", "5")
        default: problem
        }
    }
}

extension IntegrationError: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .unknownAccount, .unknownLogin, .unknownBot, .unknownChannel: Problem.notFound
        case .accountNotConnected:
            Problem(
                409, "account_not_connected",
                .init(
                    "This account is not connected; connect it again",
                    "Этот аккаунт не подключён; подключите его заново"))
        case .accountTaken: LoginFailure.accountTaken.problem
        case .tooManyLogins(let limit):
            Problem(
                429, "too_many_logins",
                .init(
                    "\(limit) connections are under way already; finish one, or wait five minutes",
                    "Уже начато подключений: \(limit); завершите одно или подождите пять минут")
            ).with(header: "Retry-After", "300")
        case .botTaken:
            Problem(
                409, "bot_exists",
                .init("This bot is in your list already", "Этот бот уже есть в вашем списке"))
        case .channelTaken:
            Problem(
                409, "channel_exists",
                .init(
                    "This group or channel is in your list already",
                    "Эта группа или канал уже есть в вашем списке"))
        case .leaseLost(let newest):
            Problem(
                409, "lease_lost",
                .init(
                    "Somebody else has leased this account since; nothing was sent",
                    "Этот аккаунт уже выдан другому; ничего не отправлено")
            ).with(["newest_fencing_token": .int(newest)])
        case .attemptReused:
            Problem(
                422, "attempt_reused",
                .init(
                    "This attempt_id was used for another send",
                    "Этот attempt_id уже использован для другой отправки"))
        case .busy:
            Problem.unavailable(.init("Try again shortly", "Повторите чуть позже")).with(
                header: "Retry-After", "2")
        }
    }
}

/// Refusals of a look at Telegram that is no send: reading, checking, joining.
extension TelegramFailure: ProblemConvertible {
    public var problem: Problem { SendFailure(self).problem }
}

extension Errands.Refused: ProblemConvertible {
    public var problem: Problem { IntegrationError.busy.problem }
}
