public import Core

/// Names one Telegram account: a UUID, always written in lower case, so that equal accounts have equal names
/// in memory, in SQL and in Redis.
public struct AccountID: Hashable, Comparable, Sendable, CustomStringConvertible {
    public let description: String

    /// Nil unless `text` is a UUID in its usual form.
    public init?(_ text: some StringProtocol) {
        let bytes = Array(text.utf8)
        guard bytes.count == 36 else { return nil }
        for (index, byte) in bytes.enumerated() {
            let isDash = index == 8 || index == 13 || index == 18 || index == 23
            guard isDash ? byte == UInt8(ascii: "-") : byte.isHexDigit else { return nil }
        }
        description = String(text).lowercased()
    }

    /// A new one, version 4.
    public init(_ random: some RandomSource) { description = uuid(random) }

    public static func < (left: AccountID, right: AccountID) -> Bool { left.description < right.description }
}

/// A random UUID, version 4, in lower case.
func uuid(_ random: some RandomSource) -> String {
    var bytes = random.bytes(16)
    bytes[6] = bytes[6] & 0x0F | 0x40
    bytes[8] = bytes[8] & 0x3F | 0x80
    var text = ""
    text.reserveCapacity(36)
    for (index, byte) in bytes.enumerated() {
        if index == 4 || index == 6 || index == 8 || index == 10 { text += "-" }
        text += String(byte >> 4, radix: 16) + String(byte & 0x0F, radix: 16)
    }
    return text
}

extension UInt8 {
    var isHexDigit: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
            UInt8(ascii: "A")...UInt8(ascii: "F"):
            true
        default: false
        }
    }
}
