import Sheets
import Testing

@Suite struct `A CSV list` {
    static let text = "username;phone;имя\nanna;+79160000001;Анна\nboris;+79160000002;Борис «Боб»\n"

    static func encoded(_ text: String, _ encoding: ListEncoding, mark: Bool) -> [UInt8] {
        switch encoding {
        case .utf8: (mark ? [0xEF, 0xBB, 0xBF] : []) + Array(text.utf8)
        case .utf16LittleEndian:
            (mark ? [0xFF, 0xFE] : []) + text.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
        case .utf16BigEndian:
            (mark ? [0xFE, 0xFF] : []) + text.utf16.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
        case .windows1251:
            text.unicodeScalars.map { scalar in
                switch scalar.value {
                case 0..<0x80: UInt8(scalar.value)
                case 0x410...0x44F: UInt8(scalar.value - 0x410 + 0xC0)
                case 0xAB, 0xBB: UInt8(scalar.value)
                default: UInt8(ascii: "?")
                }
            }
        }
    }

    @Test(arguments: ListEncoding.allCases, [true, false])
    func `is read in every encoding`(encoding: ListEncoding, mark: Bool) async throws {
        for piece in [1, 3, 10_000] {
            let list = try await read(Self.encoded(Self.text, encoding, mark: mark), piece: piece)
            #expect(list.shape.encoding == encoding)
            #expect(list.shape.delimiter == ";")
            #expect(
                list.rows == [["anna", "+79160000001", "Анна"], ["boris", "+79160000002", "Борис «Боб»"]])
            #expect(list.lines == [2, 3])
        }
    }

    @Test func `is judged by its last line too`() async throws {
        let plain = String(repeating: "anna,+79160000001\n", count: 20_000)
        let list = try await read(Self.encoded(plain + "Яна,+79160000002", .windows1251, mark: false))
        #expect(list.shape.encoding == .windows1251)
        #expect(list.rows.last == ["Яна", "+79160000002"])
    }

    @Test func `keeps its letters when a few bytes are broken`() async throws {
        var bytes = Array("name,phone\n".utf8)
        for _ in 0..<50 { bytes += Array("Анна,+79160000001\n".utf8) }
        bytes += [0xD0] + Array(",+79160000002\n".utf8)
        let list = try await read(bytes, piece: 5)
        #expect(list.shape.encoding == .utf8)
        #expect(list.rows[0][0] == "Анна")
        #expect(list.rows[50] == ["\u{FFFD}", "+79160000002"])
    }

    @Test(arguments: [",", ";", "\t", "|"])
    func `is cut at the delimiter that most rows agree on`(delimiter: String) async throws {
        let rows = [
            ["username", "phone", "note"], ["anna", "+79160000001", "a,b;c|d"], ["boris", "", "e"],
        ]
        let text = rows.map { $0.map { "\"\($0)\"" }.joined(separator: delimiter) }.joined(separator: "\r\n")
        let list = try await read(text)
        #expect(list.shape.delimiter == delimiter.first)
        #expect(list.rows == Array(rows[1...]))
    }

    @Test func `may say its delimiter to Excel`() async throws {
        let list = try await read("sep=|\nusername|note\nanna|1,2,3,4\n")
        #expect(list.shape.delimiter == "|")
        #expect(list.rows == [["anna", "1,2,3,4"]])
    }

    @Test func `keeps what stands in quotes, and knows the line of each row`() async throws {
        let list = try await read(
            "username,note\nanna,\"one\ntwo, \"\"three\"\"\"\n\n\nboris,x\n\"c\nd\",y\ndora,z", piece: 2)
        #expect(
            list.rows == [
                ["anna", "one\ntwo, \"three\""], ["boris", "x"], ["c\nd", "y"], ["dora", "z"],
            ])
        #expect(list.lines == [2, 6, 7, 9])
    }

    @Test func `ends its lines as it likes`() async throws {
        for end in ["\n", "\r\n", "\r"] {
            let list = try await read("username,phone\(end)anna,1\(end)boris,2\(end)")
            #expect(list.rows == [["anna", "1"], ["boris", "2"]])
            #expect(list.lines == [2, 3])
        }
    }

    @Test func `loses the apostrophe that kept a formula away`() async throws {
        let list = try await read("username,phone\n'@anna,'+79160000001\n'quoted',x\n")
        #expect(list.rows == [["@anna", "+79160000001"], ["'quoted'", "x"]])
    }

    @Test func `without a header is understood by what it holds`() async throws {
        let list = try await read("+79160000001;Анна Иванова;@anna\n+79160000002;Борис;@boris\n")
        #expect(!list.shape.hasHeader)
        #expect(list.values(.phone) == ["+79160000001", "+79160000002"])
        #expect(list.values(.fullName) == ["Анна Иванова", "Борис"])
        #expect(list.values(.username) == ["@anna", "@boris"])
        #expect(list.lines == [1, 2])
    }

    @Test func `may count its rows in a column called id, which is nobody's`() async throws {
        let counted = try await read("id,username\n1,anna\n2,boris\n3,\n")
        #expect(counted.roles[.userID].isEmpty)
        let telegrams = try await read("id,username\n5012345678,anna\n412345678,boris\n")
        #expect(telegrams.values(.userID) == ["5012345678", "412345678"])
        let explicit = try await read("platform_id\n1\n2\n")
        #expect(explicit.values(.userID) == ["1", "2"])
        let json = try await read(#"[{"id":1,"username":"anna"},{"id":2,"username":"boris"}]"#)
        #expect(json.roles[.userID].isEmpty)
    }

    @Test func `without a header takes plain words for nobody's username`() async throws {
        let colours = try await read("red,5 m\nblue,6 m\n")
        #expect(!colours.roles.canIdentify)
        let handles = try await read("anna_88,Anna\nboris7,Boris\ncarl,Carl\n")
        #expect(handles.values(.username) == ["anna_88", "boris7", "carl"])
        #expect(handles.values(.fullName) == ["Anna", "Boris", "Carl"])
    }

    @Test func `of one bare column holds contacts`() async throws {
        let list = try await read("anna_i\n+7 916 000-00-01\nhttps://t.me/boris\n123456789\n")
        #expect(list.values(.contact) == ["anna_i", "+7 916 000-00-01", "https://t.me/boris", "123456789"])
    }

    @Test(
        arguments: [
            ("Username", PeopleColumns.Role.username), ("Имя пользователя", .username), ("НИК", .username),
            ("Phone Number", .phone), ("номер телефона", .phone), ("Тел.", .phone),
            ("user_id_platform", .userID),
            ("ID", .userID), ("ФИО", .fullName), ("Full-Name", .fullName), ("Фамилия", .lastName),
            ("E-mail", .email), ("Эл. почта", .email), ("Электронная почта", .email), ("Основание", .basis),
            ("Ссылка", .contact), ("platform_specific_data.phone", .phone), ("nonsense", nil),
        ] as [(String, PeopleColumns.Role?)])
    func `names its columns in either language`(name: String, role: PeopleColumns.Role?) {
        let roles = PeopleColumns(names: [name])
        #expect(PeopleColumns.Role.allCases.filter { !roles[$0].isEmpty } == (role.map { [$0] } ?? []))
    }
}

@Suite struct `A hostile CSV list` {
    @Test func `is refused when it is empty or something else`() async throws {
        await #expect(throws: SheetError.empty) { try await read("") }
        await #expect(throws: SheetError.oldOrEncryptedExcel) {
            try await read([0xD0, 0xCF, 0x11, 0xE0] + [UInt8](repeating: 0, count: 600))
        }
        await #expect(throws: SheetError.unknownFormat) { try await read("%PDF-1.7\n%âãÏÓ\n1 0 obj\n") }
        await #expect(throws: SheetError.unknownFormat) {
            try await read([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A] + (0..<2000).map { UInt8($0 % 31) })
        }
    }

    @Test func `is refused beyond its size`() async throws {
        await #expect(throws: SheetError.tooLarge(limit: 1000)) {
            try await read(String(repeating: "anna\n", count: 400), limits: SheetLimits(fileBytes: 1000))
        }
    }

    @Test func `is refused when a quote is never closed`() async throws {
        await #expect(throws: SheetError.unclosedQuote(line: 3)) {
            try await read("username\nanna\n\"boris\ndora\nemma\n")
        }
        await #expect(throws: SheetError.endlessField(line: 2)) {
            try await read("username\n\"" + String(repeating: "a\n", count: 2_000_000))
        }
    }

    @Test func `loses only the rows that are too much`() async throws {
        let limits = SheetLimits(fieldBytes: 100, rowBytes: 300, columns: 5)
        let long = String(repeating: "x", count: 101)
        let wide = String(repeating: "y,", count: 100_000)
        let fat = Array(repeating: String(repeating: "z", count: 90), count: 4).joined(separator: ",")
        let list = try await read(
            "username,phone\nanna,1\n\(long),2\n\(wide)\n\(fat)\nboris,,,,,,,,\ndora,3\n", limits: limits)
        #expect(list.defects == [nil, .fieldTooLong, .tooManyColumns, .rowTooLong, nil, nil])
        #expect(list.lines == [2, 3, 4, 5, 6, 7])
        #expect(list.rows.last == ["dora", "3"])
    }

    @Test func `hands zeros and odd characters on as they are`() async throws {
        let list = try await read("username,phone\nan\0na,1\n\u{202E}boris,2\n")
        #expect(list.rows == [["an\0na", "1"], ["\u{202E}boris", "2"]])
    }

    @Test func `of lone surrogates has replacement characters`() async throws {
        var bytes: [UInt8] = [0xFF, 0xFE]
        for unit in Array("username\na".utf16) + [0xD800, 0x62, 0xDC00, 0xD83D, 0xDE00] {
            bytes += [UInt8(unit & 255), UInt8(unit >> 8)]
        }
        let list = try await read(bytes + [0x41], piece: 3)
        #expect(list.rows == [["a\u{FFFD}b\u{FFFD}\u{1F600}\u{FFFD}"]])
    }

    @Test func `of blanks alone has no rows`() async throws {
        let list = try await read("\n\n,,,\n  \n;;\n")
        #expect(list.rows.allSatisfy { $0.joined().contains(";") })
    }

    /// Whatever bytes somebody sends: rows or an error of ours, nothing else.
    @Test func `of random bytes does no harm`() async throws {
        var random = SeededBytes(seed: 7)
        let syntax = Array("\"\n,;'[]{}\\:=@a1\0\r\t".utf8)
        for round in 0..<400 {
            var bytes = (0..<Int(random.next() % 400)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            if round % 2 == 0 { bytes = bytes.map { syntax[Int($0) % syntax.count] } }
            if round % 5 == 0 { bytes = [0xFF, 0xFE] + bytes }
            do { _ = try await read(bytes, piece: 17) } catch is SheetError {}
        }
    }
}

struct SeededBytes: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 33
    }
}
