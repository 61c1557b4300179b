import Core
import Testing

/// All values are made up.
@Suite struct `Redacting a text` {
    // MARK: - What must not be seen

    static let phones = [
        "+79001234567", "79001234567", "89001234567", "+7 900 123-45-67", "+7 (900) 123-45-67",
        "+7(900)123-45-67",
        "8 (900) 123 45 67", "8-900-123-45-67", "+7-900-123-45-67", "+7.900.123.45.67", "8.900.123.45.67",
        "(900) 123-45-67", "+1 (415) 555-0100", "+1-415-555-0100", "415-555-0100", "(415) 555-0100",
        "+44 20 7946 0958",
        "+380 44 123 45 67", "+49 30 901820", "+3726000000", "tel:+79001234567", "00 49 30 901820 55",
        "+7\u{A0}900\u{A0}123\u{A0}45\u{A0}67",
        "+7 900 123–45–67", "+7 900 123‑45‑67", "+7 900  123  45  67", "+ 7 900 123 45 67",
        "+7_900_123_45_67",
        "＋79001234567", "%2B79001234567", "phone79001234567", "phone:79001234567", "user_79001234567",
        "79001234567@c.us",
        "session-79001234567.session", "79001234567_chat", "/accounts/79001234567/check", "+7/900/123/45/67",
        "7 900 123 45 67",
        "+7900123456a", "id=79001234567&x", "[79001234567]", "\"79001234567\"", "'+79001234567',",
        "(+79001234567)",
        "+7\t900\t1234567", "+79001234567.", "+79001234567:send", "a+79001234567",
    ]

    @Test(arguments: phones)
    func `hides a phone number`(phone: String) {
        for text in [phone, "failed for \(phone) today", "x,\(phone),y", "<\(phone)>"] {
            let clean = Redaction.clean(text)
            #expect(clean.contains("<redacted>"), "\(text) -> \(clean)")
            #expect(!showsPartOfPhone(clean), "\(text) -> \(clean)")
        }
    }

    /// Five digits or more that are left, separators not counted, would tell too much.
    private func showsPartOfPhone(_ text: String) -> Bool { text.count(where: \.isNumber) >= 5 }

    private static let jwt =
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ0ZXN0QGV4YW1wbGUub3JnIn0.Zm9vYmFyYmF6cXV4cXV1eGNvcmdlZ3JhdWx0Z2FycGx5"

    /// A text, and what of it must be gone.
    static let secrets: [(String, String)] = [
        (jwt, "eyJ"), ("token is \(jwt).", "Zm9v"), ("jwt=\(jwt)", "eyJ"), ("Bearer \(jwt)", "eyJ"),
        ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.", "eyJ"), ("eyJhIjoxfQ.eyJiIjoyfQ.c2ln", "eyJ"),
        ("https://example.org/?jwt=\(jwt)&x=1", "eyJ"),
        ("123456789:AAExampleExampleExampleExampleExamp", "AAEx"),
        ("bot123456789:AAExampleExample_Example-ExampleExam", "AAEx"),
        ("https://api.telegram.org/bot123456789:AAExampleExample_Example-ExampleExam/getMe", "AAEx"),
        ("bot 1234567890:AAHabcdefghijklmnopqrstuvwxyzABCDEF said", "AAHa"),
        ("password=hunter2", "hunter2"), ("password = hunter2", "hunter2"), ("password: hunter2", "hunter2"),
        ("PASSWORD=hunter2", "hunter2"), ("Password:hunter2", "hunter2"), ("passwd=hunter2", "hunter2"),
        ("password is \"hunter2\"", "hunter2"), ("pwd=hunter2", "hunter2"), ("pass=hunter2", "hunter2"),
        ("password='hunter2'", "hunter2"), ("password=\"two words\"", "words"),
        ("'password': 'two words'", "words"),
        (#"{"password":"hunter2"}"#, "hunter2"), (#"{"password" : "hunter2"}"#, "hunter2"),
        (#"{"password":"hun\"ter2","a":1}"#, "ter2"), (#"{\"password\":\"hunter2\"}"#, "hunter2"),
        (#"{"token": "abc"}"#, "abc"), (#"{"access_token":"abc","x":1}"#, "abc"),
        (#"["token","abc"]"#, "\"abc\""),
        ("refreshToken=abcdef", "abcdef"), (#"{"accessToken":"abcdef"}"#, "abcdef"),
        ("userPassword=abcdef", "abcdef"),
        ("clientSecret: abcdef", "abcdef"), ("X-Api-Key: abcdef", "abcdef"),
        ("x-vault-token: abcdef", "abcdef"),
        ("apiKey=abcdef", "abcdef"), ("api-key=abcdef", "abcdef"), ("API_HASH=abcdef", "abcdef"),
        ("session_string=abcdef", "abcdef"), ("secret_id=abcdef", "abcdef"),
        ("Cookie: a=b; sid=abcdef", "abcdef"),
        ("Set-Cookie: sid=abcdef; Path=/", "abcdef"), ("password%3Dhunter2", "hunter2"),
        ("Authorization: Bearer abc", "abc"), ("authorization: bearer abc", "abc"),
        ("Authorization: Basic dTpw", "dTpw"),
        ("Authorization:Bearer abc", "abc"), ("Authorization: Token abc", "abc"),
        ("\"Authorization\": \"Bearer abc\"", "abc"),
        ("[\"Authorization\", \"Bearer abc\"]", "abc"), ("Bearer abc", "abc"), ("BEARER  abc", "abc"),
        ("Authorization: Digest username=u, response=abcdef", "abcdef"),
        ("postgres://convoke:hunter2@db:5432/user_db", "hunter2"), ("amqp://guest:hunter2@mq/", "hunter2"),
        ("redis://:hunter2@cache:6379/0", "hunter2"), ("https://user:p%40ss@example.org/", "p%40ss"),
        ("login_code=12345", "12345"), ("code: 12345", "12345"), ("Your login code: 12345", "12345"),
        ("code=12345", "12345"),
        ("tg://login?token=AbCdEf12", "AbCdEf12"), ("https://t.me/login/12345", "12345"),
        ("email=someone@example.org", "someone"), ("no user someone@example.org here", "someone"),
        ("someone.else+tag@mail.example.org", "else"),
        ("0123456789abcdef0123456789abcdef", "0123456789abcdef"),
        ("api_hash 0123456789abcdef0123456789abcdef.", "abcdef"),
        ("hvs.CAESIJexampleexampleexample1234567890example", "CAES"),
        ("ghp_exampleexampleexampleexample12345", "ghp_"),
        ("key Zm9v+YmFy/YmF6cXV4cXV1eGNvcmdlZ3JhdWx0Z2FycGx5MTIz= end", "YmF6"),
        ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$Z+5BG07FiYJmwYP58XQDzg8TJluEeU5", "Z+5B"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw\n", "MIIE"),
        ("1BQANOTEuMTA4LjU2LjE1NQG7abcdefghijklmnopqrstuvwxyz0123456789==", "BQAN"),
        ("пароль=секрет", "секрет"), ("пароль: секрет", "секрет"), ("Токен: abc", "abc"),
    ]

    @Test(arguments: secrets)
    func `hides a secret`(text: String, secret: String) {
        for whole in [text, "error: \(text)", "(\(text))"] {
            let clean = Redaction.clean(whole)
            #expect(clean.contains("<redacted>"), "\(whole) -> \(clean)")
            #expect(!clean.contains(secret), "\(whole) -> \(clean)")
        }
    }

    // MARK: - What must stay

    static let harmless = [
        "", " ", "ok", "The account is paused until 2025-08-24T10:15:30Z, then it goes on.",
        "2025-08-24T10:15:30.123Z", "2025-08-24 10:15:30", "2025-08-24T10:15:30+03:00", "2025-08-24",
        "10:15:30.123",
        "6f1c1a52-3b0e-4f5a-9d2c-0123456789ab", "account 6F1C1A52-3B0E-4F5A-9D2C-0123456789AB is free",
        "12345678-1234-1234-1234-123456789012", "/accounts/12345678-1234-1234-1234-123456789012/limits",
        "/var/lib/convoke/secrets/jwt_secret", "/usr/lib/postgresql/15/bin/postgres",
        "Sources/Core/Log/Redaction.swift:42:7",
        "/api/v1/account-manager/rate-limit/check/6f1c1a52-3b0e-4f5a-9d2c-0123456789ab",
        "connection refused", "no route to 127.0.0.1:5432", "192.168.100.200:54321", "[::1]:8080",
        "fe80::1ff:fe23:4567:890a",
        "user 7, task 12345, target 99", "42", "-1", "3.14159", "1e-7", "100%", "64 MiB", "1,000,000 rows",
        "123456", "1234567",
        "123456789", "port 8083", "exit code 78", "error code: 42P01", "status_code=200",
        "error_code=flood_wait", "code",
        "HTTP 429 Too Many Requests", "FLOOD_WAIT_3600", "A wait of 3600 seconds is required",
        "x-request-id: 7",
        "USER_PRIVACY_RESTRICTED", "CHANNEL_PRIVATE: The channel is private", "not_in_members_after_invite",
        "ERROR: duplicate key value violates unique constraint \"account_pkey\"",
        "deadlock detected; Process 12345 waits for ShareLock on transaction 678910",
        "StorageError.unavailable(reason: \"could not connect\", mayHaveRun: false)", "the token has expired",
        "a wrong password",
        "the password was changed", "password reset requested", "no such session", "session expired",
        "token expired",
        "unexpected token at byte 12", "Authorization header missing", "secret not found",
        "code: none was sent",
        "приглашение отправлено, ждём до 10:15", "Пользователь не найден", "пароль изменён",
        "https://t.me/convoke_group",
        "https://example.org/docs/problems#lease-superseded", "@some_username joined", "invite-high",
        "account_lock:17",
        "thisisaverylongwordwithoutanydigitsinit", "account-manager-worker-normal-priority",
        "per_channel_daily_limit_exceeded",
        "Swift.DecodingError.keyNotFound", "libmicrohttpd 0.9.75",
        "PostgreSQL 15.14 (Debian 15.14-0+deb12u1)", "rows 10 20 30 40 50",
        "ratio 12.5 13.25 14.125", "p50=1.25ms p99=10.75ms", "1 2 3 4 5 6 7 8 9",
        "limits 40/40 200/200 15/15",
    ]

    @Test(arguments: harmless)
    func `leaves alone what is harmless`(text: String) {
        #expect(Redaction.clean(text) == text)
    }

    @Test func `leaves numbers and ids given as such alone`() {
        let sink = MemorySink()
        let log = Log(service: "test", to: sink)
        log.info(
            "odd",
            [
                "at_ms": .int(1_699_999_999_999), "id": .id("0123456789abcdef0123456789abcdef"),
                "ratio": .number(12_345_678_901.5), "free": true,
                "time": .time(Timestamp(milliseconds: 1_699_999_999_999)),
            ])
        let line = sink.lines.first ?? ""
        #expect(!line.contains("<redacted>"), "\(line)")
        #expect(line.contains("1699999999999"))
    }

    // MARK: - Its own behaviour

    @Test(arguments: phones + secrets.map(\.0) + harmless)
    func `changes nothing more the second time`(text: String) {
        let once = Redaction.clean(text)
        #expect(Redaction.clean(once) == once)
    }

    @Test func `keeps what stands around a secret`() {
        #expect(
            Redaction.clean("login with password=hunter2, for +7 900 123-45-67 failed after 3 tries")
                == "login with password=<redacted>, for <redacted> failed after 3 tries")
        #expect(Redaction.clean(#"{"token":"abc","n":1}"#) == #"{"token":"<redacted>","n":1}"#)
        #expect(Redaction.clean("postgres://convoke:hunter2@db/x") == "postgres://convoke:<redacted>@db/x")
    }

    @Test(arguments: 1...10 as ClosedRange<UInt64>)
    func `never crashes and never breaks a text`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let pieces =
            Self.phones + Self.secrets.map(\.0) + Self.harmless + [
                "+", "\"", ":", "=", " ", "é", "–", "\u{0}", "%", "@", "://",
            ]
        for _ in 0..<300 {
            let text = (0..<random.int(in: 1...8)).map { _ in pieces[random.int(in: 0...pieces.count - 1)] }
                .joined()
            let cut = String(text.prefix(random.int(in: 0...text.count)))
            #expect(!Redaction.clean(cut).contains("\u{FFFD}"))
            _ = Redaction.clean(String(decoding: random.bytes(random.int(in: 0...80)), as: UTF8.self))
        }
    }

    /// What takes time in proportion to its square is not done within the hour.
    @Test(.timeLimit(.minutes(10)))
    func `takes time in proportion to the text, whatever it is made of`() {
        for piece in [
            "1", "1 ", "+", "+1", "password", "password=", "a", "a.", "eyJ", "eyJa.", "\"", ":", "1:", "://",
            "@", "a@", "a:b@", "(", "-", "é", "bearer ", "a1", "$", "a+", "a-",
        ] {
            let text = String(repeating: piece, count: 100_000 / piece.utf8.count)
            #expect(Redaction.clean(text).utf8.count <= text.utf8.count * 12)
        }
    }
}
