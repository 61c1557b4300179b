import Core
import Storage
import TestServers
import Testing

@testable import Parsing

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
        let engine = ParseEngine(
            store: store, adapters: [VillageAdapter(village: village)], lender: EndlessLender(),
            rhythm: .unlimited(size: 20, pages: 1), time: time, random: SystemRandom(), log: .silent)
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

private struct VillageAdapter: PlatformAdapter {
    let platform = Platform.telegram
    let village: Village
    func community(_ written: String) -> CommunityLink? { CommunityLink(written) }
    func cost(of request: ReadingRequest) -> Int { 1 }
    func read(_ request: ReadingRequest, with lease: AccountLease, for user: Int64) -> ReadingPage {
        village.page(request)
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
