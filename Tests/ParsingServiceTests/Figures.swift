import Core
import HTTP
import Parsing
import Testing

@testable import Sandbox

@Suite(.timeLimit(.minutes(5)))
struct `The figures of parsing-service` {
    /// The values by name, labels included.
    private func figures(_ run: Plant.Run) async -> [String: Double] {
        let text = await run.nobody.get("/metrics").text
        var figures: [String: Double] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let blank = line.lastIndex(of: " ") else { continue }
            figures[String(line[..<blank])] = Double(line[line.index(after: blank)...])
        }
        return figures
    }

    /// Waits for the next count: they are made now and then.
    private func expect(_ expected: [String: Double], of run: Plant.Run) async throws {
        for (name, value) in expected {
            try await eventually("\(name) is \(value)") { await figures(run)[name] == value }
        }
    }

    @Test(arguments: Engine.available)
    func `are those of the tasks and accounts there are`(engine: Engine) async throws {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        try await Plant.open(engine, Plant.options(), [:], .quick, time: time) { plant, run in
            try await expect(
                [
                    "parsing_service_up": 1, "parse_tasks_total": 0, "parse_tasks_running": 0,
                    "parse_tasks_completed": 0, "telegram_accounts_total": 0,
                    "telegram_accounts_available": 0,
                ], of: run)
            try await plant.connect(3)
            let members = try await run.create("sandbox_gate", "members")
            let messages = try await run.create("sandbox_club", "messages", ["message_limit": 120])
            let failed = try await run.create("no_such_group_at_all", "members")
            var processed: [String: Int64] = [:]
            for id in [members, messages, failed] {
                let task = try await run.ended(id)
                for (figure, name) in [
                    ("messages", "processed_messages"), ("media", "processed_media"),
                    ("users", "processed_users"), ("filtered", "filtered_count"),
                ] {
                    processed[figure, default: 0] += try #require(task[name].intValue)
                }
            }
            let cancelled = try await run.create("sandbox_club", "members")
            _ = await run.user().post("/tasks/\(cancelled)/cancel")
            let paused = try await run.create("sandbox_club", "members", of: 2)
            #expect(await run.user(2).post("/tasks/\(paused)/pause")["status"] == "paused")
            let deleted = try await run.create("sandbox_club", "members", of: 2)
            #expect(await run.user(2).delete("/tasks/\(deleted)").status == 204)
            let ended = await run.user().get("/tasks?status=cancelled")["total"].intValue ?? 0
            try await expect(
                [
                    "parse_tasks_total": 5, "parse_tasks_running": 0,
                    "parse_tasks_completed": Double(3 - ended),
                    "parse_tasks{status=\"completed\"}": Double(3 - ended),
                    "parse_tasks{status=\"failed\"}": 1, "parse_tasks{status=\"cancelled\"}": Double(ended),
                    "parse_tasks{status=\"paused\"}": 1, "telegram_accounts_total": 3,
                    "telegram_accounts_available": 3,
                    "parse_items_total{kind=\"messages\"}": Double(processed["messages"] ?? -1),
                    "parse_items_total{kind=\"media\"}": Double(processed["media"] ?? -1),
                    "parse_attempts_total{outcome=\"failed\"}": 1,
                    "parsing_tasks_created_total{platform=\"telegram\",task_type=\"members\"}": 5,
                    "parsing_tasks_created_total{platform=\"telegram\",task_type=\"messages\"}": 1,
                ], of: run)

            // While one is read, and when an account is lost.
            plant.addGroup("test_endless", messages: 10_000_000, members: 50)
            let endless = try await run.create("test_endless", "messages")
            try await expect(["parse_tasks_running": 1, "parse_tasks_total": 6], of: run)
            #expect(await run.user().post("/tasks/\(endless)/cancel")["status"] == "cancelled")
            let phone = try #require(plant.world.accounts().first { $0.kind == .warmed }?.phone)
            try plant.world.revoke(phone)
            try await expect(
                ["parse_tasks_running": 0, "telegram_accounts_total": 3, "telegram_accounts_available": 2],
                of: run)
            #expect(await run.user().get("/search?q=sandbox").status == 200)
            _ = await run.user().get("/search?q=sandbox")
            try await expect(
                [
                    "community_searches_total{from=\"telegram\"}": 1,
                    "community_searches_total{from=\"memory\"}": 1,
                ], of: run)
        }
    }

    /// Whoever watches it must not take it for down because others do the work.
    @Test func `are shown as well where others do the work`() async throws {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        let settings = ["PARSING_WORKER": "false"]
        try await Plant.open(.sqlite, Plant.options(), settings, .quick, time: time) { plant, run in
            try await plant.connect(2)
            _ = try await run.create("sandbox_club", "members")
            try await expect(
                [
                    "parsing_service_up": 1, "parse_tasks_total": 1, "parse_tasks{status=\"pending\"}": 1,
                    "telegram_accounts_total": 2, "telegram_accounts_available": 2,
                ], of: run)
        }
    }
}
