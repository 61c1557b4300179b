/// Takes out of a text what must not be in a log: phone numbers, bearer tokens, JWTs, bot tokens, login
/// links, `password=…` and its like, and any long run of random characters.
///
/// It would rather hide too much than too little; identifiers the platform made itself go through
/// `LogValue.id` and are not touched.
public enum Redaction {
    static let mark = "<redacted>"

    /// Names of fields whose value is never shown, whatever it looks like.
    private static let sensitiveNames: [String] = [
        "password", "passwd", "secret", "token", "authorization", "cookie", "session", "api_key", "apikey",
        "api_hash", "phone", "message_text", "code", "private_key", "signature", "qr_link", "email",
    ]

    /// `code` alone is a login code; `status_code` and `error_code` are not.
    static func isSensitive(field name: String) -> Bool {
        let name = name.lowercased()
        return sensitiveNames.contains { word in
            guard name == word || name.hasSuffix("_" + word) else { return false }
            return word != "code" || name == "code" || name == "login_code" || name == "auth_code"
        }
    }

    public static func clean(_ text: String) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count)
        var index = 0
        var changed = false
        while index < bytes.count {
            if let end = endOfAssignment(bytes, index, &result) ?? endOfSecret(bytes, index) {
                result.append(contentsOf: mark.utf8)
                index = end
                changed = true
            } else if isWord(bytes[index]) || bytes[index] == Character.plus {
                // A harmless word is copied whole, so that its tail is not judged on its own.
                let end = max(endOfHarmless(bytes, index), index + 1)
                result.append(contentsOf: bytes[index..<end])
                index = end
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return changed ? String(decoding: result, as: UTF8.self) : text
    }

    // MARK: - The parts of a text

    private enum Character {
        static let plus = UInt8(ascii: "+"), minus = UInt8(ascii: "-"), dot = UInt8(ascii: ".")
        static let colon = UInt8(ascii: ":"), underscore = UInt8(ascii: "_"), blank = UInt8(ascii: " ")
        static let equals = UInt8(ascii: "="), quote = UInt8(ascii: "\"")
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
    private static func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A }
    private static func isWord(_ byte: UInt8) -> Bool {
        isDigit(byte) || isLetter(byte) || byte == Character.underscore || byte == Character.minus
    }

    private static func endOfWord(_ bytes: [UInt8], _ start: Int) -> Int {
        var end = start
        while end < bytes.count, isWord(bytes[end]) { end += 1 }
        return end
    }

    private static func endOfHarmless(_ bytes: [UInt8], _ start: Int) -> Int {
        // A number with separators that was judged no phone is passed over as one piece.
        endOfWord(bytes, start)
    }

    /// `password=…`, `"token": "…"`, `Authorization: Bearer …`: copies the name, hides the value.
    private static func endOfAssignment(_ bytes: [UInt8], _ start: Int, _ result: inout [UInt8]) -> Int? {
        guard isLetter(bytes[start]), start == 0 || !isWord(bytes[start - 1]) else { return nil }
        let nameEnd = endOfWord(bytes, start)
        let name = String(decoding: bytes[start..<nameEnd], as: UTF8.self)
        let isBearer = name.lowercased() == "bearer"
        guard isBearer || isSensitive(field: name) else { return nil }
        var value = nameEnd
        while value < bytes.count, [Character.quote, Character.blank].contains(bytes[value]) { value += 1 }
        if !isBearer {
            guard value < bytes.count, [Character.equals, Character.colon].contains(bytes[value]) else { return nil }
            value += 1
            while value < bytes.count, [Character.quote, Character.blank].contains(bytes[value]) { value += 1 }
            let scheme = endOfWord(bytes, value)
            if ["bearer", "basic"].contains(String(decoding: bytes[value..<scheme], as: UTF8.self).lowercased()) {
                value = scheme
                while value < bytes.count, bytes[value] == Character.blank { value += 1 }
            }
        }
        guard value < bytes.count, value > nameEnd else { return nil }
        var end = value
        let stops: [UInt8] = [Character.quote, Character.blank, 0x0A, 0x0D, UInt8(ascii: ","), UInt8(ascii: ";"),
            UInt8(ascii: "&"), UInt8(ascii: ")"), UInt8(ascii: "}")]
        while end < bytes.count, !stops.contains(bytes[end]) { end += 1 }
        guard end > value else { return nil }
        result.append(contentsOf: bytes[start..<value])
        return end
    }

    private static func endOfSecret(_ bytes: [UInt8], _ start: Int) -> Int? {
        guard start == 0 || !isWord(bytes[start - 1]) else { return nil }
        return endOfPhone(bytes, start) ?? endOfToken(bytes, start)
    }

    /// `+7 (900) 123-45-67`, `79001234567`: 10 to 15 digits with separators, or `+` and 7 to 15.
    private static func endOfPhone(_ bytes: [UInt8], _ start: Int) -> Int? {
        let hasPlus = bytes[start] == Character.plus
        var index = hasPlus ? start + 1 : start
        guard index < bytes.count, isDigit(bytes[index]) || (!hasPlus && bytes[index] == UInt8(ascii: "(")) else { return nil }
        let separators: [UInt8] = [Character.blank, Character.minus, UInt8(ascii: "("), UInt8(ascii: ")")]
        var digits = 0
        var end = index
        while index < bytes.count {
            if isDigit(bytes[index]) {
                digits += 1
                end = index + 1
            } else if !separators.contains(bytes[index]) || index - end >= 2 {
                break
            }
            index += 1
        }
        // Letters right behind it make it an identifier (a UUID, a digest), which other rules judge.
        if end < bytes.count, isLetter(bytes[end]) || bytes[end] == Character.underscore { return nil }
        if end + 1 < bytes.count, bytes[end] == Character.minus, isLetter(bytes[end + 1]) { return nil }
        if isUUID(bytes, start) { return nil }
        return (hasPlus ? 7...15 : 10...15).contains(digits) ? end : nil
    }

    /// A run of 24 or more characters with digits and letters: a token, a key, a session. Not a UUID.
    private static func endOfToken(_ bytes: [UInt8], _ start: Int) -> Int? {
        guard isWord(bytes[start]) else { return nil }
        if isUUID(bytes, start) { return nil }
        var end = start
        var digits = 0
        var letters = 0
        while end < bytes.count {
            let byte = bytes[end]
            if isDigit(byte) {
                digits += 1
            } else if isLetter(byte) {
                letters += 1
            } else if [Character.underscore, Character.minus, Character.equals, Character.plus].contains(byte) {
                // part of base64
            } else if byte == Character.dot || byte == Character.colon {
                // JWTs have dots and bot tokens a colon inside; a sentence has neither between long parts.
                guard end - start >= 8, end + 8 < bytes.count, isWord(bytes[end + 1]) else { break }
            } else {
                break
            }
            end += 1
        }
        return end - start >= 24 && digits >= 2 && letters >= 2 ? end : nil
    }

    private static func isUUID(_ bytes: [UInt8], _ start: Int) -> Bool {
        guard start + 36 <= bytes.count else { return false }
        for offset in 0..<36 {
            let byte = bytes[start + offset]
            if [8, 13, 18, 23].contains(offset) {
                guard byte == Character.minus else { return false }
            } else {
                guard isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66) else { return false }
            }
        }
        return start + 36 == bytes.count || !isWord(bytes[start + 36])
    }
}
