import Contracts
import Core
import Testing

@testable import Parsing

@Suite struct `A link to a community` {
    @Test(arguments: [
        ("@Name_1", "name_1"), ("Name_1", "name_1"), ("t.me/name_1", "name_1"),
        ("  https://t.me/NAME_1/ \n", "name_1"),
        ("http://telegram.me/name_1?x=1", "name_1"), ("https://www.t.me/name_1/55", "name_1"),
        ("telegram.dog/@name_1", "name_1"), ("https://t.me/s/name_1", "name_1"), ("name_1.t.me", "name_1"),
        ("HTTPS://T.ME/name_1#top", "name_1"), ("tg://resolve?domain=Name_1&post=5", "name_1"),
        ("tg:resolve?domain=name_1", "name_1"), ("-1001234567890", "-1001234567890"), ("-55", "-55"),
        ("https://t.me/c/1234567890/7", "-1001234567890"), ("https://t.me/+AbC-d_12", "+AbC-d_12"),
        ("t.me/joinchat/AbCd12", "+AbCd12"), ("tg://join?invite=AbCd12", "+AbCd12"), ("+AbCd_12", "+AbCd_12"),
        ("\u{200B}@name_1\u{FEFF}", "name_1"),
    ])
    func `is read in every form`(written: String, key: String) {
        #expect(CommunityLink(written)?.key == key)
    }

    @Test(arguments: [
        "", " ", "@", "a", "12345", "+15551234567", "t.me/+15551234567", "me@example.com",
        "https://example.com/name",
        "t.me", "t.me/", "t.me/c/abc", "t.me/c/0", "joinchat/", "name with blanks", "имя", "@1name", "a/b/c",
        "https://t.me/joinchat", "t.me/proxy?server=x", "tg://user?id=5", "0",
        String(repeating: "a", count: 33),
        "t.me/\u{0}name", String(repeating: "https://t.me/", count: 40),
    ])
    func `is nothing else`(written: String) { #expect(CommunityLink(written) == nil, "\(written)") }

    @Test func `leads back to itself`() {
        for key in ["name_1", "-1001234567890", "+AbC-d_12"] {
            let link = CommunityLink(key: key)
            #expect(CommunityLink(link.address) == link)
            #expect(CommunityLink(link.shown) == link)
        }
    }
}

@Suite struct `The pace of an account` {
    /// Asks as soon as it may, for so long, and says when.
    private func asked(
        _ speed: Speed, _ asking: Pace.Asking, for span: Duration, cost: Int = 1
    ) -> [Timestamp] {
        var pace = Pace()
        var now = Timestamp(seconds: 1_756_036_800)
        let end = now + span
        var moments: [Timestamp] = []
        while now < end {
            let moment = pace.next(asking, speed.figures, count: cost, at: now)
            // Never asked again before it said.
            #expect(pace.next(asking, speed.figures, count: cost, at: moment) <= moment)
            now = moment
            pace.note(cost, at: now)
            moments += Array(repeating: now, count: cost)
        }
        return moments
    }

    @Test(arguments: Speed.allCases)
    func `is never above what is documented`(speed: Speed) {
        let figures = speed.figures
        for (asking, pause) in [
            (Pace.Asking.messages, figures.betweenMessages), (.users, figures.betweenUsers),
        ] {
            let moments = asked(speed, asking, for: .minutes(20))
            for (one, next) in zip(moments, moments.dropFirst()) { #expect(next - one >= pause) }
            for start in moments {
                let within = moments.count { $0 >= start && $0 < start + .seconds(60) }
                #expect(within <= figures.requestsPerMinute)
            }
            // And not far below: what is allowed is used.
            let possible = min(Double(figures.requestsPerMinute), 60 / pause.inSeconds) * 20
            #expect(Double(moments.count) >= possible * 0.95)
        }
    }

    @Test(arguments: Speed.allCases)
    func `counts every request of a page that costs two`(speed: Speed) {
        let moments = asked(speed, .messages, for: .minutes(5), cost: 2)
        for start in Set(moments) {
            let within = moments.count { $0 >= start && $0 < start + .seconds(60) }
            #expect(within <= speed.figures.requestsPerMinute)
        }
    }

    @Test func `is kept with the account from one task to the next`() {
        var pace = Pace()
        let now = Timestamp(seconds: 1_756_036_800)
        for second in 0..<20 { pace.note(at: now + .seconds(second)) }
        let next = Pace(stored: pace.stored)
        #expect(next == pace)
        #expect(next.next(.messages, Speed.safe.figures, at: now + .seconds(20)) == now + .seconds(60))
        #expect(Pace(stored: "nonsense 5 x") == Pace(requests: [Timestamp(milliseconds: 5)]))
    }

    @Test func `does not wait for ever when the clock is set back`() {
        var pace = Pace()
        let now = Timestamp(seconds: 1_756_036_800)
        for _ in 0..<20 { pace.note(at: now + .days(1)) }
        #expect(pace.next(.users, Speed.safe.figures, at: now) <= now + .seconds(3))
    }

    @Test func `gives the documented figures`() {
        let figures = Speed.allCases.map(\.figures)
        #expect(figures.map(\.betweenMessages) == [.seconds(2), .milliseconds(800), .milliseconds(200)])
        #expect(figures.map(\.betweenUsers) == [.seconds(3), .milliseconds(1500), .milliseconds(500)])
        #expect(figures.map(\.batch) == [10, 25, 50])
        #expect(figures.map(\.requestsPerMinute) == [20, 40, 90])
        #expect(Speed.safe.duration(of: 200, asking: .messages) == .seconds(60))
    }
}

@Suite struct `Where a task stands` {
    @Test func `changes by orders as the diagram says`() {
        let table: [(TaskStatus, TaskOrder, TaskStatus?)] = [
            (.pending, .pause, .paused), (.running, .pause, .paused), (.paused, .pause, .paused),
            (.completed, .pause, nil), (.failed, .pause, nil), (.cancelled, .pause, nil),
            (.pending, .resume, .pending), (.running, .resume, .running), (.paused, .resume, .pending),
            (.completed, .resume, nil), (.failed, .resume, .pending), (.cancelled, .resume, nil),
            (.pending, .cancel, .cancelled), (.running, .cancel, .cancelled), (.paused, .cancel, .cancelled),
            (.completed, .cancel, nil), (.failed, .cancel, nil), (.cancelled, .cancel, .cancelled),
        ]
        #expect(table.count == TaskStatus.allCases.count * TaskOrder.allCases.count)
        for (status, order, next) in table { #expect(status.after(order) == next, "\(status) \(order)") }
    }
}

@Suite struct `A community that was found` {
    private func found(
        _ kind: String, comments: Bool? = nil, _ change: (inout ReadCommunity) -> Void = { _ in }
    ) -> FoundCommunity {
        var community = ReadCommunity()
        community.kind = kind
        community.hasComments = comments
        community.memberCount = 1000
        change(&community)
        return FoundCommunity(community)
    }

    @Test func `can be worked with as a group, and as a channel only where comments were seen`() {
        #expect(found("supergroup").canBeWorkedWith)
        #expect(found("basic_group").canBeWorkedWith)
        #expect(found("channel", comments: true).canBeWorkedWith)
        #expect(!found("channel", comments: false).canBeWorkedWith)
        // Nobody could look.
        #expect(!found("channel", comments: nil).canBeWorkedWith)
    }

    @Test func `is the more useful the more people can be reached there`() {
        let plain = found("supergroup")
        #expect(found("supergroup") { $0.canListMembers = true }.usefulness > plain.usefulness)
        #expect(found("supergroup") { $0.isAdmin = true }.usefulness > plain.usefulness)
        #expect(found("supergroup") { $0.adminAccount = "a" }.usefulness > plain.usefulness)
        #expect(found("supergroup") { $0.messagesPerDay = 20 }.usefulness > plain.usefulness)
        #expect(found("supergroup") { $0.memberCount = 50_000 }.usefulness > plain.usefulness)
        #expect(found("supergroup") { $0.isScam = true }.usefulness < plain.usefulness)
        let hidden = found("supergroup") {
            $0.canListMembers = true
            $0.hidesMembers = true
        }
        #expect(hidden.usefulness == plain.usefulness)
    }

    @Test(arguments: [
        ("Шахматы", "ru"), ("Chess club", "en"), ("Chess и шахматы", "ru"), ("12 345", nil), ("", nil),
        ("Long English words и", "en"),
    ])
    func `tells its language by its letters`(title: String, language: String?) {
        #expect(found("supergroup") { $0.title = title }.language == language)
    }
}

@Suite struct `Texts of strangers` {
    @Test func `lose their nulls and their excess, and nothing else`() {
        #expect(ForeignText.content("a\u{0}b") == "ab")
        #expect(ForeignText.content("👩‍👩‍👧‍👦\t\r\n\u{202E}x") == "👩‍👩‍👧‍👦\t\r\n\u{202E}x")
        #expect(ForeignText.content(String(repeating: "я", count: 100_000)).utf8.count == 32_768)
        #expect(ForeignText.name("\u{0}") == "")
        #expect(ForeignText.name(Optional("\u{0}")) == nil)
        #expect(ForeignText.name(String(repeating: "🏳️‍🌈", count: 1000)).utf8.count <= 512)
    }
}
