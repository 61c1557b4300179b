import Sheets
import Testing

@Suite struct `A JSON list` {
    @Test(arguments: [
        #"[{"username":"anna","phone":79160000001},{"username":"boris","name":"Б"}]"#,
        "\u{FEFF}[\n {\"username\": \"anna\",\n \"phone\": 79160000001},\n{\"username\":\"boris\",\"name\":\"Б\"}\n]\n",
        #"{"items": [{"username":"anna","phone":79160000001},{"username":"boris","name":"Б"}], "total": 2}"#,
        "{\"username\":\"anna\",\"phone\":79160000001}\n{\"username\":\"boris\",\"name\":\"Б\"}",
        "{\n\"username\":\"anna\",\n\"phone\":79160000001}\n{\n\"username\":\"boris\",\"name\":\"Б\"}\n",
    ])
    func `is an array or objects behind each other`(text: String) async throws {
        for piece in [1, 5, 4096] {
            let list = try await read(text, piece: piece)
            #expect(list.values(.username) == ["anna", "boris"])
            #expect(list.values(.phone) == ["79160000001", ""])
            #expect(list.values(.fullName) == ["", "Б"])
        }
    }

    @Test func `may begin with a member that is a list itself`() async throws {
        let list = try await read(
            """
            {"tags":["a","b"],"username":"anna"}
            {"tags":[],"username":"boris"}
            """)
        #expect(list.values(.username) == ["anna", "boris"])
    }

    @Test func `may be of bare values`() async throws {
        let list = try await read(#"["anna", 123456789, "+79160000001"]"#)
        #expect(list.values(.contact) == ["anna", "123456789", "+79160000001"])
    }

    @Test func `reads nested members behind plain ones`() async throws {
        let list = try await read(
            """
            {"platform_specific_data":{"username":"nested","phone":"+79160000001"},"author_username":"author"}
            {"username":"plain","platform_specific_data":{"username":"nested"}}
            {"author_username":"author"}
            """)
        #expect(list.values(.username) == ["nested", "plain", "author"])
        #expect(list.values(.phone) == ["+79160000001", "", ""])
    }

    @Test func `tells the line of each element`() async throws {
        let list = try await read(
            "[\n{\"username\":\"a\"},\n\n{\"username\":\n\"b\"}, {\"username\":\"c\"}\n]")
        #expect(list.lines == [2, 4, 5])
    }

    @Test func `may be in another encoding`() async throws {
        let text = #"[{"username":"anna","name":"Анна"}]"#
        for encoding in [ListEncoding.utf16LittleEndian, .windows1251] {
            let list = try await read(`A CSV list`.encoded(text, encoding, mark: false))
            #expect(list.values(.fullName) == ["Анна"])
        }
    }

    @Test func `loses only its broken elements`() async throws {
        let lines = try await read(
            "{\"username\":\"a\"}\n{\"username\":}\nnull\n{\"username\":\"c\"\n{\"username\":\"d\"}\n")
        #expect(lines.defects == [nil, .brokenJSON, .notARow, .brokenJSON, nil])
        let array = try await read(#"[{"username":"a"},{"username":tru},[1],{"username":"\ud800d"}]"#)
        #expect(array.defects == [nil, .brokenJSON, .notARow, nil])
        #expect(array.values(.username)[3] == "\u{FFFD}d")
    }

    @Test func `is refused when it ends early`() async throws {
        await #expect(throws: SheetError.endsEarly(line: 2)) {
            try await read("[{\"username\":\"a\"},\n{\"user")
        }
        await #expect(throws: SheetError.endsEarly(line: 1)) { try await read("[1,2") }
        await #expect(throws: SheetError.endsEarly(line: 1)) { try await read("[\"a") }
    }

    @Test func `is bounded in every direction`() async throws {
        let limits = SheetLimits(fieldBytes: 1000, rowBytes: 2000, columns: 10)
        let long = "[{\"username\":\"" + String(repeating: "x", count: 100_000) + "\"},{\"username\":\"b\"}]"
        #expect(try await read(long, limits: limits).defects == [.rowTooLong, nil])
        let wide = "[{" + (0..<50).map { "\"k\($0)\":1" }.joined(separator: ",") + "}]"
        #expect(try await read(wide, limits: limits).defects == [.tooManyColumns])
        let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        #expect(try await read(deep).defects == [.brokenJSON])
    }
}
