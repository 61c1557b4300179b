extension JSONValue {
    /// Compact UTF-8. A number that JSON cannot say (infinity, not a number) is written as `null`.
    public var bytes: [UInt8] {
        var output = JSONOutput()
        output.write(self)
        return output.bytes
    }

    public var text: String {
        var output = JSONOutput()
        output.write(self)
        return output.text
    }
}

public enum JSONWriter {
    public static func append(_ value: JSONValue, to result: inout [UInt8]) {
        var output = JSONOutput()
        output.write(value)
        output.append(to: &result)
    }

    public static func append(_ text: String, to result: inout [UInt8]) {
        var output = JSONOutput()
        output.write(text)
        output.append(to: &result)
    }

    static func append(_ text: String, to line: inout String) {
        guard text.utf8.contains(where: { JSONOutput.isEscaped($0) }) else {
            line += "\""
            line += text
            line += "\""
            return
        }
        var output = JSONOutput()
        output.write(text)
        line += output.text
    }
}

/// A buffer that grows, without the checks an array makes for every byte.
///
/// Memory: every write is preceded by `reserve` of at least what it writes.
@safe private struct JSONOutput: ~Copyable {
    private var storage: UnsafeMutablePointer<UInt8>
    private var capacity = 512
    private var count = 0

    init() { unsafe storage = .allocate(capacity: 512) }

    deinit { unsafe storage.deallocate() }

    private var written: UnsafeBufferPointer<UInt8> {
        unsafe UnsafeBufferPointer(start: storage, count: count)
    }

    var bytes: [UInt8] { unsafe Array(written) }
    var text: String { unsafe String(decoding: written, as: UTF8.self) }
    func append(to result: inout [UInt8]) { unsafe result.append(contentsOf: written) }

    @inline(__always) private mutating func reserve(_ more: Int) {
        if capacity - count < more { grow(more) }
    }

    private mutating func grow(_ more: Int) {
        let larger = max(capacity * 2, count + more)
        let new = UnsafeMutablePointer<UInt8>.allocate(capacity: larger)
        unsafe new.update(from: storage, count: count)
        unsafe storage.deallocate()
        unsafe storage = new
        capacity = larger
    }

    /// Needs room that was reserved.
    @inline(__always) private mutating func put(_ byte: UInt8) {
        unsafe storage[count] = byte
        count += 1
    }

    private mutating func put(_ word: StaticString) {
        reserve(word.utf8CodeUnitCount)
        unsafe (storage + count).update(from: word.utf8Start, count: word.utf8CodeUnitCount)
        count += word.utf8CodeUnitCount
    }

    // MARK: - Values

    mutating func write(_ value: borrowing JSONValue) {
        switch value {
        case .null: put("null")
        case .bool(let flag): put(flag ? "true" : "false")
        case .int(let number): write(number)
        case .double(let number): write(number)
        case .string(let text): write(text)
        case .array(let values):
            reserve(2)
            put(UInt8(ascii: "["))
            for index in values.indices {
                if index > 0 {
                    reserve(1)
                    put(UInt8(ascii: ","))
                }
                write(values[index])
            }
            reserve(1)
            put(UInt8(ascii: "]"))
        case .object(let members):
            reserve(2)
            put(UInt8(ascii: "{"))
            for index in members.indices {
                if index > 0 {
                    reserve(1)
                    put(UInt8(ascii: ","))
                }
                write(members[index].name)
                reserve(1)
                put(UInt8(ascii: ":"))
                write(members[index].value)
            }
            reserve(1)
            put(UInt8(ascii: "}"))
        }
    }

    private mutating func write(_ number: Double) {
        guard number.isFinite else { return put("null") }
        let text = number.description.utf8
        reserve(text.count)
        for byte in text { put(byte) }
    }

    private mutating func write(_ number: Int64) {
        reserve(20)
        if number < 0 { put(UInt8(ascii: "-")) }
        var magnitude = number.magnitude
        var length = 1
        var bound: UInt64 = 10
        while length < 19, magnitude >= bound {
            length += 1
            bound &*= 10
        }
        var place = count + length
        repeat {
            place -= 1
            unsafe storage[place] = UInt8(truncatingIfNeeded: 0x30 &+ magnitude % 10)
            magnitude /= 10
        } while magnitude > 0
        count += length
    }

    // MARK: - Texts

    /// Control characters, quote and backslash; U+2028 and U+2029 are fine in JSON.
    @inline(__always) static func isEscaped(_ byte: UInt8) -> Bool {
        byte < 0x20 || byte == 0x22 || byte == 0x5C
    }

    mutating func write(_ text: String) {
        var text = text
        text.withUTF8 { unsafe write($0) }
    }

    private mutating func write(_ utf8: UnsafeBufferPointer<UInt8>) {
        // Room for a text without escapes and both quotes; each escape asks for its own.
        reserve(utf8.count + 2)
        put(UInt8(ascii: "\""))
        if let source = utf8.baseAddress {
            var index = 0
            while index < utf8.count {
                let plain = unsafe plainCount(source + index, utf8.count - index)
                unsafe (storage + count).update(from: source + index, count: plain)
                count += plain
                index += plain
                if index < utf8.count {
                    reserve(utf8.count - index + 8)
                    unsafe putEscape(source[index])
                    index += 1
                }
            }
        }
        put(UInt8(ascii: "\""))
    }

    /// How many bytes stand before the first that is escaped; eight at a time, as in the parser.
    @inline(__always)
    private func plainCount(_ source: UnsafePointer<UInt8>, _ length: Int) -> Int {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        var index = 0
        while length - index >= 8 {
            let word = unsafe UInt64(
                littleEndian: UnsafeRawPointer(source + index).loadUnaligned(as: UInt64.self))
            let quotes = word ^ (ones &* 0x22)
            let backslashes = word ^ (ones &* 0x5C)
            let stops =
                ((word &- ones &* 0x20) & ~word | (quotes &- ones) & ~quotes
                    | (backslashes &- ones) & ~backslashes) & highs
            if stops != 0 { return index + stops.trailingZeroBitCount >> 3 }
            index += 8
        }
        while index < length, unsafe !Self.isEscaped(source[index]) { index += 1 }
        return index
    }

    private mutating func putEscape(_ byte: UInt8) {
        put(0x5C)
        switch byte {
        case 0x22, 0x5C: put(byte)
        case 0x0A: put(UInt8(ascii: "n"))
        case 0x0D: put(UInt8(ascii: "r"))
        case 0x09: put(UInt8(ascii: "t"))
        default:
            put(UInt8(ascii: "u"))
            put(UInt8(ascii: "0"))
            put(UInt8(ascii: "0"))
            put(0x30 + byte >> 4)
            put(byte & 15 < 10 ? 0x30 + byte & 15 : 0x57 + byte & 15)
        }
    }
}
