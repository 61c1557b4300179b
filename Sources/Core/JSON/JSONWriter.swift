extension JSONValue {
    /// Compact UTF-8. A number that JSON cannot say (infinity, not a number) is written as `null`.
    public var bytes: [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(256)
        JSONWriter.append(self, to: &result)
        return result
    }

    public var text: String { String(decoding: bytes, as: UTF8.self) }
}

public enum JSONWriter {
    public static func append(_ value: JSONValue, to result: inout [UInt8]) {
        switch value {
        case .null: result.append(contentsOf: "null".utf8)
        case .bool(let flag): result.append(contentsOf: flag ? "true".utf8 : "false".utf8)
        case .int(let number): append(number, to: &result)
        case .double(let number):
            result.append(contentsOf: number.isFinite ? number.description.utf8 : "null".utf8)
        case .string(let text): append(text, to: &result)
        case .array(let values):
            result.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { result.append(UInt8(ascii: ",")) }
                append(value, to: &result)
            }
            result.append(UInt8(ascii: "]"))
        case .object(let members):
            result.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { result.append(UInt8(ascii: ",")) }
                append(member.name, to: &result)
                result.append(UInt8(ascii: ":"))
                append(member.value, to: &result)
            }
            result.append(UInt8(ascii: "}"))
        }
    }

    private static func append(_ number: Int64, to result: inout [UInt8]) {
        if number < 0 { result.append(UInt8(ascii: "-")) }
        var magnitude = number.magnitude
        let start = result.count
        repeat {
            result.append(UInt8(truncatingIfNeeded: 0x30 + magnitude % 10))
            magnitude /= 10
        } while magnitude > 0
        result[start...].reverse()
    }

    public static func append(_ text: String, to result: inout [UInt8]) {
        result.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { utf8 in
            var clean = utf8.startIndex
            for index in utf8.indices {
                let byte = unsafe utf8[index]
                // The line and paragraph separators are fine in JSON; control characters, quote and
                // backslash are not.
                guard byte < 0x20 || byte == 0x22 || byte == 0x5C else { continue }
                unsafe result.append(contentsOf: utf8[clean..<index])
                clean = index + 1
                appendEscape(byte, to: &result)
            }
            unsafe result.append(contentsOf: utf8[clean...])
        }
        result.append(UInt8(ascii: "\""))
    }

    private static func appendEscape(_ byte: UInt8, to result: inout [UInt8]) {
        result.append(0x5C)
        switch byte {
        case 0x22, 0x5C: result.append(byte)
        case 0x0A: result.append(UInt8(ascii: "n"))
        case 0x0D: result.append(UInt8(ascii: "r"))
        case 0x09: result.append(UInt8(ascii: "t"))
        default:
            let digits = Array("0123456789abcdef".utf8)
            result.append(contentsOf: "u00".utf8)
            result.append(digits[Int(byte >> 4)])
            result.append(digits[Int(byte & 15)])
        }
    }

    static func append(_ text: String, to line: inout String) {
        var bytes: [UInt8] = []
        append(text, to: &bytes)
        line += String(decoding: bytes, as: UTF8.self)
    }
}
