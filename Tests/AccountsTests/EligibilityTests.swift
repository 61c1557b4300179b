import Accounts
import Core
import Testing

private func invites(_ count: Int, into channel: ChannelKey? = nil, every gap: Int = 31) -> [ActionType:
    Usage]
{
    let past = (0..<count).map {
        ActionRecord(at: noon - .minutes(Int64(61 + $0 * gap)), channel: channel)
    }
    return [.invite: Usage(records: past)]
}

private func candidate(_ index: Int, _ change: (inout Candidate) -> Void = { _ in }) -> Candidate {
    var candidate = Candidate(account: account(index))
    change(&candidate)
    return candidate
}

@Suite struct `The account that is handed out` {
    @Test func `is the least used today, then the one of fewest errors, then the longest idle`() throws {
        let fleet = [
            candidate(1) { $0.usage = invites(3) },
            candidate(2) {
                $0.usage = invites(1); $0.standing.errorCount = 2
            },
            candidate(3) {
                $0.usage = invites(1); $0.standing.errorCount = 1; $0.lastUsed = noon - .hours(1)
            },
            candidate(4) {
                $0.usage = invites(1); $0.standing.errorCount = 1; $0.lastUsed = noon - .hours(2)
            },
            candidate(5) {
                $0.usage = invites(1); $0.standing.errorCount = 1; $0.lastUsed = noon - .hours(1)
            },
        ]
        var left = fleet
        var order: [AccountID] = []
        while !left.isEmpty {
            let chosen = try choose(from: left, for: .inviteCampaign, at: noon)
            order.append(chosen.account)
            left.removeAll { $0.account == chosen.account }
        }
        #expect(order == [4, 3, 5, 2, 1].map { account($0) })
    }

    @Test func `is the preferred one when it is eligible, and only then`() throws {
        let fleet = [candidate(1), candidate(2) { $0.usage = invites(5) }]
        #expect(
            try choose(from: fleet, for: .inviteCampaign, preferring: account(2), at: noon).account
                == account(2))
        let blocked = [candidate(1), candidate(2) { $0.standing.blockedUntil = noon + .hours(1) }]
        #expect(
            try choose(from: blocked, for: .inviteCampaign, preferring: account(2), at: noon).account
                == account(1))
    }

    @Test func `is none that was excluded`() {
        #expect(throws: NoAccountAvailable(counts: [:], retryAt: nil)) {
            try choose(from: [candidate(1)], for: .parsing, excluding: [account(1)], at: noon)
        }
    }

    @Test func `for reading may be one whose limits are used up`() throws {
        let fleet = [candidate(1) { $0.usage = invites(30, every: 11) }]
        #expect(try choose(from: fleet, for: .parsing, at: noon).account == account(1))
        #expect(throws: NoAccountAvailable.self) { try choose(from: fleet, for: .inviteCampaign, at: noon) }
    }

    @Test func `for another channel is one that this channel has used up`() throws {
        let fleet = [candidate(1) { $0.usage = [.invite: Usage(channelTotals: [sales: 200])] }]
        #expect(throws: NoAccountAvailable(counts: [.channelTotal: 1], retryAt: nil)) {
            try choose(from: fleet, for: .inviteCampaign, into: sales, at: noon)
        }
        #expect(try choose(from: fleet, for: .inviteCampaign, into: other, at: noon).account == account(1))
    }

    @Test func `comes back by itself when its time is over, though no recovery ran`() throws {
        let fleet = [candidate(1) { $0.standing = Standing(floodWaitUntil: noon, blockedUntil: noon) }]
        #expect(try choose(from: fleet, for: .inviteCampaign, at: noon).account == account(1))
    }
}

@Suite struct `A refusal` {
    @Test func `counts every account under the reason that keeps it off longest`() throws {
        let cooling = Usage(records: [ActionRecord(at: noon - .minutes(5))])
        let hourly = Usage(records: [
            ActionRecord(at: noon - .minutes(50)), ActionRecord(at: noon - .minutes(20)),
        ])
        let fleet = [
            candidate(1) { $0.leases = held(until: .minutes(30)) },
            candidate(2) { $0.usage = [.invite: cooling] },
            candidate(3) { $0.usage = [.invite: hourly] },
            candidate(4) { $0.usage = invites(30, every: 11) },
            candidate(5) { $0.usage = invites(15, into: sales) },
            candidate(6) { $0.usage = [.invite: Usage(channelTotals: [sales: 200])] },
            candidate(7) { $0.standing.floodWaitUntil = noon + .hours(2) },
            candidate(8) { $0.standing.blockedUntil = noon + .hours(3) },
            candidate(9) { $0.standing.freeze = .untilLifted },
            candidate(10) { $0.standing.disabled = .byTelegram },
        ]
        let refused = #expect(throws: NoAccountAvailable.self) {
            try choose(from: fleet, for: .inviteCampaign, into: sales, at: noon)
        }
        #expect(refused?.counts == Dictionary(uniqueKeysWithValues: RefusalReason.allCases.map { ($0, 1) }))
        #expect(refused?.retryAt == noon + .minutes(10))
        for language in Language.allCases {
            #expect(refused?.text(language).contains("2025-08-24T12:10:00Z") == true)
        }
    }

    @Test func `says so when waiting helps nobody`() {
        let refused = #expect(throws: NoAccountAvailable.self) {
            try choose(from: [candidate(1) { $0.standing.disabled = .loggedOut }], for: .parsing, at: noon)
        }
        #expect(refused?.retryAt == nil)
        #expect(refused?.text(.english).contains("Waiting helps none") == true)
    }

    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func `names a moment at which an account is free, and none is before`(seed: UInt64) {
        let random = SeededRandom(seed: seed)
        let fleet = (1...6).map { index in
            candidate(index) { account in
                if random.int(in: 0...1) == 0 {
                    account.leases = held(until: .minutes(Int64(random.int(in: 1...200))))
                }
                if random.int(in: 0...2) == 0 {
                    account.standing.floodWaitUntil = noon + .minutes(Int64(random.int(in: 1...300)))
                }
                let past = (0..<random.int(in: 1...20)).map { _ in
                    ActionRecord(at: noon - .minutes(Int64(random.int(in: 0...100))), channel: sales)
                }
                account.usage = [.invite: Usage(records: past)]
            }
        }
        do { _ = try choose(from: fleet, for: .inviteCampaign, into: sales, at: noon) } catch {
            guard let retry = error.retryAt else { return }
            let isFree = { (at: Timestamp) in
                (try? choose(from: fleet, for: .inviteCampaign, into: sales, at: at)) != nil
            }
            #expect(isFree(retry), "seed \(seed)")
            #expect(!isFree(retry - .milliseconds(1)), "seed \(seed)")
        }
    }

    private func held(until end: Duration) -> LeaseBook {
        LeaseBook(
            current: Lease(
                id: "l", service: "parsing", fencingToken: 1, grantedAt: noon, expiresAt: noon + end))
    }
}
