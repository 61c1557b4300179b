import Core
import Testing

@testable import Parsing

/// A community that answers pages as a platform would, from lists of its own.
struct Village {
    var community = CommunityRecord(platformID: "-1", kind: .group)
    var members: [PersonRecord] = []
    /// The newest first.
    var messages: [MessageRecord] = []
    var comments: [String: [MessageRecord]] = [:]

    func page(_ request: ReadingRequest) -> ReadingPage {
        var page = ReadingPage()
        page.community = community
        func cut<Item>(_ items: [Item]) -> [Item] {
            let from = request.cursor.flatMap { Int($0) } ?? 0
            let part = Array(items.dropFirst(from).prefix(request.size))
            page.cursor = String(from + part.count)
            page.isEnd = from + part.count >= items.count
            return part
        }
        func dated(_ items: [MessageRecord]) -> [MessageRecord] {
            items.filter {
                $0.sentAt >= request.since ?? .epoch && $0.sentAt <= request.until ?? .init(seconds: 1 << 40)
            }
        }
        switch request.what {
        case .look: page.messages = Array(messages.prefix(1))
        case .members: page.people = cut(members)
        case .messages: page.messages = cut(dated(messages))
        case .comments(let post): page.messages = cut(dated(comments[post] ?? []))
        }
        return page
    }
}

func person(_ id: Int) -> PersonRecord {
    var person = PersonRecord(platformID: String(id))
    person.username = id % 3 == 0 ? nil : "user_\(id)"
    person.firstName = "Person"
    person.lastName = String(id)
    person.phone = id % 5 == 0 ? "+1555\(1_000_000 + id)" : nil
    person.isBot = id % 11 == 0
    return person
}

func message(_ id: Int, by author: Int?, ordinal: Bool = true) -> MessageRecord {
    var message = MessageRecord(
        platformID: String(id), order: Int64(id), sentAt: Timestamp(seconds: 1_700_000_000 + Int64(id)))
    message.ordinal = ordinal ? Int64(id) : nil
    message.author = author.map { person($0) }
    message.content = "text \(id)"
    message.media = id % 4 == 0 ? "photo" : nil
    return message
}

/// Reads a village to its end, and what came of it; the checkpoint is stored and read again at every step.
func readAll(
    _ village: Village, _ type: TaskType, _ config: ParseConfig = ParseConfig(), size: Int = 7,
    from start: Course = Course()
) throws -> (course: Course, people: [String: Merging.Sighting], messages: [String], requests: Int) {
    var course = start
    var people: [String: Merging.Sighting] = [:]
    var messages: [String] = []
    var requests = 0
    while let request = course.next(CommunityLink(key: "village"), config, size: size, pages: 1) {
        requests += 1
        try #require(requests < 100_000, "it never ends")
        let harvest = try course.take(village.page(request), of: request, type, config)
        for sighting in harvest.people.sightings {
            var merged = Merging()
            if let known = people[sighting.person.platformID] {
                merged.see(known.person, first: known.first, last: known.last, messages: known.messages)
            }
            merged.see(
                sighting.person, first: sighting.first, last: sighting.last, messages: sighting.messages)
            people[sighting.person.platformID] = merged.sightings[0]
        }
        messages += harvest.messages.map(\.platformID)
        let kept = Course(stored: try JSONValue(parsing: course.stored.text))
        #expect(kept == course)
        course = kept
        if let fraction = course.fraction(config) { #expect((0...1.0001).contains(fraction)) }
    }
    #expect(course.isFinished)
    return (course, people, messages, requests)
}

@Suite struct `The course of a parse` {
    @Test(arguments: [1, 7, 100, 1000])
    func `reads every member, message and comment once`(size: Int) throws {
        var village = Village()
        village.members = (1...250).map { person($0) }
        village.community.memberCount = 250
        village.community.canListMembers = true
        village.messages = (1...400).reversed().map { message($0, by: $0 % 30) }
        let members = try readAll(village, .members, size: size)
        #expect(members.people.count == 250)
        #expect(members.course.itemsRead == 250)
        let messages = try readAll(village, .messages, size: size)
        #expect(messages.messages == (1...400).reversed().map { String($0) })
        #expect(messages.people.count == 30)
        #expect(messages.people["7"]?.messages == 14)
        #expect(messages.people["7"]?.first == Timestamp(seconds: 1_700_000_007))
        #expect(messages.people["7"]?.last == Timestamp(seconds: 1_700_000_397))

        village.community.kind = .channel
        village.community.hasDiscussion = true
        for post in 1...40 {
            village.messages[400 - post].replies = post % 3 == 0 ? 0 : Int64(post)
            if post % 3 != 0 {
                village.comments[String(post)] = (1...post).reversed().map {
                    message(post * 1000 + $0, by: $0)
                }
            }
        }
        village.messages = Array(village.messages.suffix(40))
        let comments = try readAll(village, .comments, size: size)
        let truth = village.comments.values.flatMap { $0 }.map(\.platformID)
        #expect(comments.messages.count == truth.count)
        #expect(Set(comments.messages) == Set(truth))
        #expect(comments.course.coverageJSON["reported"] == .int(Int64(truth.count)))
    }

    @Test func `takes in nothing twice when a page overlaps the one before`() throws {
        var course = Course()
        let config = ParseConfig()
        let link = CommunityLink(key: "village")
        var look = ReadingPage()
        look.community = CommunityRecord(platformID: "-1", kind: .group)
        _ = try course.take(
            look, of: try #require(course.next(link, config, size: 3, pages: 1)), .messages, config)
        var total: [String] = []
        for range in [8...10, 6...9, 6...9, 3...6] {
            var page = ReadingPage()
            page.messages = range.reversed().map { message($0, by: 1) }
            page.cursor = "m\(range.lowerBound)\(total.count)"
            let request = try #require(course.next(link, config, size: 3, pages: 1))
            total += try course.take(page, of: request, .messages, config).messages.map(\.platformID)
        }
        #expect(total == ["10", "9", "8", "7", "6", "5", "4", "3"])
    }

    @Test func `sees nobody for the last time before the first`() throws {
        var village = Village()
        village.members = (1...4).map { person($0) }
        let (day, night) = (Timestamp(seconds: 1_700_000_000), Timestamp(seconds: 1_700_040_000))
        village.members[0].joinedAt = night
        village.members[0].lastSeen = day
        village.members[1].joinedAt = day
        village.members[1].lastSeen = night
        village.members[2].joinedAt = day
        let people = try readAll(village, .members).people
        #expect([people["1"]?.first, people["1"]?.last] == [night, night])
        #expect([people["2"]?.first, people["2"]?.last] == [day, night])
        #expect([people["3"]?.first, people["3"]?.last] == [day, day])
        #expect([people["4"]?.first, people["4"]?.last] == [nil, nil])
    }

    @Test func `ends at a page that leads nowhere`() throws {
        var course = Course()
        let config = ParseConfig()
        let link = CommunityLink(key: "village")
        var page = ReadingPage()
        page.community = CommunityRecord(platformID: "-1", kind: .group)
        page.cursor = "o5"
        for _ in 0..<3 {
            guard let request = course.next(link, config, size: 3, pages: 1) else { break }
            _ = try course.take(page, of: request, .members, config)
        }
        #expect(course.isFinished)
    }

    @Test func `keeps to its limits, and says that they ended it`() throws {
        var village = Village()
        village.members = (1...100).map { person($0) }
        village.community.memberCount = 100
        village.messages = (1...100).reversed().map { message($0, by: $0 % 10) }
        var config = ParseConfig()
        config.memberLimit = 33
        config.messageLimit = 44
        #expect(try readAll(village, .members, config).people.count == 33)
        let read = try readAll(village, .messages, config)
        #expect(read.messages.count == 44)
        #expect(read.course.coverageJSON["limited"] == true)
        config.messageLimit = 100
        #expect(try readAll(village, .messages, config).messages.count == 100)
        config.messageLimit = nil
        config.since = Timestamp(seconds: 1_700_000_050)
        config.until = Timestamp(seconds: 1_700_000_059)
        #expect(try readAll(village, .messages, config).messages.count == 10)
    }

    @Test func `stops at what an earlier run has read`() throws {
        var village = Village()
        village.messages = (1...50).reversed().map { message($0, by: 1) }
        let first = try readAll(village, .messages)
        village.messages = (1...63).reversed().map { message($0, by: 1) }
        var course = Course()
        course.goOn(from: first.course)
        let second = try readAll(village, .messages, from: course)
        #expect(second.messages == (51...63).reversed().map { String($0) })
        var third = Course()
        third.goOn(from: second.course)
        #expect(try readAll(village, .messages, from: third).messages.isEmpty)
    }

    /// Comments are written while others are read: under a post that has been read already, and with a number
    /// below those that are read afterwards.
    @Test func `leaves no comment between two runs`() throws {
        var village = Village()
        village.community.kind = .channel
        village.community.hasDiscussion = true
        village.messages = (1...6).reversed().map { message($0, by: nil) }
        for post in 1...6 { village.messages[6 - post].replies = 5 }
        var order = 0
        for post in 1...6 {
            for _ in 1...5 {
                order += 1
                village.comments[String(post), default: []].insert(message(order, by: order), at: 0)
            }
        }
        let config = ParseConfig()
        let link = CommunityLink(key: "village")
        func course(at second: Int64, after previous: Course? = nil) -> Course {
            var course = Course()
            course.begin(at: Timestamp(seconds: 1_700_000_000 + second))
            if let previous { course.goOn(from: previous) }
            return course
        }
        var first = course(at: 31)
        var read: [String] = []
        var late: [String] = []
        while let request = first.next(link, config, size: 100, pages: 1) {
            if request.what == .comments(post: "3") {
                // The posts 6 to 4 are done; now somebody answers there, and here.
                for post in [5, 3] {
                    order += 1
                    village.comments[String(post)]?.insert(message(order, by: order), at: 0)
                    late.append(String(order))
                }
            }
            read += try first.take(village.page(request), of: request, .comments, config).messages.map(
                \.platformID)
            first = Course(stored: try JSONValue(parsing: first.stored.text))
        }
        #expect(Set(read) == Set((1...30).map { String($0) } + [late[1]]))
        let second = try readAll(village, .comments, size: 100, from: course(at: 40, after: first))
        // What was written during the first run and read by it comes again; nothing stays away.
        #expect(Set(second.messages) == Set(late))
        order += 10
        village.comments["1"]?.insert(message(order, by: order), at: 0)
        let third = try readAll(village, .comments, size: 100, from: course(at: 60, after: second.course))
        #expect(third.messages == [String(order)])
    }

    @Test func `leaves out what the filters do not keep, and counts it`() throws {
        var village = Village()
        village.members = (1...110).map { person($0) }
        village.community.memberCount = 110
        var config = ParseConfig()
        config.filters.hasUsername = true
        config.filters.excludesBots = true
        let read = try readAll(village, .members, config)
        #expect(read.people.values.allSatisfy { $0.person.username != nil && !$0.person.isBot })
        #expect(read.course.itemsRead == 110)
        village.messages = (1...40).reversed().map { message($0, by: $0) }
        config.filters = ParseFilters()
        config.filters.keywords = ["text 3"]
        let found = try readAll(village, .messages, config)
        #expect(Set(found.messages) == Set((1...40).map { String($0) }.filter { $0.hasPrefix("3") }))
        #expect(Set(found.people.keys) == Set(found.messages))
    }

    @Test func `refuses what cannot be read`() throws {
        var village = Village()
        village.community.kind = .channel
        #expect(throws: CourseError.membersOfChannel) { _ = try readAll(village, .members) }
        #expect(throws: CourseError.noComments) { _ = try readAll(village, .comments) }
        village.community.kind = .group
        #expect(throws: CourseError.commentsOfGroup) { _ = try readAll(village, .comments) }
    }

    @Test func `is honest about what is hidden or capped`() throws {
        var village = Village()
        village.members = (1...20).map { person($0) }
        village.community.memberCount = 500
        village.community.hidesMembers = true
        village.messages = (1...30).reversed().map { message($0, by: 100 + $0) }
        let hidden = try readAll(village, .parse)
        #expect(hidden.course.choice == .membersHidden)
        #expect(hidden.course.coverageJSON["hidden"] == 480)
        #expect(hidden.people.count == 50)
        village.community.hidesMembers = false
        village.community.memberListCap = 20
        let capped = try readAll(village, .parse)
        #expect(capped.course.choice == .membersCapped)
        #expect(capped.course.coverageJSON["capped_at"] == 20)
        #expect(capped.course.coverageJSON["hidden"] == 480)
        village.community.memberCount = 20
        #expect(try readAll(village, .parse).course.choice == .membersListed)
    }
}
