/// Something on Telegram, however a person wrote it: a name, a phone number, an id, a link.
public enum TelegramReference: Hashable, Sendable {
    case username(String)
    /// Digits with a plus in front.
    case phone(String)
    case person(UserID)
    case chat(ChatID)
    /// The whole link, in its usual form.
    case inviteLink(String)
    /// A message of a public chat, or of one we are in.
    case message(link: String)

    /// Nil where the text is none of these.
    public init?(_ written: some StringProtocol) {
        let text = String(written.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
        guard !text.isEmpty, text.utf8.count <= 512 else { return nil }
        if let link = Self(link: text) {
            self = link
        } else if text.hasPrefix("@") {
            guard let name = Self.name(text.dropFirst()) else { return nil }
            self = .username(name)
        } else if let phone = Self.phone(text) {
            self = .phone(phone)
        } else if let number = Int64(text) {
            if number == 0 { return nil }
            self = number > 0 ? .person(number) : .chat(ChatID(rawValue: number))
        } else if let name = Self.name(text[...]) {
            self = .username(name)
        } else {
            return nil
        }
    }

    private init?(link text: String) {
        var rest = text[...]
        func take(_ prefix: String) -> Bool {
            guard rest.prefix(prefix.count).lowercased() == prefix else { return false }
            rest = rest.dropFirst(prefix.count)
            return true
        }
        if take("tg://") || take("tg:") {
            guard let link = Self(applicationLink: rest) else { return nil }
            self = link
            return
        }
        let hasScheme = take("https://") || take("http://")
        _ = take("www.")
        let host = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let path = rest[host.endIndex...].prefix { $0 != "?" && $0 != "#" }
        var parts = path.split(separator: "/")
        switch host.lowercased() {
        case "t.me", "telegram.me", "telegram.dog": break
        case let other where other.hasSuffix(".t.me"):
            guard let name = Self.name(host.dropLast(5)) else { return nil }
            self = .username(name)
            return
        case _ where !hasScheme: return nil
        default: return nil
        }
        guard !parts.isEmpty else { return nil }
        let first = parts.removeFirst()
        if first.hasPrefix("+") {
            self.init(afterPlus: first.dropFirst())
            return
        }
        switch (first.lowercased(), parts.first) {
        case ("joinchat", let hash?):
            guard let link = Self.inviteLink(hash: hash) else { return nil }
            self = link
        case ("s", let name?):
            guard let name = Self.name(name) else { return nil }
            self = .username(name)
        case ("c", let number?):
            guard let id = Int64(number), id > 0 else { return nil }
            self =
                parts.count > 1
                ? .message(link: "https://t.me/c/\(id)/\(parts[1])") : .chat(ChatID(supergroup: id))
        default:
            guard let name = Self.name(first.hasPrefix("@") ? first.dropFirst() : first) else { return nil }
            if let number = parts.first.flatMap({ Int64($0) }), number > 0 {
                self = .message(link: "https://t.me/\(name)/\(number)")
            } else {
                self = .username(name)
            }
        }
    }

    private init?(applicationLink rest: Substring) {
        let action = rest.prefix { $0 != "?" && $0 != "/" }.lowercased()
        let query = rest.drop { $0 != "?" }.dropFirst()
        func value(_ name: String) -> Substring? {
            query.split(separator: "&").first { $0.hasPrefix(name + "=") }?.dropFirst(name.count + 1)
        }
        switch action {
        case "resolve":
            if let name = value("domain").flatMap({ Self.name($0) }) {
                self = .username(name)
            } else if let phone = value("phone").flatMap({ Self.phone("+" + $0) }) {
                self = .phone(phone)
            } else {
                return nil
            }
        case "join":
            guard let link = value("invite").flatMap({ Self.inviteLink(hash: $0) }) else { return nil }
            self = link
        case "user":
            guard let id = value("id").flatMap({ Int64($0) }), id > 0 else { return nil }
            self = .person(id)
        default: return nil
        }
    }

    /// `t.me/+…` is a person's number where all behind the plus is digits, else a group's link.
    private init?(afterPlus text: Substring) {
        if let phone = Self.phone("+" + text) {
            self = .phone(phone)
        } else if let link = Self.inviteLink(hash: text) {
            self = link
        } else {
            return nil
        }
    }

    private static func inviteLink(hash: Substring) -> TelegramReference? {
        guard (6...64).contains(hash.utf8.count),
            hash.utf8.allSatisfy({ $0.isNameByte || $0 == UInt8(ascii: "-") })
        else { return nil }
        return .inviteLink("https://t.me/+\(hash)")
    }

    /// In lower case: names are one, however they are written.
    private static func name(_ text: Substring) -> String? {
        guard (3...32).contains(text.utf8.count), text.utf8.allSatisfy(\.isNameByte),
            let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first)
        else { return nil }
        return text.lowercased()
    }

    /// A number with a plus, or one long enough to be none of Telegram's ids without one.
    private static func phone(_ text: String) -> String? {
        let plain = text.filter { !" ()-\u{A0}.".contains($0) }
        guard plain.hasPrefix("+") else { return nil }
        let digits = plain.dropFirst()
        guard (7...15).contains(digits.count), digits.allSatisfy({ $0.isASCII && $0.isNumber }) else {
            return nil
        }
        return "+" + digits
    }
}

extension UInt8 {
    fileprivate var isNameByte: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
