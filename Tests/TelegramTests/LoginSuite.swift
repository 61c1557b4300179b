import Core
import Sandbox
import Telegram
import Testing

@Suite struct `Signing in` {
    @Test(arguments: Wire.allCases)
    func `by phone and code reaches the account`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            #expect(client.authorization == .waitPhoneNumber)
            let phone = stage.phone(.warmed)
            guard case .waitCode(let info) = try await client.submit(phone: "+" + phone) else {
                Issue.record("no code was asked for: \(client.authorization)")
                return
            }
            #expect(info.way == .telegramMessage)
            #expect(info.length == 5)
            #expect(info.nextWay == .sms)
            #expect(info.resendAfter == .seconds(60))
            #expect(try await client.submit(code: Secret(stage.world.code(of: phone))) == .ready)
            let me = try await client.me()
            #expect(me.phone == phone)
            #expect(try await client.sessionCount() == 1)
        }
    }

    @Test(arguments: Wire.allCases)
    func `goes on after a wrong code, and asks for another way when wanted`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            let phone = stage.phone(.warmed)
            try await client.submit(phone: phone)
            #expect(try await reason { try await client.submit(code: Secret("0")) } == .codeInvalid)
            #expect(try await reason { try await client.submit(code: Secret("")) } == .codeInvalid)
            guard case .waitCode = client.authorization else {
                return #expect(Bool(false), "the state changed")
            }
            guard case .waitCode(let info) = try await client.resendCode() else {
                return #expect(Bool(false), "the state changed")
            }
            #expect(info.way == .sms)
            #expect(info.nextWay == nil)
            #expect(try await reason { try await client.resendCode() } == .noMoreCodes)
            #expect(try await client.submit(code: Secret(stage.world.code(of: phone))) == .ready)
        }
    }

    @Test(arguments: Wire.allCases)
    func `asks for the second password after the code, and a wrong one keeps the login alive`(wire: Wire)
        async throws
    {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            let phone = stage.phone(.twoFactor)
            try await client.submit(phone: phone)
            guard
                case .waitPassword(let info) = try await client.submit(
                    code: Secret(stage.world.code(of: phone)))
            else {
                return #expect(Bool(false), "no password was asked for")
            }
            #expect(!info.hint.isEmpty)
            #expect(
                try await reason { try await client.submit(password: Secret("wrong")) } == .passwordInvalid)
            #expect(try await client.submit(password: Secret("sandbox-password")) == .ready)
        }
    }

    @Test(arguments: Wire.allCases, [AccountKind.warmed, .twoFactor])
    func `by QR code goes on by itself once it is scanned`(wire: Wire, kind: AccountKind) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            guard case .waitQRScan(let link) = try await client.requestQRCode() else {
                return #expect(Bool(false), "no link came")
            }
            #expect(link.hasPrefix("tg://login?token="))
            #expect(try await reason { try await client.requestQRCode() } == .unexpectedStep)
            #expect(throws: ControlError.noSuchLink) {
                try stage.world.scan("tg://login?token=x", with: stage.phone(kind))
            }
            try stage.world.scan(link, with: stage.phone(kind))
            let next = try await client.authorization { state in
                if case .waitQRScan = state { false } else { true }
            }
            if kind == .twoFactor {
                guard case .waitPassword = next else { return #expect(Bool(false), "\(next)") }
                #expect(try await client.submit(password: Secret("sandbox-password")) == .ready)
            } else {
                #expect(next == .ready)
            }
        }
    }

    @Test func `gets a new QR link every half minute`() async throws {
        let time = ManualTime(noon)
        try await Stage.run(time: time) { stage in
            let client = try await stage.open()
            var updates = client.updates().makeAsyncIterator()
            let first = try await client.requestQRCode()
            #expect(await updates.next() == .authorization(first))
            await advance(time, by: .seconds(30))
            let second = await updates.next()
            guard case .authorization(.waitQRScan(let link)) = second else {
                return #expect(Bool(false), "\(second as Any)")
            }
            #expect(first != .waitQRScan(link: link))
            try stage.world.scan(link, with: stage.phone(.warmed))
            #expect(client.authorization == .ready)
        }
    }

    @Test(
        arguments: [
            (AccountKind.needsEmail, "e-mail"), (.needsPremium, "Premium"),
            (.unregistered, "no Telegram account"),
        ], Wire.allCases)
    func `says why it cannot go on where Telegram wants what we do not do`(
        want: (kind: AccountKind, word: String), wire: Wire
    ) async throws {
        let (kind, word) = want
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            let phone = stage.phone(kind)
            var state = try await client.submit(phone: phone)
            if case .waitCode = state {
                state = try await client.submit(code: Secret(stage.world.code(of: phone)))
            }
            let obstacle = try #require(state.obstacle)
            #expect(obstacle.english.contains(word))
            #expect(obstacle.russian != obstacle.english)
            await client.logOut()
            #expect(client.authorization == .closed)
            #expect(client.sessionLoss == nil)
        }
    }

    @Test(arguments: Wire.allCases)
    func `is refused to a banned number, a wrong one and none`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            #expect(
                try await reason { try await client.submit(phone: stage.phone(.banned)) } == .accountBanned)
            #expect(try await reason { try await client.submit(phone: "+1555") } == .phoneInvalid)
            #expect(try await reason { try await client.submit(phone: "") } == .phoneInvalid)
            #expect(client.authorization == .waitPhoneNumber)
        }
    }

    @Test(arguments: Wire.allCases)
    func `lets the newer of two steps at once win`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            stage.world.add(Fault(method: "setAuthenticationPhoneNumber", isSilent: true, count: 1))
            try await withThrowingTaskGroup(of: FailureReason?.self) { group in
                group.addTask { try await reason { try await client.submit(phone: stage.phone(.warmed)) } }
                // Once the fault is used up, the first step is on its way.
                try await eventually("the first step is on its way") { stage.world.faults.isEmpty }
                try await client.submit(phone: stage.phone(.warmed))
                #expect(try await group.next() == .overtakenByOtherStep)
            }
        }
    }

    @Test func `takes no more than ten codes a day`() async throws {
        var options = WorldOptions.tests
        options.strictness = .telegram
        try await Stage.run(.inProcess, options) { stage in
            let client = try await stage.open()
            for _ in 1...10 { try await client.submit(phone: stage.phone(.warmed)) }
            let failure = await #expect(throws: TelegramFailure.self) {
                try await client.submit(phone: stage.phone(.warmed))
            }
            #expect(failure?.reason == .phoneFlood)
            #expect(failure?.wait == .hours(24))
        }
    }
}

@Suite struct `A session` {
    @Test(arguments: Wire.allCases)
    func `is there again when its folder is opened again`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let first = try await stage.account(folder: "one")
            await first.close()
            #expect(first.authorization == .closed)
            #expect(first.sessionLoss == nil)
            let again = try await stage.open("one")
            #expect(again.authorization == .ready)
            #expect(try await again.me().phone == stage.phone(.warmed))
        }
    }

    @Test(arguments: Wire.allCases)
    func `is not opened with another key, nor twice`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account(folder: "one")
            #expect(try await reason { _ = try await stage.open("one") } == .databaseInUse)
            await client.close()
            #expect(try await reason { _ = try await stage.open("one", key: 8) } == .wrongDatabaseKey)
            #expect(try await stage.open("one").authorization == .ready)
        }
    }

    @Test(arguments: Wire.allCases)
    func `ends everywhere with logging out`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account(folder: "one")
            await client.logOut()
            #expect(client.authorization == .closed)
            #expect(client.sessionLoss == nil)
            #expect(try await reason { _ = try await client.me() } == .aborted)
            #expect(try await stage.open("one").authorization == .waitPhoneNumber)
        }
    }

    @Test(arguments: Wire.allCases)
    func `that its owner revokes says so, and ends`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            try stage.world.revoke(stage.phone(.warmed))
            _ = try await client.authorization { $0 == .closed }
            #expect(client.sessionLoss == .revoked)
        }
    }

    @Test(arguments: Wire.allCases)
    func `that was revoked while it was closed is found out when it is opened`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            try await stage.account(folder: "one").close()
            try stage.world.revoke(stage.phone(.warmed))
            let client = try await stage.open("one")
            _ = try await client.authorization { $0 == .closed }
            #expect(client.sessionLoss == .revoked)
            #expect(try await stage.open("one").authorization == .waitPhoneNumber)
        }
    }

    @Test(arguments: Wire.allCases)
    func `of a banned account ends, and its number never signs in again`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let phone = stage.phone(.warmed)
            let client = try await stage.account()
            try stage.world.ban(phone)
            _ = try await client.authorization { $0 == .closed }
            #expect(client.sessionLoss == .banned)
            let other = try await stage.open()
            #expect(try await reason { try await other.submit(phone: phone) } == .accountBanned)
        }
    }

    @Test(arguments: Wire.allCases)
    func `of a frozen account reads but does not act, until it is lifted`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let person = try await stage.person(.open, client)
            _ = try await client.group("sandbox_club")
            var updates = client.updates().makeAsyncIterator()
            try stage.world.freeze(stage.phone(.warmed))
            guard case .freeze(let notice?) = await updates.next() else {
                return #expect(Bool(false), "no notice came")
            }
            #expect(notice.deletionDate != nil)
            #expect(notice.appealLink.hasPrefix("https://t.me/"))
            #expect(client.freeze == notice)
            #expect(try await reason { _ = try await client.add(person.id, to: Stage.club) } == .frozen)
            #expect(try await client.history(of: Stage.club).messages.isEmpty == false)
            try stage.world.freeze(stage.phone(.warmed), false)
            #expect(await updates.next() == .freeze(nil))
            #expect(try await client.add(person.id, to: Stage.club) == .accepted)
        }
    }

    @Test(arguments: Wire.allCases)
    func `is told the words Telegram has for its owner`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            var updates = client.updates().makeAsyncIterator()
            try stage.world.tell(
                stage.phone(.warmed),
                [
                    "@type": "updateServiceNotification", "type": "NOTICE",
                    "content": [
                        "@type": "messageText", "text": ["@type": "formattedText", "text": "Be careful"],
                    ],
                ])
            #expect(await updates.next() == .serviceNotice(type: "NOTICE", text: "Be careful"))
        }
    }
}

/// Waits until something that happens elsewhere has happened; a failure after far longer than it takes.
func eventually(
    _ what: String, within limit: Duration = .seconds(240), sourceLocation: SourceLocation = #_sourceLocation,
    _ isSo: () async throws -> Bool
) async throws {
    let time = SystemTime()
    let start = time.uptime
    while try await !isSo() {
        guard time.uptime - start < limit else {
            Issue.record("never happened: \(what)", sourceLocation: sourceLocation)
            throw CancellationError()
        }
        try await time.sleep(for: .milliseconds(2))
    }
}

/// Moves time once somebody waits for it.
func advance(_ time: ManualTime, by duration: Duration, sleepers: Int = 1) async {
    await time.waitForSleepers(sleepers)
    time.advance(by: duration)
}
