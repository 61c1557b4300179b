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

/// A campaign over many accounts, with its services killed and started again while it runs; then the three
/// accounts of what happened are laid beside each other: the campaign's, account-manager's, and Telegram's own.
@Suite(.serialized, .timeLimit(.minutes(20)))
struct `A campaign whose services are killed all the time` {
    /// As many as the whole contract asks for where there is time: `CONVOKE_LONG=1`.
    static func size(_ ground: Ground) -> (people: Int, accounts: Int) {
        if getenv("CONVOKE_LONG") != nil { return (2000, 30) }
        return ground == .embedded ? (60, 6) : (24, 3)
    }

    @Test(arguments: Ground.available)
    func `neither loses nor repeats anybody, and all counts agree`(ground: Ground) async throws {
        let size = Self.size(ground)
        try await withTown(ground, accounts: size.accounts * 2 + 20, people: 4000 + size.people * 3) { town in
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
            let started = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            try #require(started.status == 202, "\(started.json)")

            let luck = SeededRandom(seed: 5)
            var kills = 0
            try await town.play(task) {
                guard luck.int(in: 1...100) == 1 else { return }
                kills += 1
                let victim = Town.Name.allCases[luck.int(in: 0...2)]
                await town.kill(victim)
                try await town.start(victim)
                // Whoever it was that held people is gone: let them be free again.
                if victim == .invites { town.time.advance(by: InviteStore.hold + .seconds(1)) }
            }
            #expect(kills > 2, "\(kills)")
            try await Self.compare(town, task, people.count)
        }
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
