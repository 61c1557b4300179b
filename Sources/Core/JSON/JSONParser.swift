/// The bytes are no JSON; `offset` is where reading stopped.
public struct JSONSyntaxError: Error, Equatable, CustomStringConvertible {
    public let reason: String
    public let offset: Int
    public var description: String { "\(reason) at byte \(offset)" }
}

extension JSONValue {
    /// Reads RFC 8259 strictly: UTF-8 only, one value, no trailing commas, at most 128 levels deep.
    ///
    /// A lone surrogate (`\ud800`) becomes U+FFFD; a whole number beyond `Int64` becomes a `double`.
    public init(parsing bytes: some Collection<UInt8>) throws(JSONSyntaxError) {
        let direct = bytes.withContiguousStorageIfAvailable { unsafe JSONParser.parse($0) }
        if let direct {
            self = try direct.get()
        } else {
            self = try unsafe Array(bytes).withUnsafeBufferPointer { unsafe JSONParser.parse($0) }.get()
        }
    }

    public init(parsing text: String) throws(JSONSyntaxError) {
        var text = text
        let result = text.withUTF8 { unsafe JSONParser.parse($0) }
        self = try result.get()
    }
}

/// Walks over the bytes once. Members and elements gather on two stacks and leave them, moved and not copied,
/// in an array of exactly their number.
///
/// Memory: `at` is asked only behind a comparison with `count`, by each of the few places that read.
@safe private struct JSONParser: ~Copyable {
    static let deepest = 128
    /// Longer spellings of a number serve nobody.
    static let longestNumber = 1024

    let base: UnsafePointer<UInt8>
    let count: Int
    var index = 0
    var members = Stack<JSONMember>()
    var elements = Stack<JSONValue>()

    static func parse(_ bytes: UnsafeBufferPointer<UInt8>) -> Result<JSONValue, JSONSyntaxError> {
        guard let base = bytes.baseAddress else {
            return .failure(JSONSyntaxError(reason: "unexpected end", offset: 0))
        }
        var parser = unsafe JSONParser(base: base, count: bytes.count)
        do throws(JSONSyntaxError) {
            return .success(try parser.document())
        } catch {
            return .failure(error)
        }
    }

    init(base: UnsafePointer<UInt8>, count: Int) {
        unsafe self.base = base
        self.count = count
    }

    @inline(__always) func at(_ place: Int) -> UInt8 {
        assert(place >= 0 && place < count)
        return unsafe base[place]
    }

    /// The next byte, or 0 at the end, which is valid nowhere outside a text.
    @inline(__always) var next: UInt8 { index < count ? at(index) : 0 }

    func failure(_ reason: String) -> JSONSyntaxError {
        JSONSyntaxError(reason: index < count ? reason : "unexpected end", offset: index)
    }

    @inline(__always) mutating func skipBlanks() {
        while index < count {
            let byte = at(index)
            guard byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 else { return }
            index += 1
        }
    }

    // MARK: - Values

    mutating func document() throws(JSONSyntaxError) -> JSONValue {
        if count >= 3, at(0) == 0xEF, at(1) == 0xBB, at(2) == 0xBF { index = 3 }
        skipBlanks()
        let value = try value(depth: 0)
        skipBlanks()
        guard index == count else { throw failure("more after the end of the value") }
        return value
    }

    mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        switch next {
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "{"): return try object(depth: depth + 1)
        case UInt8(ascii: "["): return try array(depth: depth + 1)
        case UInt8(ascii: "-"), 0x30...0x39: return try number()
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: throw failure("unexpected character")
        }
    }

    mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONSyntaxError) -> JSONValue {
        let length = word.utf8CodeUnitCount
        guard count - index >= length else { throw failure("unexpected word") }
        for offset in 0..<length {
            guard unsafe word.utf8Start[offset] == at(index + offset) else {
                throw failure("unexpected word")
            }
        }
        index += length
        return value
    }

    mutating func object(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        guard depth <= Self.deepest else { throw failure("nested too deep") }
        index += 1
        skipBlanks()
        if next == UInt8(ascii: "}") {
            index += 1
            return .object([])
        }
        let start = members.count
        while true {
            guard next == UInt8(ascii: "\"") else { throw failure("a name is missing") }
            let name = try string()
            skipBlanks()
            guard next == UInt8(ascii: ":") else { throw failure("a colon is missing") }
            index += 1
            skipBlanks()
            members.push(JSONMember(name, try value(depth: depth)))
            skipBlanks()
            switch next {
            case UInt8(ascii: ","):
                index += 1
                skipBlanks()
            case UInt8(ascii: "}"):
                index += 1
                return .object(members.take(from: start))
            default: throw failure("a comma is missing")
            }
        }
    }

    mutating func array(depth: Int) throws(JSONSyntaxError) -> JSONValue {
        guard depth <= Self.deepest else { throw failure("nested too deep") }
        index += 1
        skipBlanks()
        if next == UInt8(ascii: "]") {
            index += 1
            return .array([])
        }
        let start = elements.count
        while true {
            elements.push(try value(depth: depth))
            skipBlanks()
            switch next {
            case UInt8(ascii: ","):
                index += 1
                skipBlanks()
            case UInt8(ascii: "]"):
                index += 1
                return .array(elements.take(from: start))
            default: throw failure("a comma is missing")
            }
        }
    }

    // MARK: - Texts

    /// Stands on the opening quote. The common text without escapes is taken in one piece.
    mutating func string() throws(JSONSyntaxError) -> String {
        index += 1
        let start = index
        skipPlain()
        guard index < count else { throw failure("unexpected end") }
        switch at(index) {
        case UInt8(ascii: "\""):
            let text = unsafe String(
                validating: UnsafeBufferPointer(start: base + start, count: index - start), as: UTF8.self)
            guard let text else { throw failure("text is not UTF-8") }
            index += 1
            return text
        case UInt8(ascii: "\\"): return try escapedString(from: start)
        default: throw failure("a control character in a text")
        }
    }

    /// Stops at a quote, a backslash, a control character or the end.
    @inline(__always) private mutating func skipPlain() {
        // Eight bytes at a time: a byte's high bit is set in `stops` where the byte is one of the three. A
        // borrow may set bits above the first true one, never below it.
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        while count - index >= 8 {
            let word = unsafe UInt64(
                littleEndian: UnsafeRawPointer(base + index).loadUnaligned(as: UInt64.self))
            let quotes = word ^ (ones &* 0x22)
            let backslashes = word ^ (ones &* 0x5C)
            let stops =
                ((word &- ones &* 0x20) & ~word | (quotes &- ones) & ~quotes
                    | (backslashes &- ones) & ~backslashes) & highs
            guard stops == 0 else {
                index += stops.trailingZeroBitCount >> 3
                return
            }
            index += 8
        }
        while index < count {
            let byte = at(index)
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 0x20 { return }
            index += 1
        }
    }

    mutating func escapedString(from start: Int) throws(JSONSyntaxError) -> String {
        var text: [UInt8] = []
        var plain = start
        while true {
            unsafe text.append(contentsOf: UnsafeBufferPointer(start: base + plain, count: index - plain))
            guard index < count else { throw failure("unexpected end") }
            switch at(index) {
            case UInt8(ascii: "\""):
                guard let result = String(validating: text, as: UTF8.self) else {
                    throw failure("text is not UTF-8")
                }
                index += 1
                return result
            case UInt8(ascii: "\\"):
                index += 1
                try appendEscape(to: &text)
            default: throw failure("a control character in a text")
            }
            plain = index
            skipPlain()
        }
    }

    /// Stands behind the backslash, and leaves behind the escape.
    private mutating func appendEscape(to text: inout [UInt8]) throws(JSONSyntaxError) {
        switch next {
        case UInt8(ascii: "\""): text.append(0x22)
        case UInt8(ascii: "\\"): text.append(0x5C)
        case UInt8(ascii: "/"): text.append(0x2F)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            index += 1
            return append(try scalar(), to: &text)
        default: throw failure("unknown escape")
        }
        index += 1
    }

    /// Stands behind the `u`, and leaves behind the last digit, of the second half where there is one.
    private mutating func scalar() throws(JSONSyntaxError) -> Unicode.Scalar {
        let code = try fourHexDigits()
        if let scalar = Unicode.Scalar(code) { return scalar }
        let afterFirst = index
        if code < 0xDC00, count - index >= 6, at(index) == UInt8(ascii: "\\"),
            at(index + 1) == UInt8(ascii: "u")
        {
            index += 2
            let low = try fourHexDigits()
            if 0xDC00...0xDFFF ~= low,
                let pair = Unicode.Scalar(0x10000 + (code - 0xD800) << 10 + (low - 0xDC00))
            {
                return pair
            }
            index = afterFirst
        }
        return "\u{FFFD}"
    }

    private func append(_ scalar: Unicode.Scalar, to text: inout [UInt8]) {
        text.append(contentsOf: UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter)
    }

    private mutating func fourHexDigits() throws(JSONSyntaxError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            let byte = next
            let digit: UInt8
            switch byte {
            case 0x30...0x39: digit = byte - 0x30
            case 0x41...0x46: digit = byte - 0x37
            case 0x61...0x66: digit = byte - 0x57
            default: throw failure("a hex digit is missing")
            }
            code = code << 4 | UInt32(digit)
            index += 1
        }
        return code
    }

    // MARK: - Numbers

    mutating func number() throws(JSONSyntaxError) -> JSONValue {
        let start = index
        let isNegative = at(index) == UInt8(ascii: "-")
        if isNegative { index += 1 }
        let firstDigit = index
        // All digits, before and behind the point, as one whole number.
        var digits = Digits()
        readDigits(into: &digits)
        guard index > firstDigit else { throw failure("a digit is missing") }
        guard at(firstDigit) != 0x30 || index == firstDigit + 1 else { throw failure("a leading zero") }
        if next != UInt8(ascii: "."), next | 0x20 != UInt8(ascii: "e"), let whole = digits.whole(isNegative) {
            return .int(whole)
        }
        var exponent = 0
        if next == UInt8(ascii: ".") {
            index += 1
            let point = index
            readDigits(into: &digits)
            guard index > point else { throw failure("a digit is missing") }
            exponent = point - index
        }
        if next | 0x20 == UInt8(ascii: "e") {
            index += 1
            let isBelowOne = next == UInt8(ascii: "-")
            if isBelowOne || next == UInt8(ascii: "+") { index += 1 }
            let first = index
            var power = Digits()
            readDigits(into: &power)
            guard index > first else { throw failure("a digit is missing") }
            let bounded = power.fits ? Int(min(power.value, 100_000)) : 100_000
            exponent += isBelowOne ? -bounded : bounded
        }
        return .double(try double(from: start, digits, exponent, isNegative))
    }

    private struct Digits {
        var value: UInt64 = 0
        var fits = true

        /// The number, where it is one of `Int64`.
        func whole(_ isNegative: Bool) -> Int64? {
            guard fits else { return nil }
            if !isNegative { return Int64(exactly: value) }
            return value <= 1 << 63 ? Int64(truncatingIfNeeded: 0 &- value) : nil
        }
    }

    @inline(__always) private mutating func readDigits(into digits: inout Digits) {
        while index < count {
            let digit = at(index) &- 0x30
            guard digit < 10 else { return }
            if digits.value < 1 << 59 {
                digits.value = digits.value &* 10 &+ UInt64(digit)
            } else {
                let (product, over) = digits.value.multipliedReportingOverflow(by: 10)
                let (sum, overSum) = product.addingReportingOverflow(UInt64(digit))
                digits.value = sum
                digits.fits = digits.fits && !over && !overSum
            }
            index += 1
        }
    }

    /// Powers of ten that a `Double` holds exactly.
    private static let exactPowers: [Double] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
        1e18, 1e19, 1e20, 1e21, 1e22,
    ]

    private func double(
        from start: Int, _ digits: Digits, _ exponent: Int, _ isNegative: Bool
    ) throws(JSONSyntaxError) -> Double {
        // Both factors exact, so the one rounding of the operation is the right one (Clinger's fast path).
        if digits.fits, digits.value <= 1 << 53, abs(exponent) <= 22 {
            let power = Self.exactPowers[abs(exponent)]
            let magnitude = exponent < 0 ? Double(digits.value) / power : Double(digits.value) * power
            return isNegative ? -magnitude : magnitude
        }
        let length = index - start
        let text = unsafe String(
            decoding: UnsafeBufferPointer(start: base + start, count: min(length, Self.longestNumber)),
            as: UTF8.self)
        guard length <= Self.longestNumber, let value = Double(text), value.isFinite else {
            throw JSONSyntaxError(reason: "a number out of range", offset: index)
        }
        return value
    }
}

/// Grows at its end; what has gathered since a mark leaves as an array, moved and not copied.
@safe private struct Stack<Element>: ~Copyable {
    private var storage: UnsafeMutablePointer<Element>?
    private var capacity = 0
    private(set) var count = 0

    init() { unsafe storage = nil }

    deinit {
        unsafe storage?.deinitialize(count: count)
        unsafe storage?.deallocate()
    }

    @inline(__always) mutating func push(_ element: consuming Element) {
        if count == capacity { grow() }
        unsafe storage?.advanced(by: count).initialize(to: element)
        count += 1
    }

    private mutating func grow() {
        let larger = max(16, capacity * 2)
        let new = UnsafeMutablePointer<Element>.allocate(capacity: larger)
        if let old = unsafe storage {
            unsafe new.moveInitialize(from: old, count: count)
            unsafe old.deallocate()
        }
        unsafe storage = new
        capacity = larger
    }

    mutating func take(from start: Int) -> [Element] {
        guard let storage = unsafe storage else { return [] }
        let taken = count - start
        count = start
        return unsafe [Element](unsafeUninitializedCapacity: taken) { buffer, filled in
            unsafe buffer.baseAddress?.moveInitialize(from: storage + start, count: taken)
            filled = taken
        }
    }
}
