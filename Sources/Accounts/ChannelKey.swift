public import Core

/// One channel or group, however it was written: two spellings of one channel must never have two counters.
public struct ChannelKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// A name in lower case, or a chat id in decimal.
    public let description: String

    /// What a client or an operator wrote, brought to the one form.
    ///
    /// `@Name`, `name`, `t.me/name` and `https://t.me/name/17` are all `name`. A private invite link names no
    /// channel by itself: whoever has it resolves it first and uses the chat id.
    public init(_ written: some StringProtocol) throws(ChannelKeyError) {
        var reader = try ChannelReader(written)
        description = try reader.key()
    }

    /// The key of a chat that Telegram named by its id.
    public init(chatID: Int64) { description = String(chatID) }

    /// A key that was stored: taken as it is.
    init(stored: String) { description = stored }

    public static func < (left: ChannelKey, right: ChannelKey) -> Bool {
        left.description < right.description
    }
}

public enum ChannelKeyError: Error, Equatable, Sendable {
    case empty
    /// Not a name, an id or a link that Telegram knows.
    case malformed
    /// `https://t.me/+hash`: to be resolved to a chat id.
    case privateLink(hash: String)

    public var text: LocalizedText {
        switch self {
        case .empty: LocalizedText("The channel is not named", "Канал не указан")
        case .malformed:
            LocalizedText(
                "This is no channel: a name such as @name, a link such as t.me/name, or a numeric id is expected",
                "Это не канал: ожидается имя вида @name, ссылка вида t.me/name или числовой id")
        case .privateLink:
            LocalizedText(
                "A private invite link has to be resolved to its chat first",
                "Приватную ссылку-приглашение сначала нужно сопоставить с чатом")
        }
    }
}

/// Takes apart what was written, on bytes: anything but plain ASCII is refused, so that no look-alike letter
/// and no case rule of some language makes a second key for one channel.
private struct ChannelReader {
    private var rest: Substring

    /// Longer than any link Telegram makes.
    private static let longest = 256

    init(_ written: some StringProtocol) throws(ChannelKeyError) {
        guard written.utf8.count <= Self.longest else { throw .malformed }
        let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0D).contains(byte) }
        var bytes = Array(written.utf8)[...]
        while let first = bytes.first, isSpace(first) { bytes.removeFirst() }
        while let last = bytes.last, isSpace(last) { bytes.removeLast() }
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { throw .malformed }
        rest = Substring(decoding: bytes, as: UTF8.self)
    }

    mutating func key() throws(ChannelKeyError) -> String {
        if takes("tg://") || takes("tg:") { return try applicationLink() }
        if takes("https://") || takes("http://") {
            guard let key = try webLink() else { throw .malformed }
            return key
        }
        if let key = try webLink() { return key }
        if takes("@") { return try name(rest) }
        if rest.first == "+" { return try privateLink(rest.dropFirst()) }
        return try nameOrID(rest)
    }

    /// `t.me/name`, `t.me/s/name`, `t.me/name/17`, `t.me/c/123/17`, `name.t.me`, `t.me/+hash`,
    /// `t.me/joinchat/hash`. Nil where the text does not begin with a host of Telegram's.
    private mutating func webLink() throws(ChannelKeyError) -> String? {
        let host = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let path = rest[host.endIndex...].prefix { $0 != "?" && $0 != "#" }
        var parts = path.split(separator: "/", omittingEmptySubsequences: true)
        switch host.lowercased() {
        case "t.me", "www.t.me", "telegram.me", "www.telegram.me", "telegram.dog", "www.telegram.dog": break
        case let other:
            guard other.hasSuffix(".t.me") else { return nil }
            return try name(host.dropLast(5))
        }
        guard !parts.isEmpty else { throw .malformed }
        let first = parts.removeFirst()
        if first.hasPrefix("+") { return try privateLink(first.dropFirst()) }
        switch (first.lowercased(), parts.first) {
        case ("joinchat", let hash?): return try privateLink(hash)
        case ("s", let channel?): return try name(channel)
        case ("c", let id?):
            guard let number = Int64(id), number > 0, id.allSatisfy(\.isNumber) else { throw .malformed }
            return "-100\(number)"
        case ("joinchat", nil), ("c", nil), ("s", nil): throw .malformed
        default: return try name(first.hasPrefix("@") ? first.dropFirst() : first)
        }
    }

    /// `tg://resolve?domain=name`, `tg://join?invite=hash`
    private mutating func applicationLink() throws(ChannelKeyError) -> String {
        let action = rest.prefix { $0 != "?" && $0 != "/" }.lowercased()
        let query = rest.drop { $0 != "?" }.dropFirst()
        func value(_ wanted: String) -> Substring? {
            query.split(separator: "&").first { $0.lowercased().hasPrefix(wanted + "=") }?
                .dropFirst(wanted.utf8.count + 1)
        }
        switch action {
        case "resolve":
            guard let domain = value("domain") else { throw .malformed }
            return try name(domain)
        case "join":
            guard let hash = value("invite") else { throw .malformed }
            return try privateLink(hash)
        default: throw .malformed
        }
    }

    private func nameOrID(_ text: Substring) throws(ChannelKeyError) -> String {
        let digits = text.hasPrefix("-") ? text.dropFirst() : text
        if !digits.isEmpty, digits.allSatisfy(\.isNumber) {
            // Through the number, so that `007` and `7` are one channel.
            guard let number = Int64(text), number != 0 else { throw .malformed }
            return String(number)
        }
        return try name(text)
    }

    private func name(_ text: Substring) throws(ChannelKeyError) -> String {
        guard (1...64).contains(text.utf8.count),
            text.utf8.allSatisfy({ $0.isNameByte }), !text.allSatisfy(\.isNumber)
        else { throw .malformed }
        return text.lowercased()
    }

    private func privateLink(_ hash: Substring) throws(ChannelKeyError) -> String {
        // Digits alone are a person's number, not a group's link.
        guard !hash.isEmpty, hash.utf8.allSatisfy({ $0.isNameByte || $0 == UInt8(ascii: "-") }),
            !hash.allSatisfy(\.isNumber)
        else { throw .malformed }
        throw .privateLink(hash: String(hash))
    }

    private mutating func takes(_ prefix: String) -> Bool {
        guard rest.prefix(prefix.utf8.count).lowercased() == prefix else { return false }
        rest = rest.dropFirst(prefix.utf8.count)
        return true
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
