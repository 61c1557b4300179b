import Core
import Security
import Storage
import Synchronization
import Testing

@testable import Integration

extension SendStore {
    init(_ database: any Database, instance: String) {
        self.init(
            database, instance: instance, hashes: [KeyedHash(key: Secret(Array(repeating: 3, count: 32)))])
    }
}

@Suite struct `An attempt to send` {
    private func attempt(
        _ account: LinkedAccount, _ id: String = "a1", to target: String = "anna", token: Int64? = nil
    ) -> Attempt {
        Attempt(
            id: id, userID: account.userID, accountID: account.id, kind: .groupInvite,
            contents: [target, nil, "group"],
            fencingToken: token)
    }

    @Test(arguments: Engine.available)
    func `is granted to one of many who ask at once`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let store = SendStore(database, instance: "run-1")
            let attempt = attempt(account)
            let granted = try await withThrowingTaskGroup(of: Claim.self) { group in
                for _ in 0..<20 { group.addTask { try await store.claim(attempt, at: noon) } }
                return try await group.reduce(0) { $0 + ($1 == .granted ? 1 : 0) }
            }
            #expect(granted == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `is answered from the store once it is done`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let store = SendStore(database, instance: "run-1")
            let outcomes: [SendOutcome] = [
                .sent(.init(messageID: 5 << 20, at: noon + .seconds(1), isMember: true)),
                .sent(.init(at: noon)),
                .failed(
                    SendFailure(
                        .floodWait, original: "Too Many Requests: retry after 75600", retryAfter: 75_600)),
            ]
            for (number, outcome) in outcomes.enumerated() {
                let attempt = attempt(account, "a\(number)")
                #expect(try await store.claim(attempt, at: noon) == .granted)
                try await store.begin(attempt)
                #expect(try await store.claim(attempt, at: noon) == .underWay)
                try await store.finish(attempt, with: outcome, at: noon)
                #expect(try await store.claim(attempt, at: noon) == .done(outcome))
                // A later answer does not replace the first.
                try await store.finish(attempt, with: .failed(SendFailure(.inviteFailed)), at: noon)
                #expect(try await store.claim(attempt, at: noon) == .done(outcome))
            }
        }
    }

    /// A name is quickly guessed; what is stored must not tell whether the guess is right.
    @Test(arguments: Engine.available)
    func `is stored under a key, and known by the key before it as well`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let (old, new) = (
                KeyedHash(key: Secret(Array(repeating: 1, count: 32))),
                KeyedHash(key: Secret(Array(repeating: 2, count: 32)))
            )
            let attempt = attempt(account)
            let before = SendStore(database, instance: "run-1", hashes: [old])
            #expect(try await before.claim(attempt, at: noon) == .granted)
            let stored = try await database.run("SELECT fingerprint FROM telegram_sends").first?.text(
                "fingerprint")
            #expect(stored != attempt.fingerprint)
            let after = SendStore(database, instance: "run-1", hashes: [new, old])
            #expect(try await after.claim(attempt, at: noon) == .underWay)
            await #expect(throws: IntegrationError.attemptReused) {
                try await SendStore(database, instance: "run-1", hashes: [new]).claim(attempt, at: noon)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `is refused with other contents, and another user's is another attempt`(engine: Engine) async throws
    {
        try await engine.withDatabase { database in
            let accounts = AccountStore(database)
            let (anna, boris) = (try await accounts.connected(7), try await accounts.connected(8, of: 2))
            let store = SendStore(database, instance: "run-1")
            #expect(try await store.claim(attempt(anna), at: noon) == .granted)
            await #expect(throws: IntegrationError.attemptReused) {
                try await store.claim(attempt(anna, to: "boris"), at: noon)
            }
            #expect(try await store.claim(attempt(boris), at: noon) == .granted)
        }
    }

    @Test(arguments: Engine.available)
    func `is free again where nothing went out, and in doubt where something may have`(engine: Engine)
        async throws
    {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let before = SendStore(database, instance: "run-1")
            let (claimed, sending, done) = (
                attempt(account, "claimed"), attempt(account, "sending"), attempt(account, "done")
            )
            for attempt in [claimed, sending, done] { _ = try await before.claim(attempt, at: noon) }
            for attempt in [sending, done] { try await before.begin(attempt) }
            try await before.finish(done, with: .sent(.init(at: noon)), at: noon)

            let after = SendStore(database, instance: "run-2")
            let settled = try await after.settleEarlierRuns()
            #expect(settled.withdrawn == 1)
            #expect(settled.inDoubt == 1)
            #expect(try await after.claim(claimed, at: noon) == .granted)
            #expect(try await after.claim(sending, at: noon) == .inDoubt)
            #expect(try await after.claim(done, at: noon) == .done(.sent(.init(at: noon))))
            // The run before, should it still be there, cannot begin what it had claimed.
            await #expect(throws: IntegrationError.busy) { try await before.begin(claimed) }
            // And what this run has under way is none of its business.
            #expect(try await after.settleEarlierRuns() == (0, 0))
        }
    }

    @Test(arguments: Engine.available)
    func `refuses a lease that is older than the newest that was shown`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let store = SendStore(database, instance: "run-1")
            let early = attempt(account, "early", token: 4)
            #expect(try await store.claim(early, at: noon) == .granted)
            #expect(try await store.claim(attempt(account, "late", token: 5), at: noon) == .granted)
            // Claimed under lease 4, and lease 5 came before anything went out.
            await #expect(throws: IntegrationError.leaseLost(newest: 5)) { try await store.begin(early) }
            await #expect(throws: IntegrationError.leaseLost(newest: 5)) {
                try await store.claim(attempt(account, "new", token: 4), at: noon)
            }
            // The refused claim left nothing behind.
            #expect(try await store.claim(attempt(account, "new", token: 6), at: noon) == .granted)
            await #expect(throws: IntegrationError.leaseLost(newest: 6)) {
                try await store.claim(attempt(account, "late", token: 5), at: noon)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `leaves the newest lease standing, whatever order many arrive in`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let store = SendStore(database, instance: "run-1")
            await withTaskGroup(of: Void.self) { group in
                for token in random.shuffled(Array(Int64(1)...16)) {
                    group.addTask {
                        _ = try? await store.claim(attempt(account, "t\(token)", token: token), at: noon)
                    }
                }
            }
            #expect(try await AccountStore(database).account(account.id, of: 1).fencingToken == 16)
        }
    }

    @Test(arguments: Engine.available)
    func `may be made again after it was withdrawn, and not after it went out`(engine: Engine) async throws {
        try await engine.withDatabase { database in
            let account = try await AccountStore(database).connected(7)
            let store = SendStore(database, instance: "run-1")
            let attempt = attempt(account)
            _ = try await store.claim(attempt, at: noon)
            try await store.withdraw(attempt)
            #expect(try await store.claim(attempt, at: noon) == .granted)
            try await store.begin(attempt)
            try await store.withdraw(attempt)
            #expect(try await store.claim(attempt, at: noon) == .underWay)
            try await store.doubt(attempt)
            #expect(try await store.claim(attempt, at: noon) == .inDoubt)
            try await store.tidy(before: noon + .days(40))
            #expect(try await store.claim(attempt, at: noon) == .granted)
        }
    }

    @Test func `tells absent from empty contents`() throws {
        func fingerprint(_ contents: [String?]) -> String {
            Attempt(
                id: "x", userID: 1, accountID: UniqueID(SeededRandom(seed: 1)), kind: .directMessage,
                contents: contents,
                fencingToken: nil
            ).fingerprint
        }
        #expect(fingerprint([nil, "a"]) != fingerprint(["", "a"]))
        #expect(fingerprint(["ab", "c"]) != fingerprint(["a", "bc"]))
        #expect(fingerprint(["a;1:b"]) != fingerprint(["a", "b"]))
    }

    @Test(arguments: FailureCode.allCases)
    func `explains every failure in both languages`(code: FailureCode) {
        #expect(code.explanation.english.count > 20)
        #expect(code.explanation.russian.unicodeScalars.contains { ("а"..."я").contains($0) })
        #expect((400...599).contains(code.status))
        // A target that said no is never asked again with the same words.
        if code.fault == .target { #expect(!code.canRetry) }
    }
}
