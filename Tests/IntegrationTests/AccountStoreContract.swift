import Core
import Storage
import Testing

@testable import Integration

@Suite struct `The store of accounts` {
    @Test(arguments: Engine.available)
    func `makes a finished login an account and tells account-manager`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let (store, logins) = (AccountStore(database), LoginStore(database))
            let login = qrLogin()
            try await logins.open(login)
            let connected = try await store.connect(profile(7), through: login, at: noon + .seconds(9))
            #expect(connected.replaced == nil)
            #expect(connected.account.isConnected)
            #expect(connected.account.sessionID == login.id)
            #expect(try await store.account(connected.account.id, of: 1) == connected.account)
            #expect(try await store.sealedKey(of: login.id) == "sealed")
            let finished = try await logins.login(login.id, of: 1)
            #expect(finished.stage == .done)
            #expect(finished.accountID == connected.account.id)
            let notices = try await NoticeStore(database).due(at: noon + .minutes(1))
            #expect(notices.map(\.notice) == [.connected(phone: "+15550007")])
            #expect(notices.map(\.accountID) == [connected.account.id])
        }
    }

    @Test(arguments: Engine.available)
    func `keeps an account's id when it is connected again, and names the session to end`(engine: Engine)
        async throws
    {
        try await engine.withDatabase { database in
            let store = AccountStore(database)
            let first = try await store.connected(7)
            let login = qrLogin(at: noon + .hours(1))
            try await LoginStore(database).open(login)
            let again = try await store.connect(profile(7), through: login, at: noon + .hours(1))
            #expect(again.account.id == first.id)
            #expect(again.replaced?.session == first.sessionID)
            #expect(again.replaced?.sealedKey == "sealed")
            #expect(again.account.sessionID == login.id)
            let session = try #require(again.account.sessionID)
            // The end of the replaced session is no end of the account.
            #expect(
                try await !store.end(
                    first.id, session: #require(first.sessionID), as: .lost, reason: nil, at: noon))
            #expect(try await store.end(first.id, session: session, as: .disconnected, reason: nil, at: noon))
            #expect(try await store.accounts(of: 1, offset: 0, limit: 10).total == 0)
            #expect(try await store.connected(7, at: noon + .hours(2)).id == first.id)
        }
    }

    @Test(arguments: Engine.available)
    func `refuses an account that another user has connected, until it is free`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = AccountStore(database)
            let anna = try await store.connected(7, of: 1)
            await #expect(throws: IntegrationError.accountTaken) { try await store.connected(7, of: 2) }
            try await store.end(
                anna.id, session: #require(anna.sessionID), as: .disconnected, reason: nil, at: noon)
            let boris = try await store.connected(7, of: 2)
            #expect(boris.id != anna.id)
        }
    }

    @Test(arguments: Engine.available)
    func `lets one of two users have an account that both finish at once`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = AccountStore(database)
            let outcomes = await withTaskGroup(of: Bool.self) { group in
                for user in Int64(1)...6 {
                    group.addTask { (try? await store.connected(7, of: user)) != nil }
                }
                var outcomes: [Bool] = []
                for await outcome in group { outcomes.append(outcome) }
                return outcomes
            }
            #expect(outcomes.filter { $0 }.count == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `shows nobody another user's account`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = AccountStore(database)
            let account = try await store.connected(7, of: 1)
            await #expect(throws: IntegrationError.unknownAccount) {
                try await store.account(account.id, of: 2)
            }
            #expect(try await store.accounts(of: 2, offset: 0, limit: 10).items.isEmpty)
            #expect(try await store.connected(of: 2, after: nil, limit: 10).isEmpty)
            #expect(try await store.connected(of: nil, after: nil, limit: 10).map(\.id) == [account.id])
            #expect(try await store.connected(of: nil, after: account.id, limit: 10).isEmpty)
        }
    }

    @Test(arguments: Engine.available)
    func `wipes a session's key when it ends, and says so once`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let (store, notices) = (AccountStore(database), NoticeStore(database))
            let account = try await store.connected(7)
            let session = try #require(account.sessionID)
            #expect(
                try await store.end(
                    account.id, session: session, as: .lost, reason: "SESSION_REVOKED", at: noon + .seconds(1)
                ))
            #expect(
                try await !store.end(
                    account.id, session: session, as: .lost, reason: "SESSION_REVOKED", at: noon + .seconds(2)
                ))
            let lost = try await store.account(account.id, of: 1)
            #expect(lost.status == .lost)
            #expect(lost.reason == "SESSION_REVOKED")
            #expect(lost.sessionID == nil)
            // The login's own copy is gone with the login's end being tidied away; the account's at once.
            try await LoginStore(database).tidy(before: noon + .days(1))
            #expect(try await store.sealedKey(of: session) == nil)
            // What happened first is told first.
            let first = try await notices.due(at: noon + .hours(1))
            #expect(first.map(\.notice) == [.connected(phone: "+15550007")])
            try await notices.delivered(first[0].id)
            let second = try await notices.due(at: noon + .hours(1))
            #expect(second.map(\.notice) == [.lost(reason: "SESSION_REVOKED")])
            try await notices.postpone(second[0].id, until: noon + .hours(2))
            #expect(try await notices.due(at: noon + .hours(1)).isEmpty)
            #expect(try await notices.due(at: noon + .hours(2)).map(\.attempts) == [1])
        }
    }

    @Test(arguments: Engine.available)
    func `notes a freeze once and its end`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let store = AccountStore(database)
            let account = try await store.connected(7)
            let end = noon + .days(30)
            try await store.setFreeze(
                account.id, until: end, appeal: "https://t.me/spambot", at: noon + .seconds(1))
            try await store.setFreeze(
                account.id, until: end, appeal: "https://t.me/spambot", at: noon + .seconds(2))
            #expect(try await store.account(account.id, of: 1).frozenUntil == end)
            let count = try await database.run(
                "SELECT count(*) AS n FROM telegram_notices WHERE kind = 'frozen'")
            #expect(try count[0].int("n") == 1)
            try await store.setFreeze(account.id, until: nil, appeal: nil, at: noon + .days(1))
            #expect(try await store.account(account.id, of: 1).frozenUntil == nil)
        }
    }

    @Test(arguments: Engine.available)
    func `erases all of a user who is gone, and nothing of others`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let (store, logins) = (AccountStore(database), LoginStore(database))
            let account = try await store.connected(7, of: 1)
            let open = qrLogin(of: 1, at: noon + .seconds(1))
            try await logins.open(open)
            let other = try await store.connected(8, of: 2)
            let sessions = try await store.sessions(of: 1)
            #expect(Set(sessions.map(\.session)) == [try #require(account.sessionID), open.id])
            #expect(sessions.allSatisfy { $0.sealedKey == "sealed" })
            try await store.erase(user: 1)
            for table: SQL in [
                "telegram_accounts", "telegram_logins", "telegram_notices", "telegram_sends", "telegram_bots",
                "telegram_channels", "integration_logs",
            ] {
                let left = try await database.run("SELECT count(*) AS n FROM \(table) WHERE user_id = 1")
                #expect(try left[0].int("n") == 0)
            }
            #expect(try await store.account(other.id, of: 2) == other)
            #expect(try await store.sessions(of: 1).isEmpty)
        }
    }
}
