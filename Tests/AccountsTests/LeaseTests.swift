import Accounts
import Core
import Testing

@Suite struct `A lease` {
    @Test func `is held by one at a time, for thirty minutes`() throws {
        var book = LeaseBook()
        let lease = try book.grant(id: "a", to: "invites", at: noon)
        #expect(lease.expiresAt == noon + .minutes(30))
        #expect(throws: LeaseError.leased(until: noon + .minutes(30))) {
            try book.grant(id: "b", to: "parsing", at: noon + .minutes(30) - .milliseconds(1))
        }
        let next = try book.grant(id: "b", to: "parsing", at: noon + .minutes(30))
        #expect(next.fencingToken > lease.fencingToken)
    }

    @Test(arguments: [0, 241, -5, 100_000])
    func `lasts from one minute to four hours`(minutes: Int) {
        var book = LeaseBook()
        #expect(throws: LeaseError.durationOutOfRange) {
            try book.grant(id: "a", to: "invites", for: .minutes(Int64(minutes)), at: noon)
        }
    }

    @Test func `is prolonged by its holder while it is held, and never shortened`() throws {
        var book = LeaseBook()
        _ = try book.grant(id: "a", to: "invites", for: .minutes(60), at: noon)
        let shorter = try book.extend(id: "a", by: "invites", for: .minutes(1), at: noon)
        #expect(shorter.expiresAt == noon + .minutes(60))
        let longer = try book.extend(id: "a", by: "invites", for: .minutes(30), at: noon + .minutes(50))
        #expect(longer.expiresAt == noon + .minutes(80))
        #expect(throws: LeaseError.notHeld) {
            try book.extend(id: "b", by: "invites", for: .minutes(1), at: noon)
        }
        #expect(throws: LeaseError.notHeld) {
            try book.extend(id: "a", by: "parsing", for: .minutes(1), at: noon)
        }
        #expect(throws: LeaseError.notHeld) {
            try book.extend(id: "a", by: "invites", for: .minutes(1), at: noon + .minutes(80))
        }
    }

    @Test func `is given back by its holder alone`() throws {
        var book = LeaseBook()
        let lease = try book.grant(id: "a", to: "invites", at: noon)
        #expect(throws: LeaseError.notHeld) { try book.release(id: "a", by: "parsing", at: noon) }
        #expect(throws: LeaseError.notHeld) { try book.release(id: "b", by: "invites", at: noon) }
        #expect(throws: LeaseError.notHeld) { try book.release(id: nil, by: "parsing", at: noon) }
        let release = try book.release(id: nil, by: "invites", at: noon)
        #expect(release == .released(lease))
    }

    @Test func `may be given back twice, also when somebody else has the account`() throws {
        var book = LeaseBook()
        _ = try book.grant(id: "a", to: "invites", at: noon)
        _ = try book.release(id: "a", by: "invites", at: noon)
        let second = try book.release(id: "a", by: "invites", at: noon)
        _ = try book.grant(id: "b", to: "invites", at: noon)
        let third = try book.release(id: "a", by: "invites", at: noon)
        #expect(second == .alreadyFree)
        #expect(third == .alreadyFree)
        #expect(book.holder(at: noon)?.id == "b")
    }

    @Test func `that ran out and is another's now is not given back for it`() throws {
        var book = LeaseBook()
        _ = try book.grant(id: "a", to: "invites", at: noon)
        _ = try book.grant(id: "b", to: "parsing", at: noon + .hours(1))
        #expect(throws: LeaseError.notHeld) { try book.release(id: "a", by: "invites", at: noon + .hours(1)) }
    }

    @Test func `that ran out is forgotten, not before`() throws {
        var book = LeaseBook()
        let lease = try book.grant(id: "a", to: "invites", at: noon)
        let expired = [29, 30, 31].map { book.expire(at: noon + .minutes($0)) }
        #expect(expired == [nil, lease, nil])
    }

    @Test func `of an older token is turned away by the fence`() {
        var fence = Fence()
        let admitted = [1, 3, 3, 2].map { fence.admits($0) }
        #expect(admitted == [true, true, true, false])
    }

    @Test(arguments: 1...100 as ClosedRange<UInt64>)
    func `never has two holders, whatever happens`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        var book = LeaseBook()
        var now = noon
        var tokens: [Int64] = []
        // What each of the granted leases was last told about its end.
        var told: [String: Timestamp] = [:]
        for step in 0..<200 {
            now += .minutes(Int64(random.int(in: 0...40)))
            let id = "\(random.int(in: 0...max(step, 1)))"
            let service = ["invites", "parsing"][random.int(in: 0...1)]
            switch random.int(in: 0...3) {
            case 0:
                if let lease = try? book.grant(id: "\(step)", to: service, at: now) {
                    #expect(told.values.allSatisfy { $0 <= now }, "seed \(seed)")
                    told["\(step)"] = lease.expiresAt
                    tokens.append(lease.fencingToken)
                }
            case 1:
                let held = book.holder(at: now)?.id ?? id
                if let lease = try? book.extend(id: held, by: service, for: .minutes(20), at: now) {
                    told[held] = lease.expiresAt
                }
            case 2:
                if case .released(let lease)? = try? book.release(id: nil, by: service, at: now) {
                    told[lease.id] = nil
                }
            default: _ = book.expire(at: now)
            }
        }
        #expect(tokens == tokens.sorted() && Set(tokens).count == tokens.count)
    }
}

@Suite struct `A permit` {
    let permit = Permit(id: "p", account: account(1), action: .invite, channel: sales, reservedAt: noon)

    @Test func `is open for two minutes`() {
        #expect(permit.isOpen(at: noon + .seconds(119)))
        #expect(!permit.isOpen(at: noon + .seconds(120)))
    }

    @Test func `is recorded once`() {
        var permit = permit
        let recorded = [5, 6].map { permit.record(at: noon + .seconds($0)) }
        let isReleased = permit.release(at: noon + .seconds(7))
        #expect(recorded == [noon + .seconds(5), nil])
        #expect(!isReleased)
    }

    @Test func `that is reported late is dated to its end`() {
        var permit = permit
        let moment = permit.record(at: noon + .hours(2))
        #expect(moment == noon + .seconds(120))
    }

    @Test func `that was given back gives its place to another, and counts all the same if it is reported`() {
        var book = AccountBook(Candidate(account: account(1)))
        let both = ["a", "b"].map { book.reserve(.invite, into: sales, id: $0, at: noon).permit?.id }
        let released = ["a", "a"].map { book.releasePermit($0, at: noon) }
        let third = book.reserve(.invite, into: sales, id: "c", at: noon).permit?.id
        book.record(.invite, into: sales, success: true, permit: "a", at: noon)
        #expect(both == ["a", nil])
        #expect(released == [true, false])
        #expect(third == "c")
        #expect(book.entries.count == 1)
    }

    @Test func `recorded twice counts once`() {
        var book = AccountBook(Candidate(account: account(1)))
        _ = book.reserve(.invite, into: sales, id: "a", at: noon)
        let counted = (0...1).map { _ in
            book.record(.invite, into: sales, success: true, permit: "a", at: noon)
        }
        #expect(counted == [true, false])
        #expect(book.check(.invite, into: sales, at: noon)[.daily]?.used == 1)
    }
}

@Suite struct `A report at release` {
    @Test func `adds only what was not recorded, however often it comes`() throws {
        var book = AccountBook(Candidate(account: account(1)))
        let lease = try book.grant(id: "a", to: "invites", at: noon)
        for minute in [0, 15] {
            book.record(
                .invite, into: sales, success: true, lease: lease.id, at: noon + .minutes(Int64(minute)))
        }
        let stats = UsageStats(invitesSent: 5, messagesSent: 1, channelsUsed: [sales])
        try book.release(id: "a", by: "invites", stats: stats, at: noon + .minutes(20))
        try book.release(id: "a", by: "invites", stats: stats, at: noon + .minutes(20))
        #expect(book.entries.count { $0.action == .invite } == 5)
        #expect(book.entries.count { $0.action == .message } == 1)
        #expect(book.check(.invite, into: sales, at: noon + .minutes(20))[.perChannelTotal]?.used == 5)
    }

    @Test func `spreads the surplus over the channels that were used`() {
        let records = surplus(
            of: UsageStats(invitesSent: 5, channelsUsed: [sales, other]), over: [.invite: 2], at: noon)
        #expect(records[.invite]?.map(\.channel) == [sales, other, sales])
    }

    @Test func `of less than was recorded takes nothing away`() {
        #expect(surplus(of: UsageStats(invitesSent: 1), over: [.invite: 4], at: noon).isEmpty)
    }

    @Test func `of absurd numbers is bounded`() {
        let records = surplus(of: UsageStats(invitesSent: .max, messagesSent: .min), over: [:], at: noon)
        #expect(records[.invite]?.count == UsageStats.most)
        #expect(records[.message] == nil)
    }
}
