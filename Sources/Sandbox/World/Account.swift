import Core

/// What kind of account a phone number of the sandbox is.
public enum AccountKind: String, Sendable, CaseIterable {
    case warmed
    /// With a second password, `sandbox-password`.
    case twoFactor = "two_factor"
    /// New: Telegram is strict with it.
    case fresh
    case premium
    /// Limited by the anti-spam: it may neither add nor write to strangers.
    case limited
    case frozen
    case banned
    /// Has to give a login e-mail first.
    case needsEmail = "needs_email"
    case needsPremium = "needs_premium"
    /// The number has no account.
    case unregistered
}

/// An account of the sandbox, as Telegram's servers know it.
struct Account {
    static let firstID: Int64 = 900_000_000
    static let password = "sandbox-password"

    let number: Int
    let phone: String
    let kind: AccountKind
    var isFrozen: Bool
    var isBanned: Bool
    var isLimited: Bool
    var code: String?
    var wrongCodes = 0
    var wrongPasswords = 0
    var contacts: Set<Int64> = []
    /// What it lately did, for Telegram's patience.
    var patience = Patience()

    var id: Int64 { Self.firstID + Int64(number) }
    var isPremium: Bool { kind == .premium }
    var hasPassword: Bool { kind == .twoFactor }

    init(number: Int, kind: AccountKind) {
        self.number = number
        self.kind = kind
        // Telegram's own test numbers: 99966, the data centre, four digits; beyond those, longer ones.
        phone = "999661" + (number < 10_000 ? String(String(number + 10_000).dropFirst()) : String(number))
        isFrozen = kind == .frozen
        isBanned = kind == .banned
        isLimited = kind == .limited
    }

    static func number(ofPhone phone: String) -> Int? {
        let digits = phone.filter { $0.isASCII && $0.isNumber }
        guard digits.hasPrefix("999661"), digits.count >= 10 else { return nil }
        return Int(digits.dropFirst(6))
    }
}

/// How much Telegram has had to take from an account.
struct Patience {
    var adds: [Timestamp] = []
    var firstContacts: [Timestamp] = []
    var namesResolved: [Timestamp] = []
    var codes: [Timestamp] = []
    /// Until when adding is not answered at all, and until when nothing to strangers.
    var addsBlockedUntil: Timestamp = .epoch
    var namesBlockedUntil: Timestamp = .epoch
    /// How often a short wait was asked for lately; Telegram lengthens them.
    var waits = 0
}
