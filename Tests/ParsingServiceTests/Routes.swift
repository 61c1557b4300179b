import Core
import HTTP
import Testing

/// What the service answers, apart from reading: no account is connected, so nothing is read.
@Suite(.timeLimit(.minutes(5)))
struct `parsing-service` {
    @Test(arguments: Engine.available)
    func `takes tasks under all three paths, with links in all forms`(engine: Engine) async throws {
        try await Plant.open(engine) { plant, run in
            let user = run.user()
            for base in ["/api/v1", "/v1", ""] {
                // As the documents write it.
                let made = await user.post(
                    "\(base)/tasks",
                    [
                        "user_id": 1, "platform": "telegram", "targets": ["@testchannel"],
                        "config": ["message_limit": 10, "speed_config": "safe"],
                    ])
                #expect(made.status == 201, "\(base) \(made.text)")
                #expect(made["status"] == "pending")
                #expect(made["task_type"] == "parse")
                #expect(made["link"] == "https://t.me/testchannel")
                #expect(made["speed_config"]["speed"] == "safe")
                #expect(made["speed_config"]["batch_size"] == 10)
                let id = try #require(made["id"].stringValue)
                #expect(await user.get("\(base)/tasks/\(id)")["id"] == .string(id))
                #expect(await user.get("\(base)/tasks/\(id)/")["id"] == .string(id))
                #expect(await user.get("\(base)/tasks/\(id)/progress")["progress"] == 0)
                #expect(await user.get("\(base)/results/\(id)")["total"] == 0)
                #expect(await user.post("\(base)/tasks/\(id)/pause")["status"] == "paused")
                #expect(await user.post("\(base)/tasks/\(id)/pause")["status"] == "paused")
                #expect(await user.post("\(base)/tasks/\(id)/resume")["status"] == "pending")
                #expect(await user.post("\(base)/tasks/\(id)/cancel")["status"] == "cancelled")
                #expect(await user.post("\(base)/tasks/\(id)/cancel")["status"] == "cancelled")
                #expect(await user.post("\(base)/tasks/\(id)/pause").code == "wrong_state")
                #expect(await user.post("\(base)/tasks/\(id)/resume").status == 409)
                #expect(await user.delete("\(base)/tasks/\(id)").status == 204)
                #expect(await user.get("\(base)/tasks/\(id)").status == 404)
                #expect(await user.delete("\(base)/tasks/\(id)").status == 404)
                #expect(await user.get("\(base)/nothing").status == 404)
                #expect(await user.ask("PATCH", "\(base)/tasks/\(id)").status == 405)
            }
            let several = await user.post(
                "/tasks",
                [
                    "platform": "TELEGRAM", "priority": "HIGH",
                    "links": [
                        "t.me/one_one", "https://telegram.me/one_one/77", "tg://resolve?domain=two_two",
                    ],
                ])
            #expect(several.status == 201)
            #expect(several["total"] == 2)
            #expect(several["tasks"][0]?["priority"] == "high")
        }
    }

    @Test(arguments: [
        (#"{"platform": "telegram"}"#, ["links missing"]),
        (#"{"links": []}"#, ["links wrong_count", "platform missing"]),
        (#"{"platform": "instagram", "links": ["abc"]}"#, ["platform unknown_value"]),
        (
            #"{"platform": "telegram", "links": ["+15551234567", "http://example.com/a", "me@example.com", 5, "a\u0000b"]}"#,
            [
                "links[0] not_a_community", "links[1] not_a_community", "links[2] not_a_community",
                "links[3] wrong_type", "links[4] forbidden_character",
            ]
        ),
        (
            #"{"platform": "telegram", "link": "abc", "priority": "urgent", "task_type": "likes", "title": ""}"#,
            ["priority unknown_value", "task_type unknown_value", "title too_short"]
        ),
        (
            #"{"platform": "telegram", "link": "abcd", "config": {"message_limit": 0, "member_limit": "x", "speed_config": "ludicrous", "since": "yesterday", "include_media": 7, "filters": {"keywords": [""]}}}"#,
            [
                "config.filters.keywords[0] too_short", "config.include_media wrong_type",
                "config.member_limit wrong_type", "config.message_limit out_of_range",
                "config.since wrong_type",
                "config.speed_config unknown_value",
            ]
        ),
        (
            #"{"platform": "telegram", "link": "abcd", "config": {"since": "2025-01-02T00:00:00Z", "until": "2025-01-01T00:00:00Z"}}"#,
            ["config.until before_since"]
        ),
        (#"{"platform": "telegram", "link": "abcd", "config": []}"#, ["config not_an_object"]),
        (
            #"{"platform": "telegram", "links": [5, "no link"], "targets": ["@abcd", "nor this"], "link": "?"}"#,
            [
                "link not_a_community", "links[0] wrong_type", "links[1] not_a_community",
                "targets[1] not_a_community",
            ]
        ),
        (
            #"{"platform": "telegram", "link": "abcd", "config": {"message_limt": 5, "filters": {"has_user": true}}}"#,
            ["config.filters.has_user unknown_field", "config.message_limt unknown_field"]
        ),
        (#"[]"#, [" not_an_object"]),
    ])
    func `says all that is wrong with a task`(body: String, mistakes: [String]) async throws {
        try await Shared.plant { _, run in
            let answer = await run.user().ask(
                .post, "/api/v1/tasks", bytes: Bytes(body.utf8), headers: ["Content-Type": "application/json"]
            )
            #expect(answer.status == 422, "\(answer.text)")
            let found = answer.mistakes
            #expect(found.sorted() == mistakes.sorted(), "\(answer.text)")
        }
    }

    @Test func `names the platforms it knows to whoever asks for another`() async throws {
        try await Shared.plant { _, run in
            var caller = run.user()
            caller.language = "ru"
            let answer = await caller.post("/api/v1/tasks", ["platform": "whatsapp", "link": "abcd"])
            #expect(answer.status == 422)
            #expect(answer["errors"][0]?["message"]?.stringValue?.contains("telegram") == true)
            #expect(answer.headers["content-language"] == "ru")
        }
    }

    @Test func `refuses what is malformed, oversized, of another type or from nobody`() async throws {
        try await Shared.plant { _, run in
            let user = run.user()
            func post(_ body: String, _ type: String = "application/json") async -> Answer {
                await user.ask(
                    .post, "/api/v1/tasks", bytes: Bytes(body.utf8), headers: ["Content-Type": type])
            }
            #expect(await post("{").status == 400)
            #expect(await post("").status == 400)
            #expect(await post("{\"platform\":\"telegram\"", "application/json").status == 400)
            #expect(await post("platform=telegram", "application/x-www-form-urlencoded").status == 415)
            #expect(await post("{\"a\":\"" + String(repeating: "x", count: 2 << 20) + "\"}").status == 413)
            let many = JSONValue.array((0..<101).map { .string("group_\($0)") })
            #expect(
                await user.post("/tasks", ["platform": "telegram", "links": many]).mistakes
                    == ["links wrong_count"])
            for path in ["/api/v1/tasks", "/v1/tasks", "/tasks", "/results/x", "/search?q=chess"] {
                #expect(await run.nobody.get(path).status == 401, "\(path)")
            }
            #expect(await run.nobody.post("/internal/privacy/erase", ["usernames": ["x"]]).status == 401)
            #expect(await user.post("/internal/privacy/erase", ["usernames": ["x"]]).status == 404)
        }
    }

    @Test func `shows nobody what is another's`() async throws {
        try await Shared.plant { _, run in
            let id = try await run.create("sandbox_club", "members", of: 41)
            let other = run.user(42)
            for path in [
                "/tasks/\(id)", "/tasks/\(id)/progress", "/tasks/\(id)/progress-stream", "/results/\(id)",
                "/results/\(id)/export?format=csv",
            ] {
                #expect(await other.get("/api/v1\(path)").status == 404, "\(path)")
            }
            for order in ["pause", "resume", "cancel"] {
                #expect(await other.post("/api/v1/tasks/\(id)/\(order)").status == 404)
            }
            #expect(await other.delete("/api/v1/tasks/\(id)").status == 404)
            #expect(await other.get("/api/v1/tasks")["total"] == 0)
            #expect(await run.user(41).get("/api/v1/tasks")["total"] == 1)
            for path in [
                "%00", "..%2f..", "'%20OR%201=1", "%F0%9F%8F%B3", String(repeating: "x", count: 5000),
            ] {
                let answer = await other.get("/api/v1/tasks/\(path)")
                #expect(answer.status == 404 || answer.status == 400, "\(path) \(answer.status)")
                #expect(await other.get("/api/v1/results/\(path)").status < 500)
            }
        }
    }

    @Test func `lists tasks by what they are, a page at a time`() async throws {
        try await Shared.plant { _, run in
            let user = run.user(51)
            for number in 0..<25 {
                let priority: JSONValue = number % 2 == 0 ? "low" : "high"
                let made = await user.post(
                    "/tasks",
                    [
                        "platform": "telegram", "link": .string("list_\(number)"), "priority": priority,
                        "task_type": "members",
                    ])
                #expect(made.status == 201)
            }
            let first = await user.get("/tasks?page_size=10")
            #expect(first["total"] == 25)
            #expect(first["items"].arrayValue?.count == 10)
            #expect(first["items"][0]?["link"] == "https://t.me/list_24")
            let last = await user.get("/tasks?page_size=10&page=3")
            #expect(last["items"].arrayValue?.count == 5)
            #expect(last["has_next"] == false)
            #expect(await user.get("/tasks?priority=high")["total"] == 12)
            #expect(await user.get("/tasks?link=@LIST_7")["total"] == 1)
            #expect(await user.get("/tasks?status=completed")["total"] == 0)
            #expect(await user.get("/tasks?task_type=members&platform=telegram")["total"] == 25)
            let wrong = await user.get("/tasks?status=asleep&priority=x&link=a%20b")
            #expect(wrong.status == 422)
            #expect(wrong.mistakes.count == 3)
            #expect(await user.get("/tasks?page=0").status == 422)
            #expect(await user.get("/tasks?page_size=101").status == 422)
        }
    }

    @Test func `repeats its first answer for the same idempotency key`() async throws {
        try await Shared.plant { _, run in
            let user = run.user(61)
            let body: JSONValue = ["platform": "telegram", "link": "idem_potent"]
            let first = await user.post("/api/v1/tasks", body, headers: ["Idempotency-Key": "k1"])
            let second = await user.post("/api/v1/tasks", body, headers: ["Idempotency-Key": "k1"])
            #expect(first.status == 201)
            #expect(second["id"] == first["id"])
            #expect(await user.get("/tasks")["total"] == 1)
            let other = await user.post(
                "/api/v1/tasks", ["platform": "telegram", "link": "other"], headers: ["Idempotency-Key": "k1"]
            )
            #expect(other.status == 422)
        }
    }

    @Test func `waits and says for what where there is no account`() async throws {
        try await Shared.plant { _, run in
            let id = try await run.create("sandbox_club", "members", of: 71)
            try await eventually("it says so") {
                await run.user(71).get("/tasks/\(id)")["waiting"]["reason"] == "no_account"
            }
            let task = await run.user(71).get("/tasks/\(id)")
            #expect(task["status"] == "pending")
            #expect(task["waiting"]["until"]?.stringValue.flatMap { Timestamp($0) } != nil)
            #expect(task["waiting"]["message"]?.stringValue?.contains("connect one") == true, "\(task.text)")
            // Nobody knows when there will be one.
            #expect(task["waiting"]["accounts"]?["free_at"] == .null)
        }
    }

    @Test func `judges every filter of results`() async throws {
        try await Shared.plant { _, run in
            let id = try await run.create("sandbox_club", "members", of: 81)
            let wrong = await run.user(81).get(
                "/results/\(id)?has_username=maybe&has_phone=2&active_since=now&min_messages=-1&kind=cats&after=x"
            )
            #expect(wrong.status == 422)
            #expect(wrong.mistakes.count == 6, "\(wrong.text)")
            let format = await run.user(81).get("/results/\(id)/export?format=pdf")
            #expect(format.mistakes == ["format wrong_value"])
            #expect(await run.user(81).get("/results/\(id)?page=0").status == 422)
        }
    }

    @Test func `shows its figures under the documented names`() async throws {
        try await Shared.plant { _, run in
            _ = try await run.create("sandbox_club", "members", of: 91)
            var text = ""
            try await eventually("the figures are there") {
                text = await run.nobody.get("/metrics").text
                return text.contains("parsing_service_up 1") && text.contains("parse_tasks_total")
            }
            for name in [
                "parse_tasks_total", "parse_tasks_running", "parse_tasks_completed",
                "telegram_accounts_total",
                "telegram_accounts_available", "parsing_service_up",
            ] {
                #expect(text.contains("\n\(name) "), "\(name)")
            }
        }
    }
}

/// One plant for all tests that need nothing special of it.
enum Shared {
    private static let shared = Lazy()

    static func plant(_ test: (Plant, Plant.Run) async throws -> Void) async throws {
        let (plant, run) = try await shared.get()
        try await test(plant, run)
    }

    private actor Lazy {
        private var made: Task<(Plant, Plant.Run), any Error>?

        func get() async throws -> (Plant, Plant.Run) {
            let made =
                self.made
                ?? Task {
                    let plant = try await Plant(.sqlite)
                    return (plant, try await plant.started())
                }
            self.made = made
            return try await made.value
        }
    }
}
