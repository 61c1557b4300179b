import Core
import Sandbox
import Telegram
import Testing

@Suite struct `Adding somebody` {
    @Test(arguments: Wire.allCases)
    func `who may be added makes them a member, and the ledger knows`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let group = try await client.group("sandbox_club")
            #expect(group.mayInvite)
            let person = try await stage.person(.open, client)
            #expect(try await client.membership(of: person.id, in: group.chat) == .left)
            #expect(try await client.add(person.id, to: group.chat) == .accepted)
            #expect(try await client.membership(of: person.id, in: group.chat).isMember)
            #expect(try await client.add(person.id, to: group.chat) == .accepted, "Telegram says yes again")
            let entries = stage.world.ledger.filter { $0.kind == .addMember }
            #expect(entries.map(\.outcome) == ["member", "already"])
            #expect(entries.map(\.target) == [person.id, person.id])
            #expect(entries.map(\.hadRight) == [true, true])
            #expect(stage.world.violations().map(\.rule).contains(.pause))
        }
    }

    @Test(
        arguments: [
            (Temper.closed, .refused(.privacy)), (.premiumAddsOnly, .refused(.premiumWouldAllow)),
            (.premiumOnly, .refused(.premiumRequired)), (.inTooManyGroups, .refused(.targetInTooManyGroups)),
            (.groupShyBot, .refused(.botNotAddable)), (.bot, .accepted), (.paid, .accepted),
            (.vanishes, .accepted),
        ] as [(Temper, AddOutcome)], Wire.allCases)
    func `is answered as they want it`(want: (temper: Temper, outcome: AddOutcome), wire: Wire) async throws {
        let (temper, outcome) = want
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_club")
            let person = try await stage.person(temper, client)
            #expect(try await client.add(person.id, to: Stage.club) == outcome)
            let isMember = try await client.membership(of: person.id, in: Stage.club).isMember
            // A yes of Telegram's that adds nobody: only looking tells.
            #expect(isMember == (outcome == .accepted && temper != .vanishes))
        }
    }

    @Test(arguments: Wire.allCases)
    func `who left by themselves is a no`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_club")
            let left = try #require(stage.world.peopleWhoLeft(Stage.club.rawValue, limit: 1).first?.username)
            let person = try await client.find(left)
            #expect(try await client.add(person.id, to: Stage.club) == .refused(.notMutualContact))
        }
    }

    @Test(arguments: Wire.allCases)
    func `with Premium reaches those who allow only that`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account(.premium)
            _ = try await client.group("sandbox_club")
            let person = try await stage.person(.premiumAddsOnly, client)
            #expect(try await client.add(person.id, to: Stage.club) == .accepted)
        }
    }

    @Test(arguments: Wire.allCases)
    func `fails with the group's reasons`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let person = try await stage.person(.open, client)
            func fails(in chat: ChatID) async throws -> FailureReason? {
                try await reason { _ = try await client.add(person.id, to: chat) }
            }
            #expect(try await fails(in: try await client.group("sandbox_talk").chat) == .adminRequired)
            #expect(try await fails(in: try await client.group("sandbox_full").chat) == .groupFull)
            let news = try await client.group("sandbox_news")
            #expect(news.refusesDirectAdds)
            #expect(try await fails(in: news.chat) == .groupFull)
            #expect(try await fails(in: try await client.privateChat(with: person.id)) == .wrongKindOfChat)
            #expect(try await fails(in: -1_000_000_009_999) == .unknownChat)
        }
    }

    @Test(arguments: Wire.allCases)
    func `needs to have seen them`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_club")
            #expect(
                try await reason { _ = try await client.add(1_000_000_001, to: Stage.club) } == .unknownPerson
            )
        }
    }

    @Test(arguments: Wire.allCases)
    func `to a basic group tells when they were in`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.chats()
            let person = try await stage.person(.open, client)
            #expect(try await client.add(person.id, to: -2001) == .accepted)
            #expect(try await client.add(person.id, to: -2001) == .alreadyMember)
        }
    }

    @Test(arguments: Wire.allCases)
    func `by an account without the right is seen by the judge`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_talk")
            guard case .joined = try await client.join(-1_000_000_001_002) else {
                return #expect(Bool(false), "not in")
            }
            let person = try await stage.person(.open, client)
            // Ordinary members may add here; Convoke must not.
            #expect(try await client.add(person.id, to: -1_000_000_001_002) == .accepted)
            #expect(stage.world.violations().map(\.rule) == [.noInviteRight])
        }
    }

    @Test(arguments: Wire.allCases)
    func `that gets no answer is in doubt, and happened`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_club")
            let person = try await stage.person(.open, client)
            stage.world.add(Fault(method: "addChatMember", isSilent: true, moment: .after, count: 1))
            let adding = Task { try await client.add(person.id, to: Stage.club) }
            try await eventually("the add happened") { stage.world.ledger.contains { $0.kind == .addMember } }
            // The process is told to stop while the answer is out.
            await client.close()
            let failure = await #expect(throws: TelegramFailure.self) { try await adding.value }
            #expect(failure?.reason == .aborted)
            #expect(failure?.isInDoubt == true)
        }
    }

    @Test func `that is not answered in time is in doubt`() async throws {
        let time = ManualTime(noon)
        try await Stage.run(time: time) { stage in
            let client = try await stage.account()
            _ = try await client.group("sandbox_club")
            let person = try await stage.person(.open, client)
            stage.world.add(Fault(method: "addChatMember", isSilent: true, count: 1))
            let adding = Task { try await client.add(person.id, to: Stage.club) }
            try await eventually("the request is out") { stage.world.faults.isEmpty }
            await advance(time, by: .seconds(101))
            let failure = await #expect(throws: TelegramFailure.self) { try await adding.value }
            #expect(failure?.reason == .noAnswer)
            #expect(failure?.isInDoubt == true)
        }
    }
}

@Suite struct `Writing to somebody` {
    @Test(arguments: Wire.allCases)
    func `arrives, and its id is the one that stays`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let person = try await stage.person(.open, client)
            #expect(try await client.mayWrite(to: person.id) == .yes)
            let chat = try await client.privateChat(with: person.id)
            let sent = try await client.send("Hello there", to: chat)
            #expect(sent.chat == chat)
            #expect(sent.id % (1 << 20) == 0)
            let second = try await client.send("And again", to: chat)
            #expect(second.id > sent.id)
            let history = try await client.history(of: chat).messages
            #expect(history.map(\.text).contains("And again"))
            #expect(stage.world.ledger.filter { $0.kind == .message }.map(\.outcome) == ["sent", "sent"])
        }
    }

    @Test(
        arguments: [
            (Temper.premiumOnly, FailureReason.premiumRequired), (.paid, .paidMessages),
            (.blocks, .blockedUs),
        ], Wire.allCases)
    func `fails as Telegram changes its words on the way`(
        want: (temper: Temper, reason: FailureReason), wire: Wire
    ) async throws {
        let (temper, expected) = want
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let person = try await stage.person(temper, client)
            let chat = try await client.privateChat(with: person.id)
            if temper == .blocks { _ = try await client.send("first", to: chat) }
            let failure = await #expect(throws: TelegramFailure.self) {
                try await client.send("text", to: chat)
            }
            #expect(failure?.reason == expected)
            #expect(failure?.isInDoubt == false)
        }
    }

    @Test(arguments: Wire.allCases)
    func `who deleted their account fails for good`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let group = try await client.group("sandbox_club")
            var deleted: Person?
            for try await member in client.allMembers(of: group.chat) where member.person?.kind == .deleted {
                deleted = member.person
                break
            }
            let person = try #require(deleted)
            #expect(try await client.mayWrite(to: person.id) == .deleted)
            let chat = try await client.privateChat(with: person.id)
            #expect(try await reason { _ = try await client.send("text", to: chat) } == .targetDeleted)
        }
    }

    @Test(arguments: Wire.allCases)
    func `as a limited account fails with a day's rest`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account(.limited)
            let person = try await stage.person(.open, client)
            let chat = try await client.privateChat(with: person.id)
            let failure = await #expect(throws: TelegramFailure.self) {
                try await client.send("text", to: chat)
            }
            #expect(failure?.reason == .peerFlood)
            #expect(failure?.wait == .hours(24))
            #expect(failure?.blame == .account)
        }
    }

    @Test(arguments: Wire.allCases)
    func `from many places at once keeps each answer with its sender`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_club").chat
            let ids = try await withThrowingTaskGroup(of: SentMessage.self) { group in
                for number in 1...100 {
                    group.addTask { try await client.send("message \(number)", to: chat) }
                }
                return try await group.reduce(into: Set<MessageID>()) { $0.insert($1.id) }
            }
            #expect(ids.count == 100)
        }
    }

    @Test(arguments: Wire.allCases)
    func `nothing, too much, or where one may not is refused`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let person = try await stage.person(.open, client)
            let chat = try await client.privateChat(with: person.id)
            #expect(try await reason { _ = try await client.send("", to: chat) } == .badText)
            #expect(
                try await reason { _ = try await client.send(String(repeating: "x", count: 5000), to: chat) }
                    == .badText)
            let talk = try await client.group("sandbox_talk").chat
            #expect(try await reason { _ = try await client.send("hello", to: talk) } == .writeForbidden)
            let quiet = try await client.group("sandbox_quiet").chat
            #expect(try await reason { _ = try await client.send("hello", to: quiet) } == .adminRequired)
        }
    }
}

@Suite struct `An invite link` {
    @Test(arguments: Wire.allCases)
    func `with approval counts who asks and who comes in`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let admin = try await stage.account()
            let group = try await admin.group("sandbox_club")
            let link = try await admin.createInviteLink(for: group.chat, NewInviteLink(name: "campaign 7"))
            #expect(link.createsJoinRequest)
            #expect(link.joined == 0)

            // Every account administers the club, so one is put out before it comes in by the link.
            let guest = try await stage.account(.fresh)
            let guestID = try await guest.me().id
            stage.world.setStanding(of: guestID, inGroup: group.chat.rawValue, to: "left")
            #expect(try await guest.preview(link: link.link).needsApproval)
            #expect(try await guest.join(link: link.link) == .requested)

            #expect(try await admin.inviteLink(link.link, of: group.chat).pendingRequests == 1)
            var asked: [UserID] = []
            for try await request in admin.joinRequests(for: group.chat, link: link.link) {
                asked.append(request.person)
            }
            #expect(asked == [guestID])
            try await admin.answerJoinRequest(of: guestID, in: group.chat, approve: true)
            let counted = try await admin.inviteLink(link.link, of: group.chat)
            #expect(counted.joined == 1)
            #expect(counted.pendingRequests == 0)
            var joined: [UserID] = []
            for try await member in admin.joins(through: link.link, of: group.chat) {
                joined.append(member.person)
            }
            #expect(joined == [guestID])

            try await admin.revokeInviteLink(link.link, of: group.chat)
            #expect(try await reason { _ = try await guest.preview(link: link.link) } == .deadInviteLink)
        }
    }

    @Test func `brings those who were written to, by themselves`() async throws {
        let time = ManualTime(noon)
        var options = WorldOptions.tests
        options.peopleReact = true
        let wanted = options
        try await Stage.run(.inProcess, wanted, time: time) { stage in
            let admin = try await stage.account()
            let chat = try await admin.group("sandbox_club").chat
            let link = try await admin.createInviteLink(for: chat, NewInviteLink(name: "x"))
            for index in 0..<20 {
                let person = try await stage.person(.open, admin, index: index)
                _ = try await admin.send(
                    "Come: \(link.link)", to: try await admin.privateChat(with: person.id))
            }
            await advance(time, by: .hours(1))
            try await eventually("somebody asks") {
                try await admin.inviteLink(link.link, of: chat).pendingRequests > 0
            }
            #expect(stage.world.ledger.contains { $0.kind == .joinRequest })
        }
    }

    @Test(arguments: Wire.allCases)
    func `is not made by who may not invite`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_talk").chat
            #expect(
                try await reason { _ = try await client.createInviteLink(for: chat, NewInviteLink()) }
                    == .adminRequired)
        }
    }
}
