/// The bytes are no JSON; `offset` is where reading stopped.
public struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    public let reason: String
    public let offset: Int
    public var description: String { "\(reason) at byte \(offset)" }
}

extension JSONValue {
    /// Reads RFC 8259 strictly: UTF-8 only, one value, no trailing commas, at most 128 levels deep.
    public init(parsing bytes: some Collection<UInt8>) throws(JSONSyntaxError) {
        let array = Array(bytes)
        var parser = JSONParser(bytes: array)
        self = try parser.document()
    }

    public init(parsing text: String) throws(JSONSyntaxError) { try self.init(parsing: Array(text.utf8)) }
}

private struct JSONParser {
    let bytes: [UInt8]
    var index = 0
    static let deepest = 128

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func document() throws(JSONSyntaxError) -> JSONValue {
        if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { index = 3 }
        skipBlanks()
        let value = try value(depth: 0)
        skipBlanks()
        guard index == bytes.count else { throw failure("more after the end of the value") }
        return value
    }

    func failure(_ reason: String) -> JSONSyntaxError { JSONSyntaxError(reason: reason, offset: index) }

    @inline(__always) mutating func skipBlanks() {
        while index < bytes.count {
            let byte = bytes[index]
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            index += 1
        }
    }

    mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        guard index < bytes.count else { throw failure("unexpected end") }
        switch bytes[index] {
        case UInt8(ascii: "{"): return try object(depth: depth + 1)
        case UInt8(ascii: "["): return try array(depth: depth + 1)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), 0x30...0x39: return try number()
        default: throw failure("unexpected character")
        }
    }

    mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONSyntaxError) -> JSONValue {
        let length = word.utf8CodeUnitCount
        guard bytes.count - index >= length, word.description.utf8.elementsEqual(bytes[index..<index + length])
        else { throw failure("unexpected word") }
        index += length
        return value
    }

    mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        guard depth <= Self.deepest else { throw failure("nested too deep") }
        index += 1
        var members: [JSONMember] = []
        skipBlanks()
        if index < bytes.count, bytes[index] == UInt8(ascii: "}") {
            index += 1
            return .object(members)
        }
        while true {
            skipBlanks()
            guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { throw failure("a name is missing") }
            let name = try string()
            skipBlanks()
            guard index < bytes.count, bytes[index] == UInt8(ascii: ":") else { throw failure("a colon is missing") }
            index += 1
            skipBlanks()
            members.append(JSONMember(name, try value(depth: depth)))
            skipBlanks()
            guard index < bytes.count else { throw failure("unexpected end") }
            index += 1
            if bytes[index - 1] == UInt8(ascii: "}") { return .object(members) }
            guard bytes[index - 1] == UInt8(ascii: ",") else {
                index -= 1
                throw failure("a comma is missing")
            }
        }
    }

    mutating func array(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        guard depth <= Self.deepest else { throw failure("nested too deep") }
        index += 1
        var values: [JSONValue] = []
        skipBlanks()
        if index < bytes.count, bytes[index] == UInt8(ascii: "]") {
            index += 1
            return .array(values)
        }
        while true {
            skipBlanks()
            values.append(try value(depth: depth))
            skipBlanks()
            guard index < bytes.count else { throw failure("unexpected end") }
            index += 1
            if bytes[index - 1] == UInt8(ascii: "]") { return .array(values) }
            guard bytes[index - 1] == UInt8(ascii: ",") else {
                index -= 1
                throw failure("a comma is missing")
            }
        }
    }

    /// Stands on the opening quote. The common text without escapes is taken in one piece.
    mutating func string() throws(JSONSyntaxError) -> String {
        index += 1
        let start = index
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") {
                guard let text = String(validating: bytes[start..<index], as: UTF8.self) else {
                    throw failure("text is not UTF-8")
                }
                index += 1
                return text
            }
            if byte == UInt8(ascii: "\\") { return try escapedString(from: start) }
            guard byte >= 0x20 else { throw failure("a control character in a text") }
            index += 1
        }
        throw failure("unexpected end")
    }

    mutating func escapedString(from start: Int) throws(JSONSyntaxError) -> String {
        var text = Array(bytes[start..<index])
        while index < bytes.count {
            let byte = bytes[index]
            switch byte {
            case UInt8(ascii: "\""):
                guard let result = String(validating: text, as: UTF8.self) else {
                    throw failure("text is not UTF-8")
                }
                index += 1
                return result
            case UInt8(ascii: "\\"):
                index += 1
                try text.append(contentsOf: escape())
            case 0..<0x20:
                throw failure("a control character in a text")
            default:
                text.append(byte)
                index += 1
            }
        }
        throw failure("unexpected end")
    }

    mutating func escape() throws(JSONSyntaxError) -> [UInt8] {
        guard index < bytes.count else { throw failure("unexpected end") }
        defer { index += 1 }
        switch bytes[index] {
        case UInt8(ascii: "\""): return [0x22]
        case UInt8(ascii: "\\"): return [0x5C]
        case UInt8(ascii: "/"): return [0x2F]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0C]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"): return try unicodeEscape()
        default: throw failure("unknown escape")
        }
    }

    /// Stands on the `u`, and leaves on the last digit. A lone surrogate becomes U+FFFD.
    mutating func unicodeEscape() throws(JSONSyntaxError) -> [UInt8] {
        var code = try fourHexDigits()
        if (0xD800...0xDBFF).contains(code), bytes.count - index > 6, bytes[index + 1] == UInt8(ascii: "\\"),
            bytes[index + 2] == UInt8(ascii: "u")
        {
            let returnTo = index
            index += 2
            let low = try fourHexDigits()
            if (0xDC00...0xDFFF).contains(low) {
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            } else {
                index = returnTo
            }
        }
        return Array(String(Character(Unicode.Scalar(code) ?? "\u{FFFD}")).utf8)
    }

    mutating func fourHexDigits() throws(JSONSyntaxError) -> UInt32 {
        guard bytes.count - index > 4 else { throw failure("unexpected end") }
        var code: UInt32 = 0
        for byte in bytes[(index + 1)...(index + 4)] {
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x41...0x46: digit = byte - 0x37
            case 0x61...0x66: digit = byte - 0x57
            default: throw failure("a hex digit is missing")
            }
            code = code << 4 | UInt32(digit)
        }
        index += 4
        return code
    }

    mutating func number() throws(JSONSyntaxError) -> JSONValue {
        let start = index
        let isNegative = bytes[index] == UInt8(ascii: "-")
        if isNegative { index += 1 }
        let firstDigit = index
        var magnitude: UInt64 = 0
        var fits = true
        while index < bytes.count, bytes[index] >= 0x30, bytes[index] <= 0x39 {
            let (product, over) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, overSum) = product.addingReportingOverflow(UInt64(bytes[index] - 0x30))
            fits = fits && !over && !overSum
            magnitude = sum
            index += 1
        }
        guard index > firstDigit else { throw failure("a digit is missing") }
        guard bytes[firstDigit] != 0x30 || index == firstDigit + 1 else { throw failure("a leading zero") }
        var isWhole = true
        if index < bytes.count, bytes[index] == UInt8(ascii: ".") {
            isWhole = false
            index += 1
            try digits()
        }
        if index < bytes.count, bytes[index] | 0x20 == UInt8(ascii: "e") {
            isWhole = false
            index += 1
            if index < bytes.count, bytes[index] == UInt8(ascii: "+") || bytes[index] == UInt8(ascii: "-") {
                index += 1
            }
            try digits()
        }
        if isWhole, fits {
            if isNegative, magnitude <= 1 << 63 { return .int(Int64(truncatingIfNeeded: 0 &- magnitude)) }
            if !isNegative, let value = Int64(exactly: magnitude) { return .int(value) }
        }
        guard index - start <= 64, let value = Double(String(decoding: bytes[start..<index], as: UTF8.self)),
            value.isFinite
        else { throw failure("a number out of range") }
        return .double(value)
    }

    mutating func digits() throws(JSONSyntaxError) {
        let start = index
        while index < bytes.count, bytes[index] >= 0x30, bytes[index] <= 0x39 { index += 1 }
        guard index > start else { throw failure("a digit is missing") }
    }
}
