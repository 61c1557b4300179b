import Telegram
import Testing

@Suite struct `A reference` {
    @Test(
        arguments: [
            ("@Some_Name", .username("some_name")), ("some_name", .username("some_name")),
            ("t.me/some_name", .username("some_name")),
            ("https://t.me/Some_Name?start=x", .username("some_name")),
            ("https://t.me/s/some_name", .username("some_name")), ("some_name.t.me", .username("some_name")),
            ("https://telegram.me/some_name/", .username("some_name")),
            ("tg://resolve?domain=some_name", .username("some_name")),
            ("https://t.me/some_name/17", .message(link: "https://t.me/some_name/17")),
            ("t.me/c/1234/5", .message(link: "https://t.me/c/1234/5")),
            ("t.me/c/1234", .chat(-1_000_000_001_234)),
            ("https://t.me/+AbCdEf-123", .inviteLink("https://t.me/+AbCdEf-123")),
            ("t.me/joinchat/AbCdEf-123", .inviteLink("https://t.me/+AbCdEf-123")),
            ("tg://join?invite=AbCdEf-123", .inviteLink("https://t.me/+AbCdEf-123")),
            ("https://t.me/+15550001111", .phone("+15550001111")),
            ("+1 (555) 000-11-11", .phone("+15550001111")),
            ("123456789", .person(123_456_789)), ("-1001234", .chat(-1_001_234)),
            ("tg://user?id=55", .person(55)),
        ] as [(String, TelegramReference)])
    func `is understood in every form`(written: String, reference: TelegramReference) {
        #expect(TelegramReference(written) == reference)
    }

    @Test(arguments: [
        "", " ", "@", "@1name", "не имя", "https://example.com/name", "t.me/", "t.me/+", "0", "a b",
    ])
    func `is not made of anything else`(written: String) {
        #expect(TelegramReference(written) == nil)
    }
}
