public import Core

/// How far an account's client is from being signed in. Every state TDLib has is named here; those we cannot
/// serve explain themselves in `obstacle`.
public enum AuthorizationState: Equatable, Sendable {
    /// Nothing was heard yet.
    case starting
    case waitParameters
    case waitPhoneNumber
    /// `link` goes into a QR code for the owner's eyes only; Telegram replaces it about every 30 seconds.
    case waitQRScan(link: String)
    case waitCode(LoginCodeInfo)
    case waitPassword(PasswordInfo)
    /// The server wants a login e-mail address first.
    case waitEmailAddress
    case waitEmailCode(pattern: String, length: Int)
    /// The number has no account.
    case waitRegistration
    case waitPremiumPurchase
    case ready
    case loggingOut
    case closing
    /// The client is gone; the same folder may be opened again.
    case closed
    /// Newer than this program.
    case unknown(String)

    public var isFinal: Bool { self == .closed }

    /// Whether the person who signs in has to do something.
    public var awaitsPerson: Bool {
        switch self {
        case .waitPhoneNumber, .waitQRScan, .waitCode, .waitPassword, .waitEmailAddress, .waitEmailCode: true
        default: false
        }
    }

    /// Why signing in cannot go on here, and what to do instead.
    public var obstacle: LocalizedText? {
        switch self {
        case .waitEmailAddress, .waitEmailCode:
            LocalizedText(
                "Telegram wants a login e-mail for this account. Set it up in the official app, then connect again",
                "Telegram требует почту для входа в этот аккаунт. Укажите её в официальном приложении и подключите аккаунт снова"
            )
        case .waitRegistration:
            LocalizedText(
                "This number has no Telegram account. Accounts are not created here: sign up in the official app",
                "У этого номера нет аккаунта Telegram. Здесь аккаунты не создаются: зарегистрируйтесь в официальном приложении"
            )
        case .waitPremiumPurchase:
            LocalizedText(
                "Telegram asks this number to buy Premium before signing in. That is possible only in the official app",
                "Telegram просит для этого номера купить Premium перед входом. Это возможно только в официальном приложении"
            )
        case .unknown(let name):
            LocalizedText(
                "Telegram asks for something this version does not know (\(name)). Sign in with the official app, and update Convoke",
                "Telegram просит о том, чего эта версия не знает (\(name)). Войдите через официальное приложение и обновите Convoke"
            )
        default: nil
        }
    }
}

/// How a login code was sent, and what comes next.
public struct LoginCodeInfo: Equatable, Sendable {
    public enum Way: String, Sendable, CaseIterable {
        /// A message in the account's other sessions: the usual case.
        case telegramMessage
        case sms, smsWord, smsPhrase, call, flashCall, missedCall, fragment, firebase, unknown
    }
    public let way: Way
    public let length: Int
    /// What a resend would use, where there is one.
    public let nextWay: Way?
    /// When a resend begins to make sense.
    public let resendAfter: Duration
}

public struct PasswordInfo: Equatable, Sendable {
    public let hint: String
    public let hasRecoveryEmail: Bool
}

extension AuthorizationState {
    init(_ json: JSONValue) {
        switch json.type {
        case "authorizationStateWaitTdlibParameters": self = .waitParameters
        case "authorizationStateWaitPhoneNumber": self = .waitPhoneNumber
        case "authorizationStateWaitOtherDeviceConfirmation": self = .waitQRScan(link: json.text("link"))
        case "authorizationStateWaitCode": self = .waitCode(LoginCodeInfo(json["code_info"] ?? .null))
        case "authorizationStateWaitPassword":
            self = .waitPassword(
                PasswordInfo(
                    hint: json.text("password_hint"),
                    hasRecoveryEmail: json.flag("has_recovery_email_address")))
        case "authorizationStateWaitEmailAddress": self = .waitEmailAddress
        case "authorizationStateWaitEmailCode":
            let info = json["code_info"] ?? .null
            self = .waitEmailCode(
                pattern: info.text("email_address_pattern"), length: Int(info.int("length")))
        case "authorizationStateWaitRegistration": self = .waitRegistration
        case "authorizationStateWaitPremiumPurchase": self = .waitPremiumPurchase
        case "authorizationStateReady": self = .ready
        case "authorizationStateLoggingOut": self = .loggingOut
        case "authorizationStateClosing": self = .closing
        case "authorizationStateClosed": self = .closed
        case let other: self = .unknown(other)
        }
    }
}

extension LoginCodeInfo {
    init(_ json: JSONValue) {
        let type = json["type"] ?? .null
        way = Way(type)
        length = Int(type.int("length"))
        nextWay = json["next_type"].map { Way($0) }
        resendAfter = .seconds(json.int("timeout"))
    }
}

extension LoginCodeInfo.Way {
    init(_ json: JSONValue) {
        let name = json.type.dropFirst("authenticationCodeType".count)
        switch name {
        case "FirebaseAndroid", "FirebaseIos": self = .firebase
        default: self = .init(rawValue: name.prefix(1).lowercased() + name.dropFirst()) ?? .unknown
        }
    }
}
