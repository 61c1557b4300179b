import Foundation
import Testing

@testable import Core

@Suite struct `JSON` {
    // MARK: - What RFC 8259 allows

    static let accepted: [(String, JSONValue)] = [
        ("null", nil), ("true", true), ("false", false), ("0", 0), ("-0", 0), ("42", 42), ("\"\"", ""),
        ("[]", []), ("{}", [:]), (" \t\r\n[ \t\r\n] \t\r\n", []), ("{ }", [:]), ("[[]]", [[]]),
        ("[{}]", [[:]]),
        ("[1,2 , 3]", [1, 2, 3]), (#"{"a":1,"b":[true,null]}"#, ["a": 1, "b": [true, nil]]),
        (#"{"":0}"#, ["": 0]), (#"{"a":{"b":{"c":[]}}}"#, ["a": ["b": ["c": []]]]),
        ("1.5", 1.5), ("-1.5", -1.5), ("1e2", 100.0), ("1E2", 100.0), ("1e+2", 100.0), ("1e-2", 0.01),
        ("0.1", 0.1), ("-0.0", -0.0), ("0e1", 0.0), ("0E+1", 0.0), ("1.0", 1.0), ("123.456e78", 123.456e78),
        ("1e308", 1e308), ("5e-324", .double(.leastNonzeroMagnitude)),
        ("2.2250738585072011e-308", .double(Double(bitPattern: 0x000F_FFFF_FFFF_FFFF))),
        ("1e-400", 0.0), ("9007199254740993.0", 9007199254740992.0),
        ("1.7976931348623157e308", .double(.greatestFiniteMagnitude)),
        ("-0.000000000000000000000000000000000000000000000000000000000000000000000000000001", -1e-78),
        ("9223372036854775807", .int(.max)), ("-9223372036854775808", .int(.min)),
        ("9223372036854775808", 9_223_372_036_854_775_808.0),
        ("-9223372036854775809", -9_223_372_036_854_775_809.0),
        ("18446744073709551616", 18_446_744_073_709_551_616.0), ("100000000000000000000", 1e20),
        (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"), (#""\u0041\u00e9\u20AC""#, "Aé€"),
        (#""\ud834\udd1e""#, "𝄞"), (#""\uD83D\uDE00x""#, "😀x"), (#""\u0000""#, "\u{0}"),
        (#""\u007F""#, "\u{7F}"),
        (#""\uFFFF""#, "\u{FFFF}"), (#""\uDBFF\uDFFF""#, "\u{10FFFF}"), ("\"\u{7F}\"", "\u{7F}"),
        ("\"\u{2028}\u{2029}\"", "\u{2028}\u{2029}"), ("\"приглашение\"", "приглашение"), ("\"𝄞\"", "𝄞"),
        ("\"0123456\"", "0123456"), ("\"01234567\"", "01234567"),
        ("\"0123456789abcdef\"", "0123456789abcdef"),
        ("\"0123456789abcde\\n\"", "0123456789abcde\n"), (#"[""]"#, [""]), (#""\\u0041""#, "\\u0041"),
        // Lone surrogates can be written and mean nothing.
        (#""\ud800""#, "\u{FFFD}"), (#""\udc00x""#, "\u{FFFD}x"), (#""\ud800\ud800""#, "\u{FFFD}\u{FFFD}"),
        (#""\ud800\u0041""#, "\u{FFFD}A"), (#""\ud800\n""#, "\u{FFFD}\n"),
        (#""\ud800\udbff\udc00""#, "\u{FFFD}\u{10FC00}"),
        (#""\udc00\ud800""#, "\u{FFFD}\u{FFFD}"), ("\u{FEFF}[]", []),
    ]

    @Test(arguments: accepted)
    func `is read`(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
        #expect(try JSONValue(parsing: Array(text.utf8)) == value)
        #expect(try JSONValue(parsing: Data(text.utf8)) == value)
        #expect(try JSONValue(parsing: AnyCollection(Array(text.utf8))) == value)
        // Inside something else it is the same, wherever in a machine word its bytes lie.
        guard !text.hasPrefix("\u{FEFF}") else { return }
        for shift in 1...8 {
            let padded = String(repeating: " ", count: shift) + "[\(text)]"
            #expect(try JSONValue(parsing: padded) == [value])
        }
    }

    // MARK: - What it does not

    static let refused: [String] = [
        "", " ", "\u{FEFF}", "[", "]", "{", "}", "[1", "[1,", "[1,]", "[,1]", "[,]", "[1,,2]", "[1 2]",
        "[1]]", "[1],",
        "[\"a\"", "[\"a", "[}", "{]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{,}",
        "{\"a\",1}",
        "{\"a\" 1}", "{\"a\"::1}", "{\"a\":1 \"b\":2}", "{a:1}", "{'a':1}", "{1:1}", "{null:1}", "{[]:1}",
        "{\"a\":1}}",
        "{\"a\":1},", "[1:2]", "[\"a\":1]", "1 2", "1,", "[] []", "{}{}", "nul", "nulll", "NULL", "Null",
        "tru", "truee",
        "True", "fals", "nan", "NaN", "Infinity", "-Infinity", "inf", "undefined", "+1", "-", "--1", "-+1",
        "- 1", "-a",
        "01", "-01", "00", "-00", "1.", "-1.", ".5", "-.5", "1.e1", "1.5.5", "1e", "1e+", "1e-", "1E",
        "1e+-1", "1e1.5",
        "1e1e1", "1ee1", "0x10", "1_000", "1,5", "1a", "1.5f", "0b1", "1e400", "-1e400",
        "1e99999999999999999999",
        "\"", "\"a", "\"\\", "\"\\\"", "'a'", "\"\\a\"", "\"\\0\"", "\"\\x41\"", "\"\\'\"", "\"\\u\"",
        "\"\\u0\"",
        "\"\\u00\"", "\"\\u004\"", "\"\\u004g\"", "\"\\U0041\"", "\"\\u 041\"", "\"\\u+041\"", "\"\\u00-1\"",
        "\"\\ud800\\u\"",
        "\"\\ud800\\u1\"", "\"\\ud800\\uzzzz\"", "\"\\ud800\\", "\"\\ud800\\u", "\"\\ud800\\udc0", "\"a\nb\"",
        "\"a\tb\"",
        "\"a\rb\"", "\"a\u{0}b\"", "\"a\u{1F}b\"", "\"0123456789\n\"", "[1]x", "[1]\u{0}", "\u{0}", "[\u{0}]",
        "[1]\u{A0}",
        "\u{A0}[1]", "[\u{B}1]", "[\u{C}1]", "[\u{2028}1]", "// c\n[1]", "/* c */[1]", "[1]#", "[1]//",
        "<html>", "[1}",
        "{\"a\":[}", "*", "\\", "\\u0041", "=", "é", "{\"a\":tru}", "[fals", "(1)", "[1;2]", "١",
        "[\u{FEFF}1]",
        "\u{FEFF}\u{FEFF}1", "\"\u{FEFF}", "1\u{0}", "[1\u{0}]", "\"a\"\u{0}", "tru\u{0}",
    ]

    @Test(arguments: refused)
    func `is refused where it breaks a rule`(text: String) {
        #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: text) }
        // Inside a list as well, unless it is what closes the list.
        guard !text.hasSuffix("]") else { return }
        #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: "[\(text)") }
    }

    static let brokenUTF8: [[UInt8]] = [
        [0xFF], [0x80], [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80],
        [0xED, 0xBF, 0xBF],
        [0xF0, 0x80, 0x80, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xF8, 0x88, 0x80, 0x80, 0x80], [0xC3],
        [0xE2, 0x82],
        [0xF0, 0x9F, 0x98], [0x61, 0xC3], [0xC3, 0x28], [0xE2, 0x28, 0xA1], [0xFE], [0xC3, 0xC3],
    ]

    @Test(arguments: brokenUTF8)
    func `is refused where a text is no UTF-8`(bytes: [UInt8]) {
        for text in [
            [0x22] + bytes + [0x22], [0x22, 0x5C, 0x6E] + bytes + [0x22],
            [0x22] + bytes + [0x5C, 0x6E, 0x22],
            [0x7B, 0x22] + bytes + [0x22, 0x3A, 0x31, 0x7D], bytes,
        ] {
            #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: text) }
        }
    }

    @Test func `in UTF-16 or UTF-32 is refused`() {
        for encoding in [String.Encoding.utf16LittleEndian, .utf16BigEndian, .utf16, .utf32] {
            let bytes = Array("[\"é\"]".data(using: encoding) ?? Data())
            #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: bytes) }
        }
    }

    @Test func `says where it breaks`() {
        #expect(throws: JSONSyntaxError(reason: "a comma is missing", offset: 3)) {
            try JSONValue(parsing: "[1 2]")
        }
        #expect(throws: JSONSyntaxError(reason: "unexpected end", offset: 2)) { try JSONValue(parsing: "[1") }
        #expect(throws: JSONSyntaxError(reason: "unknown escape", offset: 3)) {
            try JSONValue(parsing: #"["\x"]"#)
        }
    }

    @Test func `is read 128 levels deep and no deeper, however it goes down`() throws {
        for (open, close) in [("[", "]"), (#"{"a":"#, "}"), (#"[{"a":"#, "}]")] {
            let levels = open.count == 1 || open.hasPrefix("{") ? 1 : 2
            func nested(_ depth: Int) -> String {
                String(repeating: open, count: depth / levels) + "1"
                    + String(repeating: close, count: depth / levels)
            }
            #expect(throws: Never.self) { try JSONValue(parsing: nested(128)) }
            #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: nested(130)) }
            #expect(throws: JSONSyntaxError.self) {
                try JSONValue(parsing: String(repeating: open, count: 1_000_000))
            }
        }
    }

    @Test func `with numbers of absurd length is refused quickly`() {
        #expect(throws: JSONSyntaxError.self) {
            try JSONValue(parsing: String(repeating: "9", count: 1_000_000))
        }
        #expect(throws: JSONSyntaxError.self) {
            try JSONValue(parsing: "0." + String(repeating: "1", count: 1_000_000))
        }
        #expect(throws: JSONSyntaxError.self) {
            try JSONValue(parsing: "1e" + String(repeating: "9", count: 1_000_000))
        }
    }

    @Test func `gives the last of members with the same name, and keeps all`() throws {
        let value = try JSONValue(parsing: #"{"a":1,"b":2,"a":3}"#)
        #expect(value["a"] == 3)
        #expect(value.objectValue?.map(\.name) == ["a", "b", "a"])
    }

    @Test func `releases what it had read when the rest is wrong`() {
        let long = String(repeating: "x", count: 100)
        for text in [
            #"[["\#(long)",{"a":["\#(long)"],"b":"\#(long)""#, #"{"a":"\#(long)","b":[1,"\#(long)",}"#,
        ] {
            for _ in 0..<1000 { #expect(throws: JSONSyntaxError.self) { try JSONValue(parsing: text) } }
        }
    }

    // MARK: - Writing

    @Test(
        arguments: [
            (["a": nil, "b": [1, -2, 0.5, true]], #"{"a":null,"b":[1,-2,0.5,true]}"#),
            (
                .string("\"\\/\u{8}\u{C}\n\r\t\u{0}\u{1F}\u{7F}é𝄞\u{2028}"),
                #""\"\\/\u0008\u000c\n\r\t\u0000\u001f"# + "\u{7F}é𝄞\u{2028}\""
            ),
            (.int(.min), "-9223372036854775808"), (.int(.max), "9223372036854775807"), (0, "0"), (-1, "-1"),
            (10, "10"),
            (.double(.infinity), "null"), (.double(.nan), "null"), (-0.0, "-0.0"), (1e300, "1e+300"),
            (1.0, "1.0"),
            ([[], [:], ""], #"[[],{},""]"#), (["\n": ["\"": 1]], #"{"\n":{"\"":1}}"#),
        ] as [(JSONValue, String)])
    func `is written compactly`(value: JSONValue, text: String) {
        #expect(value.text == text)
        #expect(value.bytes == Array(text.utf8))
        var joined = Array("x".utf8)
        JSONWriter.append(value, to: &joined)
        #expect(joined == Array("x\(text)".utf8))
    }

    @Test func `is written right for every whole number's length`() throws {
        var number: Int64 = 1
        for _ in 0..<19 {
            for near in [number - 1, number, number + 1, -number, -number + 1] {
                #expect(JSONValue.int(near).text == String(near))
            }
            number = number.multipliedReportingOverflow(by: 10).partialValue
        }
    }

    @Test func `is escaped right wherever in a word and a buffer the character stands`() throws {
        for length in [0, 1, 7, 8, 9, 15, 16, 17, 505, 506, 507, 508, 509, 510, 511, 512, 513, 1100] {
            for escaped in ["\"", "\\", "\u{1}", "\n", "é", "€", "𝄞"] {
                let text =
                    String(repeating: "a", count: length) + escaped
                    + String(repeating: escaped, count: length % 40)
                #expect(try JSONValue(parsing: JSONValue.string(text).bytes) == .string(text))
            }
        }
        let all = String(String.UnicodeScalarView((0...0x2FF).compactMap { Unicode.Scalar($0) }))
        #expect(try JSONValue(parsing: JSONValue.string(all).text) == .string(all))
    }

    // MARK: - By luck

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func `read again is what was written, and what Foundation reads`(seed: UInt64) throws {
        let random = SeededRandom(seed: seed)
        for _ in 0..<25 {
            let value = randomValue(random, depth: 0)
            let bytes = value.bytes
            let read = try JSONValue(parsing: bytes)
            #expect(read == value, "seed \(seed)")
            #expect(read.bytes == bytes, "seed \(seed)")
            let theirs = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            #expect(isSame(theirs, value), "seed \(seed): \(value.text)")
        }
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `of random bytes never crashes, a million in all`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let likely = Array(#"{}[]",:\/ \u0123456789abcdefEntrulsn-+.é"#.utf8)
        var left = 100_000
        while left > 0 {
            let raw = random.bytes(random.int(in: 1...60))
            left -= raw.count
            let bytes = random.int(in: 0...3) == 0 ? raw : raw.map { likely[Int($0) % likely.count] }
            // Whatever was read must survive being written.
            guard let value = try? JSONValue(parsing: bytes) else { continue }
            #expect((try? JSONValue(parsing: value.bytes)) == value, "seed \(seed)")
        }
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `with any byte changed or cut off never crashes and agrees with Foundation`(seed: UInt64) throws {
        let random = SeededRandom(seed: seed)
        let bytes = randomValue(random, depth: 0).bytes
        for _ in 0..<200 {
            var changed = bytes
            let place = random.int(in: 0...bytes.count - 1)
            switch random.int(in: 0...2) {
            case 0: changed[place] = UInt8(random.int(in: 0x20...0x7E))
            case 1: changed.removeSubrange(place...)
            default: changed.insert(contentsOf: Array("\"{[,:".utf8).prefix(1), at: place)
            }
            guard (try? JSONValue(parsing: changed)) != nil else { continue }
            #expect(throws: Never.self, "seed \(seed): \(String(decoding: changed, as: UTF8.self))") {
                try JSONSerialization.jsonObject(with: Data(changed), options: .fragmentsAllowed)
            }
        }
    }

    @Test(arguments: 1...4 as ClosedRange<UInt64>)
    func `numbers come out to the last bit`(seed: UInt64) throws {
        let random = SeededRandom(seed: seed)
        for _ in 0..<5000 {
            let value = Double(bitPattern: random.next())
            guard value.isFinite else { continue }
            #expect(try JSONValue(parsing: "\(value)").doubleValue == value)
            let short =
                "\(random.int(in: -999_999...999_999)).\(random.int(in: 0...99_999_999))e\(random.int(in: -30...30))"
            #expect(try JSONValue(parsing: short) == .double(#require(Double(short))), "\(short)")
        }
    }

    private func randomValue(_ random: SeededRandom, depth: Int) -> JSONValue {
        switch random.int(in: 0...(depth < 4 ? 9 : 6)) {
        case 0: return nil
        case 1: return .bool(random.next() & 1 == 0)
        case 2: return .int(Int64(truncatingIfNeeded: random.next()) >> Int64(random.int(in: 0...63)))
        case 3:
            let number = Double(bitPattern: random.next())
            return .double(number.isFinite ? number : 0.5)
        case 4...6: return .string(randomText(random))
        case 7: return .array((0..<random.int(in: 0...6)).map { _ in randomValue(random, depth: depth + 1) })
        default:
            return .object(
                (0..<random.int(in: 0...6)).map { number in
                    JSONMember("\(number)" + randomText(random), randomValue(random, depth: depth + 1))
                })
        }
    }

    private func randomText(_ random: SeededRandom) -> String {
        let pool: [Unicode.Scalar] = [
            "a", "Z", "0", " ", "\"", "\\", "/", "\n", "\u{1}", "é", "Я", "€", "𝄞", "\u{2028}",
        ]
        return String(
            String.UnicodeScalarView(
                (0..<random.int(in: 0...24)).map { _ in pool[random.int(in: 0...pool.count - 1)] }))
    }

    private func isSame(_ theirs: Any, _ ours: JSONValue) -> Bool {
        switch ours {
        case .null: return theirs is NSNull
        case .bool(let flag): return (theirs as? NSNumber)?.boolValue == flag
        case .int(let number): return (theirs as? NSNumber)?.int64Value == number
        case .double(let number):
            // Foundation keeps some numbers as decimals of its own and loses their last bits.
            let read = (theirs as? NSNumber)?.doubleValue ?? .nan
            return read == number || abs(read - number) <= abs(number) * 1e-12
        case .string(let text): return theirs as? String == text
        case .array(let values):
            guard let list = theirs as? [Any], list.count == values.count else { return false }
            return zip(list, values).allSatisfy { isSame($0, $1) }
        case .object(let members):
            guard let table = theirs as? [String: Any] else { return false }
            return members.allSatisfy { member in table[member.name].map { isSame($0, member.value) } ?? false
            }
        }
    }
}
