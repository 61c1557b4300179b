import Invites
import Testing

@Suite struct `A person` {
    @Test(arguments: [
        "@Anna_Smith", "Anna_Smith", "t.me/anna_smith", "https://t.me/Anna_Smith",
        "http://t.me/Anna_Smith?x=1",
        "tg://resolve?domain=Anna_Smith", "  @ANNA_SMITH ", "https://telegram.me/anna_smith",
    ])
    func `has one username, however it is written`(text: String) throws {
        #expect(PersonIdentity(written: text)?.username == "anna_smith")
    }

    @Test(arguments: [
        "+7 (900) 123-45-67", "8 900 123 45 67", "0079001234567", "+79001234567", "7-900-123-45-67",
        "+7\u{A0}900\u{A0}1234567",
    ])
    func `has one phone number, however it is written`(text: String) throws {
        let person = try PersonIdentity(writtenUsername: nil, writtenPhone: text, writtenID: nil)
        #expect(person.phone == "+79001234567")
    }

    @Test(arguments: ["1anna", "an", "anna smith", "анна", "anna-smith", "@", "t.me/", "anna@example.org"])
    func `has no username that Telegram would not give`(text: String) {
        #expect(PersonIdentity.username(text) == nil)
    }

    @Test(arguments: ["12", "+0123456789", "phone", "1234567890123456", "+7+900", "12a4567"])
    func `has no number that is none`(text: String) { #expect(PersonIdentity.phone(text) == nil) }

    @Test func `is told of every mistake at once`() {
        #expect(throws: PersonIdentityErrors([.username, .phone, .platformID])) {
            try PersonIdentity(writtenUsername: "1!", writtenPhone: "x", writtenID: "-5")
        }
        #expect(throws: PersonIdentityErrors([.nothing])) {
            try PersonIdentity(writtenUsername: " ", writtenPhone: nil, writtenID: "")
        }
    }

    @Test func `is known on the stop-list by each way they are known`() {
        let person = PersonIdentity(username: "anna", phone: "+79001234567", platformID: 5)
        #expect(person.keys == ["u:anna", "p:+79001234567", "i:5"])
    }
}
