import Accounts
import Core
import Testing

@Suite struct `The limits` {
    @Test func `are shipped as the table says`() {
        let expected: [String: Int] = [
            "invite.daily": 30, "invite.hourly": 2, "invite.per_channel_daily": 15,
            "invite.per_channel_total": 200, "invite.pause_seconds": 900, "invite.burst": 3,
            "invite.burst_pause_seconds": 900, "message.daily": 30, "message.hourly": 10,
            "message.pause_seconds": 60, "message.burst": 5, "message.burst_pause_seconds": 180,
            "add_contact.daily": 15, "add_contact.hourly": 3, "add_contact.pause_seconds": 300,
            "add_contact.burst": 2, "add_contact.burst_pause_seconds": 600,
        ]
        let shipped = Dictionary(uniqueKeysWithValues: LimitSetting.all.map { ($0.name, $0.read(.ceilings)) })
        #expect(shipped == expected)
    }

    @Test func `are the tightest of what the account, its user and everybody is given`() throws {
        let limits = Limits.tightest(
            try tightening(["invite.daily": 20, "invite.pause_seconds": 1000]),
            try tightening(["invite.daily": 10, "message.hourly": 4]),
            try tightening(["invite.daily": 25, "invite.pause_seconds": 1800]))
        #expect(limits.invite.daily == 10)
        #expect(limits.invite.pause == .seconds(1800))
        #expect(limits.message.hourly == 4)
        #expect(limits.addContact == Limits.ceilings.addContact)
    }

    @Test(arguments: LimitSetting.all)
    func `can be tightened and never loosened`(setting: LimitSetting) throws {
        let ceiling = setting.read(.ceilings)
        let looser = setting.name.contains("pause") ? ceiling - 1 : ceiling + 1
        let tighter = setting.name.contains("pause") ? ceiling + 1 : ceiling - 1
        #expect(Limits.tightest(try LimitsOverride([setting: ceiling])) == .ceilings)
        #expect(setting.read(Limits.tightest(try LimitsOverride([setting: tighter]))) == tighter)
        let error = #expect(throws: LimitsError.self) { try LimitsOverride([setting: looser]) }
        for language in Language.allCases {
            #expect(error?.text(language).contains(setting.name) == true)
            #expect(error?.text(language).contains("\(ceiling)") == true)
        }
        for absurd in [Int.min, -1, Int.max] {
            #expect(throws: LimitsError.self) { try LimitsOverride([setting: absurd]) }
        }
    }

    @Test func `that are beyond their ceilings are all named at once`() {
        let error = #expect(throws: LimitsError.self) {
            try tightening(["invite.hourly": 5, "invite.pause_seconds": 120, "message.daily": 30])
        }
        #expect(error?.violations.map(\.setting.name) == ["invite.hourly", "invite.pause_seconds"])
    }

    @Test func `of a message know no channel`() {
        #expect(LimitSetting(.message, .perChannelDaily) == nil)
        #expect(LimitSetting(name: "message.per_channel_total") == nil)
    }
}

@Suite struct `A ramp-up` {
    let gentle = RampUp(text: "0:20,3:50,7:100")

    @Test(arguments: [(0, 6), (2, 6), (3, 15), (6, 15), (7, 30), (400, 30)])
    func `gives an account its share by age`(age: Int, share: Int) throws {
        #expect(try #require(gentle).share(of: 30, age: age) == share)
    }

    @Test func `gives at least one action where it gives any`() throws {
        #expect(try #require(RampUp(text: "0:1")).share(of: 30, age: 0) == 1)
        #expect(try #require(RampUp(text: "0:0,1:100")).share(of: 30, age: 0) == 0)
        #expect(try #require(RampUp(text: "0:50")).share(of: 0, age: 0) == 0)
        #expect(RampUp.none.share(of: 30, age: 0) == 30)
    }

    @Test(arguments: [
        "0:50,0:60", "3:50,1:60", "0:60,1:50", "0:101", "0:-1", "-1:5", "366:5", "a:b", "1", "1:2:3",
    ])
    func `that makes no sense is refused`(text: String) { #expect(RampUp(text: text) == nil) }

    @Test func `reads what it writes`() throws {
        let ramp = try #require(gentle)
        #expect(RampUp(text: ramp.text) == ramp)
        #expect(RampUp(text: "") == RampUp.none)
    }

    @Test func `makes a new account wait for the next day, not for ever`() throws {
        let ramp = try #require(RampUp(text: "0:0,2:100"))
        let allowance = Allowance(Limits.ceilings.invite, rampUp: ramp, connectedOn: noon.day)
        let verdict = Verdict(.invite, usage: .none, allowance: allowance, at: noon)
        #expect(verdict.reason == .daily)
        #expect(verdict.retryAt == noon.day.next.next.start)
    }
}
