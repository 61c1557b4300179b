import Core
import Sandbox
import Telegram
import Testing

@Suite struct `Reading` {
    @Test(arguments: Wire.allCases)
    func `a history gives every message once, though pages come short`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let group = try await client.group("sandbox_quiet")
            var numbers: [Int64] = []
            for try await message in client.messages(of: group.chat) {
                numbers.append(message.linkNumber)
                #expect(message.isChannelPost)
            }
            #expect(numbers == (1...250).reversed().map { Int64($0) })
        }
    }

    @Test(arguments: Wire.allCases)
    func `goes on from a place where it was left`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_quiet").chat
            let first = try await client.history(of: chat, limit: 30)
            let second = try await client.history(of: chat, before: try #require(first.next), limit: 30)
            #expect(first.messages.last.map(\.linkNumber) == second.messages.first.map { $0.linkNumber + 1 })
            #expect(try await client.history(of: chat, before: 1 << 20).next == nil)
        }
    }

    @Test(arguments: Wire.allCases)
    func `a group tells who wrote, what, and with which media`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_talk").chat
            var kinds: [String: Int] = [:]
            var authors = 0
            var count = 0
            for try await message in client.messages(of: chat) {
                count += 1
                if message.author != nil { authors += 1 }
                switch message.kind {
                case .media(let kind):
                    kinds[kind.rawValue, default: 0] += 1
                    if kind == .photo { #expect(message.fileID != nil) }
                case .other(let type): kinds[type, default: 0] += 1
                case .text: kinds["text", default: 0] += 1
                default: kinds["service", default: 0] += 1
                }
                if count == 1000 { break }
            }
            #expect(authors == 1000)
            #expect(kinds["text", default: 0] > 500)
            #expect(kinds["photo", default: 0] > 10)
            #expect(kinds["service", default: 0] > 5)
            #expect(kinds["messageHologram", default: 0] > 0, "what is newer than we are is no failure")
        }
    }

    @Test(arguments: Wire.allCases)
    func `a post's comments gives each once`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let news = try await client.group("sandbox_news")
            #expect(news.linkedChat == -1_000_000_001_004)
            var read = 0
            var page: MessagePage = try await client.history(of: news.chat, before: 60 << 20)
            while page.messages.count < 5 {
                page = try await client.history(of: news.chat, before: try #require(page.next))
            }
            for post in page.messages.prefix(10) {
                let count = try #require(post.comments)
                let thread = try await client.thread(of: post.id, in: news.chat)
                #expect(thread.count == count)
                #expect(thread.chat == news.linkedChat)
                var ids: Set<MessageID> = []
                for try await comment in client.allComments(on: post.id, in: news.chat) {
                    #expect(ids.insert(comment.id).inserted)
                    #expect(comment.author != nil)
                }
                #expect(ids.count == count)
                read += count
            }
            #expect(read > 0)
        }
    }

    @Test(arguments: Wire.allCases)
    func `comments where there are none says so`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let quiet = try await client.group("sandbox_quiet").chat
            #expect(
                try await reason { _ = try await client.thread(of: 5 << 20, in: quiet) } == .nothingToRead)
        }
    }

    @Test(arguments: Wire.allCases)
    func `members gives each once, with the person`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let group = try await client.group("sandbox_club")
            #expect(group.canListMembers)
            var seen: Set<UserID> = []
            for try await member in client.allMembers(of: group.chat) {
                guard case .person(let id) = member.sender else { continue }
                #expect(seen.insert(id).inserted)
                #expect(member.person?.id == id)
                #expect(member.standing.isMember)
            }
            #expect(seen.count == group.memberCount)
        }
    }

    @Test func `members stops at Telegram's cap, hides what is hidden, and is refused for channels`()
        async throws
    {
        var options = WorldOptions.tests
        options.people = 20_000
        let wanted = options
        try await Stage.run(.inProcess, wanted) { stage in
            let client = try await stage.account()
            let big = try await client.group("sandbox_big")
            #expect(big.memberCount == 15_000)
            #expect(big.memberListCap == 10_000)
            let last = try await client.members(of: big.chat, from: 9_900)
            #expect(last.members.count == 100)
            #expect(last.total == 15_000)
            #expect(try await client.members(of: big.chat, from: 10_000).members.isEmpty)

            let hidden = try await client.group("sandbox_hidden")
            #expect(hidden.hidesMembers)
            var listed = 0
            for try await member in client.allMembers(of: hidden.chat) {
                #expect(member.standing.isAdministrator || member.person?.kind == .bot)
                listed += 1
            }
            #expect(listed < 500)

            let quiet = try await client.group("sandbox_quiet")
            #expect(!quiet.canListMembers)
            #expect(try await reason { _ = try await client.members(of: quiet.chat) } == .membersInaccessible)
        }
    }

    @Test(arguments: Wire.allCases)
    func `a basic group's members come all at once`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            _ = try await client.chats()
            let basic = try await client.community(-2001)
            #expect(basic.kind == .basicGroup)
            var count = 0
            for try await member in client.allMembers(of: -2001) {
                #expect(member.person != nil)
                count += 1
            }
            #expect(count == basic.memberCount)
        }
    }

    @Test(arguments: Wire.allCases)
    func `communities are found by their words, with their facts`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let found = try await client.searchCommunities("sandbox")
            #expect(found.contains(-1_000_000_001_002))
            #expect(!found.contains(Stage.club), "those it is in are left out")
            let channels = try await client.searchCommunities("sandbox", .channels)
            for chat in channels { #expect(try await client.community(chat).kind == .channel) }
            #expect(try await client.searchCommunities("abc").isEmpty)
        }
    }

    @Test(arguments: Wire.allCases)
    func `a reference in any form leads there`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            for written in [
                "@Sandbox_Talk", "t.me/sandbox_talk", "https://t.me/sandbox_talk/5", "-1000000001002",
            ] {
                let reference = try #require(TelegramReference(written))
                guard case .community(let community) = try await client.resolve(reference) else {
                    Issue.record("\(written) led elsewhere")
                    continue
                }
                #expect(community.title == "Sandbox talk")
            }
            guard
                case .invitation(let preview, _) = try await client.resolve(
                    .inviteLink("https://t.me/+SandboxPrivate01"))
            else { return #expect(Bool(false), "no preview") }
            #expect(preview.title == "Sandbox private")

            let findable = stage.world.people(.open, limit: 50).first { $0.phone != nil }
            let phone = try #require(findable?.phone)
            guard case .person(let person) = try await client.resolve(.phone("+" + phone)) else {
                return #expect(Bool(false), "nobody")
            }
            #expect(person.id == findable?.userID)
            #expect(
                try await reason { _ = try await client.resolve(.username("nobody_is_called_so")) }
                    == .noSuchName)
            #expect(try await reason { _ = try await client.resolve(.username("_x_x_x")) } == .invalidName)
            #expect(
                try await reason { _ = try await client.resolve(.phone("+15559999999")) } == .noSuchPerson)
        }
    }

    @Test(arguments: Wire.allCases)
    func `is lazy: nothing is asked for before it is wanted`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_talk").chat
            stage.world.add(Fault(method: "getChatHistory", code: 400, message: "CHANNEL_PRIVATE"))
            var messages = client.messages(of: chat).makeAsyncIterator()
            stage.world.removeFaults()
            #expect(try await messages.next() != nil)
        }
    }

    @Test(arguments: Wire.allCases)
    func `joining comes to what the group wants`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let talk = try await client.group("sandbox_talk").chat
            #expect(try await client.join(talk) == .joined(talk))
            #expect(try await client.standing(in: talk) == .member)
            #expect(try await reason { _ = try await client.join(talk) } == .alreadyParticipant)
            try await client.leave(talk)
            #expect(try await client.standing(in: talk) == .left)
            #expect(try await client.join(try await client.group("sandbox_gate").chat) == .requested)
            let paid = try await client.group("sandbox_paid").chat
            #expect(try await reason { _ = try await client.join(paid) } == .paidGroup)
        }
    }
}
