/// Takes out of a text what must not be in a log: phone numbers, e-mail addresses, bearer tokens, JWTs, bot
/// tokens, login links and codes, passwords in addresses, `password=…` and its like, and any long run of
/// random characters.
///
/// It would rather hide too much than too little; identifiers the platform made itself go through
/// `LogValue.id` and are not touched.
public enum Redaction {
    static let mark = "<redacted>"

    public static func clean(_ text: String) -> String {
        var redactor = Redactor(Array(text.utf8))
        return redactor.run() ? String(decoding: redactor.result, as: UTF8.self) : text
    }

    /// Whether a field's value is never shown, whatever it looks like.
    static func isSensitive(field name: String) -> Bool { isSensitive(name.utf8.span) }

    /// How the names of secrets end, in lower case and without `_` and `-`: `refreshToken`, `X-Api-Key`.
    private static let sensitiveEndings = [
        "password", "passwd", "passphrase", "pwd", "secret", "secretid", "token", "authorization", "cookie",
        "session", "sessionstring", "apikey", "apihash", "accesskey", "privatekey", "sealingkey", "phone",
        "phonenumber", "messagetext", "logincode", "authcode", "signature", "qrlink", "email", "jwt",
    ].map { Array($0.utf8) }
    /// Names that are secret only when they stand alone: `status_code` and `compass` are not.
    private static let sensitiveWords = ["code", "pass", "sid"].map { Array($0.utf8) }

    /// Asked for every field of every line, so it makes nothing and looks at few endings.
    fileprivate static func isSensitive(_ name: Span<UInt8>) -> Bool {
        guard let last = name.indices.last(where: { !isSeparator(name[$0]) }) else { return false }
        let endings = endingsByLastByte[Int(name[last] | 0x20)]
        return endings.contains { ends(name, with: $0) != nil }
            || sensitiveWords.contains { ends(name, with: $0) == 0 && $0.count == name.count }
    }

    private static let endingsByLastByte: [[[UInt8]]] = (0...255).map { byte in
        sensitiveEndings.filter { $0.last.map(Int.init) == byte }
    }

    /// Where in a name its ending begins; `nil` where it ends in another way.
    private static func ends(_ name: Span<UInt8>, with ending: [UInt8]) -> Int? {
        var place = name.count
        for expected in ending.reversed() {
            repeat {
                place -= 1
                guard place >= 0 else { return nil }
            } while isSeparator(name[place])
            guard name[place] | 0x20 == expected else { return nil }
        }
        return place
    }

    private static func isSeparator(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
    }
}

/// Walks over a text once. Each rule is asked only where its kind of secret can begin, and looks no further
/// than it then hides, or a bounded way, so that no text takes longer than in proportion to its length.
private struct Redactor {
    private let bytes: [UInt8]
    private(set) var result: [UInt8] = []
    private var index = 0
    /// Up to here it is known that no e-mail address ends the run of its characters.
    private var noAddressBefore = 0
    /// Up to here it is known that the run of a token's characters is none; nor is any part of it.
    private var noTokenBefore = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// False where nothing had to be hidden.
    mutating func run() -> Bool {
        result.reserveCapacity(bytes.count)
        var changed = false
        while index < bytes.count {
            if let (start, end) = secret() {
                result.append(contentsOf: bytes[index..<start])
                result.append(contentsOf: Redaction.mark.utf8)
                index = end
                changed = true
            } else {
                let end = endOfHarmless()
                result.append(contentsOf: bytes[index..<end])
                index = end
            }
        }
        return changed
    }

    /// What of the text from `index` on is to be hidden; what stands before its start is shown.
    private mutating func secret() -> (start: Int, end: Int)? {
        let byte = bytes[index]
        if isWord(byte), index == 0 || !isWord(bytes[index - 1]) {
            if isUUID(index) { return nil }
            if let value = assignedValue() { return value }
            if let end = endOfWebToken() ?? endOfBotToken(index) ?? endOfAddress() ?? endOfToken() {
                return (index, end)
            }
        }
        switch byte {
        case UInt8(ascii: "+"), UInt8(ascii: "("), 0x30...0x39:
            if let end = endOfBotToken(index) ?? endOfPhone() { return (index, end) }
        case UInt8(ascii: ":"): return passwordInAddress()
        case UInt8(ascii: "/"):
            guard has("/login/", at: index), index >= 4, has("t.me", at: index - 4) else { return nil }
            let start = index + 7
            let end = endOfWord(start)
            return end > start ? (start, end) : nil
        case UInt8(ascii: "$"):
            if has("$argon2", at: index) { return (index, endOfValue(index)) }
        case 0xD0, 0xD1: return assignedValueInRussian()
        default: break
        }
        return nil
    }

    /// What can be shown in one piece: an identifier or a date, which another rule would take for a number, or
    /// one byte.
    private func endOfHarmless() -> Int {
        if index > 0, isWord(bytes[index - 1]), bytes[index - 1] != UInt8(ascii: "-"),
            bytes[index - 1] != UInt8(ascii: "_")
        {
            return index + 1
        }
        if isUUID(index) { return index + 36 }
        return isDate(index) ? index + 10 : index + 1
    }

    // MARK: - Characters

    private func byte(_ place: Int) -> UInt8 { place >= 0 && place < bytes.count ? bytes[place] : 0 }
    private func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
    private func isLetter(_ byte: UInt8) -> Bool { (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A }
    private func isWord(_ byte: UInt8) -> Bool {
        isDigit(byte) || isLetter(byte) || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
    }
    private func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
    private func isQuote(_ byte: UInt8) -> Bool { byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") }

    private func has(_ word: StaticString, at place: Int) -> Bool {
        let length = word.utf8CodeUnitCount
        guard place >= 0, bytes.count - place >= length else { return false }
        for offset in 0..<length where unsafe bytes[place + offset] != word.utf8Start[offset] { return false }
        return true
    }

    private func endOfWord(_ start: Int) -> Int {
        var end = start
        while end < bytes.count, isWord(bytes[end]) { end += 1 }
        return end
    }

    private func skipBlanks(_ start: Int) -> Int {
        var end = start
        while isBlank(byte(end)) { end += 1 }
        return end
    }

    private func isUUID(_ start: Int) -> Bool {
        guard start + 36 <= bytes.count, bytes[start + 8] == UInt8(ascii: "-") else { return false }
        for offset in 0..<36 {
            let byte = bytes[start + offset]
            if offset == 8 || offset == 13 || offset == 18 || offset == 23 {
                guard byte == UInt8(ascii: "-") else { return false }
            } else {
                guard isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66) else { return false }
            }
        }
        return !isWord(byte(start + 36))
    }

    /// `2025-08-24`
    private func isDate(_ start: Int) -> Bool {
        guard start + 10 <= bytes.count, bytes[start + 4] == UInt8(ascii: "-"),
            bytes[start + 7] == UInt8(ascii: "-")
        else { return false }
        guard bytes[start] == UInt8(ascii: "1") || bytes[start] == UInt8(ascii: "2") else { return false }
        guard (0..<10).allSatisfy({ $0 == 4 || $0 == 7 || isDigit(bytes[start + $0]) }) else { return false }
        return !isWord(byte(start + 10)) || byte(start + 10) | 0x20 == UInt8(ascii: "t")
    }

    // MARK: - Names and values

    /// `password=…`, `"token": "…"`, `Authorization: Bearer …`, `["token", "…"]`, `Bearer …`.
    private func assignedValue() -> (Int, Int)? {
        let nameEnd = endOfWord(index)
        guard isLetter(bytes[index]) || bytes[index] == UInt8(ascii: "_") else { return nil }
        if nameEnd - index == 6, isBlank(byte(nameEnd)), lowercase(index, nameEnd) == Array("bearer".utf8) {
            let start = skipBlanks(nameEnd)
            let end = endOfValue(start)
            return end > start ? (start, end) : nil
        }
        guard let place = valuePlace(behind: nameEnd), Redaction.isSensitive(bytes[index..<nameEnd].span)
        else {
            return nil
        }
        let name = lowercase(index, nameEnd)
        if name == Array("code".utf8) {
            // A login code is some digits; `code: flood_wait` and SQL's `code: 42P01` are for reading.
            let end = endOfWord(skipQuote(place).start)
            let start = skipQuote(place).start
            return (4...8).contains(end - start) && bytes[start..<end].allSatisfy(isDigit)
                ? (start, end) : nil
        }
        let toLineEnd =
            name.suffix(6) == Array("cookie".utf8)[...] || name.suffix(13) == Array("authorization".utf8)[...]
        return value(at: place, toLineEnd: toLineEnd)
    }

    private static let russianNames = ["пароль", "токен", "секрет", "код"].map { word in
        // Without the first letter, which may be a capital.
        (
            first: Array(word.prefix(1).utf8), capital: Array(word.prefix(1).uppercased().utf8),
            rest: Array(word.dropFirst().utf8)
        )
    }

    private func assignedValueInRussian() -> (Int, Int)? {
        guard index == 0 || bytes[index - 1] < 0x80 else { return nil }
        for name in Self.russianNames {
            guard bytes[index...].starts(with: name.first) || bytes[index...].starts(with: name.capital),
                bytes[(index + 2)...].starts(with: name.rest),
                let place = valuePlace(behind: index + 2 + name.rest.count)
            else { continue }
            return value(at: place, toLineEnd: false)
        }
        return nil
    }

    private func lowercase(_ start: Int, _ end: Int) -> [UInt8] { bytes[start..<end].map { $0 | 0x20 } }

    /// Where the value behind a name begins: after `=`, `:`, `=>`, `%3D`, ` is `, or the comma of a list.
    private func valuePlace(behind nameEnd: Int) -> Int? {
        var place = nameEnd
        if byte(place) == UInt8(ascii: "\\") { place += 1 }
        let isQuoted = isQuote(byte(place))
        if isQuoted { place += 1 }
        place = skipBlanks(place)
        switch byte(place) {
        case UInt8(ascii: "="), UInt8(ascii: ":"):
            place += byte(place + 1) == UInt8(ascii: ">") ? 2 : 1
        case UInt8(ascii: "%"):
            guard byte(place + 1) == UInt8(ascii: "3"), [0x61, 0x64].contains(byte(place + 2) | 0x20) else {
                return nil
            }
            place += 3
        case UInt8(ascii: ",") where isQuoted:
            place = skipBlanks(place + 1)
            return isQuote(byte(place)) ? place : nil
        case UInt8(ascii: "i")
        where byte(place + 1) == UInt8(ascii: "s") && isBlank(byte(place + 2)) && place > nameEnd:
            place += 3
        default: return nil
        }
        place = skipBlanks(place)
        return place < bytes.count ? place : nil
    }

    /// The first character of a value, and the quote that ends it, if one opened it.
    private func skipQuote(_ place: Int) -> (start: Int, quote: UInt8?, isEscaped: Bool) {
        let isEscaped = byte(place) == UInt8(ascii: "\\") && isQuote(byte(place + 1))
        let quoteAt = isEscaped ? place + 1 : place
        return isQuote(byte(quoteAt)) ? (quoteAt + 1, bytes[quoteAt], isEscaped) : (place, nil, false)
    }

    private func value(at place: Int, toLineEnd: Bool) -> (Int, Int)? {
        let (start, quote, isEscaped) = skipQuote(place)
        var end = start
        if let quote {
            while end < bytes.count {
                if bytes[end] == UInt8(ascii: "\\") {
                    if isEscaped, byte(end + 1) == quote { break }
                    end = min(end + 2, bytes.count)
                    continue
                }
                if bytes[end] == quote { break }
                end += 1
            }
        } else if has("<redacted>", at: start) {
            end = start + Redaction.mark.utf8.count
        } else if toLineEnd {
            while end < bytes.count, bytes[end] != 0x0A, bytes[end] != 0x0D, !isQuote(bytes[end]) { end += 1 }
        } else {
            end = endOfValue(start)
        }
        return end > start ? (start, end) : nil
    }

    private func endOfValue(_ start: Int) -> Int {
        if has("<redacted>", at: start) { return start + Redaction.mark.utf8.count }
        var end = start
        while end < bytes.count {
            switch bytes[end] {
            case 0...0x20, UInt8(ascii: "\""), UInt8(ascii: "'"), UInt8(ascii: ";"), UInt8(ascii: "&"),
                UInt8(ascii: ")"),
                UInt8(ascii: "}"), UInt8(ascii: "]"), UInt8(ascii: "<"), UInt8(ascii: ">"):
                return end
            // Argon2's hashes have commas inside.
            case UInt8(ascii: ",") where bytes[start] != UInt8(ascii: "$"): return end
            default: end += 1
            }
        }
        return end
    }

    /// `postgres://user:password@host`: stands on the colon of `://`.
    private func passwordInAddress() -> (Int, Int)? {
        guard has("://", at: index) else { return nil }
        var place = index + 3
        var colon: Int?
        var at: Int?
        scan: while place < bytes.count {
            switch bytes[place] {
            case 0...0x20, UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: "#"), UInt8(ascii: "\""),
                UInt8(ascii: "'"):
                break scan
            case UInt8(ascii: ":") where colon == nil: colon = place
            case UInt8(ascii: "@"): at = place
            default: break
            }
            place += 1
        }
        guard let colon, let at, at > colon + 1 else { return nil }
        return (colon + 1, at)
    }

    // MARK: - Tokens

    /// A JWT: base64url of `{"`, and dots.
    private func endOfWebToken() -> Int? {
        guard has("eyJ", at: index) else { return nil }
        var end = index
        var dots = 0
        while end < bytes.count, isWord(bytes[end]) || bytes[end] == UInt8(ascii: ".") {
            if bytes[end] == UInt8(ascii: ".") { dots += 1 }
            end += 1
        }
        return dots > 0 && end - index >= 10 ? end : nil
    }

    /// `123456789:AA…`, also behind `bot`.
    private func endOfBotToken(_ start: Int) -> Int? {
        var place = start
        if has("bot", at: place) { place += 3 }
        let firstDigit = place
        while place - firstDigit <= 12, isDigit(byte(place)) { place += 1 }
        guard (6...12).contains(place - firstDigit), byte(place) == UInt8(ascii: ":") else { return nil }
        let end = endOfWord(place + 1)
        return end - place > 20 ? end : nil
    }

    private mutating func endOfAddress() -> Int? {
        guard index >= noAddressBefore else { return nil }
        var place = index
        while isWord(byte(place))
            || [UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "%")].contains(byte(place))
        {
            place += 1
        }
        noAddressBefore = place
        guard byte(place) == UInt8(ascii: "@") else { return nil }
        var end = place + 1
        var lastDot: Int?
        while isWord(byte(end)) || byte(end) == UInt8(ascii: ".") && isWord(byte(end + 1)) {
            if bytes[end] == UInt8(ascii: ".") { lastDot = end }
            end += 1
        }
        guard let lastDot, end - lastDot > 2, bytes[(lastDot + 1)..<end].allSatisfy(isLetter) else {
            return nil
        }
        return end
    }

    /// A run of 24 or more characters with digits and letters: a key, a session, a digest. Names made of short
    /// words in one case, such as `backup-20250824-101530-full`, are none, and neither is a UUID.
    private mutating func endOfToken() -> Int? {
        guard index >= noTokenBefore else { return nil }
        var end = index
        var (digits, capitals, smalls, piece, longestPiece) = (0, 0, 0, 0, 0)
        while end < bytes.count {
            let byte = bytes[end]
            if isDigit(byte) {
                digits += 1
            } else if isLetter(byte) {
                if byte & 0x20 == 0 { capitals += 1 } else { smalls += 1 }
            } else if byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-") {
                piece = -1
                if isUUID(end + 1) { break }
            } else if byte == UInt8(ascii: "+"), isWord(self.byte(end + 1)) {
                // base64
            } else {
                break
            }
            piece += 1
            longestPiece = max(longestPiece, piece)
            end += 1
        }
        noTokenBefore = end
        guard end - index >= 24, digits >= 2, capitals + smalls >= 2 else { return nil }
        guard longestPiece >= 16 || (capitals >= 2 && smalls >= 2) else { return nil }
        while byte(end) == UInt8(ascii: "=") { end += 1 }
        return end
    }

    // MARK: - Phones

    /// 10 to 15 digits in one piece; with separators, what is written like a phone number; behind a plus, 7 to
    /// 15 however they are written.
    private func endOfPhone() -> Int? {
        let hasPlus = bytes[index] == UInt8(ascii: "+")
        var place = index
        if hasPlus {
            place += 1
            if isBlank(byte(place)) { place += 1 }
        } else if isDigit(byte(index - 1)) || isDate(index) || isUUID(index) {
            return nil
        }
        if byte(place) == UInt8(ascii: "(") { place += 1 }
        guard isDigit(byte(place)) else { return nil }
        let isBracketed = place > index && !hasPlus
        let first = bytes[place]
        let isForeign = first == 0x30 && byte(place + 1) == 0x30
        var (digits, groups, longestGroup, hasOddSeparator) = (0, 0, 0, false)
        var end: Int?
        while isDigit(byte(place)) {
            let groupStart = place
            while isDigit(byte(place)) { place += 1 }
            digits += place - groupStart
            groups += 1
            longestGroup = max(longestGroup, place - groupStart)
            guard digits <= 15 else { break }
            let looksRight =
                hasPlus || isBracketed || isForeign || groups == 1
                || (digits == 11 && (first == UInt8(ascii: "7") || first == UInt8(ascii: "8")))
                || (groups >= 3 && longestGroup >= 3 && !hasOddSeparator)
            if looksRight, digits >= (hasPlus ? 7 : 10) { end = place }
            guard let (next, isOdd) = skipSeparators(place) else { break }
            hasOddSeparator = hasOddSeparator || isOdd
            place = next
        }
        return end
    }

    /// Up to three separators before the next digit; dots, slashes and underscores are odd ones, as other
    /// numbers have them too.
    private func skipSeparators(_ start: Int) -> (next: Int, isOdd: Bool)? {
        var place = start
        var isOdd = false
        for _ in 0..<3 {
            switch byte(place) {
            case 0x20, 0x09, UInt8(ascii: "-"), UInt8(ascii: "("), UInt8(ascii: ")"): place += 1
            case UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "_"):
                isOdd = true
                place += 1
            // No-break space; figure and en dash, no-break hyphen, thin and narrow spaces.
            case 0xC2 where byte(place + 1) == 0xA0: place += 2
            case 0xE2
            where byte(place + 1) == 0x80 && [0x89, 0x90, 0x91, 0x92, 0x93, 0xAF].contains(byte(place + 2)):
                place += 3
            default: return place > start && isDigit(byte(place)) ? (place, isOdd) : nil
            }
            if isDigit(byte(place)) { return (place, isOdd) }
        }
        return nil
    }
}
