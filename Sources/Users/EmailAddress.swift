/// An e-mail address in the one spelling that identifies a person: without blanks around it, the domain and
/// the name in lower case. Nothing cleverer: dots and tags mean different people at some providers.
public struct EmailAddress: Hashable, Sendable, CustomStringConvertible {
    public let text: String

    /// `nil` for what cannot be delivered to: no or several `@`, blanks, control characters, a domain without
    /// a dot, or too long for SMTP.
    public init?(_ raw: String) {
        var trimmed = raw[...]
        while let first = trimmed.first, first.isWhitespace { trimmed.removeFirst() }
        while let last = trimmed.last, last.isWhitespace { trimmed.removeLast() }
        let parts = trimmed.split(separator: "@", omittingEmptySubsequences: false)
        guard trimmed.utf8.count <= 254, parts.count == 2, (1...64).contains(parts[0].utf8.count) else {
            return nil
        }
        let forbidden: (Character) -> Bool = {
            $0.isWhitespace || $0.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }
        }
        guard !trimmed.contains(where: forbidden), !trimmed.contains(where: { "\"(),:;<>[\\]".contains($0) }),
            parts[0].first != ".", parts[0].last != ".", !parts[0].contains("..")
        else { return nil }
        let labels = parts[1].split(separator: ".", omittingEmptySubsequences: false)
        guard labels.count >= 2,
            labels.allSatisfy({ label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.allSatisfy { $0.isLetter || $0.isNumber || $0 == "-" }
            })
        else { return nil }
        text = trimmed.lowercased()
    }

    public var description: String { text }
}

/// A name to sign in with beside the address: letters, digits, dot, dash and underscore; case does not count.
public struct Username: Hashable, Sendable {
    public let text: String
    /// What makes two of them the same.
    public var key: String { text.lowercased() }

    public init?(_ raw: String) {
        guard (3...32).contains(raw.count),
            raw.unicodeScalars.allSatisfy({
                ($0.value | 0x20) >= 0x61 && ($0.value | 0x20) <= 0x7A
                    || ($0.value >= 0x30 && $0.value <= 0x39)
                    || "._-".unicodeScalars.contains($0)
            })
        else { return nil }
        text = raw
    }
}
