/// Telegram, or its library, said no; or said nothing in time.
public struct TelegramFailure: Error, Equatable, Sendable {
    /// What it means to us.
    public let reason: FailureReason
    /// As it came: for the log and for whoever looks into it. Decisions are made on `reason` alone.
    public let code: Int32
    public let message: String
    /// The wait Telegram named, or the one its refusal is known to want.
    public let wait: Duration?
    /// What was asked, such as `addChatMember`.
    public let method: String
    /// Whether the effect may have happened all the same: to be looked up, never simply repeated.
    public let isInDoubt: Bool

    public init(
        _ reason: FailureReason, code: Int32 = 0, message: String = "", wait: Duration? = nil,
        method: String = "",
        isInDoubt: Bool = false
    ) {
        self.reason = reason
        self.code = code
        self.message = message
        self.wait = wait
        self.method = method
        self.isInDoubt = isInDoubt
    }

    public var blame: Blame { reason.blame }
    public var retry: RetryAdvice { reason.retry }
}

extension TelegramFailure: CustomStringConvertible {
    public var description: String { "\(method): \(reason) (\(code) \(message))" }
}

/// Whose fault a failure is, and so who is to be left alone.
public enum Blame: String, Sendable, CaseIterable {
    /// The acting account as a whole.
    case account
    /// The acting account within this one group.
    case accountInGroup
    /// The person it was about.
    case target
    /// The group it was about.
    case group
    /// What we hold of the world is old or wrong.
    case ourData
    /// Settings or code of ours.
    case ours
    /// Nobody's: it goes by.
    case passing
    /// Never seen before. The account is stopped and a person asked.
    case unknown
}

/// What may be done after a failure.
public enum RetryAdvice: String, Sendable, CaseIterable {
    /// Not this again.
    case never
    /// After `wait`.
    case afterWait
    /// Once, with what a fresh look at Telegram gives.
    case onceAfterResolving
    /// Once, some time later.
    case onceLater
    /// After minutes, then longer.
    case later
    /// After a person has connected the account anew.
    case afterReconnecting
    /// After the person who signs in has done something else or typed it again.
    case afterInput
}

/// Every failure we know, by what it means. `FailureTable` says which of Telegram's words belong to which.
public enum FailureReason: String, Sendable, CaseIterable {
    // The account
    case floodWait, peerFlood, frozen, bannedFromGroups, inTooManyGroups, blockedByUs, noStars
    case sessionLost, accountBanned, accountDeactivated, duplicatedKey, unauthorized
    // The account in this group
    case frozenForGroup, adminRequired, writeForbidden, restrictedInGroup, bannedInGroup
    // The person
    case privacy, premiumWouldAllow, premiumRequired, notMutualContact, targetInTooManyGroups, targetKicked
    case targetBlocked, botNotAddable, noSuchName, invalidName, targetDeleted, blockedUs, paidMessages
    case noSuchPerson, invalidPhone
    // The group
    case groupInaccessible, groupFull, membersInaccessible, nothingToRead, paidGroup, groupDeactivated
    // What we hold
    case staleChat, unknownPerson, unknownChat, noSuchMessage, deadInviteLink, badText, wrongKindOfChat
    // No failure at all
    case alreadyParticipant, joinRequestSent
    // Passing
    case serverTrouble, couldNotAdd, dataInaccessible, repeatedSend, noAnswer, aborted
    // Signing in
    case phoneInvalid, phoneFlood, passwordFlood, signUpForbidden, codeInvalid, codeExpired, noAccount
    case passwordInvalid, updateRequired, signInFailed, noMoreCodes, stepAgain, startAgain
    case overtakenByOtherStep, unexpectedStep
    // Settings and code
    case wrongAPIKey, wrongDatabaseKey, databaseInUse, notConfigured, badRequest
    // Anything else
    case unknown
}

extension FailureReason {
    public var blame: Blame {
        switch self {
        case .floodWait, .peerFlood, .frozen, .bannedFromGroups, .inTooManyGroups, .blockedByUs, .noStars,
            .sessionLost, .accountBanned, .accountDeactivated, .duplicatedKey, .unauthorized, .phoneInvalid,
            .phoneFlood, .passwordFlood, .signUpForbidden, .codeInvalid, .codeExpired, .noAccount,
            .passwordInvalid, .updateRequired, .signInFailed, .noMoreCodes:
            .account
        case .frozenForGroup, .adminRequired, .writeForbidden, .restrictedInGroup, .bannedInGroup:
            .accountInGroup
        case .privacy, .premiumWouldAllow, .premiumRequired, .notMutualContact, .targetInTooManyGroups,
            .targetKicked, .targetBlocked, .botNotAddable, .noSuchName, .invalidName, .targetDeleted,
            .blockedUs,
            .paidMessages, .noSuchPerson, .invalidPhone, .alreadyParticipant:
            .target
        case .groupInaccessible, .groupFull, .membersInaccessible, .nothingToRead, .paidGroup,
            .groupDeactivated:
            .group
        case .staleChat, .unknownPerson, .unknownChat, .noSuchMessage, .deadInviteLink, .badText: .ourData
        case .wrongKindOfChat, .wrongAPIKey, .wrongDatabaseKey, .databaseInUse, .notConfigured, .badRequest,
            .unexpectedStep, .overtakenByOtherStep:
            .ours
        case .joinRequestSent, .serverTrouble, .couldNotAdd, .dataInaccessible, .repeatedSend, .noAnswer,
            .aborted, .stepAgain, .startAgain:
            .passing
        case .unknown: .unknown
        }
    }

    public var retry: RetryAdvice {
        switch self {
        case .floodWait, .peerFlood, .bannedFromGroups, .phoneFlood, .passwordFlood: .afterWait
        case .staleChat, .unknownPerson, .unknownChat: .onceAfterResolving
        case .couldNotAdd, .dataInaccessible, .repeatedSend, .stepAgain: .onceLater
        case .serverTrouble, .noAnswer, .aborted, .signInFailed: .later
        case .sessionLost, .duplicatedKey: .afterReconnecting
        case .phoneInvalid, .codeInvalid, .codeExpired, .passwordInvalid, .noMoreCodes, .startAgain,
            .updateRequired:
            .afterInput
        default: .never
        }
    }

    /// Whether the account is to be stopped until a person has looked.
    public var stopsAccount: Bool {
        switch self {
        case .frozen, .sessionLost, .accountBanned, .accountDeactivated, .duplicatedKey, .peerFlood,
            .bannedFromGroups, .floodWait, .unknown:
            true
        default: false
        }
    }
}
