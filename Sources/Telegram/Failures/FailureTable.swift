import Core

extension TelegramFailure {
    /// Reads an `error` of TDLib. The message decides; the code only where the message is new to us, because
    /// the same refusal comes with different codes.
    init(error: JSONValue, method: TelegramMethod) {
        let code = Int32(truncatingIfNeeded: error["code"]?.intValue ?? 0)
        let message = error["message"]?.stringValue ?? ""
        self.init(code: code, message: message, method: method)
    }

    init(code: Int32, message: String, method: TelegramMethod) {
        let (reason, wait) = FailureTable.read(code: code, message: message, method: method)
        self.init(
            reason, code: code, message: message, wait: wait, method: method.rawValue,
            isInDoubt: method.isWrite && FailureTable.leavesDoubt(reason))
    }
}

/// Which of Telegram's words mean what.
enum FailureTable {
    /// The server's constants and TDLib's sentences, whole.
    static let words: [String: FailureReason] = [
        "PEER_FLOOD": .peerFlood,
        "FROZEN_METHOD_INVALID": .frozen,
        "FROZEN_PARTICIPANT_MISSING": .frozenForGroup,
        "USER_BANNED_IN_CHANNEL": .bannedFromGroups,
        "CHANNELS_TOO_MUCH": .inTooManyGroups,
        "YOU_BLOCKED_USER": .blockedByUs,
        "BALANCE_TOO_LOW": .noStars,

        "AUTH_KEY_UNREGISTERED": .sessionLost,
        "AUTH_KEY_INVALID": .sessionLost,
        "AUTH_KEY_PERM_EMPTY": .sessionLost,
        "SESSION_REVOKED": .sessionLost,
        "SESSION_EXPIRED": .sessionLost,
        "USER_DEACTIVATED_BAN": .accountBanned,
        "PHONE_NUMBER_BANNED": .accountBanned,
        "USER_DEACTIVATED": .accountDeactivated,
        "AUTH_KEY_DUPLICATED": .duplicatedKey,
        "Unauthorized": .unauthorized,

        "CHAT_ADMIN_REQUIRED": .adminRequired,
        "Not enough rights to invite members to the supergroup chat": .adminRequired,
        "Not enough rights to invite members to the group chat": .adminRequired,
        "Not enough rights to manage chat invite link": .adminRequired,
        "Need administrator rights in the channel chat": .adminRequired,
        "CHAT_WRITE_FORBIDDEN": .writeForbidden,
        "Have no write access to the chat": .writeForbidden,
        "CHAT_RESTRICTED": .restrictedInGroup,
        "CHAT_SEND_PLAIN_FORBIDDEN": .restrictedInGroup,
        "CHAT_GUEST_SEND_FORBIDDEN": .restrictedInGroup,
        "User is banned from the chat": .bannedInGroup,
        "Can't return to kicked from chat": .bannedInGroup,

        "USER_PRIVACY_RESTRICTED": .privacy,
        "PRIVACY_PREMIUM_REQUIRED": .premiumRequired,
        "USER_NOT_MUTUAL_CONTACT": .notMutualContact,
        "USER_CHANNELS_TOO_MUCH": .targetInTooManyGroups,
        "USER_KICKED": .targetKicked,
        "USER_BLOCKED": .targetBlocked,
        "BOTS_TOO_MUCH": .botNotAddable,
        "BOT_GROUPS_BLOCKED": .botNotAddable,
        "USER_BOT": .botNotAddable,
        "USER_BOT_INVALID": .botNotAddable,
        "USERNAME_NOT_OCCUPIED": .noSuchName,
        "USERNAME_INVALID": .invalidName,
        "Username is invalid": .invalidName,
        "INPUT_USER_DEACTIVATED": .targetDeleted,
        "User is deactivated": .targetDeleted,
        "USER_DELETED": .targetDeleted,
        "USER_IS_BLOCKED": .blockedUs,
        "Phone number is invalid": .invalidPhone,
        "PHONE_NOT_OCCUPIED": .noSuchPerson,
        "USER_ALREADY_PARTICIPANT": .alreadyParticipant,
        "INVITE_REQUEST_SENT": .joinRequestSent,

        "CHANNEL_PRIVATE": .groupInaccessible,
        "CHANNEL_PUBLIC_GROUP_NA": .groupInaccessible,
        "Can't access the chat": .groupInaccessible,
        "USERS_TOO_MUCH": .groupFull,
        "Member list is inaccessible": .membersInaccessible,
        "Can't access message comments": .nothingToRead,
        "Message has no comments": .nothingToRead,
        "Message has no thread": .nothingToRead,
        "Root message must be used to get the message thread": .nothingToRead,
        "STARS_PAYMENT_REQUIRED": .paidGroup,
        "Chat is deactivated": .groupDeactivated,

        "CHANNEL_INVALID": .staleChat,
        "CHAT_INVALID": .staleChat,
        "CHAT_ID_INVALID": .staleChat,
        "PEER_ID_INVALID": .staleChat,
        "Invalid chat identifier specified": .staleChat,
        "USER_ID_INVALID": .unknownPerson,
        "User not found": .unknownPerson,
        "Invalid user identifier": .unknownPerson,
        "Have no access to the user": .unknownPerson,
        "Chat info not found": .unknownPerson,
        "Member not found": .unknownPerson,
        "Chat not found": .unknownChat,
        "Supergroup not found": .unknownChat,
        "Group not found": .unknownChat,
        "Basic group not found": .unknownChat,
        "Message not found": .noSuchMessage,
        "INVITE_HASH_EXPIRED": .deadInviteLink,
        "INVITE_HASH_INVALID": .deadInviteLink,
        "Wrong invite link": .deadInviteLink,
        "MESSAGE_TOO_LONG": .badText,
        "Message is too long": .badText,
        "MESSAGE_EMPTY": .badText,
        "ENTITIES_TOO_LONG": .badText,
        "Text must be non-empty": .badText,
        "Can't send message without content": .badText,
        "Can't add many members at once to a basic group chat": .wrongKindOfChat,
        "Members can't be added to the chat explicitly": .wrongKindOfChat,
        "Can't add members to a private chat": .wrongKindOfChat,
        "Can't invite members to a private chat": .wrongKindOfChat,
        "Chat is not a supergroup or a channel": .wrongKindOfChat,

        "CHAT_MEMBER_ADD_FAILED": .couldNotAdd,
        "RANDOM_ID_DUPLICATE": .repeatedSend,
        "MSG_WAIT_FAILED": .repeatedSend,
        "Requested data is inaccessible": .dataInaccessible,
        "Request aborted": .aborted,

        "PHONE_NUMBER_INVALID": .phoneInvalid,
        "Phone number must be non-empty": .phoneInvalid,
        "PHONE_NUMBER_FLOOD": .phoneFlood,
        "PHONE_PASSWORD_FLOOD": .passwordFlood,
        "PHONE_NUMBER_APP_SIGNUP_FORBIDDEN": .signUpForbidden,
        "PHONE_CODE_INVALID": .codeInvalid,
        "PHONE_CODE_EMPTY": .codeInvalid,
        "PHONE_CODE_EXPIRED": .codeExpired,
        "PHONE_NUMBER_UNOCCUPIED": .noAccount,
        "PASSWORD_HASH_INVALID": .passwordInvalid,
        "UPDATE_APP_TO_LOGIN": .updateRequired,
        "SIGN_IN_FAILED": .signInFailed,
        "SEND_CODE_UNAVAILABLE": .noMoreCodes,
        "Authentication code can't be resend": .noMoreCodes,
        "SRP_ID_INVALID": .stepAgain,
        "SRP_PASSWORD_CHANGED": .stepAgain,
        "AUTH_KEY_UNSYNCHRONIZED": .stepAgain,
        "AUTH_RESTART": .startAgain,
        "Another authorization query has started": .overtakenByOtherStep,

        "API_ID_INVALID": .wrongAPIKey,
        "API_ID_PUBLISHED_FLOOD": .wrongAPIKey,
        "Wrong database encryption key": .wrongDatabaseKey,
        "The method can't be executed synchronously": .badRequest,
        "Invalid TDLib instance specified": .badRequest,
        "Option can't be set": .badRequest,
    ]

    /// What begins so; a message may carry a number or a path behind it.
    static let beginnings: [(String, FailureReason)] = [
        ("ALLOW_PAYMENT_REQUIRED", .paidMessages),
        ("ENTITY_", .badText),
        ("Valid api_", .wrongAPIKey),
        ("Can't lock file", .databaseInUse),
        ("Can't init database", .databaseInUse),
        ("Initialization parameters are needed", .notConfigured),
        ("Failed to parse", .badRequest),
        ("Expected ", .badRequest),
        ("Parameter ", .badRequest),
        ("Can't use ", .badRequest),
        ("Can't forward negative", .badRequest),
        ("Member limit can't be specified", .badRequest),
        ("Unexpected setTdlibParameters", .unexpectedStep),
        ("System language code must", .notConfigured),
        ("Device model must", .notConfigured),
        ("Application version must", .notConfigured),
    ]

    static func read(code: Int32, message: String, method: TelegramMethod) -> (FailureReason, wait: Duration?)
    {
        if let seconds = floodSeconds(message) { return (.floodWait, .seconds(seconds)) }
        if let reason = words[message] { return (reason, usualWait(reason)) }
        if let (_, reason) = beginnings.first(where: { message.hasPrefix($0.0) }) { return (reason, nil) }
        if message.hasPrefix("Call to "), message.hasSuffix(" unexpected") { return (.unexpectedStep, nil) }
        if message == "Not Found" { return (notFound(method), nil) }
        switch code {
        case 500...: return (.serverTrouble, nil)
        case 429: return (.floodWait, .seconds(60))
        case 401: return (.sessionLost, nil)
        default: return (.unknown, nil)
        }
    }

    /// `Too Many Requests: retry after 30`, and the server's own words where they come through.
    private static func floodSeconds(_ message: String) -> Int64? {
        for beginning in [
            "Too Many Requests: retry after ", "FLOOD_WAIT_", "SLOWMODE_WAIT_", "FLOOD_PREMIUM_WAIT_",
            "2FA_CONFIRM_WAIT_", "TAKEOUT_INIT_DELAY_",
        ] where message.hasPrefix(beginning) {
            let digits = message.dropFirst(beginning.count).prefix { $0.isASCII && $0.isNumber }
            // A wait that says no number, or more than any wait can be, is still one.
            return Int64(digits).map { min($0, 366 * 86_400) } ?? 60
        }
        return nil
    }

    /// The one sentence that means something else with every method.
    private static func notFound(_ method: TelegramMethod) -> FailureReason {
        switch method {
        case .searchUserByPhoneNumber, .getUser, .getUserFullInfo: .noSuchPerson
        case .getMessage, .getMessageThread, .getMessageThreadHistory: .noSuchMessage
        case .getInternalLinkType: .invalidName
        default: .unknownChat
        }
    }

    /// Where Telegram names no time but one is known to be wanted.
    private static func usualWait(_ reason: FailureReason) -> Duration? {
        switch reason {
        case .peerFlood, .bannedFromGroups, .phoneFlood, .passwordFlood: .hours(24)
        default: nil
        }
    }

    /// Whether a write may have taken effect although this came back: only a plain refusal proves it has not.
    static func leavesDoubt(_ reason: FailureReason) -> Bool {
        switch reason {
        case .noAnswer, .aborted, .serverTrouble, .repeatedSend: true
        default: false
        }
    }
}
