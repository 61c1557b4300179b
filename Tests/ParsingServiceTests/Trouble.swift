import Core
import HTTP
import Parsing
import Sandbox
import ServiceKit
import Storage
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `A parse in trouble` {
    @Test func `goes on with another account after a flood wait, and loses nothing`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect(3)
            for _ in 0..<2 {
                plant.world.add(
                    Fault(
                        method: "getSupergroupMembers", code: 429,
                        message: "Too Many Requests: retry after 600",
                        count: 1))
            }
            let id = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            let task = try await run.ended(id)
            #expect(task["status"] == "completed", "\(task.text)")
            let ids = Set(try await run.results(id).compactMap { $0["platform_id"]?.stringValue })
            #expect(ids == Set(plant.members(of: "sandbox_gate").map { String($0) }))
        }
    }

    @Test func `waits where no account is left, says until when, and goes on`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect(1)
            plant.world.add(
                Fault(
                    method: "getSupergroupMembers", code: 429, message: "Too Many Requests: retry after 900",
                    count: 1))
            let id = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            try await eventually("it waits") {
                await run.user().get("/tasks/\(id)")["waiting"]["reason"] == "flood_wait"
            }
            let waiting = await run.user().get("/tasks/\(id)")
            #expect(waiting["status"] == "running")
            let free = waiting["waiting"]["accounts"]?["free_at"]?.stringValue.flatMap { Timestamp($0) }
            #expect(free ?? .epoch > plant.time.now + .minutes(10), "\(waiting.text)")
            // Another account comes; the next look finds it.
            try await plant.connect(1, skipping: 1)
            #expect(await run.user().post("/tasks/\(id)/pause")["status"] == "paused")
            #expect(await run.user().post("/tasks/\(id)/resume")["status"] == "pending")
            let task = try await run.ended(id)
            #expect(task["status"] == "completed", "\(task.text)")
            #expect(task["result_count"] == .int(Int64(plant.members(of: "sandbox_gate").count)))
        }
    }

    @Test func `goes on with another account when Telegram ends the session`() async throws {
        try await Plant.open(.sqlite, Plant.options(), [:], .withoutWaiting) { plant, run in
            let accounts = try await plant.connect(3)
            let phones = plant.world.accounts().filter { $0.kind == .warmed }.map(\.phone)
            plant.addGroup("test_long", messages: 900, members: 50)
            let id = try await run.create("test_long", "messages", ["speed_config": "medium"])
            try await eventually("it reads") {
                await run.user().get("/tasks/\(id)")["processed_messages"].intValue ?? 0 > 100
            }
            // Whoever reads just now.
            let reader = try #require(plant.requests.all.last?.path.split(separator: "/").dropLast().last)
            let place = try #require(accounts.firstIndex(of: String(reader)))
            try plant.world.revoke(phones[place])
            let task = try await run.ended(id)
            #expect(task["status"] == "completed", "\(task.text)")
            #expect(try await run.found(id).differences(from: plant.truth(of: "test_long")) == [])
            let readers = Set(
                plant.requests.all.map { String($0.path.split(separator: "/").dropLast().last ?? "") })
            #expect(readers.count == 2)
        }
    }

    /// Signs of life are looked for all the time, also between the last page and the account's return; a task
    /// that has ended has no claim any more, and must not be taken for one that was lost.
    @Test func `is over when it is over, however long its account takes to go back`() async throws {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        try await Plant.open(.sqlite, Plant.options(), [:], .quick, time: time) { plant, run in
            try await plant.connect(1)
            plant.slowness.set(.seconds(2))
            let first = try await run.create("sandbox_club", "members", ["member_limit": 1])
            #expect(try await run.ended(first)["status"] == "completed")
            let second = try await run.create("sandbox_club", "members", ["member_limit": 2])
            #expect(try await run.ended(second)["status"] == "completed")
            try await eventually("both are counted") {
                await run.nobody.get("/metrics").text.contains(
                    "parse_attempts_total{outcome=\"completed\"} 2")
            }
        }
    }

    @Test func `stops at once when it is paused, cancelled or deleted, and gives its account back`()
        async throws
    {
        try await Plant.open(.sqlite, Plant.options(), [:], .documented) { plant, run in
            try await plant.connect(1)
            let slow = try await run.create("sandbox_talk", "messages", ["speed_config": "safe"])
            try await eventually("it reads") {
                await run.user().get("/tasks/\(slow)")["status"] == "running"
            }
            // There is one account, and the other task has it.
            let quick = try await run.create("sandbox_club", "members", ["member_limit": 1])
            #expect(await run.user().post("/tasks/\(slow)/pause")["status"] == "paused")
            #expect(try await run.ended(quick)["result_count"] == 1)
            #expect(await run.user().get("/tasks/\(slow)")["status"] == "paused")
            #expect(await run.user().post("/tasks/\(slow)/resume")["status"] == "pending")
            try await eventually("it goes on") {
                await run.user().get("/tasks/\(slow)")["status"] == "running"
            }
            #expect(await run.user().post("/tasks/\(slow)/cancel")["status"] == "cancelled")
            let next = try await run.create("sandbox_club", "members", ["member_limit": 2])
            #expect(try await run.ended(next)["result_count"] == 2)
            let last = try await run.create("sandbox_talk", "messages", ["speed_config": "safe"])
            try await eventually("it reads") {
                await run.user().get("/tasks/\(last)")["status"] == "running"
            }
            #expect(await run.user().delete("/tasks/\(last)").status == 204)
            let final = try await run.create("sandbox_club", "members", ["member_limit": 3])
            #expect(try await run.ended(final)["result_count"] == 3)
        }
    }

    @Test func `keeps the pace of its speed in what goes out`() async throws {
        try await Plant.open(.sqlite, Plant.options(), [:], .documented) { plant, run in
            try await plant.connect(2)
            let id = try await run.create(
                "sandbox_club", "messages", ["speed_config": "fast", "message_limit": 250])
            let task = try await run.ended(id)
            #expect(task["processed_messages"] == 250, "\(task.text)")
            let reads = plant.requests.all.filter { $0.path.hasSuffix("/messages") }
            #expect(reads.count >= 6)
            #expect(reads.dropFirst().allSatisfy { $0.query.contains("page_size=50&pages=1") })
            // Documented are 200 ms. One that is held up on its way makes the next pause look short, so the
            // middle one is looked at.
            let pauses = zip(reads, reads.dropFirst()).map { $1.at - $0.at }.sorted()
            #expect(pauses[pauses.count / 2] >= .milliseconds(150), "\(pauses)")
        }
    }

    @Test func `reads no more with an account that somebody else has now`() async throws {
        try await Plant.open(.sqlite, Plant.options(), [:], .withoutWaiting) { plant, run in
            let accounts = try await plant.connect(2)
            plant.addGroup("test_fenced", messages: 600, members: 40)
            let id = try await run.create("test_fenced", "messages", ["speed_config": "medium"])
            try await eventually("it reads") {
                await run.user().get("/tasks/\(id)")["processed_messages"].intValue ?? 0 > 50
            }
            // A newer lease of each account than the one it reads with.
            for account in accounts {
                try await plant.integration.context.database.run(
                    "UPDATE telegram_accounts SET fencing_token = 3 WHERE id = \(account)")
            }
            let task = try await run.ended(id)
            #expect(task["status"] == "completed", "\(task.text)")
            #expect(try await run.found(id).differences(from: plant.truth(of: "test_fenced")) == [])
        }
    }
}
