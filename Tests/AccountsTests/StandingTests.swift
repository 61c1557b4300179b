import Accounts
import Core
import Testing

@Suite struct `An error of Telegram's` {
    @Test(
        arguments: [
            ("FloodWaitError: 300", JSONValue.null, 300), ("FLOOD_WAIT_17", .null, 17),
            ("Telegram says: [420 FLOOD_WAIT_X] - A wait of 45 seconds is required", .null, 45),
            ("Error 420: FLOOD_WAIT_75600", .null, 75_600), ("Too Many Requests: retry after 34", .null, 34),
            ("FloodWaitError: 300", ["seconds": 10], 10), ("", ["seconds": 10.2], 11),
            ("", ["seconds": "12"], 12),
            ("wait 300", ["seconds": -5], 300), ("300", ["seconds": 0], 300), ("300", ["seconds": nil], 300),
            ("300", ["seconds": ["a": 1]], 300), ("", ["retry_after": 9], 9),
        ] as [(String, JSONValue, Int)])
    func `says how long to wait`(message: String, context: JSONValue, seconds: Int) {
        let error = AccountError(type: "flood_wait", message: message, context: context, at: noon)
        #expect(error == .floodWait(.seconds(seconds)))
    }

    @Test(
        arguments: [
            ("FloodWaitError: 99999999999999999999999999", JSONValue.null), ("", ["seconds": .int(.max)]),
            ("", ["seconds": 1e300]), ("", ["seconds": .double(.infinity)]),
            ("", ["seconds": "1e99 99999999999999"]),
        ] as [(String, JSONValue)])
    func `is bounded however large it is`(message: String, context: JSONValue) {
        var standing = Standing.active
        let error = AccountError(type: "flood_wait", message: message, context: context, at: noon)
        let outcome = standing.failed(with: error, at: noon)
        #expect(outcome.recoveryAt ?? .epoch <= noon + .days(30) + .seconds(60))
    }

    @Test(
        arguments: [
            ("", JSONValue.null), ("no number", .null), ("0", .null), ("", ["seconds": .double(.nan)]),
            ("", ["seconds": .int(.min)]), ("-", .null), ("", .array([])),
        ] as [(String, JSONValue)])
    func `without a time is no reason to try again at once`(message: String, context: JSONValue) {
        let error = AccountError(type: "flood_wait", message: message, context: context, at: noon)
        #expect(error == .floodWait(AccountError.unsaidFloodWait))
    }

    @Test func `of a flood wait keeps the account off for its seconds and sixty more`() {
        var standing = Standing.active
        let outcome = standing.failed(with: .floodWait(.seconds(300)), at: noon)
        #expect(outcome.newStatus == .floodWait)
        #expect(outcome.blockedFor == .seconds(360))
        #expect(outcome.recoveryAt == noon + .seconds(360))
        #expect(outcome.shouldSwitchAccount)
        #expect(!outcome.endsLease)
        #expect(standing.status(at: noon + .seconds(359)) == .floodWait)
        #expect(standing.status(at: noon + .seconds(360)) == .active)
        #expect(standing.nextRecovery == noon + .seconds(360))
    }

    @Test func `of a peer flood blocks for a day`() {
        var standing = Standing.active
        let outcome = standing.failed(with: AccountError(type: "peer_flood", at: noon), at: noon)
        #expect(outcome.newStatus == .blocked)
        #expect(outcome.recoveryAt == noon + .hours(24))
        #expect(standing.status(at: noon + .hours(24)) == .active)
    }

    @Test(arguments: ["phone_number_banned", "user_deactivated", "PhoneNumberBanned", "USER-DEACTIVATED"])
    func `of a ban turns the account off until an operator turns it on`(type: String) {
        var standing = Standing.active
        let outcome = standing.failed(with: AccountError(type: type, at: noon), at: noon)
        #expect(outcome.newStatus == .disabled)
        #expect(outcome.recoveryAt == nil)
        #expect(outcome.endsLease)
        _ = standing.recover(at: noon + .days(1000))
        standing.reconnected()
        #expect(standing.status(at: noon + .days(1000)) == .disabled)
        standing.turnOn()
        #expect(standing.status(at: noon) == .active)
    }

    @Test(arguments: ["auth_key_error", "session_revoked", "AUTH_KEY_UNREGISTERED"])
    func `of a lost login turns the account off until it is connected again`(type: String) {
        var standing = Standing.active
        let outcome = standing.failed(with: AccountError(type: type, at: noon), at: noon)
        #expect(outcome.newStatus == .disabled)
        #expect(outcome.endsLease)
        standing.reconnected()
        #expect(standing.status(at: noon) == .active)
    }

    @Test func `of a lost login does not soften a ban`() {
        var standing = Standing.active
        _ = standing.failed(with: .phoneNumberBanned, at: noon)
        _ = standing.failed(with: .authKeyError, at: noon)
        standing.reconnected()
        #expect(standing.status(at: noon) == .disabled)
    }

    @Test func `of a freeze lasts until the notice ends, or until it is lifted`() {
        var dated = Standing.active
        let context: JSONValue = [
            "freeze_until_date": .int((noon + .days(30)).seconds), "appeal": "https://t.me/spambot",
        ]
        let outcome = dated.failed(with: AccountError(type: "frozen", context: context, at: noon), at: noon)
        #expect(outcome.newStatus == .frozen)
        #expect(outcome.recoveryAt == noon + .days(30))
        #expect(dated.status(at: noon + .days(30)) == .active)
        var open = Standing.active
        let untilLifted = open.failed(with: AccountError(type: "frozen", at: noon), at: noon)
        #expect(untilLifted.recoveryAt == nil)
        #expect(open.status(at: noon + .days(3000)) == .frozen)
        open.turnOn()
        #expect(open.status(at: noon) == .active)
    }

    @Test func `of another kind counts, and five in a row rest the account for an hour`() {
        var standing = Standing.active
        for count in 1...4 {
            let outcome = standing.failed(with: AccountError(type: "SOMETHING_NEW", at: noon), at: noon)
            #expect(outcome.action == .counted)
            #expect(outcome.newStatus == .active)
            #expect(!outcome.shouldSwitchAccount)
            #expect(standing.errorCount == count)
        }
        let fifth = standing.failed(with: .other, at: noon)
        #expect(fifth.newStatus == .blocked)
        #expect(fifth.recoveryAt == noon + .hours(1))
        standing.succeeded()
        #expect(standing.errorCount == 0)
    }

    @Test func `counts from nothing again after a success`() {
        var standing = Standing.active
        for _ in 1...4 { _ = standing.failed(with: .other, at: noon) }
        standing.succeeded()
        for _ in 1...4 { _ = standing.failed(with: .other, at: noon) }
        #expect(standing.status(at: noon) == .active)
    }

    @Test func `never shortens what lasts longer`() {
        var standing = Standing.active
        _ = standing.failed(with: .floodWait(.hours(21)), at: noon)
        _ = standing.failed(with: .floodWait(.seconds(5)), at: noon)
        for _ in 1...5 { _ = standing.failed(with: .other, at: noon) }
        #expect(standing.status(at: noon) == .blocked)
        #expect(standing.status(at: noon + .hours(2)) == .floodWait)
        #expect(standing.refusal(at: noon) == .at(noon + .hours(21) + .seconds(60)))
    }

    @Test func `says what was done in both languages`() {
        let errors: [AccountError] = [
            .floodWait(.seconds(1)), .peerFlood, .phoneNumberBanned, .authKeyError, .frozen(until: nil),
            .other,
        ]
        for error in errors {
            var standing = Standing.active
            let text = standing.failed(with: error, at: noon).text
            #expect(!text(.english).isEmpty)
            #expect(text(.russian).unicodeScalars.contains { $0.value > 0x400 })
        }
    }

    @Test func `of a hostile length costs nothing`() {
        let long = String(repeating: "flood_wait", count: 100_000)
        #expect(AccountError(type: long, message: long, at: noon) == .other)
    }
}

@Suite struct `A recovery` {
    @Test func `forgets what is over and nothing else`() {
        var standing = Standing(floodWaitUntil: noon, blockedUntil: noon + .hours(1), freeze: .until(noon))
        #expect(standing.nextRecovery == noon)
        let changed = (0...1).map { _ in standing.recover(at: noon) }
        #expect(changed == [true, false])
        #expect(standing == Standing(blockedUntil: noon + .hours(1)))
        #expect(standing.nextRecovery == noon + .hours(1))
    }

    @Test func `changes nothing about what is allowed`() {
        let random = SeededRandom(seed: 11)
        for _ in 1...500 {
            let standing = Standing(
                floodWaitUntil: random.int(in: 0...1) == 0
                    ? nil : noon + .minutes(Int64(random.int(in: -60...60))),
                blockedUntil: random.int(in: 0...1) == 0
                    ? nil : noon + .minutes(Int64(random.int(in: -60...60))))
            let now = noon + .minutes(Int64(random.int(in: -60...60)))
            var tidied = standing
            _ = tidied.recover(at: now)
            #expect(tidied.status(at: now) == standing.status(at: now))
            #expect(tidied.refusal(at: now) == standing.refusal(at: now))
        }
    }
}
