import Core
import Testing

@testable import Integration

@Suite struct `A login` {
    @Test func `is given up five minutes after it began`() {
        var login = qrLogin()
        login.reached(.scan, at: noon)
        let verdicts = [299, 300, 301].map { login.expire(at: noon + .seconds($0)) }
        #expect(verdicts == [false, true, false])
        #expect(login.stage == .expired)
        #expect("\(login.status)" == "expired")
    }

    @Test func `asks for the password after a late scan instead of expiring`() {
        var login = qrLogin()
        login.reached(.scan, at: noon)
        login.reached(.password, at: noon + .seconds(299))
        #expect("\(login.status)" == "2fa_required")
        let verdicts = [301, 599].map { login.expire(at: noon + .seconds($0)) }
        #expect(verdicts == [false, true])
    }

    @Test func `does not go back to the scan when a late link arrives`() {
        var login = qrLogin()
        login.reached(.password, at: noon)
        login.reached(.scan, at: noon + .seconds(1))
        #expect(login.stage == .password)
    }

    @Test func `stays as it ended`() {
        var failed = qrLogin()
        failed.fail(with: .notRegistered)
        failed.reached(.scan, at: noon)
        failed.finish(as: newID())
        #expect(failed.stage == .failed)
        var done = qrLogin()
        done.finish(as: newID())
        done.fail(with: .unreachable)
        #expect(done.stage == .done)
        #expect(done.failure == nil)
    }

    @Test(arguments: [
        LoginFailure.phoneInvalid, .phoneBanned, .phoneFlood, .codeInvalid, .codeExpired, .passwordWrong,
        .cannotResend,
        .floodWait(seconds: 60), .notRegistered, .emailRequired, .premiumRequired, .accountTaken,
        .sessionLost(reason: "SESSION_REVOKED"), .misconfigured, .unreachable, .other("A:B"),
    ])
    func `keeps its failure, and explains it in both languages`(failure: LoginFailure) {
        #expect(LoginFailure(stored: failure.stored) == failure)
        #expect(!failure.explanation.english.isEmpty)
        #expect(failure.explanation.russian.unicodeScalars.contains { ("а"..."я").contains($0) })
    }

    @Test func `survives a wrong password and a wrong code`() {
        #expect(LoginFailure.passwordWrong.keepsLogin)
        #expect(LoginFailure.codeInvalid.keepsLogin)
        #expect(!LoginFailure.codeExpired.keepsLogin)
    }
}

@Suite struct `The store of logins` {
    @Test(arguments: Engine.available)
    func `finds those under way after a restart, and no others`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = LoginStore(database)
            var scanned = qrLogin()
            try await store.open(scanned)
            scanned.reached(.password, at: noon + .seconds(20))
            try await store.save(scanned)
            var failed = qrLogin(at: noon + .seconds(1))
            try await store.open(failed)
            failed.fail(with: .sessionLost(reason: "X:Y"))
            try await store.save(failed)
            #expect(try await store.underWay() == [scanned])
            #expect(try await store.login(failed.id, of: 1) == failed)
            // Over is over, whoever writes late.
            failed.stage = .scan
            #expect(try await !store.save(failed))
        }
    }

    @Test(arguments: Engine.available)
    func `gives the newest of a kind to its own user alone`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = LoginStore(database)
            try await store.open(qrLogin())
            let newest = qrLogin(at: noon + .seconds(1))
            try await store.open(newest)
            let code = Login(
                id: newID(), userID: 1, method: .code, phone: "+15550001", sealedKey: "s",
                at: noon + .seconds(2))
            try await store.open(code)
            #expect(try await store.latest(.qr, of: 1) == newest)
            #expect(try await store.latest(.code, phone: "+15550001", of: 1) == code)
            #expect(try await store.latest(.code, phone: "+15550002", of: 1) == nil)
            #expect(try await store.latest(.qr, of: 2) == nil)
            await #expect(throws: IntegrationError.unknownLogin) { try await store.login(newest.id, of: 2) }
        }
    }

    @Test(arguments: Engine.available)
    func `lets a user have five under way, however many ask at once`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = LoginStore(database)
            let opened = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<12 { group.addTask { (try? await store.open(qrLogin())) != nil } }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(opened == Login.most)
            // Another user's do not count, and those whose time is over do not either.
            try await store.open(qrLogin(of: 2))
            try await store.open(qrLogin(at: noon + .minutes(5)))
        }
    }
}
