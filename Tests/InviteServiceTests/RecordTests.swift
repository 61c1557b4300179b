import Core
import Invites
import Sandbox
import ServiceKit
import Storage
import Synchronization
import TestServers
import Testing

/// What was sent in an account's name counts nowhere until account-manager has heard of it: until then nobody else
/// may have the account.
@Suite(.timeLimit(.minutes(5)))
struct `An account in whose name something was sent` {
    private struct Seen: Equatable {
        var isLeased: Bool
        var records: Int
    }

    private func seen(_ town: Town, _ account: String) async throws -> Seen {
        let found = town.run(.manager)
        let manager = try #require(found).service.context.database
        let lease = try await manager.run("SELECT locked_until, lease_id FROM telegram_sessions").first
        let isHeld =
            try lease?.optionalText("lease_id") != nil
            && lease?.optionalTimestamp("locked_until").map { $0 > town.time.now } ?? false
        let records = try await manager.run("SELECT COUNT(*) AS count FROM account_ledger").first?.int(
            "count")
        return Seen(isLeased: isHeld, records: records ?? -1)
    }

    private func sendOne(_ town: Town) async throws -> (account: String, task: Int64) {
        let account = try #require(try await town.connect(1).first).id
        let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
        let task = try await town.makeTask()
        try await town.add(town.world.people(.open, notIn: club, limit: 1), to: task)
        _ = try await town.post("/api/v1/tasks/\(task)/execute")
        return (account, task)
    }

    @Test(arguments: Ground.available)
    func `stays leased until that is recorded`(ground: Ground) async throws {
        try await withTown(ground) { town in
            town.lost.withLock { $0 = ("/rate-limit/record/", afterwards: false) }
            let (account, task) = try await sendOne(town)
            try await eventually("it is known that the person was invited") {
                try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 1
            }
            // However often somebody looks, and whoever is restarted meanwhile.
            for round in 0..<4 {
                town.time.advance(by: .seconds(15))
                if round == 2 {
                    await town.kill(.invites)
                    try await town.start(.invites)
                }
                for _ in 0..<10 {
                    #expect(try await seen(town, account) == Seen(isLeased: true, records: 0))
                    try await SystemTime().sleep(for: .milliseconds(5))
                }
            }
            town.lost.withLock { $0 = nil }
            try await eventually("account-manager has heard of it, and has the account back") {
                town.time.advance(by: .seconds(11))
                return try await seen(town, account) == Seen(isLeased: false, records: 1)
            }
            #expect(town.adds == 1)
        }
    }

    /// Heard of, and nobody heard that it was: told again, it counts once.
    @Test(arguments: Ground.available)
    func `counts once when the answer to its record was lost`(ground: Ground) async throws {
        try await withTown(ground) { town in
            town.lost.withLock { $0 = ("/rate-limit/record/", afterwards: true) }
            let (account, task) = try await sendOne(town)
            try await eventually("the person was invited") {
                try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 1
            }
            town.lost.withLock { $0 = nil }
            try await eventually("all is told") {
                town.time.advance(by: .seconds(11))
                return try await town.store.unrecorded(before: .init(milliseconds: .max / 2)).isEmpty
            }
            #expect(try await seen(town, account) == Seen(isLeased: false, records: 1))
        }
    }

    @Test(arguments: Ground.available)
    func `is given back with its record when it has to rest`(ground: Ground) async throws {
        try await withTown(ground) { town in
            let (account, task) = try await sendOne(town)
            // Whoever gave it back by a call of its own would not get through.
            town.lost.withLock { $0 = ("/account-manager/release/", afterwards: false) }
            try await town.play(task)
            try await eventually("it is free") {
                try await seen(town, account) == Seen(isLeased: false, records: 1)
            }
        }
    }
}
