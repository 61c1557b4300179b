import Core
import Sheets
import Testing

@Suite struct `A written list` {
    static let rows: [[SheetValue]] = [
        [.text("anna"), .number(42), .text("=1+1"), .json(["a": [1, 2]])],
        [.text("@boris"), .empty, .text("two\nlines, \"quoted\""), .bool(true)],
        [.text("  blanks "), .decimal(1.5), .text("+7916"), .empty],
        [.text("'=kept"), .number(-5), .text("plain"), .text("-2")],
    ]
    static let columns = ["username", "count", "note", "extra"]

    @Test func `in CSV opens in Excel, and nothing in it becomes a formula`() async throws {
        let text = String(decoding: try await written(.csv, Self.columns, Self.rows), as: UTF8.self)
        #expect(
            text == "\u{FEFF}"
                + [
                    "username,count,note,extra", #"anna,42,'=1+1,"{""a"":[1,2]}""#,
                    "'@boris,,\"two\nlines, \"\"quoted\"\"\",true", #""  blanks ",1.5,'+7916,"#,
                    "''=kept,-5,plain,'-2", "",
                ].joined(separator: "\r\n"))
    }

    @Test(arguments: ["=1", "+1", "-1", "@a", "\t=1", "\r=1", " =1", "  @a", "'=1", "＝1", "＋1", "－1", "＠a"])
    func `defuses whatever begins like a formula`(text: String) async throws {
        let csv = try await written(.csv, ["a"], [[.text(text)]])
        // Behind the mark, the heading and its line break.
        let field = csv.dropFirst(6)
        #expect(field.starts(with: "'".utf8) || field.starts(with: "\"'".utf8))
    }

    @Test(arguments: SheetFormat.allCases)
    func `is read back as it was`(format: SheetFormat) async throws {
        let texts = [
            "anna", "@boris", "=SUM(A1)", "a\"b,c;d", "Анна\tИ", "\u{1F600}", "line\nline", "+79160000001",
        ]
        let list = try await read(
            try await written(
                format, ["username", "n"], texts.enumerated().map { [.text($1), .number(Int64($0))] }))
        #expect(list.values(.username) == texts)
        #expect(list.shape.format == format)
    }

    @Test func `in JSON keeps numbers, nulls and objects`() async throws {
        let bytes = try await written(.json, Self.columns, Self.rows)
        let value = try JSONValue(parsing: bytes)
        #expect(value[0]?["count"] == 42)
        #expect(value[0]?["extra"] == ["a": [1, 2]])
        #expect(value[1]?["count"] == .null)
        #expect(value[3]?["note"] == "plain")
        let lines = try await written(.ndjson, Self.columns, Self.rows).split(separator: 0x0A)
        #expect(lines.count == 4)
        #expect(try JSONValue(parsing: lines[2])["count"] == .double(1.5))
        #expect(try JSONValue(parsing: try await written(.json, ["a"], [])) == .array([]))
    }

    @Test func `in a workbook has texts, never formulas, and long numbers whole`() async throws {
        let list = try await read(
            try await written(
                .xlsx, ["username", "id"],
                [
                    [.text("=HYPERLINK(\"http://x\")"), .number(1_234_567_890_123_456_789)],
                    [.text("zero\0bell\u{7}end\u{FFFE}"), .number(79_160_000_001)],
                    [.text(String(repeating: "ы", count: 40_000)), .decimal(.nan)],
                ]))
        #expect(list.rows[0] == ["=HYPERLINK(\"http://x\")", "1234567890123456789"])
        #expect(list.rows[1] == ["zero\u{FFFD}bell\u{FFFD}end\u{FFFD}", "79160000001"])
        #expect(list.rows[2][0].count == 32_767 || list.defects[2] == .fieldTooLong)
    }

    @Test func `may be given up half-way`() async throws {
        for format in SheetFormat.allCases {
            for _ in 0..<50 {
                let writer = try SheetWriter(format, columns: ["a"])
                try await writer.write([[.text("x")]]) { _ in }
            }
        }
    }
}
