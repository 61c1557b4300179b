import Core
import Invites
import Sandbox
import TestServers
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `A campaign` {
    @Test(arguments: Ground.available)
    func `invites everybody who can be invited, and says of everybody else why not`(ground: Ground)
        async throws
    {
        try await withTown(ground) { town in
            try await town.connect(3)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club, limit: 5), to: task)
            try await town.add(town.world.people(.closed, notIn: club, limit: 2), to: task)
            let started = try await town.post("/api/v1/tasks/\(task)/execute")
            #expect(started.status == 202, "\(started.json)")
            #expect(started["status"] == "IN_PROGRESS")
            try await town.play(task)

            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["status"] == "COMPLETED")
            #expect(end["completed_count"] == 5)
            #expect(end["failed_count"] == 2)
            #expect(end["counts"] == ["attempted": 7, "accepted": 5, "refused": 2, "verified": 5])
            let failed = try await town.get("/api/v1/tasks/\(task)/targets?status=FAILED")
            #expect(failed["items"][0]?["error_code"] == "privacy_restricted")
            let adds = town.world.ledger.filter { $0.kind == .addMember }
            #expect(adds.count { $0.isAccepted } == 5)
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }
}
