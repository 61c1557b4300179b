import Core
import Storage
import Synchronization
import TestServers
import Testing

@testable import Accounts

private final class Flag: Sendable {
    private let state = Mutex(false)
    var isRaised: Bool { state.withLock { $0 } }
    func raise() { state.withLock { $0 = true } }
}

/// What the store must do on each engine we ship.
@Suite struct `An account store` {
    @Test(arguments: Engine.available)
    func `gives the last place to one of those who ask at the same moment`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            let permits = try await concurrently(16) { index in
                try await store.reserve(account(1), .invite, into: sales, by: "worker \(index)", at: noon)
                    .permit
            }
            #expect(permits.compactMap { $0 }.count == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `never leases an account to two, and leaves none idle`(engine: Engine) async throws {
        try await engine.withStore(accounts: 10) { store, _ in
            let leased = try await concurrently(16) { index in
                try? await store.acquire(
                    Acquire(user: 1, purpose: .inviteCampaign, service: "worker \(index)", channel: sales),
                    at: noon
                ).id
            }
            #expect(Set(leased.compactMap { $0 }).count == 10)
            #expect(leased.compactMap { $0 }.count == 10)
        }
    }

    /// Whoever takes the place with the lease, and whoever takes it by itself, at the same moment: one of them has it.
    @Test(arguments: Engine.available)
    func `gives a place once, with a lease or without one`(engine: Engine) async throws {
        try await engine.withStore(accounts: 12) { store, _ in
            let held = try await concurrently(48) { index -> AccountID? in
                let id = account(index % 12 + 1)
                guard index % 2 == 0 else {
                    return try await store.reserve(id, .invite, into: sales, by: "other", at: noon).permit?
                        .account
                }
                let wish = Acquire(
                    user: 1, purpose: .inviteCampaign, service: "worker \(index)", channel: sales,
                    reserves: true)
                return try? await store.acquiring(wish, at: noon).permit?.account
            }
            let places = held.compactMap { $0 }
            #expect(Set(places).count == places.count, "a place was given twice")
            for index in 1...12 {
                let verdict = try await store.check(account(index), .invite, into: sales, at: noon)
                #expect(verdict[.daily]?.used == (places.contains(account(index)) ? 1 : 0))
            }
        }
    }

    /// A statement that chooses an account sees of its permits what stood there when it began. Here it is held up behind
    /// that moment, and the place is given to somebody else meanwhile.
    @Test(.enabled(if: TestServers.areAvailable))
    func `passes an account over that has changed while it was being chosen`() async throws {
        try await Engine.postgres.withStore { store, database in
            // Something to be read of the limits, so that the statement can be held up there.
            try await store.tighten(.everybody, to: tightening(["invite.per_channel_daily": 10]))
            for sql: SQL in [
                "CREATE SEQUENCE readers",
                """
                CREATE FUNCTION hold_first() RETURNS boolean LANGUAGE plpgsql VOLATILE AS
                    'BEGIN IF nextval(''readers'') = 1 THEN PERFORM pg_advisory_xact_lock(43); END IF; RETURN TRUE; END'
                """,
                "ALTER TABLE account_limits RENAME TO kept_limits",
                "CREATE VIEW account_limits AS SELECT * FROM kept_limits WHERE hold_first()",
            ] { try await database.run(sql) }
            let (isHeld, letGo) = (Flag(), Flag())
            func until(_ isSo: () async throws -> Bool) async throws {
                while try await !isSo() { try await SystemTime().sleep(for: .milliseconds(5)) }
            }
            let places = try await withThrowingTaskGroup(of: String?.self) { group in
                group.addTask {
                    try await database.transaction { transaction in
                        try transaction.run("SELECT pg_advisory_xact_lock(43)")
                        isHeld.raise()
                        while !letGo.isRaised { try transaction.run("SELECT pg_sleep(0.005)") }
                    }
                    return nil
                }
                try await until { isHeld.isRaised }
                group.addTask {
                    let wish = Acquire(
                        user: 1, purpose: .inviteCampaign, service: "worker", channel: sales, reserves: true)
                    return try? await store.acquiring(wish, at: noon).permit?.id
                }
                try await until {
                    try await database.run(
                        """
                        SELECT COUNT(*) AS count FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event = 'advisory'
                        """
                    ).first?.int("count") == 1
                }
                let other = try await store.reserve(account(1), .invite, into: sales, by: "other", at: noon)
                #expect(other.permit != nil)
                letGo.raise()
                return try await group.reduce(into: [other.permit?.id]) { $0.append($1) }.compactMap { $0 }
            }
            #expect(places.count == 1, "a place was given twice")
            let open = try await database.run("SELECT id FROM account_permits WHERE state = 'open'")
            #expect(open.count == 1)
        }
    }

    @Test(arguments: Engine.available)
    func `counts an action that is recorded by many at once for each of them`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            _ = try await concurrently(20) { index in
                try await store.record(
                    account(1), Report(.invite, into: sales, success: true, service: "worker \(index)"),
                    at: noon)
            }
            let verdict = try await store.check(account(1), .invite, into: sales, at: noon)
            #expect(verdict[.daily]?.used == 20)
            #expect(verdict[.perChannelTotal]?.used == 20)
            #expect(try await store.account(account(1), at: noon).usedToday[.invite] == 20)
        }
    }

    @Test(arguments: Engine.available)
    func `counts a permit once, however often and by however many it is recorded`(engine: Engine) async throws
    {
        try await engine.withStore { store, _ in
            let permit = try await store.reserve(account(1), .invite, into: sales, by: "invites", at: noon)
                .permit
            let id = try #require(permit?.id)
            let counted = try await concurrently(8) { _ in
                try await store.record(
                    account(1), Report(.invite, into: sales, success: true, permit: id, service: "invites"),
                    at: noon)
            }
            #expect(counted.count { $0 } == 1)
            #expect(try await store.ledger(of: account(1), from: noon, to: noon + .days(1)).count == 1)
            _ = try await store.tidy(at: noon + .days(10))
            let again = try await store.record(
                account(1), Report(.invite, into: sales, success: true, permit: id, service: "invites"),
                at: noon + .days(10))
            #expect(!again)
        }
    }

    @Test(arguments: Engine.available)
    func `dates a late report to the end of its permit`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            let permit = try await store.reserve(account(1), .invite, by: "invites", at: noon).permit
            try await store.record(
                account(1), Report(.invite, success: true, permit: permit?.id, service: "invites"),
                at: noon + .hours(3))
            let entries = try await store.ledger(of: account(1), from: noon, to: noon + .days(1))
            #expect(entries.map(\.record.at) == [noon + .seconds(120)])
        }
    }

    @Test(arguments: Engine.available)
    func `turns away a holder whose lease was granted again, and tells the two apart`(engine: Engine)
        async throws
    {
        try await engine.withStore { store, _ in
            let wish = Acquire(user: 1, purpose: .parsing, service: "parsing", duration: .minutes(5))
            let early = try #require(try await store.acquire(wish, at: noon).lease)
            let late = try #require(try await store.acquire(wish, at: noon + .minutes(6)).lease)
            #expect(late.fencingToken > early.fencingToken)
            await #expect(throws: LeaseError.notHeld) {
                try await store.extend(
                    account(1), lease: early.id, by: "parsing", for: .minutes(5), at: noon + .minutes(7))
            }
            await #expect(throws: LeaseError.notHeld) {
                try await store.release(account(1), lease: early.id, by: "parsing", at: noon + .minutes(7))
            }
            try await store.release(account(1), lease: late.id, by: "parsing", at: noon + .minutes(7))
            let again = try await store.release(
                account(1), lease: late.id, by: "parsing", at: noon + .minutes(8))
            #expect(again == .alreadyFree)
        }
    }

    @Test(arguments: Engine.available)
    func `never hands out another user's account`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            await #expect(throws: NoAccountAvailable(counts: [:], retryAt: nil)) {
                try await store.acquire(Acquire(user: 2, purpose: .parsing, service: "parsing"), at: noon)
            }
            await #expect(throws: NoAccountAvailable(counts: [:], retryAt: nil)) {
                let wish = Acquire(user: 2, purpose: .parsing, service: "parsing", preferred: account(1))
                return try await store.acquire(wish, at: noon)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `knows no account that was not connected`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            await #expect(throws: AccountStoreError.unknownAccount) {
                try await store.check(account(99), .invite, at: noon)
            }
        }
    }

    @Test(arguments: Engine.available)
    func `obeys a limit the moment it is tightened`(engine: Engine) async throws {
        try await engine.withStore(accounts: 2) { store, _ in
            try await store.record(
                account(1), Report(.invite, success: true, service: "a"), at: noon - .hours(2))
            try await store.tighten(.account(account(1)), to: tightening(["invite.daily": 1]))
            #expect(try await store.check(account(1), .invite, at: noon).reason == .daily)
            try await store.tighten(.user(1), to: tightening(["invite.daily": 0]))
            let refused = await #expect(throws: NoAccountAvailable.self) {
                try await store.acquire(Acquire(user: 1, purpose: .inviteCampaign, service: "a"), at: noon)
            }
            #expect(refused?.counts == [.daily: 2])
            try await store.tighten(.everybody, to: .none)
            try await store.tighten(.user(1), to: .none)
            let check = try await store.check(account(2), .invite, at: noon)
            #expect(check.allowed)
        }
    }

    @Test(arguments: Engine.available)
    func `remembers as far back as the longest pause`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            try await store.tighten(.everybody, to: tightening(["message.pause_seconds": 500_000]))
            try await store.record(
                account(1), Report(.message, success: true, service: "a"), at: noon - .days(5))
            let verdict = try await store.check(account(1), .message, at: noon)
            #expect(verdict.retryAt == noon - .days(5) + .seconds(500_000))
        }
    }

    @Test(arguments: Engine.available)
    func `makes its counters anew from the ledger when they are gone`(engine: Engine) async throws {
        try await engine.withStore { store, database in
            for hour in 1...5 {
                let report = Report(.invite, into: sales, success: hour != 3, service: "a")
                try await store.record(account(1), report, at: noon - .hours(Int64(hour) * 5))
            }
            let before = try await store.account(account(1), at: noon)
            try await database.run(
                """
                UPDATE telegram_sessions SET per_channel_invites = NULL, used_invites_today = 77, invite_free_at = 0
                """)
            #expect(
                try await store.check(account(1), .invite, into: sales, at: noon)[.perChannelTotal]?.used == 4
            )
            try await store.rebuild(account(1), at: noon)
            let after = try await store.account(account(1), at: noon)
            #expect(after.usedToday[.invite] == 2)
            #expect(after.channels == before.channels)
            let json = try await database.run("SELECT per_channel_invites FROM telegram_sessions").first?
                .json("per_channel_invites")
            #expect(json?["sales"]?["total"] == 4)
            #expect(json?["sales"]?["day"] == "2025-08-24")
        }
    }

    @Test(arguments: Engine.available)
    func `brings back an account whose time is over, by itself and by the recovery`(engine: Engine)
        async throws
    {
        try await engine.withStore { store, database in
            let outcome = try await store.handle(.floodWait(.seconds(300)), of: account(1), at: noon)
            #expect(outcome.recoveryAt == noon + .seconds(360))
            let wish = Acquire(user: 1, purpose: .parsing, service: "parsing")
            await #expect(throws: NoAccountAvailable(counts: [.floodWait: 1], retryAt: noon + .seconds(360)))
            {
                try await store.acquire(wish, at: noon)
            }
            #expect(try await store.recoverDue(at: noon + .seconds(359)).isEmpty)
            _ = try await store.acquire(wish, at: noon + .seconds(360))
            #expect(try await store.recoverDue(at: noon + .seconds(360)) == [account(1)])
            #expect(try await store.recoverDue(at: noon + .seconds(360)).isEmpty)
            let status = try await database.run("SELECT status FROM telegram_sessions").first?.text("status")
            #expect(status == "active")
        }
    }

    @Test(arguments: Engine.available)
    func `ends the lease of an account that is disabled`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            let wish = Acquire(user: 1, purpose: .parsing, service: "parsing")
            let lease = try #require(try await store.acquire(wish, at: noon).lease)
            _ = try await store.handle(.authKeyError, of: account(1), at: noon)
            await #expect(throws: LeaseError.notHeld) {
                try await store.extend(account(1), lease: lease.id, by: "parsing", for: .minutes(1), at: noon)
            }
            await #expect(throws: NoAccountAvailable(counts: [.disabled: 1], retryAt: nil)) {
                try await store.acquire(wish, at: noon)
            }
            try await store.connect(account(1), user: 1, at: noon)
            _ = try await store.acquire(wish, at: noon)
        }
    }

    @Test(arguments: Engine.available, 1...8 as ClosedRange<UInt64>)
    func `does what the rules say, event by event`(engine: Engine, seed: UInt64) async throws {
        try await engine.withStore(accounts: 3) { store, _ in
            var life = Life(seed: seed, store: store)
            for step in 1...60 {
                guard try await life.step() else {
                    Issue.record("seed \(seed), step \(step): \(life.last)")
                    return
                }
            }
        }
    }
}

/// The same random events for the store and for the books, which have to agree after each.
private struct Life {
    let random: SeededRandom
    let store: SQLAccountStore
    var books: [AccountBook]
    var now = midnight - .hours(3)
    var last = ""
    var permits: [(account: Int, id: String, mine: String, action: ActionType, channel: ChannelKey?)] = []

    init(seed: UInt64, store: SQLAccountStore) {
        random = SeededRandom(seed: seed)
        self.store = store
        books = (1...3).map {
            AccountBook(Candidate(account: account($0), connectedOn: (noon - .days(100)).day))
        }
    }

    mutating func step() async throws -> Bool {
        let index = random.int(in: 0...2)
        let action = ActionType.allCases[random.int(in: 0...2)]
        let place = action == .invite ? [nil, sales, other][random.int(in: 0...2)] : nil
        let id = books[index].account
        now += .seconds(Int64([0, 1, 60, 119, 900, 1800, 3600][random.int(in: 0...6)]))
        let kind = random.int(in: 0...11)
        last = "event \(kind) on \(index + 1), \(action), \(now)"
        switch kind {
        case 0...2: return try await acquire(action, place)
        case 3...4:
            let mine = "p\(permits.count)"
            let ours = books[index].reserve(action, into: place, id: mine, at: now)
            let theirs = try await store.reserve(id, action, into: place, by: "w", at: now)
            if ours.verdict != theirs.verdict { last += "\n\(ours.verdict)\n\(theirs.verdict)" }
            if let permit = theirs.permit { permits.append((index, permit.id, mine, action, place)) }
            return ours.verdict == theirs.verdict && (ours.permit == nil) == (theirs.permit == nil)
        case 5...6:
            let success = random.int(in: 0...3) > 0
            let report = Report(action, into: place, success: success, service: "w")
            try await store.record(id, report, at: now)
            books[index].record(action, into: place, success: success, at: now)
        case 7:
            guard let permit = permits.last else { return true }
            let report = Report(
                permit.action, into: permit.channel, success: true, permit: permit.id, service: "w")
            let theirs = try await store.record(account(permit.account + 1), report, at: now)
            let ours = books[permit.account].record(
                permit.action, into: permit.channel, success: true, permit: permit.mine, at: now)
            return ours == theirs
        case 8:
            guard let permit = permits.last else { return true }
            let theirs = try await store.releasePermit(permit.id, of: account(permit.account + 1), at: now)
            return books[permit.account].releasePermit(permit.mine, at: now) == theirs
        case 9:
            let held = books[index].candidate.leases.current?.id
            let stats = UsageStats(invitesSent: random.int(in: 0...2), channelsUsed: [sales])
            let ours = Result { try books[index].release(id: held, by: "w", stats: stats, at: now) }
            let theirs = await result {
                try await store.release(id, lease: held, by: "w", stats: stats, at: now)
            }
            return ours.isSuccess == theirs.isSuccess
        case 10:
            let errors: [AccountError] = [.floodWait(.seconds(600)), .other, .other, .other, .peerFlood]
            let error = errors[random.int(in: 0...4)]
            let theirs = try await store.handle(error, of: id, at: now)
            return books[index].failed(with: error, at: now) == theirs
        default:
            switch random.int(in: 0...2) {
            case 0: _ = try await store.tidy(at: now)
            case 1: try await store.rebuild(id, at: now)
            default:
                let theirs = try await store.recover(id, at: now)
                return books[index].recover(at: now) == theirs
            }
        }
        let ours = books[index].check(action, into: place, at: now)
        let theirs = try await store.check(id, action, into: place, at: now)
        if ours != theirs { last += "\n\(ours)\n\(theirs)" }
        return ours == theirs
    }

    private mutating func acquire(_ action: ActionType, _ place: ChannelKey?) async throws -> Bool {
        let purposes: [ActionType: Purpose] = [
            .invite: .inviteCampaign, .message: .messaging, .addContact: .parsing,
        ]
        let purpose = purposes[action] ?? .parsing
        let preferred = random.int(in: 0...3) == 0 ? account(random.int(in: 1...3)) : nil
        let wish = Acquire(user: 1, purpose: purpose, service: "w", channel: place, preferred: preferred)
        let theirs = await result { try await store.acquire(wish, at: now) }
        let ours = Result {
            try choose(
                from: books.map(\.candidate), for: purpose, into: place, preferring: preferred, at: now)
        }
        switch (ours, theirs) {
        case (.success(let chosen), .success(let granted)):
            guard chosen.account == granted.id, let lease = granted.lease,
                let index = books.firstIndex(where: { $0.account == granted.id })
            else {
                last += ": \(chosen.account) against \(granted.id)"
                return false
            }
            _ = try books[index].grant(id: lease.id, to: "w", at: now)
            return true
        case (.failure(let ours as NoAccountAvailable), .failure(let theirs as NoAccountAvailable)):
            let areOpen = permits.contains { books[$0.account].permits[$0.mine]?.isOpen(at: now) == true }
            last += ": \(ours) against \(theirs)"
            // Permits of a channel are no part of what the index knows: the moment counts, not the word.
            return ours.retryAt == theirs.retryAt && (areOpen || ours.counts == theirs.counts)
        default:
            last += ": \(ours) against \(theirs)"
            return false
        }
    }
}

private func result<Value>(_ work: () async throws -> Value) async -> Result<Value, any Error> {
    do { return .success(try await work()) } catch { return .failure(error) }
}

extension Result {
    fileprivate var isSuccess: Bool { if case .success = self { true } else { false } }
}

func concurrently<Value: Sendable>(
    _ count: Int, _ work: @escaping @Sendable (Int) async throws -> Value
) async throws -> [Value] {
    try await withThrowingTaskGroup(of: Value.self) { group in
        for index in 0..<count { group.addTask { try await work(index) } }
        return try await group.reduce(into: []) { $0.append($1) }
    }
}
