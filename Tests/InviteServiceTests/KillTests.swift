import Core
import Invites
import Sandbox
import ServiceKit
import Storage
import Synchronization
import TestServers
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Servers of one test's own, to be killed under the services that use them.
private struct OwnServers: Sendable {
    let postgres: LocalPostgres
    let redis: LocalRedis
    /// Nil for the one that all tests share, which stays alive: it takes seconds to come back.
    let rabbit: LocalRabbitMQ?

    init(withQueues: Bool) async throws {
        postgres = try await LocalPostgres(directory: TestServers.directory()).started()
        redis = try await LocalRedis(directory: TestServers.directory()).started()
        rabbit = withQueues ? try await LocalRabbitMQ(directory: TestServers.directory()).started() : nil
    }

    /// Where each service finds them; the Redis indexes of one do not meet those of another.
    func environments() async throws -> [Town.Name: [String: String]] {
        var all: [Town.Name: [String: String]] = [:]
        for (number, name) in Town.Name.allCases.enumerated() {
            let database = "db_\(number)"
            try await postgres.createDatabase(database)
            all[name] = [
                "DATABASE_URL": postgres.url(database: database),
                "REDIS_URL": redis.url(database: number * 5),
            ]
            if let rabbit {
                try await rabbit.createVirtualHost("host-\(number)")
                all[name]?["RABBITMQ_URL"] = rabbit.url(virtualHost: "host-\(number)")
            } else {
                all[name]?["RABBITMQ_URL"] = try await TestServers.rabbitmq()
            }
        }
        return all
    }

    var all: [any LocalServer] { [postgres, redis] + (rabbit.map { [$0] } ?? []) }

    func stop() async { for server in all { await server.kill() } }
}

/// A campaign over many accounts, with its services and servers killed and started again while it runs; then the
/// three accounts of what happened are laid beside each other: the campaign's, account-manager's, and Telegram's
/// own.
///
/// `CONVOKE_LONG=1` is as many as the whole contract asks for, with other luck each time, which is printed;
/// `CONVOKE_SEED` repeats it.
@Suite(.serialized, .timeLimit(.minutes(60)))
struct `A campaign whose services and servers are killed all the time` {
    private static let isLong = getenv("CONVOKE_LONG") != nil

    private static func size(_ ground: Ground) -> (people: Int, accounts: Int) {
        if isLong { return (2000, 30) }
        return ground == .embedded ? (60, 6) : (24, 3)
    }

    private static var seed: UInt64 {
        if let wanted = getenv("CONVOKE_SEED").flatMap({ UInt64(String(cString: $0)) }) { return wanted }
        return isLong ? SystemRandom().next() % 100_000 : 5
    }

    @Test(arguments: Ground.available)
    func `neither loses nor repeats anybody, and all counts agree`(ground: Ground) async throws {
        let size = Self.size(ground)
        let seed = Self.seed
        if Self.isLong { print("killed by seed \(seed) on \(ground.rawValue)") }
        let servers = ground == .real ? try await OwnServers(withQueues: Self.isLong) : nil
        let environments = try await servers?.environments() ?? [:]
        try await withTown(
            ground, accounts: size.accounts * 2 + 20, people: 4000 + size.people * 3, servers: environments
        ) { town in
            try await town.connect(size.accounts)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let people =
                town.world.people(.open, notIn: club, limit: size.people * 7 / 10)
                + town.world.people(.closed, notIn: club, limit: size.people / 10)
                + town.world.people(.inTooManyGroups, notIn: club, limit: size.people / 20)
                + town.world.people(.vanishes, notIn: club, limit: size.people / 30)
            let task = try await town.makeTask(["group_id": "@sandbox_club", "batch_size": 3])
            for start in stride(from: 0, to: people.count, by: 500) {
                try await town.add(Array(people[start..<min(start + 500, people.count)]), to: task)
            }
            // And some of whom a list says nothing but a number, and where they were met.
            let named = Set(people.map(\.userID))
            let numbers = try await town.addByNumber(
                town.world.members(of: "sandbox_talk").filter { !named.contains($0.userID) }
                    .prefix(size.people / 30), seenIn: "sandbox_talk", to: task)
            let started = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            try #require(started.status == 202, "\(started.json)")

            let luck = SeededRandom(seed: seed)
            var kills: [String: Int] = [:]
            try await town.play(task) {
                guard luck.int(in: 1...100) == 1 else { return }
                let number = luck.int(in: 0...(2 + (servers?.all.count ?? 0)))
                if number > 2, let server = servers?.all[number - 3] {
                    kills[server.process.name, default: 0] += 1
                    await server.kill()
                    // Long enough for somebody to notice, or too short.
                    try await SystemTime().sleep(for: .milliseconds(Int64(luck.int(in: 0...200))))
                    try await server.start()
                } else {
                    let victim = Town.Name.allCases[number]
                    kills[victim.rawValue, default: 0] += 1
                    await town.kill(victim)
                    try await town.start(victim)
                    // Whoever it was that held people is gone: let them be free again.
                    if victim == .invites { town.time.advance(by: InviteStore.hold + .seconds(1)) }
                }
            }
            if Self.isLong { print("killed on \(ground.rawValue): \(kills.sorted { $0.key < $1.key })") }
            #expect(kills.values.reduce(0, +) > 2, "\(kills), seed \(seed)")
            try await Self.compare(town, task, people.count + numbers)
        }
        await servers?.stop()
    }

    /// Every person in one final state, nobody invited twice, no limit broken, and the same numbers everywhere.
    static func compare(_ town: Town, _ task: Int64, _ people: Int) async throws {
        let end = try await town.get("/api/v1/tasks/\(task)")
        #expect(end["status"] == "COMPLETED")
        let finals = ["completed_count", "failed_count", "skipped_count"].compactMap { end[$0].intValue }
        #expect(finals.reduce(0, +) == Int64(people), "\(end.json)")

        let ledger = town.world.ledger
        let violations = Judge.judge(ledger)
        #expect(violations.isEmpty, "\(violations.prefix(3))")
        let adds = ledger.filter { $0.kind == .addMember }
        let accepted = adds.filter(\.isAccepted)
        #expect(Set(accepted.map(\.target)).count == accepted.count, "somebody was added twice")

        // What nobody could find out is told as such, and counted as if it had happened.
        let database = try town.store.database
        func count(_ sql: SQL, _ name: String = "count") async throws -> Int {
            try await database.run(sql).first?.int(name) ?? 0
        }
        let unknown = try await count(
            "SELECT COUNT(*) AS count FROM invite_targets WHERE error_code = 'outcome_unknown'")
        let ours = Int(end["counts"]["accepted"]?.intValue ?? -1)
        #expect(
            ours <= accepted.count && accepted.count <= ours + unknown, "\(ours) \(accepted.count) \(unknown)"
        )

        try await eventually("account-manager has heard of everything") {
            town.time.advance(by: .seconds(11))
            return try await count(
                """
                SELECT COUNT(*) AS count FROM invite_attempts WHERE is_recorded = FALSE AND counts <> 'open'
                """) == 0
        }
        let found = town.run(.manager)
        let manager = try #require(found).service.context.database
        let recorded = try await manager.run(
            """
            SELECT COUNT(*) AS count, COUNT(CASE WHEN success THEN 1 END) AS successes FROM account_ledger
            WHERE action = 'invite'
            """
        ).first
        #expect(try recorded?.int("successes") == ours + unknown)
        let attempts = try await count(
            """
            SELECT COUNT(*) AS count FROM invite_attempts WHERE counts IN ('accepted', 'refused', 'unknown')
                OR code IN ('flood_wait', 'peer_flood', 'admin_required', 'group_restriction')
            """)
        #expect(try recorded?.int("count") == attempts)
    }
}
