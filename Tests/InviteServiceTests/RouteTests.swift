import Core
import HTTP
import Sandbox
import ServiceKit
import TestServers
import Testing

/// What clients write and read, without any Telegram behind it.
@Suite(.timeLimit(.minutes(5)))
struct `The invite service's API` {
    private func bare(_ body: (Town) async throws -> Void) async throws {
        let town = try await Town(.embedded, accounts: 12, people: 200)
        try await town.start(.invites)
        let result: Result<Void, any Error>
        do { result = .success(try await body(town)) } catch { result = .failure(error) }
        await town.stopAll()
        try result.get()
    }

    @Test func `lets two operators not overwrite each other`() async throws {
        try await bare { town in
            let task = try await town.makeTask()
            let read = try await town.get("/api/v1/tasks/\(task)")
            let tag = try #require(read.headers["ETag"])
            let first = try await town.put(
                "/api/v1/tasks/\(task)", ["name": "One"], headers: ["If-Match": tag])
            #expect(first.status == 200)
            #expect(first["name"] == "One")
            let second = try await town.put(
                "/api/v1/tasks/\(task)", ["name": "Two"], headers: ["If-Match": tag])
            #expect(second.status == 412)
            #expect(second.code == "changed")
            // As a proxy that compresses weakens it.
            let weak = "W/\(first.headers["ETag"] ?? "")"
            #expect(
                try await town.put("/api/v1/tasks/\(task)", ["name": "Two"], headers: ["If-Match": weak])
                    .status
                    == 200)
        }
    }

    /// Whatever is written there: what names no version of this task changes nothing, and breaks nothing.
    @Test func `takes no malformed version for one that matches`() async throws {
        try await bare { town in
            let task = try await town.makeTask()
            let tags = [
                "", " ", "\"\"", "abc", "\"abc\"", "\"1", "1.0", "\"0x1\"", "\"-1\"", "\"0\"", "W/",
                "W/W/\"1\"",
                "\"99999999999999999999999\"", "\"9223372036854775807\"", "\"2\", \"3\"", "\"١\"", "\u{0}",
                "\"\u{1}1\"",
                String(repeating: "9", count: 5000), "null", "{}", "\"1\"; DROP TABLE invite_tasks",
                "*, \"1\"", "**",
            ]
            for tag in tags {
                let answer = try await town.put(
                    "/api/v1/tasks/\(task)", ["name": "Changed"], headers: ["If-Match": tag])
                #expect([400, 412].contains(answer.status), "\(tag): \(answer.status)")
                #expect(!answer.code.isEmpty)
            }
            let left = try await town.get("/api/v1/tasks/\(task)")
            #expect(left["name"] == "Test")
            let changed = try await town.put(
                "/api/v1/tasks/\(task)", ["name": "Changed"],
                headers: ["If-Match": left.headers["ETag"] ?? ""])
            #expect(changed.status == 200)
            let any = try await town.put("/api/v1/tasks/\(task)", ["name": "Any"], headers: ["If-Match": "*"])
            #expect(any.status == 200)
            let list = "W/\"3\", \(any.headers["ETag"] ?? "")"
            let listed = try await town.put(
                "/api/v1/tasks/\(task)", ["name": "Of these"], headers: ["If-Match": list])
            #expect(listed.status == 200)
        }
    }

    @Test func `says everything that is wrong with a task at once`() async throws {
        try await bare { town in
            let refused = try await town.post(
                "/api/v1/tasks",
                [
                    "platform": "carrier pigeon", "priority": "URGENT",
                    "settings": [
                        "group_id": "not a group!", "invite_type": "direct_message", "batch_size": 0,
                        "window": ["days": ["someday"], "from": "25:00", "timezone": "Mars/Olympus"],
                    ],
                ])
            #expect(refused.status == 422)
            let fields = Set((refused["errors"].arrayValue ?? []).compactMap { $0["field"]?.stringValue })
            #expect(
                fields == [
                    "name", "platform", "priority", "settings.group_id", "settings.batch_size",
                    "settings.window.days", "settings.window.from", "settings.window.timezone",
                    "invite_message",
                ], "\(fields)")
        }
    }

    /// A wish that would be taken and then forgotten is worse than a no.
    @Test func `refuses to add people to an account's contacts, and says what works without`() async throws {
        try await bare { town in
            let refused = try await town.post(
                "/api/v1/tasks",
                ["name": "Contacts", "settings": ["group_id": "club", "auto_add_contacts": true]])
            #expect(refused.status == 422)
            #expect(refused["errors"][0]?["field"] == "settings.auto_add_contacts")
            #expect(refused["errors"][0]?["code"] == "not_supported")
            let task = try await town.makeTask(["group_id": "club", "auto_add_contacts": false])
            #expect(
                try await town.get("/api/v1/tasks/\(task)")["settings"]["auto_add_contacts"] == false)
        }
    }

    @Test func `finds tasks by status, priority, name and time, in any order`() async throws {
        try await bare { town in
            for (name, priority) in [("Alpha", "LOW"), ("beta 50%", "HIGH"), ("gamma", "MEDIUM")] {
                let made = try await town.post(
                    "/api/v1/tasks",
                    [
                        "name": .string(name), "priority": .string(priority.lowercased()),
                        "settings": ["group_id": "club"],
                    ])
                #expect(made.status == 201)
                town.time.advance(by: .minutes(1))
            }
            func names(_ query: String) async throws -> [String] {
                try await town.get("/api/v1/tasks?\(query)")["items"].arrayValue?
                    .compactMap { $0["name"]?.stringValue } ?? ["?"]
            }
            #expect(try await names("sort_by=name&sort_order=asc") == ["Alpha", "beta 50%", "gamma"])
            #expect(try await names("sort_by=priority&sort_order=desc") == ["beta 50%", "gamma", "Alpha"])
            #expect(try await names("") == ["gamma", "beta 50%", "Alpha"])
            #expect(try await names("priority=HIGH") == ["beta 50%"])
            #expect(try await names("name_contains=50%25") == ["beta 50%"])
            #expect(try await names("name_contains=_") == [])
            #expect(try await names("status=PENDING&page_size=1") == ["gamma"])
            #expect(try await names("status=completed") == [])
            #expect(try await town.get("/api/v1/tasks?status=SLEEPING&sort_by=colour").status == 422)
        }
    }

    @Test func `keeps each person once, however written`() async throws {
        try await bare { town in
            let task = try await town.makeTask()
            let added = try await town.post(
                "/api/v1/tasks/\(task)/targets/bulk",
                [
                    "targets": [
                        ["username": "@Anna_S"], ["username": "https://t.me/anna_s"],
                        ["phone_number": "8 900 123-45-67", "full_name": "Anna"],
                        ["phone": "+79001234567"], ["user_id_platform": 77], ["user_id_platform": "77"],
                        ["username": "anna_s", "phone_number": "+15550001111"],
                    ]
                ])
            #expect(added.status == 201)
            #expect(added["created_count"] == 3)
            #expect(added["duplicate_count"] == 4)
            #expect(
                try await town.post("/api/v1/tasks/\(task)/targets", ["username": "ANNA_S"]).code
                    == "duplicate_target")
            let wrong = try await town.post("/api/v1/tasks/\(task)/targets", ["full_name": "Nobody"])
            #expect(wrong.status == 422)
            #expect(try await town.get("/api/v1/tasks/\(task)/targets?q=900123")["total"] == 1)
            #expect(try await town.get("/api/v1/tasks/\(task)/targets?q=anna")["total"] == 2)
            #expect(try await town.get("/api/v1/tasks/\(task)/targets?status=INVITED")["total"] == 0)

            let list = try await town.get("/api/v1/tasks/\(task)/targets")
            let id = list["items"][0]?["id"]?.intValue ?? 0
            let other = list["items"][2]?["id"] ?? .null
            let changed = try await town.put(
                "/api/v1/tasks/\(task)/targets/\(id)", ["username": "", "user_id_platform": "5"])
            #expect(changed["username"] == .null)
            #expect(changed["user_id_platform"] == "5")
            #expect(
                try await town.put("/api/v1/tasks/\(task)/targets/\(id)", ["user_id_platform": 77]).code
                    == "duplicate_target")
            let acted = try await town.post(
                "/api/v1/tasks/\(task)/targets/bulk-action",
                ["target_ids": [.int(id), other, 99_999], "action": "SKIP"])
            #expect(acted["success_count"] == 2)
            #expect(acted["results"][2]?["success"] == false)
            let stats = try await town.get("/api/v1/tasks/\(task)/targets/stats")
            #expect(stats["by_status"]["SKIPPED"] == 2)
            #expect(stats["by_error"]["left_out"]?["SKIPPED"] == 2)
            #expect(try await town.delete("/api/v1/tasks/\(task)/targets/\(id)").status == 204)
            #expect(try await town.get("/api/v1/tasks/\(task)/targets/\(id)").status == 404)
        }
    }

    @Test func `copies, changes many, and deletes`() async throws {
        try await bare { town in
            let task = try await town.makeTask(["group_id": "club", "daily_cap": 7])
            _ = try await town.post("/api/v1/tasks/\(task)/targets", ["username": "anna_s"])
            let copy = try await town.post(
                "/api/v1/tasks/\(task)/duplicate", ["new_name": "Copy", "copy_targets": true])
            #expect(copy.status == 201)
            #expect(copy["target_count"] == 1)
            #expect(copy["settings"]["daily_cap"] == 7)
            let id = copy["id"]
            let bulk = try await town.post(
                "/api/v1/tasks/bulk",
                [
                    "task_ids": [.int(task), id, 99_999], "action": "SET_PRIORITY",
                    "parameters": ["priority": "HIGH"],
                ])
            #expect(bulk["success_count"] == 2)
            #expect(bulk["results"][2]?["code"] == "not_found")
            #expect(try await town.get("/api/v1/tasks?priority=HIGH")["total"] == 2)
            let paused = try await town.post("/api/v1/tasks/bulk", ["task_ids": [id], "action": "PAUSE"])
            #expect(paused["results"][0]?["code"] == "wrong_state")
            #expect(
                try await town.post("/api/v1/tasks/bulk", ["task_ids": [id], "action": "DELETE"])[
                    "success_count"] == 1)
            #expect(try await town.get("/api/v1/tasks")["total"] == 1)
            #expect(try await town.delete("/api/v1/tasks/\(task)", user: 2).status == 404)
            #expect(try await town.delete("/api/v1/tasks/\(task)").status == 204)
        }
    }

    @Test func `starts nothing that has nobody in it`() async throws {
        try await bare { town in
            let task = try await town.makeTask()
            #expect(try await town.post("/api/v1/tasks/\(task)/execute").code == "no_targets")
            let refused = try await town.post("/api/v1/tasks/\(task)/pause")
            #expect(refused.code == "wrong_state")
            #expect(refused["status"] == 409)
            #expect(refused["status_now"] == "PENDING")
        }
    }

    @Test func `makes a campaign in one call, and shows it`() async throws {
        try await withTown { town in
            try await town.connect(1)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let person = try #require(town.world.people(.open, notIn: club, limit: 1).first?.username)
            let made = try await town.post(
                "/api/v1/campaigns",
                [
                    "user_id": 1, "name": "Test Campaign", "platform": "telegram",
                    "targets": [["username": .string(person), "phone": "+12345678901"]],
                    "invite_data": ["group_id": "@sandbox_club", "message": "Test invite"],
                ])
            #expect(made.status == 201, "\(made.json)")
            let id = try #require(made["campaign_id"].intValue)
            try await town.play(id)
            let shown = try await town.get("/api/v1/campaigns/\(id)")
            #expect(shown["status"] == "COMPLETED")
            #expect(shown["counts"]["accepted"] == 1)

            let events = try await town.stream("/api/v1/tasks/\(id)/status-stream?last_event_id=1")
            #expect(events.contains("event: log"))
            #expect(events.contains("INVITE_SUCCESSFUL"))
            #expect(events.contains("event: done"))
            let run = try await town.post("/api/v1/tasks/\(id)/dry-run")
            #expect(run["to_invite"] == 0)
            let stats = try await town.get("/api/v1/tasks/\(id)/stats")
            #expect(stats["by_source"]["MANUAL"]?["INVITED"] == 1)
            let status = try await town.get("/api/v1/tasks/\(id)/status")
            #expect(status["last_successes"][0]?["message"]?.stringValue?.contains(person) == true)
            let accounts = try await town.get("/api/v1/accounts")
            #expect(accounts["items"][0]?["eligible"] == false)
        }
    }

    @Test func `foresees a run against the limits, and refuses one that can never end`() async throws {
        try await withTown { town in
            try await town.connect(1)
            let task = try await town.makeTask(["group_id": "@sandbox_club", "daily_cap": 3])
            let targets = (0..<250).map {
                JSONValue.object([JSONMember("username", .string("person_\($0)"))])
            }
            _ = try await town.post("/api/v1/tasks/\(task)/targets/bulk", ["targets": .array(targets)])
            let refused = try await town.post("/api/v1/tasks/\(task)/execute")
            #expect(refused.status == 409)
            #expect(refused.code == "impossible")
            #expect(refused["plan"]["accounts_needed"] == 2)
            let run = try await town.post("/api/v1/tasks/\(task)/dry-run", ["accounts_added": 1])
            #expect(run["possible"] == true, "\(run.json)")
            #expect(run["forecast"]["days"] == 84)
            #expect(run["forecast"]["schedule"]?[0]?["binding"] == "daily_cap")
            #expect(try await town.get("/api/v1/tasks/\(task)")["status"] == "PENDING")
        }
    }
}

extension Town {
    /// A stream to its end, as text.
    func stream(_ path: String) async throws -> String {
        let found = run(.invites)
        let run = try #require(found)
        let parts = path.split(separator: "?", maxSplits: 1)
        let request = Request(
            .get, String(parts[0]), query: Query((parts.count > 1 ? "\(parts[1])&" : "") + "user_id=1"),
            headers: ["Host": "localhost"])
        return String(decoding: try await run.service.router.answer(request).collect(), as: UTF8.self)
    }
}
