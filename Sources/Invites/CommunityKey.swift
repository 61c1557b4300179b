/// A group or channel under the one key that all its spellings have: `@Name`, `t.me/name` and `name` are
/// `name`; a chat's number stays as it is.
public struct CommunityKey: Hashable, Sendable, CustomStringConvertible {
    public let description: String
    /// A private link names no chat by itself; until an account has looked, its hash stands for it.
    public let isPrivateLink: Bool

    public init?(_ written: String) {
        var rest = Substring(written)
        while let first = rest.first, first.isWhitespace { rest.removeFirst() }
        while let last = rest.last, last.isWhitespace { rest.removeLast() }
        guard !rest.isEmpty, rest.utf8.count <= 256, rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            return nil
        }
        func takes(_ prefix: String) -> Bool {
            guard rest.prefix(prefix.count).lowercased() == prefix else { return false }
            rest = rest.dropFirst(prefix.count)
            return true
        }
        if !takes("https://") { _ = takes("http://") }
        _ = takes("www.")
        let isLink = takes("t.me/") || takes("telegram.me/") || takes("telegram.dog/")
        if isLink {
            rest = rest.prefix { $0 != "?" && $0 != "#" }
            if takes("joinchat/") {
                guard let key = Self.privateKey(rest) else { return nil }
                self = key
                return
            }
            if takes("c/") {
                let digits = rest.prefix { $0 != "/" }
                guard let id = Int64(digits), id > 0 else { return nil }
                self.init(chat: Int64("-100\(id)") ?? id)
                return
            }
            _ = takes("s/")
            rest = rest.prefix { $0 != "/" }
        }
        if rest.first == "+" {
            guard let key = Self.privateKey(rest.dropFirst()) else { return nil }
            self = key
            return
        }
        if rest.first == "@" { rest = rest.dropFirst() }
        if let id = Int64(rest) {
            guard id != 0 else { return nil }
            self.init(chat: id)
            return
        }
        guard (1...64).contains(rest.utf8.count), rest.utf8.allSatisfy(\.isNameByte) else { return nil }
        self.init(key: rest.lowercased(), isPrivateLink: false)
    }

    /// As others are told of it.
    public var address: String { isPrivateLink ? "https://t.me/\(description)" : description }

    public init(chat: Int64) { self.init(key: String(chat), isPrivateLink: false) }

    private init(key: String, isPrivateLink: Bool) {
        description = key
        self.isPrivateLink = isPrivateLink
    }

    private static func privateKey(_ hash: Substring) -> CommunityKey? {
        guard !hash.isEmpty, hash.utf8.allSatisfy({ $0.isNameByte || $0 == UInt8(ascii: "-") }) else {
            return nil
        }
        return CommunityKey(key: "+\(hash)", isPrivateLink: true)
    }
}
