import Accounts
import Testing

@Suite struct `A channel` {
    @Test(arguments: [
        "@Name", "name", "NAME", " @name ", "t.me/name", "t.me/Name/", "https://t.me/name",
        "http://t.me/name",
        "HTTPS://T.ME/NAME", "https://t.me/name/123", "https://t.me/name?start=1", "https://t.me/s/name",
        "https://t.me/s/name/5?q=a", "t.me/@name", "www.t.me/name", "https://telegram.me/name",
        "telegram.dog/name", "https://name.t.me", "name.t.me/17", "tg://resolve?domain=name",
        "tg://resolve?post=1&domain=Name", "tg:resolve?domain=name", "https://t.me//name", "name\n",
        "https://t.me/name#x",
    ])
    func `is one key however it is written`(written: String) throws {
        #expect(try ChannelKey(written).description == "name")
    }

    @Test(arguments: [
        ("-1001234567890", "-1001234567890"), ("1234567890", "1234567890"), ("007", "7"), ("-7", "-7"),
        ("https://t.me/c/1234567890/55", "-1001234567890"), ("test_channel", "test_channel"),
        ("channel_123", "channel_123"), ("9223372036854775807", "9223372036854775807"),
    ])
    func `keeps its numeric id`(written: String, key: String) throws {
        #expect(try ChannelKey(written).description == key)
    }

    @Test(arguments: [
        ("https://t.me/+AbC-d_9", "AbC-d_9"), ("t.me/joinchat/AAAAAE", "AAAAAE"), ("+AbCd", "AbCd"),
        ("tg://join?invite=XyZ", "XyZ"), ("https://t.me/joinchat/AbC/", "AbC"),
    ])
    func `behind a private link has to be resolved first`(written: String, hash: String) {
        #expect(throws: ChannelKeyError.privateLink(hash: hash)) { try ChannelKey(written) }
    }

    @Test(arguments: [
        "", " ", "\n\t",
    ])
    func `has to be named`(written: String) {
        #expect(throws: ChannelKeyError.empty) { try ChannelKey(written) }
    }

    @Test(arguments: [
        "https://evil.com/name", "https://t.me@evil.com/name", "https://t.me:80@evil.com/name", "t.me",
        "t.me/",
        "https://t.me/s/", "@", "@@name", "na me", "name\u{0}", "nаme", "ｎame", "na\u{200B}me", "\u{212A}ey",
        "name%00", "%40name", "../name", "name/other", "name;DROP TABLE x", "$(id)", "{\"a\":1}", "-", "--7",
        "0",
        "+79991234567", "t.me/+79991234567", "99999999999999999999", "-9223372036854775809", "٣٤٥",
        "https://t.me/c/abc/5", "https://t.me/c/-5", "tg://resolve?phone=1", "tg://join", "ftp://t.me/name",
        "https://https://t.me/name", String(repeating: "a", count: 65),
        String(repeating: "a", count: 100_000),
        "🙂", "a.b", "name!", "t.me/nаme", "javascript:alert(1)", "https://a.b.t.me",
    ])
    func `is refused when it is none`(written: String) {
        #expect(throws: ChannelKeyError.malformed) { try ChannelKey(written) }
    }

    @Test func `stays what it is when its key is read again`() throws {
        for written in ["@Name", "-100123", "https://t.me/c/5/1", "0005"] {
            let key = try ChannelKey(written)
            #expect(try ChannelKey(key.description) == key)
        }
    }
}

@Suite struct `An action` {
    @Test func `is known by its names`() {
        #expect(ActionType("invite") == .invite)
        #expect(ActionType("message") == .message)
        #expect(ActionType("add_contact") == .addContact)
        #expect(ActionType("contact_add") == .addContact)
        #expect(ActionType("INVITE") == .invite)
        #expect(ActionType("ban") == nil)
        #expect(ActionType("") == nil)
    }
}

@Suite struct `An account id` {
    @Test func `is a UUID in lower case`() {
        #expect(
            AccountID("550E8400-E29B-41D4-A716-446655440000")?.description
                == "550e8400-e29b-41d4-a716-446655440000")
        for wrong in ["", "1", "550e8400e29b41d4a716446655440000", "550e8400-e29b-41d4-a716-44665544000g"] {
            #expect(AccountID(wrong) == nil)
        }
    }
}
