public import Core

/// One person, however written: a username, a phone number, Telegram's own number, or several of them.
///
/// Two rows of a list are the same person when any of these agree, so each is kept in its one form.
public struct PersonIdentity: Equatable, Hashable, Sendable {
    /// In lower case, without `@`.
    public let username: String?
    /// E.164: `+` and digits.
    public let phone: String?
    public let platformID: Int64?

    /// Of forms that are known to be the one form.
    public init(username: String?, phone: String?, platformID: Int64?) {
        self.username = username
        self.phone = phone
        self.platformID = platformID
    }

    /// Of what somebody wrote; blank counts as absent. Throws every mistake.
    public init(
        writtenUsername: String?, writtenPhone: String?, writtenID: String?
    ) throws(PersonIdentityErrors) {
        var mistakes: [PersonIdentityError] = []
        func read<Value>(
            _ text: String?, _ mistake: PersonIdentityError, _ parse: (Substring) -> Value?
        ) -> Value? {
            guard let text else { return nil }
            let trimmed = trimmed(text)
            guard !trimmed.isEmpty else { return nil }
            if let value = parse(trimmed) { return value }
            mistakes.append(mistake)
            return nil
        }
        username = read(writtenUsername, .username, Self.username)
        phone = read(writtenPhone, .phone, Self.phone)
        platformID = read(writtenID, .platformID, Self.platformID)
        if mistakes.isEmpty, username == nil, phone == nil, platformID == nil { mistakes = [.nothing] }
        guard mistakes.isEmpty else { throw PersonIdentityErrors(mistakes) }
    }

    /// Of one text that may be any of the three, as people write a list: `@name`, `t.me/name`, a number with a
    /// plus, or Telegram's id.
    public init?(written text: String) {
        let text = trimmed(text)
        guard !text.isEmpty else { return nil }
        if let name = Self.username(text) {
            self.init(username: name, phone: nil, platformID: nil)
        } else if text.first != "+", text.allSatisfy(\.isNumber), let id = Self.platformID(text) {
            self.init(username: nil, phone: nil, platformID: id)
        } else if let phone = Self.phone(text) {
            self.init(username: nil, phone: phone, platformID: nil)
        } else {
            return nil
        }
    }

    /// What the stop-list is keyed by: one text for each way this person is known.
    public var keys: [String] {
        [username.map { "u:\($0)" }, phone.map { "p:\($0)" }, platformID.map { "i:\($0)" }]
            .compactMap { $0 }
    }

    /// For a person who reads a list.
    public var displayName: String {
        username.map { "@\($0)" } ?? phone ?? platformID.map(String.init) ?? ""
    }

    // MARK: - Forms

    /// `@Name`, `Name`, `t.me/Name`, `https://t.me/Name?x`, `tg://resolve?domain=Name`.
    public static func username(_ text: some StringProtocol) -> String? {
        var rest = Substring(text)
        func takes(_ prefix: String) -> Bool {
            guard rest.utf8.count >= prefix.utf8.count,
                rest.prefix(prefix.count).lowercased() == prefix
            else { return false }
            rest = rest.dropFirst(prefix.count)
            return true
        }
        if takes("tg://resolve?domain=") {
            rest = rest.prefix { $0 != "&" }
        } else {
            if !takes("https://") { _ = takes("http://") }
            _ = takes("www.")
            if takes("t.me/") || takes("telegram.me/") || takes("telegram.dog/") {
                rest = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
            }
            _ = takes("@")
        }
        // Telegram gives five letters and more; some old and some bought names have fewer.
        guard (3...32).contains(rest.utf8.count), rest.utf8.allSatisfy(\.isNameByte),
            let first = rest.utf8.first, first | 0x20 >= 0x61, first | 0x20 <= 0x7A
        else { return nil }
        return rest.lowercased()
    }

    /// Digits with blanks, brackets, dots and dashes between them. `00` stands for a plus, and eleven digits
    /// that begin with 8 are a Russian number as it is dialled at home.
    public static func phone(_ text: some StringProtocol) -> String? {
        var digits: [UInt8] = []
        var hasPlus = false
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39: digits.append(byte)
            case UInt8(ascii: "+"):
                guard digits.isEmpty, !hasPlus else { return nil }
                hasPlus = true
            case UInt8(ascii: " "), UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "-"),
                UInt8(ascii: "."),
                0xC2, 0xA0:
                continue
            default: return nil
            }
        }
        if !hasPlus, digits.starts(with: [0x30, 0x30]) {
            digits.removeFirst(2)
        } else if !hasPlus, digits.count == 11, digits[0] == UInt8(ascii: "8") {
            digits[0] = UInt8(ascii: "7")
        }
        guard (7...15).contains(digits.count), digits[0] != UInt8(ascii: "0") else { return nil }
        return "+" + String(decoding: digits, as: UTF8.self)
    }

    public static func platformID(_ text: some StringProtocol) -> Int64? {
        guard let id = Int64(text), id > 0, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return id
    }
}

public enum PersonIdentityError: String, Error, Equatable, Sendable {
    /// No username, no phone number, no id.
    case nothing
    case username, phone
    case platformID = "user_id_platform"

    /// The field of the API that is wrong.
    public var field: String {
        switch self {
        case .nothing, .username: "username"
        case .phone: "phone_number"
        case .platformID: "user_id_platform"
        }
    }

    public var code: String {
        switch self {
        case .nothing: "missing"
        case .username: "not_a_username"
        case .phone: "not_a_phone"
        case .platformID: "not_an_id"
        }
    }

    public var text: LocalizedText {
        switch self {
        case .nothing:
            LocalizedText(
                "username, phone_number or user_id_platform is required",
                "Нужен username, phone_number или user_id_platform")
        case .username:
            LocalizedText(
                "This is no Telegram username: letters, digits and _ are expected, such as @name",
                "Это не имя пользователя Telegram: ожидаются латинские буквы, цифры и _, например @name")
        case .phone:
            LocalizedText(
                "A phone number in international form is expected, such as +15550001111",
                "Ожидается номер телефона в международном формате, например +15550001111")
        case .platformID:
            LocalizedText("A positive whole number is expected", "Ожидается положительное целое число")
        }
    }
}

/// All that is wrong with how a person was written.
public struct PersonIdentityErrors: Error, Equatable, Sendable {
    public let mistakes: [PersonIdentityError]
    public init(_ mistakes: [PersonIdentityError]) { self.mistakes = mistakes }
}

private func trimmed(_ text: String) -> Substring {
    var rest = Substring(text)
    while let first = rest.first, first.isWhitespace || first == "\u{FEFF}" { rest.removeFirst() }
    while let last = rest.last, last.isWhitespace { rest.removeLast() }
    return rest
}

extension UInt8 {
    var isNameByte: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
