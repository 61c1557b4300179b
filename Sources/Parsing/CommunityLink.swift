/// A community of Telegram, however a person wrote it. The same community written in two ways is one.
public struct CommunityLink: Hashable, Sendable {
    /// What it is known by: `name`, `-1001234567890`, or `+hash` of an invite link.
    public let key: String
    /// As integration-service is asked for it.
    public var address: String { key.hasPrefix("+") ? "https://t.me/\(key)" : key }
    /// As a person reads it.
    public var shown: String { key.hasPrefix("+") || key.hasPrefix("-") ? address : "https://t.me/\(key)" }

    /// Nil where the text names no community: a phone number, a person's id, another site.
    public init?(_ written: String) {
        let text = written.trimmed
        guard !text.isEmpty, text.utf8.count <= 300 else { return nil }
        guard let key = Self.key(of: text) else { return nil }
        self.key = key
    }

    /// Of a stored key.
    public init(key: String) { self.key = key }

    private static func key(of text: String) -> String? {
        if let rest = text.dropping("tg://") ?? text.dropping("tg:") { return key(ofApplicationLink: rest) }
        if let rest = text.dropping("https://") ?? text.dropping("http://") { return key(ofWebLink: rest) }
        if text.hasPrefix("@") { return name(text.dropFirst()) }
        if text.hasPrefix("+") { return hash(text.dropFirst()) }
        if text.contains("/") || text.contains(".") { return key(ofWebLink: text[...]) }
        if let number = Int64(text) { return number < 0 ? String(number) : nil }
        return name(text[...])
    }

    private static func key(ofWebLink text: Substring) -> String? {
        let rest = text.prefix { $0 != "?" && $0 != "#" }
        var parts = rest.split(separator: "/").map(Substring.init)
        guard !parts.isEmpty else { return nil }
        var host = parts.removeFirst().lowercased()
        if host.hasPrefix("www.") { host = String(host.dropFirst(4)) }
        if host.hasSuffix(".t.me") { return name(host.dropLast(5)) }
        guard ["t.me", "telegram.me", "telegram.dog"].contains(host), let first = parts.first else {
            return nil
        }
        if first.hasPrefix("+") { return hash(first.dropFirst()) }
        switch first.lowercased() {
        case "joinchat": return parts.count > 1 ? hash(parts[1]) : nil
        case "s": return parts.count > 1 ? name(parts[1]) : nil
        case "c":
            guard parts.count > 1, let number = Int64(parts[1]), number > 0,
                number < 1_000_000_000_000_000
            else { return nil }
            return String(-1_000_000_000_000 - number)
        default: return name(first.hasPrefix("@") ? first.dropFirst() : first)
        }
    }

    private static func key(ofApplicationLink text: Substring) -> String? {
        let action = text.prefix { $0 != "?" && $0 != "/" }.lowercased()
        func value(_ name: String) -> Substring? {
            text.drop { $0 != "?" }.dropFirst().split(separator: "&").first { $0.hasPrefix(name + "=") }?
                .dropFirst(name.count + 1)
        }
        switch action {
        case "resolve": return value("domain").flatMap { name($0) }
        case "join": return value("invite").flatMap { hash($0) }
        default: return nil
        }
    }

    /// In lower case: names are one, however they are written.
    private static func name(_ text: Substring) -> String? {
        guard (3...32).contains(text.utf8.count), text.utf8.allSatisfy(isNameByte),
            let first = text.utf8.first, !(0x30...0x39).contains(first),
            !["joinchat", "addstickers", "share", "proxy", "socks", "setlanguage", "iv", "login"]
                .contains(text.lowercased())
        else { return nil }
        return text.lowercased()
    }

    /// The secret part of an invite link; behind a plus, digits alone would be somebody's phone number.
    private static func hash(_ text: Substring) -> String? {
        guard (6...64).contains(text.utf8.count),
            text.utf8.allSatisfy({ isNameByte($0) || $0 == UInt8(ascii: "-") }),
            !text.utf8.allSatisfy({ (0x30...0x39).contains($0) })
        else { return nil }
        return "+\(text)"
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "_"): true
        default: false
        }
    }
}

extension String {
    /// Without what a person's clipboard adds around a link.
    var trimmed: String {
        let isNoise: (Character) -> Bool = { $0.isWhitespace || $0 == "\u{200B}" || $0 == "\u{FEFF}" }
        return String(drop(while: isNoise).reversed().drop(while: isNoise).reversed())
    }

    fileprivate func dropping(_ prefix: String) -> Substring? {
        self.prefix(prefix.count).lowercased() == prefix ? dropFirst(prefix.count) : nil
    }
}
