import Core
import Invites
import Testing

@Suite struct `A line of a list` {
    private static func line(_ change: (inout WrittenPerson) -> Void) -> WrittenPerson {
        var person = WrittenPerson()
        change(&person)
        return person
    }

    @Test(arguments: [
        ("@Anna_K", "anna_k"), ("anna_k", "anna_k"), (" \u{200B}t.me/Anna_K ", "anna_k"),
        ("https://t.me/anna_k/55", "anna_k"), ("tg://resolve?domain=anna_k", "anna_k"), ("ABC", "abc"),
    ])
    func `understands a username however it is written`(written: String, expected: String) throws {
        let person = try Self.line { $0.username = written }.person()
        #expect(person.identity.username == expected)
        #expect(try Self.line { $0.contact = written }.person().identity.username == expected)
    }

    @Test(arguments: [
        "+79160000001", "8 (916) 000-00-01", "7 916 000 00 01", "0079160000001", "+7\u{A0}916\u{A0}000-00-01",
        "79160000001",
    ])
    func `understands a phone number however it is written`(written: String) throws {
        #expect(try Self.line { $0.phone = written }.person().identity.phone == "+79160000001")
        // Also where it does not belong.
        #expect(try Self.line { $0.username = written }.person().identity.phone == "+79160000001")
        #expect(try Self.line { $0.contact = written }.person().identity.phone == "+79160000001")
    }

    @Test func `takes short digits for an id, and long ones for a phone number`() throws {
        #expect(try Self.line { $0.contact = "5012345678" }.person().identity.platformID == 5_012_345_678)
        #expect(try Self.line { $0.contact = "50123456789" }.person().identity.phone == "+50123456789")
    }

    @Test(arguments: ["", " ", "-", "n/a", "NULL", "нет", "—", "\u{FEFF}", "\t"])
    func `holds nobody where people write nothing`(written: String) {
        #expect(throws: RowReject.nothing) {
            try Self.line {
                $0.username = written
                $0.phone = written
                $0.platformID = written
            }.person()
        }
    }

    @Test(arguments: [
        ("username", "имя фамилия", RowReject.username), ("username", "an\0na", .username),
        ("username", "t.me/+AbCdEf", .username), ("username", "1abc_", .username), ("phone", "12", .phone),
        ("phone", "+7916000000012345678", .phone), ("phone", "call me", .phone), ("id", "-5", .platformID),
        ("id", "12.5", .platformID), ("id", "99999999999999999999", .platformID),
        ("contact", "anna@example.com", .contact), ("contact", "\u{FFFD}\u{FFFD}", .contact),
    ])
    func `is refused for a field that is filled and wrong`(field: String, text: String, reason: RowReject) {
        #expect(throws: reason) {
            try Self.line {
                // The others being right does not help: nobody knows which of them is the person.
                $0.fullName = "Anna"
                switch field {
                case "username": $0.username = text
                case "phone": $0.phone = text
                case "id": $0.platformID = text
                default: $0.contact = text
                }
                if field != "username" { $0.username = "anna" }
            }.person()
        }
    }

    @Test func `puts names together, in one clean line`() throws {
        func name(_ change: (inout WrittenPerson) -> Void) throws -> String? {
            try Self.line {
                $0.username = "anna"
                change(&$0)
            }.person().fullName
        }
        #expect(try name { $0.fullName = "  Anna\n\0Ivanova " } == "Anna  Ivanova")
        #expect(
            try name {
                $0.firstName = "Anna"
                $0.lastName = "Ivanova"
            } == "Anna Ivanova")
        #expect(
            try name {
                $0.fullName = "Анна"
                $0.lastName = "Иванова"
            } == "Анна Иванова")
        #expect(try name { $0.fullName = String(repeating: "ы", count: 1000) }?.count == 255)
        #expect(try name { $0.email = "no address" } == nil)
    }
}

@Suite struct `A result of parsing` {
    private static func read(_ text: String) throws -> ListedPerson? {
        ParseResultPerson(try JSONValue(parsing: text)).person
    }

    @Test func `names the person by its own fields, then the platform's, then the author's`() throws {
        let all = try #require(
            try Self.read(
                """
                {"username":"one","platform_id":"11","display_name":"Shown","author_username":"three",
                 "author_phone":"+79160000003","author_id":"13","author_name":"Author",
                 "platform_specific_data":{"username":"two","phone":"+79160000002","user_id":12,"first_name":"F","last_name":"L"}}
                """))
        #expect(all.identity == PersonIdentity(username: "one", phone: "+79160000002", platformID: 11))
        #expect(all.fullName == "Shown")
        let platform = try #require(
            try Self.read(
                """
                {"username":"","platform_id":null,"display_name":" ","author_username":"three","author_id":"13",
                 "platform_specific_data":{"username":"two","user_id":"12","first_name":"F","last_name":""}}
                """))
        #expect(platform.identity == PersonIdentity(username: "two", phone: nil, platformID: 12))
        #expect(platform.fullName == "F")
        let author = try #require(
            try Self.read(
                #"{"author_username":"three","author_phone":"8 916 000-00-03","author_id":13,"author_name":"Author"}"#
            ))
        #expect(author.identity == PersonIdentity(username: "three", phone: "+79160000003", platformID: 13))
        #expect(author.fullName == "Author")
    }

    /// By a number alone nobody is found whom the account has not met: the place goes along.
    @Test func `says where somebody known by a number was met`() throws {
        let met = #""seen_in":"https://t.me/Sandbox_Talk""#
        #expect(try Self.read("{\"platform_id\":\"11\",\(met)}")?.seenIn == "sandbox_talk")
        #expect(try Self.read("{\"username\":\"anna\",\(met)}")?.seenIn == nil)
        #expect(try Self.read(#"{"platform_id":"11","seen_in":"no such place"}"#)?.seenIn == nil)
        #expect(try Self.read(#"{"platform_id":"11","seen_in":"t.me/+AbC"}"#)?.seenIn == "https://t.me/+AbC")
        var written = WrittenPerson()
        (written.platformID, written.seenIn) = ("1234567", "@Sandbox_Talk")
        #expect(try written.person().seenIn == "sandbox_talk")
    }

    @Test func `is not led astray by a field that holds something else`() throws {
        let person = try #require(
            try Self.read(
                #"{"username":"Anna Ivanova","platform_id":"chat","author_username":"anna_i","author_id":"7"}"#
            ))
        #expect(person.identity == PersonIdentity(username: "anna_i", phone: nil, platformID: 7))
    }

    @Test func `of a message is its author, and never the message's own number`() throws {
        let person = try #require(
            try Self.read(#"{"kind":"message","platform_id":"555","author_id":"7","content":"hello"}"#))
        #expect(person.identity.platformID == 7)
        #expect(try Self.read(#"{"kind":"message","platform_id":"555","content":"hello"}"#) == nil)
    }

    @Test func `may keep the platform's fields as a text`() throws {
        let person = try Self.read(#"{"platform_specific_data":"{\"username\":\"anna\"}"}"#)
        #expect(person?.identity.username == "anna")
    }

    @Test(arguments: [
        "{}", "[]", "null", #""text""#, #"{"username":"","platform_id":""}"#,
        #"{"platform_specific_data":5}"#,
        #"{"username":["a"],"platform_id":1.5}"#, #"{"platform_id":"-100123","author_id":"0"}"#,
    ])
    func `without an identifier names nobody`(text: String) throws {
        #expect(try Self.read(text) == nil)
    }
}
