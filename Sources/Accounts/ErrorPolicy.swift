public import Core

/// What Telegram answered when an action failed, as far as it changes the account.
public enum AccountError: Equatable, Sendable {
    case floodWait(Duration)
    case peerFlood
    case phoneNumberBanned
    case userDeactivated
    case authKeyError
    case frozen(until: Timestamp?)
    /// Anything else, also what Telegram invents tomorrow.
    case other

    /// When neither the context nor the message says how long a flood wait is: long enough that the next
    /// attempt is no blind retry.
    public static let unsaidFloodWait = Duration.hours(1)
    /// Telegram's own flood waits reach a day; anything longer than this is taken for this.
    public static let longestWait = Duration.days(30)

    /// Reads what a caller reports. Nothing in it is trusted to be sane.
    public init(type: String, message: String = "", context: JSONValue = .null, at now: Timestamp) {
        switch AccountError.canonical(type) {
        case "flood_wait", "flood_wait_error", "floodwait", "floodwaiterror", "slowmode_wait":
            let seconds =
                AccountError.seconds(context["seconds"] ?? .null)
                ?? AccountError.seconds(context["retry_after"] ?? .null)
                ?? AccountError.seconds(inMessage: message)
            self = .floodWait(seconds.map { min(.seconds($0), Self.longestWait) } ?? Self.unsaidFloodWait)
        case "peer_flood", "peerflood", "peerflooderror": self = .peerFlood
        case "phone_number_banned", "phonenumberbanned", "phonenumberbannederror": self = .phoneNumberBanned
        case "user_deactivated", "user_deactivated_ban", "userdeactivated", "userdeactivatederror",
            "userdeactivatedbanerror":
            self = .userDeactivated
        case "auth_key_error", "auth_key_unregistered", "auth_key_duplicated", "auth_key_invalid",
            "authkeyerror", "authkeyunregisterederror", "authkeyduplicatederror", "session_revoked",
            "sessionrevokederror", "session_expired", "unauthorized":
            self = .authKeyError
        case "frozen", "account_frozen", "user_frozen", "frozen_method_invalid":
            self = .frozen(until: AccountError.freezeEnd(context, now: now))
        default: self = .other
        }
    }

    /// The word under which logs and metrics count it.
    public var code: String {
        switch self {
        case .floodWait: "flood_wait"
        case .peerFlood: "peer_flood"
        case .phoneNumberBanned: "phone_number_banned"
        case .userDeactivated: "user_deactivated"
        case .authKeyError: "auth_key_error"
        case .frozen: "frozen"
        case .other: "other"
        }
    }

    private static func canonical(_ type: String) -> String {
        // Long types are nobody's; comparing their beginning keeps hostile input cheap.
        String(type.utf8.prefix(64).map { Character(Unicode.Scalar($0 == 0x2D || $0 == 0x20 ? 0x5F : $0)) })
            .lowercased()
    }

    /// A whole, positive number of seconds, however it was written.
    private static func seconds(_ value: JSONValue) -> Int64? {
        switch value {
        case .int(let number): return number > 0 ? number : nil
        case .double(let number):
            guard number > 0 else { return nil }
            return number >= 1e12 ? 1_000_000_000_000 : Int64(number.rounded(.up))
        case .string(let text): return numbers(in: text).first?.value
        default: return nil
        }
    }

    /// The number that a message of Telegram's or of a client library means: `FLOOD_WAIT_300`,
    /// `A wait of 300 seconds is required`, `retry after 34`, `FloodWaitError: 300`. A number that is named as
    /// the wait comes before an error code such as 420.
    private static func seconds(inMessage message: String) -> Int64? {
        let text = String(decoding: message.utf8.prefix(1_000), as: UTF8.self).lowercased()
        let found = numbers(in: text)
        for mark in ["flood_wait_", "wait of ", "retry after ", "retry_after", "floodwaiterror"] {
            guard let position = text.utf8Offset(after: mark) else { continue }
            if let number = found.first(where: { $0.offset >= position }) { return number.value }
        }
        return found.first?.value
    }

    /// The positive numbers of a text with their places in bytes.
    private static func numbers(in text: String) -> [(offset: Int, value: Int64)] {
        var found: [(offset: Int, value: Int64)] = []
        var current: (offset: Int, value: Int64)?
        for (offset, byte) in text.utf8.prefix(1_000).enumerated() {
            if (0x30...0x39).contains(byte) {
                let value = current?.value ?? 0
                // Saturates: more digits than any wait has.
                current = (current?.offset ?? offset, min(value * 10 + Int64(byte - 0x30), 1_000_000_000_000))
            } else if let number = current {
                if number.value > 0 { found.append(number) }
                current = nil
            }
        }
        if let number = current, number.value > 0 { found.append(number) }
        return found
    }

    private static func freezeEnd(_ context: JSONValue, now: Timestamp) -> Timestamp? {
        for name in ["freeze_until_date", "until", "frozen_until"] {
            guard let value = context[name] else { continue }
            let end: Timestamp? =
                if let text = value.stringValue, let moment = Timestamp(text) { moment } else {
                    seconds(value).map { Timestamp(seconds: $0) }
                }
            // A date that is over, or in another age, says nothing.
            if let end, end > now, end < now + .days(3650) { return end }
        }
        return nil
    }
}

extension String {
    fileprivate func utf8Offset(after mark: String) -> Int? {
        let text = Array(utf8)
        let wanted = Array(mark.utf8)
        guard text.count >= wanted.count else { return nil }
        for start in 0...(text.count - wanted.count)
        where text[start] == wanted[0] && text[start..<(start + wanted.count)].elementsEqual(wanted) {
            return start + wanted.count
        }
        return nil
    }
}

/// What was done about an error.
public struct ErrorOutcome: Equatable, Sendable {
    public enum Action: String, Sendable {
        case waitedOut = "flood_wait_set"
        case blocked = "account_blocked"
        case disabled = "account_disabled"
        case frozen = "account_frozen"
        case counted = "error_counted"
    }
    public let error: AccountError
    public let action: Action
    public let newStatus: AccountStatus
    /// How long this error keeps the account off, where it is known.
    public let blockedFor: Duration?
    /// When the account works again by itself.
    public let recoveryAt: Timestamp?
    public let shouldSwitchAccount: Bool
    /// The lease on the account ends with this error.
    public let endsLease: Bool
}

extension Standing {
    /// Added to every flood wait of Telegram's, so that clocks need not agree to the second.
    public static let floodWaitMargin = Duration.seconds(60)
    public static let peerFloodBlock = Duration.hours(24)
    public static let errorsInARow = 5
    public static let errorBlock = Duration.hours(1)

    /// Applies an error of Telegram's. What already lasts longer is never shortened.
    public mutating func failed(with error: AccountError, at now: Timestamp) -> ErrorOutcome {
        var lasts: Duration?
        let action: ErrorOutcome.Action
        switch error {
        case .floodWait(let wait):
            let off = max(.zero, min(wait, AccountError.longestWait)) + Self.floodWaitMargin
            floodWaitUntil = max(floodWaitUntil ?? now, now + off)
            (lasts, action) = (off, .waitedOut)
        case .peerFlood:
            blockedUntil = max(blockedUntil ?? now, now + Self.peerFloodBlock)
            (lasts, action) = (Self.peerFloodBlock, .blocked)
        case .phoneNumberBanned, .userDeactivated:
            disabled = .byTelegram
            action = .disabled
        case .authKeyError:
            // A ban is graver: connecting again must not lift it.
            disabled = disabled ?? .loggedOut
            action = .disabled
        case .frozen(let end):
            freeze = end.map { .until($0) } ?? .untilLifted
            lasts = end.map { $0 - now }
            action = .frozen
        case .other:
            errorCount = min(errorCount, 1_000_000) + 1
            if errorCount.isMultiple(of: Self.errorsInARow) {
                blockedUntil = max(blockedUntil ?? now, now + Self.errorBlock)
                (lasts, action) = (Self.errorBlock, .blocked)
            } else {
                action = .counted
            }
        }
        let refusal = refusal(at: now)
        return ErrorOutcome(
            error: error, action: action, newStatus: status(at: now), blockedFor: lasts,
            recoveryAt: refusal?.moment, shouldSwitchAccount: refusal != nil, endsLease: disabled != nil)
    }
}
