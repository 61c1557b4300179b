/// Base64 of RFC 4648, both alphabets. Reading is strict: one spelling per value, so that a text that was
/// changed in any bit is another value or none at all.
public enum Base64 {
    public static func encode(_ bytes: [UInt8]) -> String { standard.encode(bytes) }

    /// With padding, without blanks; bits behind the last byte must be zero.
    public static func decode(_ text: String) -> [UInt8]? { standard.decode(text) }

    static let standard = Base64Alphabet("+/", isPadded: true)
}

/// The alphabet of JWTs and links, without padding.
public enum Base64URL {
    public static func encode(_ bytes: [UInt8]) -> String { alphabet.encode(bytes) }
    public static func decode(_ text: String) -> [UInt8]? { alphabet.decode(text) }

    static let alphabet = Base64Alphabet("-_", isPadded: false)
}

struct Base64Alphabet: Sendable {
    private let digits: [UInt8]
    /// The value of every byte, 0xFF for those that are no digit.
    private let values: [UInt8]
    private let isPadded: Bool

    init(_ lastTwo: String, isPadded: Bool) {
        let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789\(lastTwo)".utf8)
        var values = [UInt8](repeating: 0xFF, count: 256)
        for (value, digit) in digits.enumerated() { values[Int(digit)] = UInt8(value) }
        self.digits = digits
        self.values = values
        self.isPadded = isPadded
    }

    func encode(_ bytes: [UInt8]) -> String {
        let groups = (bytes.count + 2) / 3
        let missing = groups * 3 - bytes.count
        let length = groups * 4 - (isPadded ? 0 : missing)
        return String(unsafeUninitializedCapacity: length) { text in
            var index = 0
            var written = 0
            while index < bytes.count {
                let group =
                    UInt32(bytes[index]) << 16
                    | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) << 8 : 0)
                    | (index + 2 < bytes.count ? UInt32(bytes[index + 2]) : 0)
                let meaningful = min(bytes.count - index, 3) + 1
                for place in 0..<4 {
                    if place < meaningful {
                        text[written] = digits[Int(group >> (18 - 6 * UInt32(place)) & 63)]
                    } else if isPadded {
                        text[written] = UInt8(ascii: "=")
                    } else {
                        continue
                    }
                    written += 1
                }
                index += 3
            }
            return written
        }
    }

    func decode(_ text: String) -> [UInt8]? {
        var text = text
        return text.withUTF8 { decode($0) }
    }

    func decode(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        var length = text.count
        if isPadded {
            guard length % 4 == 0 else { return nil }
            var padding = 0
            while padding < 2, length > 0, text[length - 1] == UInt8(ascii: "=") {
                length -= 1
                padding += 1
            }
        }
        // A single digit of a group holds six bits: no byte.
        guard length % 4 != 1 else { return nil }
        let count = length * 3 / 4
        var isStrict = true
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { bytes, filled in
            filled = count
            isStrict = values.withUnsafeBufferPointer { values in
                decode(text, length, values, into: bytes)
            }
        }
        return isStrict ? bytes : nil
    }

    private func decode(
        _ text: UnsafeBufferPointer<UInt8>, _ length: Int, _ values: UnsafeBufferPointer<UInt8>,
        into bytes: UnsafeMutableBufferPointer<UInt8>
    ) -> Bool {
        // A byte that is no digit has the value 0xFF, whose high bits stay in `wrong`.
        var wrong: UInt8 = 0
        var index = 0
        var written = 0
        while index + 4 <= length {
            let (first, second) = (values[Int(text[index])], values[Int(text[index + 1])])
            let (third, fourth) = (values[Int(text[index + 2])], values[Int(text[index + 3])])
            wrong |= first | second | third | fourth
            bytes[written] = first << 2 | second >> 4
            bytes[written + 1] = second << 4 | third >> 2
            bytes[written + 2] = third << 6 | fourth
            index += 4
            written += 3
        }
        guard index < length else { return wrong < 64 }
        let (first, second) = (values[Int(text[index])], values[Int(text[index + 1])])
        wrong |= first | second
        bytes[written] = first << 2 | second >> 4
        guard index + 2 < length else { return wrong < 64 && second & 15 == 0 }
        let third = values[Int(text[index + 2])]
        wrong |= third
        bytes[written + 1] = second << 4 | third >> 2
        return wrong < 64 && third & 3 == 0
    }
}

/// Two digits a byte. Written in lower case, read in either.
public enum Hex {
    public static func encode(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(unsafeUninitializedCapacity: bytes.count * 2) { text in
            for (index, byte) in bytes.enumerated() {
                text[2 * index] = digits[Int(byte >> 4)]
                text[2 * index + 1] = digits[Int(byte & 15)]
            }
            return bytes.count * 2
        }
    }

    public static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case 0x30...0x39: digit - 0x30
        case 0x41...0x46: digit - 0x37
        case 0x61...0x66: digit - 0x57
        default: nil
        }
    }
}
