import Core
import Storage
import Synchronization
import TestServers
import Testing

@testable import Parsing

@Suite struct `A parse` {
    /// The next page is asked for while one is written: never one twice, and none behind the end.
    @Test(arguments: [nil, 90] as [Int64?])
    func `asks for each page once`(limit: Int64?) async throws {
        try await Engine.sqlite.withStore { store, _ in
            var config = ParseConfig()
            config.messageLimit = limit
            try await store.make("t", .normal, .messages, config, at: SystemTime().now)
            let task = try #require(try await store.claim("one", by: "w", at: SystemTime().now))
            var village = Village()
            village.messages = (1...200).reversed().map { message($0, by: $0 % 7 + 1) }
            let adapter = VillageAdapter(village: village)
            #expect(try await reader(store, adapter).work(on: task) == .completed)
            let pages = Int(limit ?? 200).quotientAndRemainder(dividingBy: 20)
            let cursors = (0..<pages.quotient + pages.remainder.signum()).map {
                $0 == 0 ? nil : String($0 * 20)
            }
            #expect(adapter.asked.withLock { $0 } == [nil] + cursors)
            #expect(try await store.task("t", of: 1).counts.messages == limit ?? 200)
        }
    }

    /// What the worker remembers of the people is not true any more then.
    @Test(arguments: Engine.available)
    func `goes on when somebody is erased from what it has read`(engine: Engine) async throws {
        try await engine.withStore { store, _ in
            try await store.make("t", .normal, .messages, at: SystemTime().now)
            let task = try #require(try await store.claim("one", by: "w", at: SystemTime().now))
            var village = Village()
            village.messages = (1...400).reversed().map { message($0, by: $0 % 7 + 1) }
            let adapter = VillageAdapter(village: village) { cursor in
                if cursor == "200" { _ = try await store.erase(person: "3", of: 1) }
            }
            #expect(try await reader(store, adapter).work(on: task) == .completed)
            let done = try await store.task("t", of: 1)
            #expect(done.counts.messages == 400)
            let messages = try await store.messages(of: done, ResultQuery(), at: .after(0), limit: 500)
            #expect(
                messages.filter { $0.authorID != "3" }.map(\.platformID)
                    == village.messages.filter { $0.author?.platformID != "3" }.map(\.platformID))
            let people = try await store.people(of: done, ResultQuery(), at: .after(0), limit: 100)
            #expect(Set(people.map(\.platformID)) == Set((1...7).map { String($0) }))
            for person in people {
                let theirs = messages.filter { $0.authorID == person.platformID }
                #expect(person.messageCount == Int64(theirs.count), "\(person.platformID)")
                #expect(person.lastSeen == theirs.first?.sentAt)
            }
        }
    }

    /// The first requests go out as fast as they may follow each other; in the long run the minute binds.
    @Test func `tells no end that its speed does not allow`() async throws {
        try await Engine.sqlite.withStore { store, _ in
            var config = ParseConfig()
            config.speed = .fast
            try await store.make("t", .normal, .messages, config)
            let claimed = try #require(try await store.claim("one", by: "w", at: noon))
            let task = try await store.begin(claimed, with: lease(), at: noon)
            var village = Village()
            village.messages = (1...9_000).reversed().map { message($0, by: 1) }
            var course = task.course
            for _ in 0..<2 {
                let request = try #require(course.next(task.link, config, size: 50, pages: 1))
                _ = try course.take(village.page(request), of: request, .messages, config)
            }
            let read = try await store.save(
                Course.Harvest(), course, of: task, active: .milliseconds(200), at: noon)
            // 180 requests, ninety a minute.
            let left = try #require(read.progress.remaining)
            #expect(left > .seconds(118) && left < .seconds(122), "\(left)")
        }
    }
}

private let noon = Timestamp(seconds: 1_756_036_800)

private func reader(_ store: ParseStore, _ adapter: VillageAdapter) -> ParseEngine {
    ParseEngine(
        store: store, adapters: [adapter], lender: EndlessLender(), rhythm: .unlimited(size: 20, pages: 1),
        time: SystemTime(), random: SystemRandom(), log: .silent)
}

/// Pages are not waited for on the disk, so a database that dies takes the last ones with it, and a worker that
/// lives on believes they are there.
@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(5)))
struct `A parse whose database dies under it` {
    @Test func `ends as one that nobody disturbed`() async throws {
        let server = try await LocalPostgres(directory: TestServers.directory()).started()
        let database = DatabaseLocation.postgres(Secret(server.url)).open("test")
        try await database.migrate(Migration.parsing, scope: "parsing", at: .epoch)
        let store = ParseStore(database)
        let time = SystemTime()
        try await store.make("t", .normal, .messages, at: time.now)
        let task = try #require(try await store.claim("one", by: "w", at: time.now))
        var village = Village()
        let count = 8_000
        village.messages = (1...count).reversed().map { message($0, by: $0 * 7919 % 300 + 1) }
        let engine = reader(store, VillageAdapter(village: village))
        async let outcome = engine.work(on: task)
        for part in 1...2 {
            while true {
                let read = try? await store.tasks(numbered: [task.number]).first?.counts.messages
                if Int(read ?? 0) >= count * part / 4 { break }
                try await time.sleep(for: .milliseconds(2))
            }
            await server.kill()
            try await server.start()
        }
        #expect(try await outcome == .completed)

        let done = try await store.task("t", of: 1)
        #expect(done.counts.messages == Int64(count))
        let messages = try await store.messages(of: done, ResultQuery(), at: .after(0), limit: count + 1)
        #expect(messages.map(\.platformID) == village.messages.map(\.platformID))
        #expect(messages.map(\.position) == Array(1...Int64(count)))
        let people = try await store.people(of: done, ResultQuery(), at: .after(0), limit: 1000)
        let written = Dictionary(grouping: village.messages) { $0.author?.platformID ?? "" }
        #expect(people.count == written.count)
        for person in people {
            let theirs = try #require(written[person.platformID])
            #expect(person.messageCount == Int64(theirs.count))
            #expect(person.firstSeen == theirs.last?.sentAt)
            #expect(person.lastSeen == theirs.first?.sentAt)
        }
        await database.close()
        try await server.stop()
    }
}

private final class VillageAdapter: PlatformAdapter {
    let platform = Platform.telegram
    private let village: Village
    private let before: @Sendable (String?) async throws -> Void
    /// Where each page that was asked for began.
    let asked = Mutex<[String?]>([])

    init(village: Village, before: @escaping @Sendable (String?) async throws -> Void = { _ in }) {
        self.village = village
        self.before = before
    }

    func community(_ written: String) -> CommunityLink? { CommunityLink(written) }
    func cost(of request: ReadingRequest) -> Int { 1 }
    func read(_ request: ReadingRequest, with lease: AccountLease, for user: Int64) async throws
        -> ReadingPage
    {
        try await before(request.cursor)
        asked.withLock { $0.append(request.cursor) }
        return village.page(request)
    }
}

/// Always has an account, of which nobody hears.
private struct EndlessLender: AccountLending {
    func lease(user: Int64, excluding: [String], for duration: Duration) -> AccountLease {
        AccountLease(account: "a", lease: "l", fencingToken: 1, until: SystemTime().now + .days(1))
    }
    func extend(_ lease: AccountLease, user: Int64, for duration: Duration) -> AccountLease? { lease }
    func giveBack(_ lease: AccountLease, user: Int64) {}
    func report(_ type: String, message: String, seconds: Int64?, of lease: AccountLease, user: Int64) {}
}
