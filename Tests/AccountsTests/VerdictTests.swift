import Accounts
import Core
import Testing

private func verdict(
    _ action: ActionType, into channel: ChannelKey? = nil, after past: [Duration], success: Bool = true,
    at now: Timestamp = noon
) -> Verdict {
    let usage = Usage(
        records: past.map { ActionRecord(at: now - $0, channel: channel, success: success) })
    return Verdict(
        action, into: channel, usage: usage, allowance: Allowance(Limits.ceilings[action]), at: now)
}

@Suite struct `A check` {
    @Test(arguments: ActionType.allCases)
    func `allows an account that has done nothing`(action: ActionType) {
        let verdict = verdict(action, into: sales, after: [])
        #expect(verdict.allowed)
        #expect(verdict.reason == nil)
        #expect(verdict.retryAt == nil)
    }

    @Test func `names every limit, those of a channel for invitations alone`() {
        #expect(
            verdict(.invite, into: sales, after: []).checks.map(\.name)
                == [.status, .perChannelTotal, .daily, .perChannel, .hourly, .burst, .cooldown])
        #expect(
            verdict(.invite, after: []).checks.map(\.name) == [.status, .daily, .hourly, .burst, .cooldown])
        #expect(
            verdict(.message, into: sales, after: []).checks.map(\.name)
                == [.status, .daily, .hourly, .burst, .cooldown])
    }

    @Test(arguments: [(ActionType.invite, 900), (.message, 60), (.addContact, 300)])
    func `asks for a pause to the second`(action: ActionType, pause: Int) {
        let early = verdict(action, after: [.seconds(pause - 1)])
        #expect(early.reason == .cooldown)
        #expect(early.retryAt == noon + .seconds(1))
        #expect(verdict(action, after: [.seconds(pause)]).allowed)
    }

    @Test func `counts an hour as a sliding window`() {
        let full = verdict(.invite, after: [.seconds(3599), .seconds(1000)])
        #expect(full.reason == .hourly)
        #expect(full.retryAt == noon + .seconds(1))
        #expect(full[.hourly]?.used == 2)
        #expect(full[.hourly]?.remaining == 0)
        #expect(verdict(.invite, after: [.seconds(3600), .seconds(1000)]).allowed)
    }

    @Test func `counts failed attempts against the day, the hour and the pause, not against the channel`() {
        let failed = verdict(.invite, into: sales, after: [.seconds(100), .seconds(2000)], success: false)
        #expect(failed[.daily]?.used == 2)
        #expect(failed[.hourly]?.used == 2)
        #expect(failed[.cooldown]?.isAllowed == false)
        #expect(failed[.perChannel]?.used == 0)
        #expect(failed[.perChannelTotal]?.used == 0)
    }

    @Test func `gives a new day at midnight UTC, at once`() {
        let day = (1...30).map { Duration.hours(1) + .minutes(Int64($0) * 20) }
        let late = midnight - .seconds(1)
        let usage = Usage(records: day.map { ActionRecord(at: midnight - $0) })
        let allowance = Allowance(Limits.ceilings.invite)
        let refused = Verdict(.invite, usage: usage, allowance: allowance, at: late)
        #expect(refused.reason == .daily)
        #expect(refused.retryAt == midnight)
        let fresh = Verdict(.invite, usage: usage, allowance: allowance, at: midnight)
        #expect(fresh.allowed)
        #expect(fresh[.daily]?.used == 0)
    }

    @Test func `stops a run of messages after five and lets it go on after the burst's pause`() {
        let run = [90, 180, 270, 360, 450].map { Duration.seconds($0) }
        let refused = verdict(.message, after: run)
        #expect(refused.reason == .burst)
        #expect(refused[.burst]?.used == 5)
        #expect(refused.retryAt == noon + .seconds(90))
        #expect(verdict(.message, after: run.map { $0 + .seconds(90) }).allowed)
    }

    @Test func `begins a new run after a gap of exactly the burst's pause`() {
        #expect(verdict(.message, after: [90, 270, 360, 450, 540].map { .seconds($0) }).allowed)
        #expect(verdict(.message, after: [90, 269, 359, 449, 539].map { .seconds($0) }).reason == .burst)
    }

    @Test func `keeps a channel's numbers apart from another's`() {
        let records = (1...15).map { ActionRecord(at: noon - .minutes(Int64($0) * 45), channel: sales) }
        let usage = Usage(records: records)
        let allowance = Allowance(Limits.ceilings.invite)
        let refused = Verdict(.invite, into: sales, usage: usage, allowance: allowance, at: noon)
        #expect(refused.reason == .perChannel)
        #expect(refused.retryAt == midnight)
        #expect(Verdict(.invite, into: other, usage: usage, allowance: allowance, at: noon).allowed)
    }

    @Test func `says never again for a channel that has had its two hundred`() {
        let usage = Usage(channelTotals: [sales: 200])
        let allowance = Allowance(Limits.ceilings.invite)
        let refused = Verdict(.invite, into: sales, usage: usage, allowance: allowance, at: noon)
        #expect(refused.reason == .perChannelTotal)
        #expect(refused.retryAt == nil)
        #expect(Verdict(.invite, into: other, usage: usage, allowance: allowance, at: noon).allowed)
        let last = Usage(channelTotals: [sales: 199])
        #expect(Verdict(.invite, into: sales, usage: last, allowance: allowance, at: noon).allowed)
    }

    @Test func `counts an open permit as used until it runs out`() {
        let permit = PermitHold(channel: sales, expiresAt: noon + .seconds(120))
        let usage = Usage(permits: [permit], channelTotals: [sales: 199])
        let allowance = Allowance(Limits.ceilings.invite)
        let refused = Verdict(.invite, into: sales, usage: usage, allowance: allowance, at: noon)
        #expect(refused[.perChannelTotal]?.used == 200)
        #expect(refused.retryAt == noon + .seconds(120))
        #expect(
            Verdict(.invite, into: sales, usage: usage, allowance: allowance, at: noon + .seconds(120))
                .allowed)
    }

    @Test func `counts a permit of yesterday in today while it is open`() {
        let usage = Usage(permits: [PermitHold(expiresAt: midnight + .seconds(60))])
        let verdict = Verdict(
            .message, usage: usage, allowance: Allowance(Limits.ceilings.message), at: midnight)
        #expect(verdict[.daily]?.used == 1)
        #expect(verdict.retryAt == midnight + .seconds(60))
    }

    @Test func `takes records of a clock that was set back for fresh ones`() {
        let usage = Usage(records: [ActionRecord(at: midnight + .hours(1))])
        let verdict = Verdict(.invite, usage: usage, allowance: Allowance(Limits.ceilings.invite), at: noon)
        #expect(verdict[.daily]?.used == 1)
        #expect(verdict[.hourly]?.used == 1)
        #expect(verdict.retryAt == midnight + .hours(1) + .seconds(900))
    }

    @Test func `gives the refusal that ends last as the reason`() {
        let records = (0..<15).map { ActionRecord(at: noon - .minutes(Int64($0) * 31), channel: sales) }
        let verdict = Verdict(
            .invite, into: sales, usage: Usage(records: records),
            allowance: Allowance(Limits.ceilings.invite),
            standing: Standing(blockedUntil: noon + .hours(1)), at: noon)
        #expect(
            verdict.checks.filter { !$0.isAllowed }.map(\.name) == [.status, .perChannel, .hourly, .cooldown])
        #expect(verdict.reason == .perChannel)
        #expect(verdict.retryAt == midnight)
    }

    @Test func `answers in the form the interface promises`() {
        let json = verdict(.invite, into: sales, after: [.seconds(100)]).json
        #expect(json["allowed"] == false)
        #expect(json["reason"] == "cooldown")
        #expect(json["retry_at"] == "2025-08-24T12:13:20Z")
        #expect(json["checks"]?["daily"] == ["used": 1, "limit": 30, "remaining": 29])
        #expect(json["checks"]?["cooldown"] == ["active": true, "until": "2025-08-24T12:13:20Z"])
        #expect(json["checks"]?["status"] == ["ok": true, "value": "active"])
    }

    @Test(arguments: LimitName.allCases)
    func `explains every refusal in both languages`(name: LimitName) {
        let check = LimitCheck(name, used: 2, limit: 2, refusal: .at(noon))
        #expect(check.text(.invite, status: .blocked)(.english).contains("2025-08-24T12:00:00Z"))
        #expect(check.text(.invite, status: .blocked)(.russian).contains("2025-08-24T12:00:00Z"))
        #expect(check.text(.invite, status: .blocked)(.russian).unicodeScalars.contains { $0.value > 0x400 })
    }
}
