public import Core
public import Storage

/// A connection that somebody has begun: from the first request until it is an account, fails, or is given up.
public struct Login: Equatable, Sendable {
    public enum Method: String, Sendable, CaseIterable { case qr, code }

    public enum Stage: String, Sendable, CaseIterable {
        case starting
        /// The QR code is shown and nobody has scanned it.
        case scan
        case code
        case password
        case done, failed, expired

        public var isOpen: Bool { ![.done, .failed, .expired].contains(self) }
    }

    /// How long a person has for each part: to scan or type the code, and then for the password. The password
    /// is asked for after the scan, and whoever scanned at the last moment has not run out of time.
    public static let patience: Duration = .minutes(5)
    /// Open ones of one user; each holds a client.
    public static let most = 5

    /// Also the name of its session.
    public let id: UniqueID
    public let userID: Int64
    public let method: Method
    /// Of the code login; empty for QR.
    public let phone: String
    /// The key of the session's database, sealed.
    public let sealedKey: String
    public let createdAt: Timestamp
    public var stage: Stage
    public var expiresAt: Timestamp
    public var failure: LoginFailure?
    public var accountID: UniqueID?

    public init(
        id: UniqueID, userID: Int64, method: Method, phone: String = "", sealedKey: String, at now: Timestamp
    ) {
        self.id = id
        self.userID = userID
        self.method = method
        self.phone = phone
        self.sealedKey = sealedKey
        createdAt = now
        stage = .starting
        expiresAt = now + Self.patience
    }

    /// Telegram waits for the next thing. Nothing moves a login that is over, and nothing goes back from the
    /// password to the scan: Telegram may still send a link that was under way.
    public mutating func reached(_ next: Stage, at now: Timestamp) {
        guard stage.isOpen, next.isOpen, next != stage else { return }
        if stage == .password, next != .password { return }
        if next == .password { expiresAt = max(expiresAt, now + Self.patience) }
        stage = next
    }

    public mutating func fail(with failure: LoginFailure) {
        guard stage.isOpen else { return }
        stage = .failed
        self.failure = failure
    }

    public mutating func finish(as account: UniqueID) {
        guard stage.isOpen else { return }
        stage = .done
        accountID = account
    }

    /// True when its time was over just now.
    public mutating func expire(at now: Timestamp) -> Bool {
        guard stage.isOpen, expiresAt <= now else { return false }
        stage = .expired
        return true
    }

    /// The word of `qr-check`.
    public var status: StaticString {
        switch stage {
        case .starting, .scan, .code: "waiting"
        case .password: "2fa_required"
        case .done: "success"
        case .expired: "expired"
        case .failed: "error"
        }
    }
}

/// Why a login, or one step of it, did not succeed.
public enum LoginFailure: Equatable, Sendable {
    case phoneInvalid
    case phoneBanned
    /// Too many codes or passwords were asked for with this number.
    case phoneFlood
    case codeInvalid
    case codeExpired
    case passwordWrong
    /// Telegram has no other way left to send the code.
    case cannotResend
    case floodWait(seconds: Int64)
    /// The number has no Telegram account. None is made here.
    case notRegistered
    /// Telegram wants a login e-mail, which only its own apps can set up.
    case emailRequired
    /// Telegram wants a purchase that only its own apps can make.
    case premiumRequired
    case accountTaken
    case sessionLost(reason: String)
    /// Our own application id is wrong or blocked.
    case misconfigured
    case unreachable
    case other(String)

    /// Whether the same login may be tried with another code or password.
    public var keepsLogin: Bool {
        switch self {
        case .codeInvalid, .passwordWrong, .cannotResend, .floodWait, .unreachable: true
        default: false
        }
    }

    public var code: String {
        switch self {
        case .phoneInvalid: "phone_invalid"
        case .phoneBanned: "phone_banned"
        case .phoneFlood: "phone_flood"
        case .codeInvalid: "code_invalid"
        case .codeExpired: "code_expired"
        case .passwordWrong: "password_wrong"
        case .cannotResend: "cannot_resend"
        case .floodWait: "flood_wait"
        case .notRegistered: "not_registered"
        case .emailRequired: "email_required"
        case .premiumRequired: "premium_required"
        case .accountTaken: "account_taken"
        case .sessionLost: "session_lost"
        case .misconfigured: "telegram_misconfigured"
        case .unreachable: "telegram_unreachable"
        case .other: "login_failed"
        }
    }

    /// As it stands in the database: the code, and what belongs to it.
    var stored: String {
        switch self {
        case .floodWait(let seconds): "\(code):\(seconds)"
        case .sessionLost(let reason), .other(let reason): "\(code):\(reason)"
        default: code
        }
    }

    init(stored: String) {
        let parts = stored.split(separator: ":", maxSplits: 1).map(String.init)
        let rest = parts.count > 1 ? parts[1] : ""
        let plain: [LoginFailure] = [
            .phoneInvalid, .phoneBanned, .phoneFlood, .codeInvalid, .codeExpired, .passwordWrong,
            .cannotResend,
            .notRegistered, .emailRequired, .premiumRequired, .accountTaken, .misconfigured, .unreachable,
        ]
        if let known = plain.first(where: { $0.code == parts.first }) {
            self = known
        } else if parts.first == "flood_wait" {
            self = .floodWait(seconds: Int64(rest) ?? 0)
        } else if parts.first == "session_lost" {
            self = .sessionLost(reason: rest)
        } else {
            self = .other(rest)
        }
    }
}

extension LoginFailure {
    /// Why, and what the person can do about it.
    public var explanation: LocalizedText {
        switch self {
        case .phoneInvalid:
            .init(
                "Telegram does not know this as a phone number; write it in international form, with the country code",
                "Telegram не считает это номером телефона; напишите его в международном формате, с кодом страны"
            )
        case .phoneBanned:
            .init("Telegram has banned this phone number", "Telegram заблокировал этот номер телефона")
        case .phoneFlood:
            .init(
                "Too many codes or passwords were tried with this number; try again tomorrow, or scan the QR code",
                "Для этого номера запрошено слишком много кодов или паролей; попробуйте завтра или отсканируйте QR-код"
            )
        case .codeInvalid: .init("The code is wrong; try again", "Код неверный; попробуйте ещё раз")
        case .codeExpired:
            .init("The code has expired; start again", "Срок действия кода истёк; начните подключение заново")
        case .passwordWrong:
            .init(
                "The two-step verification password is wrong; try again",
                "Пароль двухэтапной проверки неверный; попробуйте ещё раз")
        case .cannotResend:
            .init(
                "Telegram cannot send the code in another way; wait for it, or scan the QR code",
                "Telegram не может отправить код другим способом; дождитесь его или отсканируйте QR-код")
        case .floodWait(let seconds):
            .init(
                "Telegram asks to wait \(seconds) s before the next attempt",
                "Telegram просит подождать \(seconds) с перед следующей попыткой")
        case .notRegistered:
            .init(
                "This number has no Telegram account; create one in the official app first",
                "У этого номера нет аккаунта Telegram; сначала создайте его в официальном приложении")
        case .emailRequired:
            .init(
                "Telegram wants a login e-mail for this account; set it up in the official app, then connect again",
                "Telegram требует для этого аккаунта почту для входа; задайте её в официальном приложении и подключите снова"
            )
        case .premiumRequired:
            .init(
                "Telegram lets this account sign in only after a purchase in the official app",
                "Telegram разрешает вход в этот аккаунт только после покупки в официальном приложении")
        case .accountTaken:
            .init(
                "This Telegram account is connected by another user here; it has to be disconnected there first",
                "Этот аккаунт Telegram подключён здесь другим пользователем; сначала его нужно отключить там")
        case .sessionLost:
            .init(
                "Telegram has ended the session; connect the account again",
                "Telegram завершил сеанс; подключите аккаунт заново")
        case .misconfigured:
            .init(
                "Telegram refuses this application's credentials; the administrator has to set them right",
                "Telegram не принимает данные этого приложения; их должен исправить администратор")
        case .unreachable:
            .init(
                "Telegram does not answer just now; try again shortly",
                "Telegram сейчас не отвечает; повторите чуть позже")
        case .other:
            .init(
                "Telegram has refused the login for a reason that is not known here; try again later",
                "Telegram отклонил вход по неизвестной здесь причине; попробуйте позже")
        }
    }
}
