public import Core

/// A UUID. Stored as `UUID` on PostgreSQL and as its text on SQLite; written in lower case everywhere.
///
/// A type of our own: Foundation's would bring Foundation into every process for sixteen bytes.
public struct UniqueID: Hashable, Comparable, Sendable {
    let high: UInt64
    let low: UInt64

    /// Version 7: begins with the moment, so that keys made one after another lie side by side in an index.
    public init(at now: Timestamp, _ random: some RandomSource) {
        let moment = UInt64(truncatingIfNeeded: now.milliseconds) & 0xFFFF_FFFF_FFFF
        high = moment << 16 | 0x7000 | random.next() & 0x0FFF
        low = random.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    }

    /// Version 4: tells nothing, not even when it was made.
    public init(_ random: some RandomSource) {
        high = random.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        low = random.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    }

    /// Reads `8-4-4-4-12` hexadecimal digits in either case.
    public init?(_ text: some StringProtocol) {
        var words: (high: UInt64, low: UInt64) = (0, 0)
        var digits = 0
        var position = 0
        for byte in text.utf8 {
            defer { position += 1 }
            if position == 8 || position == 13 || position == 18 || position == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let digit = hexDigit(byte), digits < 32 else { return nil }
            if digits < 16 {
                words.high = words.high << 4 | UInt64(digit)
            } else {
                words.low = words.low << 4 | UInt64(digit)
            }
            digits += 1
        }
        guard digits == 32, position == 36 else { return nil }
        high = words.high
        low = words.low
    }

    public static func < (left: UniqueID, right: UniqueID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

extension UniqueID: CustomStringConvertible, SQLConvertible, JSONEncodable {
    public var description: String {
        var text: [UInt8] = []
        text.reserveCapacity(36)
        for (index, word) in [high, low].enumerated() {
            for nibble in 0..<16 {
                if index == 0 ? nibble == 8 || nibble == 12 : nibble == 0 || nibble == 4 {
                    text.append(UInt8(ascii: "-"))
                }
                text.append(hexDigits[Int(word >> (60 - 4 * UInt64(nibble)) & 0xF)])
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
    public var sqlValue: SQLValue { .text(description) }
    public var json: JSONValue { .string(description) }
}

let hexDigits = Array("0123456789abcdef".utf8)

func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
