import Core
import Testing
import Users

@Suite struct `An e-mail address of a user` {
    @Test func `has one spelling`() {
        #expect(EmailAddress(" Anna@Example.COM ")?.text == "anna@example.com")
        #expect(EmailAddress("anna.b+tag@mail.example.org")?.text == "anna.b+tag@mail.example.org")
    }

    @Test(arguments: [
        "", "anna", "@example.com", "anna@", "anna@localhost", "a@b@example.com", "an na@example.com",
        "anna@example..com", "anna@-example.com", "anna@exam\u{0}ple.com", ".anna@example.com",
        "\"a\"@example.com",
    ])
    func `is refused where nothing can be delivered`(text: String) {
        #expect(EmailAddress(text) == nil)
    }
}

@Suite struct `A new password` {
    private func weakness(_ password: String) -> PasswordPolicy.Weakness? {
        PasswordPolicy.weakness(of: password, email: "anna@example.com", username: "annika")
    }

    @Test func `is judged by its length, not by its characters`() {
        #expect(weakness("short") == .tooShort)
        #expect(weakness("correct horse battery") == nil)
        #expect(weakness(String(repeating: "long sentence ", count: 30)) == .tooLong)
    }

    @Test(arguments: ["Password123!", "P@ssw0rd2024", "qwertyuiop1", "passwordpassword", "1q2w3e4r5t"])
    func `is not one that everybody takes`(password: String) {
        #expect(weakness(password) == .common)
    }

    @Test func `is no sequence and not the name`() {
        #expect(weakness("1234567890") == .repetitive)
        #expect(weakness("aaaaaaaaaaaa") == .repetitive)
        #expect(weakness("annika2024") == .containsName)
    }
}

@Suite struct `Guessing at a login` {
    @Test func `is free ten times and waits longer each time after`() {
        var throttle = LoginThrottle()
        let now = Timestamp(seconds: 1000)
        for _ in 0..<9 { throttle.failed(at: now) }
        #expect(throttle.mustWait(until: now) == nil)
        throttle.failed(at: now)
        #expect(throttle.mustWait(until: now) == now + .seconds(1))
        throttle.failed(at: now)
        #expect(throttle.mustWait(until: now) == now + .seconds(2))
    }

    @Test func `never locks anybody out for good`() {
        var throttle = LoginThrottle()
        let now = Timestamp(seconds: 1000)
        for _ in 0..<1000 { throttle.failed(at: now) }
        #expect(throttle.mustWait(until: now) == now + LoginThrottle.longestWait)
        #expect(throttle.mustWait(until: now + LoginThrottle.longestWait) == nil)
        #expect(throttle.mustWait(until: now + LoginThrottle.memory) == nil)
    }
}
