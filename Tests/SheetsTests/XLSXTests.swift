import Sheets
import Testing

@Suite struct `A workbook` {
    @Test func `is read with shared, inline and plain cells`() async throws {
        let list = try await read(
            try workbook(
                sheet: sheet(
                    """
                    <row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="D1" t="inlineStr"><is><t>Имя</t></is></c></row>\
                    <row r="3"><c r="A3" t="s"><v>2</v></c><c r="B3"><v>79160000001</v></c><c r="D3" t="str"><f>"A"</f><v>Анна</v></c></row>\
                    <row r="7"><c r="B7"><v>7.9160000002E10</v></c><c r="C7"/><c r="D7" t="b"><v>1</v></c></row>
                    """),
                texts: """
                    <sst><si><t>username</t></si><si><r><t>pho</t></r><r><t>ne</t></r></si>\
                    <si><t>anna</t><rPh><t>x</t></rPh></si></sst>
                    """))
        #expect(list.shape.format == .xlsx)
        #expect(list.shape.sheet == "List")
        #expect(list.shape.columns == ["username", "phone", "", "Имя"])
        #expect(list.values(.username) == ["anna", ""])
        #expect(list.values(.phone) == ["79160000001", "79160000002"])
        #expect(list.values(.fullName) == ["Анна", "1"])
        #expect(list.lines == [3, 7])
    }

    @Test(arguments: [
        ("79161234567", "79161234567"), ("7.9161234567E+10", "79161234567"), ("79161234567.0", "79161234567"),
        ("1.23456789012345E+14", "123456789012345"), ("-1001234567890", "-1001234567890"),
        ("5e3", "5000"), ("12.50", "12.5"), ("0.5", "0.5"), ("1E-3", "1E-3"), ("1E+300", "1E+300"),
        ("1.5E1", "15"), ("abc", "abc"), ("1E99999999999999999999", "1E99999999999999999999"),
    ])
    func `keeps the digits of its numbers`(written: String, read expected: String) async throws {
        let list = try await read(
            try workbook(sheet: sheet("<row r=\"1\"><c r=\"A1\"><v>\(written)</v></c></row>")))
        #expect(list.rows == [[expected]])
    }

    @Test func `is read from its first visible sheet, wherever that stands`() async throws {
        let list = try await read(
            try archive([
                "xl/workbook.xml": Array(
                    """
                    <x:workbook xmlns:x="urn:x" xmlns:r="urn:r"><x:sheets><x:sheet name="No" state="hidden" r:id="a"/>\
                    <x:sheet name="Yes" r:id="b"/><x:sheet name="Other" r:id="c"/></x:sheets></x:workbook>
                    """.utf8),
                "xl/_rels/workbook.xml.rels": Array(
                    #"<Relationships><Relationship Id="b" Type="s" Target="/xl/other/list.xml"/></Relationships>"#
                        .utf8),
                "xl/other/list.xml": Array(
                    "<x:worksheet xmlns:x=\"urn:x\"><x:sheetData><x:row><x:c t=\"inlineStr\"><x:is><x:t>@anna</x:t></x:is></x:c></x:row></x:sheetData></x:worksheet>"
                        .utf8),
            ]))
        #expect(list.shape.sheet == "Yes")
        #expect(list.shape.otherSheets == 2)
        #expect(list.rows == [["@anna"]])
    }

    @Test func `of a hundred thousand different texts is read through the scratch file`() async throws {
        var rows: [[SheetValue]] = []
        for index in 0..<30_000 {
            rows.append([.text("person_\(index)"), .number(Int64(79_000_000_000 + index))])
        }
        let own = try await read(try await written(.xlsx, ["username", "phone"], rows), piece: 1 << 20)
        #expect(own.rows.count == 30_000)
        #expect(own.rows[29_999] == ["person_29999", "79000029999"])
        // Texts longer than memory keeps, asked for in an order of their own.
        let texts = (0..<3000).map { "<si><t>\($0)-\(String(repeating: "ы", count: 1500))</t></si>" }.joined()
        let cells = (0..<3000).map { "<row><c t=\"s\"><v>\($0 * 7 % 3000)</v></c></row>" }.joined()
        let shared = try await read(try workbook(sheet: sheet(cells), texts: "<sst>\(texts)</sst>"))
        #expect(shared.rows.count == 3000)
        #expect(shared.rows.enumerated().allSatisfy { $1[0].hasPrefix("\($0 * 7 % 3000)-ы") })
    }
}

@Suite struct `A hostile workbook` {
    @Test func `is refused when it is cut off or no workbook`() async throws {
        let whole = try await written(.xlsx, ["username"], [[.text("anna")]])
        for length in [4, 30, whole.count / 2, whole.count - 5] {
            await #expect(throws: SheetError.brokenArchive) { try await read(Array(whole.prefix(length))) }
        }
        await #expect(throws: SheetError.unknownFormat) { try await read(try archive(["a.txt": [65]])) }
        await #expect(throws: SheetError.noSheet) {
            try await read(try archive(["xl/workbook.xml": Array("<workbook/>".utf8)]))
        }
        await #expect(throws: SheetError.self) {
            try await read(try workbook(sheet: "<worksheet><sheetData><row>"))
        }
        await #expect(throws: SheetError.self) { try await read(try workbook(sheet: "")) }
    }

    @Test func `does not unpack without end`() async throws {
        let limits = SheetLimits(unpackedBytes: 1 << 20)
        let bomb = try workbook(sheet: sheet(String(repeating: "<row/>", count: 1_000_000)))
        #expect(bomb.count < 100_000)
        await #expect(throws: SheetError.unpacksTooFar) { try await read(bomb, limits: limits) }
        let texts = "<sst>" + String(repeating: "<si><t>aaaaaaaaaaaaaaaa</t></si>", count: 100_000) + "</sst>"
        await #expect(throws: SheetError.unpacksTooFar) {
            try await read(try workbook(sheet: sheet(""), texts: texts), limits: limits)
        }
    }

    @Test func `has no entities`() async throws {
        let laughs = """
            <!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>\
            <worksheet><sheetData><row><c t="str"><v>&c;</v></c></row></sheetData></worksheet>
            """
        await #expect(throws: SheetError.brokenXML(line: 1)) { try await read(try workbook(sheet: laughs)) }
    }

    @Test func `is bounded in depth and in the length of a name`() async throws {
        let deep = String(repeating: "<a>", count: 10_000) + String(repeating: "</a>", count: 10_000)
        await #expect(throws: SheetError.self) { try await read(try workbook(sheet: deep)) }
        let long = "<worksheet a=\"" + String(repeating: "x", count: 6 << 20) + "\"/>"
        await #expect(throws: SheetError.self) { try await read(try workbook(sheet: long)) }
    }

    @Test func `may claim absurd places and numbers`() async throws {
        let list = try await read(
            try workbook(
                sheet: sheet(
                    """
                    <row r="1"><c r="ZZZZZZZZZZ1" t="str"><v>far</v></c></row>\
                    <row r="99999999999999999999"><c r="A1" t="s"><v>4000000000</v></c><c r="A2" t="str"><v>anna</v></c></row>\
                    <row r="-5"><c r="1" t="str"><v>boris</v></c><c r="B" t="s"><v>-1</v></c><c t="s"><v>x</v></c></row>\
                    <row r="9"><c r="IV9" t="str"><v>edge</v></c></row>
                    """)))
        #expect(list.defects == [.tooManyColumns, nil, nil, nil])
        #expect(list.rows[1][0] == "anna")
        #expect(list.rows[2][0] == "boris")
        #expect(list.rows[3].count == 256)
    }

    @Test func `loses only cells that are too long`() async throws {
        let long = String(repeating: "x", count: 100_000)
        let list = try await read(
            try workbook(
                sheet: sheet(
                    """
                    <row><c t="str"><v>\(long)</v></c></row><row><c t="s"><v>0</v></c></row>\
                    <row><c t="str"><v>anna</v></c></row>
                    """), texts: "<sst><si><t>\(long)</t></si></sst>"))
        #expect(list.defects == [.fieldTooLong, .fieldTooLong, nil])
    }

    @Test func `that is damaged anywhere does no harm`() async throws {
        let whole = try await written(
            .xlsx, ["username", "phone"], (0..<200).map { [.text("person_\($0)"), .number(Int64($0))] })
        var random = SeededBytes(seed: 11)
        for _ in 0..<150 {
            var bytes = whole
            for _ in 0..<8 {
                bytes[Int(random.next()) % bytes.count] = UInt8(truncatingIfNeeded: random.next())
            }
            do { _ = try await read(bytes) } catch is SheetError {}
        }
    }
}
