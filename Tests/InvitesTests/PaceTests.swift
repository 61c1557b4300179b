import Core
import Invites
import Testing

@Suite struct `The pace of a campaign` {
    /// A Monday.
    let monday = Timestamp("2025-08-25T00:00:00Z") ?? .epoch

    @Test func `opens on its days and hours, on its people's clock`() throws {
        let moscow = try #require(CampaignTimeZone("Europe/Moscow"))
        let window = SendWindow(days: [1, 2, 3, 4, 5], from: 9 * 60, to: 18 * 60, zone: moscow)
        // Nine in Moscow is six in UTC.
        #expect(window.opening(from: monday) == monday + .hours(6))
        #expect(window.isOpen(at: monday + .hours(6)))
        #expect(!window.isOpen(at: monday + .hours(15)))
        #expect(window.opening(from: monday + .hours(15)) == monday + .hours(30))
        // Behind Friday comes Monday.
        #expect(window.opening(from: monday + .days(4) + .hours(20)) == monday + .days(7) + .hours(6))
    }

    @Test func `counts a night's hours to the day they began on`() {
        let window = SendWindow(days: [5], from: 22 * 60, to: 2 * 60)
        let friday = monday + .days(4)
        #expect(window.isOpen(at: friday + .hours(23)))
        #expect(window.isOpen(at: friday + .hours(25)))
        #expect(!window.isOpen(at: friday + .hours(1)))
        #expect(!window.isOpen(at: friday + .hours(26)))
    }

    @Test func `knows when clocks are turned`() throws {
        let berlin = try #require(CampaignTimeZone("Europe/Berlin"))
        let winter = try #require(Timestamp("2025-01-15T12:00:00Z"))
        let summer = try #require(Timestamp("2025-07-15T12:00:00Z"))
        #expect(berlin.offset(at: winter) == 3600)
        #expect(berlin.offset(at: summer) == 7200)
        let nine = SendWindow(from: 9 * 60, to: 10 * 60, zone: berlin)
        #expect(nine.opening(from: winter) == Timestamp("2025-01-16T08:00:00Z"))
        #expect(nine.opening(from: summer) == Timestamp("2025-07-16T07:00:00Z"))
    }

    @Test(arguments: ["Mars/Olympus", "../../etc/passwd", "/etc/localtime", "", "+25:00", "Europe/"])
    func `refuses clocks that nobody has`(name: String) { #expect(CampaignTimeZone(name) == nil) }

    @Test func `reads offsets as zones`() {
        #expect(CampaignTimeZone("+03:00")?.offset(at: monday) == 10_800)
        #expect(CampaignTimeZone("-0530")?.offset(at: monday) == -19_800)
    }

    @Test func `stops at the day's cap, and goes on after midnight`() {
        let settings = TaskSettings(group: "club", dailyCap: 5)
        let noon = monday + .hours(12)
        #expect(settings.pace(PaceState(sentToday: 4), at: noon) == .send)
        #expect(
            settings.pace(PaceState(sentToday: 5), at: noon) == .wait(until: monday + .days(1), .dailyCap))
    }

    @Test func `grows from day to day`() {
        let settings = TaskSettings(group: "club", rampUp: CampaignRampUp(start: 2, step: 3))
        let second = PaceState(startedAt: monday, sentToday: 5)
        #expect(settings.pace(PaceState(startedAt: monday, sentToday: 2), at: monday + .hours(1)) != .send)
        #expect(settings.pace(second, at: monday + .days(1)) != .send)
        #expect(settings.pace(PaceState(startedAt: monday, sentToday: 4), at: monday + .days(1)) == .send)
    }

    @Test func `leaves a pause between any two`() {
        let settings = TaskSettings(group: "club", delay: .seconds(90))
        let state = PaceState(lastSentAt: monday)
        #expect(
            settings.pace(state, at: monday + .seconds(89)) == .wait(until: monday + .seconds(90), .delay))
        #expect(settings.pace(state, at: monday + .seconds(90)) == .send)
    }

    @Test func `is stopped by failures only when enough were tried`() {
        let rule = AutoPause(failureRate: 0.5, minSample: 10)
        #expect(!rule.stops(tried: 9, failed: 9))
        #expect(!rule.stops(tried: 10, failed: 4))
        #expect(rule.stops(tried: 10, failed: 5))
    }

    @Test func `is written and read back as it was`() throws {
        var settings = TaskSettings(
            group: "@club", inviteType: .inviteLink, batchSize: 7, delay: .milliseconds(1500),
            fallsBackToMessages: true, dailyCap: 40, rampUp: CampaignRampUp(start: 1, step: 2),
            autoPause: AutoPause(failureRate: 0.25, minSample: 8), verifiesMembership: false,
            linkDelivery: .export)
        settings.window = SendWindow(
            days: [1, 6], from: 545, to: 90, zone: try #require(CampaignTimeZone("Asia/Almaty")))
        #expect(try Fields.decode(TaskSettings.self, from: settings.json) == settings)
    }

    @Test func `foresees when the end comes`() {
        let plain = Forecast(
            settings: TaskSettings(group: "club", dailyCap: 10), wanted: 25, perDay: [30, 30], from: monday)
        #expect(plain.days.map(\.invites) == [10, 10, 5])
        let never = Forecast(settings: TaskSettings(group: "club"), wanted: 50, perDay: [20], from: monday)
        #expect(never.left == 30)
    }
}
