import Core
import Invites
import Sandbox
import Synchronization
import TestServers
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `Stopping a campaign` {
    private func running(
        _ town: Town, _ settings: JSONValue = ["group_id": "@sandbox_club"], people: Int = 40
    )
        async throws -> Int64
    {
        try await town.connect(6)
        let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
        let task = try await town.makeTask(settings)
        try await town.add(town.world.people(.open, notIn: club, limit: people), to: task)
        #expect(try await town.post("/api/v1/tasks/\(task)/execute").status == 202)
        try await eventually("something was sent") { town.adds > 0 }
        return task
    }

    /// A send that stands in the air while the pause is asked for is waited for; after the answer nothing goes out,
    /// however long one waits and whoever is restarted.
    @Test func `holds from the moment the pause is answered`() async throws {
        try await withTown { town in
            let task = try await running(town)
            let paused = try await town.post("/api/v1/tasks/\(task)/pause")
            #expect(paused.status == 200, "\(paused.json)")
            #expect(paused["in_flight"] == 0)
            let sent = town.adds
            for round in 0..<6 {
                town.time.advance(by: .hours(1))
                if round == 2 {
                    await town.kill(.invites)
                    try await town.start(.invites)
                }
                try await SystemTime().sleep(for: .milliseconds(40))
            }
            #expect(town.adds == sent)
            #expect(try await town.get("/api/v1/tasks/\(task)")["status"] == "PAUSED")

            #expect(try await town.post("/api/v1/tasks/\(task)/resume")["status"] == "IN_PROGRESS")
            try await eventually("it goes on") {
                town.time.advance(by: .seconds(1))
                return town.adds > sent
            }
            // Until all its people have been tried.
            try await town.play(task)
            #expect(try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 40)
        }
    }

    @Test func `tells what is on its way still`() async throws {
        try await withTown { town in
            // Telegram takes its time over the first one.
            for method in ["addChatMember", "addChatMembers"] {
                _ = town.world.add(Fault(method: method, isSilent: true, moment: .after, count: 1))
            }
            try await town.connect(1)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club, limit: 3), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await eventually("Telegram has acted") { town.adds == 1 }
            let paused = try await town.post("/api/v1/tasks/\(task)/pause")
            #expect(paused.status == 202)
            #expect(paused["in_flight"] == 1)
            #expect(paused["status"] == "PAUSED")
            // Its answer never comes; it is found among the members, and counted once.
            try await eventually("it is known what became of it") {
                town.time.advance(by: .seconds(30))
                return try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 1
            }
            #expect(town.adds == 1)
        }
    }

    @Test func `leaves out everybody who had not been invited when it is cancelled`() async throws {
        try await withTown { town in
            let task = try await running(town, people: 20)
            let cancelled = try await town.post("/api/v1/tasks/\(task)/cancel")
            #expect(cancelled["status"] == "CANCELLED")
            let sent = town.adds
            let task2 = try await town.get("/api/v1/tasks/\(task)")
            #expect(task2["completed_count"].intValue == Int64(sent))
            #expect(task2["skipped_count"].intValue == Int64(20 - sent))
            let skipped = try await town.get("/api/v1/tasks/\(task)/targets?status=SKIPPED")
            #expect(skipped["items"][0]?["error_code"] == "task_cancelled")
            #expect(try await town.post("/api/v1/tasks/\(task)/resume").code == "wrong_state")
        }
    }

    @Test func `comes by itself when too many fail, and says so`() async throws {
        try await withTown { town in
            try await town.connect(4)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let task = try await town.makeTask([
                "group_id": "@sandbox_club", "auto_pause": ["failure_rate": 0.5, "min_sample": 4],
                "batch_size": 1,
            ])
            try await town.add(town.world.people(.closed, notIn: club, limit: 30), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["status"] == "PAUSED")
            #expect(end["waiting_for"]["reason"] == "auto_paused")
            #expect((end["failed_count"].intValue ?? 0) < 30)
        }
    }
}

extension Town {
    /// How many additions Telegram has seen.
    var adds: Int { world.ledger.count { $0.kind == .addMember } }
}
