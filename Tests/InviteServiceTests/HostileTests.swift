import Core
import HTTP
import ServiceKit
import TestServers
import Testing

/// Every route that there is, asked with what no honest client sends. New routes are met as they are added.
@Suite(.timeLimit(.minutes(5)))
struct `Every route of the invite service` {
    private struct Route: Sendable {
        let method: HTTP.Method
        let path: String
    }

    private func alone(_ body: (Town, [Route]) async throws -> Void) async throws {
        let town = try await Town(.embedded, accounts: 12, people: 50)
        try await town.start(.invites)
        let found = town.run(.invites)
        let router = try #require(found).service.router
        // What everybody may see is no secret; a stream goes on until its reader leaves.
        let open = ["/health", "/metrics", "/openapi.json", "/api/v1/health/detailed"]
        let routes = router.operations.compactMap { operation -> Route? in
            let words = operation.split(separator: " ").map(String.init)
            guard words.count == 2, !open.contains(words[1]), !words[1].hasSuffix("-stream"),
                !words[1].hasPrefix("/internal")
            else { return nil }
            return Route(method: HTTP.Method(rawValue: words[0]), path: words[1])
        }
        #expect(routes.count > 40)
        let result: Result<Void, any Error>
        do { result = .success(try await body(town, routes)) } catch { result = .failure(error) }
        await town.stopAll()
        try result.get()
    }

    /// As bytes, whatever they are.
    private func ask(
        _ town: Town, _ route: Route, _ path: String, _ body: Bytes? = nil,
        type: String = "application/json", user: Int64 = 1
    ) async throws -> (status: Int, json: JSONValue) {
        let found = town.run(.invites)
        let router = try #require(found).service.router
        var headers: Headers = ["Host": "localhost"]
        if body != nil { headers["Content-Type"] = type }
        let response = await router.answer(
            Request(
                route.method, path, query: Query("user_id=\(user)"), headers: headers,
                body: body.map { Body($0) } ?? .empty))
        return (response.status, (try? JSONValue(parsing: try await response.collect())) ?? .null)
    }

    private func filled(_ path: String, task: String, other: String) -> String {
        path.split(separator: "/", omittingEmptySubsequences: false).map { part in
            guard part.hasPrefix("{") else { return String(part) }
            let isTask = path.hasPrefix("/api/v1/tasks/{") && path.hasPrefix("/api/v1/tasks/\(part)")
            return isTask || path.hasPrefix("/api/v1/campaigns/") ? task : other
        }.joined(separator: "/")
    }

    private func isExplained(_ answer: (status: Int, json: JSONValue)) -> Bool {
        answer.json["code"]?.stringValue?.isEmpty == false
            && answer.json["detail"]?.stringValue?.isEmpty == false
    }

    @Test func `hides what belongs to another user`() async throws {
        try await alone { town, routes in
            let task = try await town.makeTask()
            _ = try await town.post("/api/v1/tasks/\(task)/targets", ["username": "anna_s"])
            let target = try await town.get("/api/v1/tasks/\(task)/targets")["items"][0]?["id"]?.intValue ?? 0
            for route in routes where route.path.contains("/tasks/{") || route.path.contains("/campaigns/{") {
                let path = filled(route.path, task: String(task), other: String(target))
                let bodies: [Bytes?] =
                    route.method == .get || route.method == .delete
                    ? [nil]
                    : [
                        nil, JSONValue.object([]).bytes,
                        (["username": "boris_b", "parsing_task_id": 1, "target_id": .int(target)] as JSONValue)
                            .bytes,
                        ([
                            "target_ids": [.int(target)], "targets": [["username": "boris_b"]],
                            "action": "SKIP",
                        ]
                            as JSONValue).bytes,
                    ]
                for body in bodies {
                    let answer = try await ask(town, route, path, body, user: 2)
                    // That its own words are wrong may be said before; that there is something, never.
                    #expect(
                        answer.status == 404
                            || (body != nil || route.method != .get)
                                && [400, 415, 422].contains(answer.status),
                        "\(route.method) \(route.path): \(answer)")
                }
            }
            let untouched = try await town.get("/api/v1/tasks/\(task)/targets")
            #expect(untouched["total"] == 1)
            #expect(untouched["items"][0]?["status"] == "PENDING")
        }
    }

    @Test func `takes no number that is none`() async throws {
        try await alone { town, routes in
            for route in routes where route.path.contains("{") {
                for id in [
                    "0", "-1", "999999999", "9223372036854775807", "9223372036854775808", "1e3", "abc", "%00",
                    "1;DROP TABLE invite_tasks", "..", String(repeating: "9", count: 3000), "١٢",
                ] {
                    let path = filled(route.path, task: id, other: id)
                    let body: Bytes? = route.method == .get || route.method == .delete ? nil : "{}".utf8Bytes
                    let answer = try await ask(town, route, path, body)
                    #expect(
                        (400..<500).contains(answer.status) && isExplained(answer),
                        "\(route.method) \(path.prefix(120)): \(answer)")
                }
            }
        }
    }

    @Test func `answers nonsense with a reason and never falls over it`() async throws {
        let deep = String(repeating: "[", count: 100_000)
        let bodies: [(String, Bytes)] = [
            ("nothing", []), ("half an object", "{\"name\": ".utf8Bytes), ("a list", "[]".utf8Bytes),
            ("null", "null".utf8Bytes), ("a word", "\"x\"".utf8Bytes), ("a number", "1e999".utf8Bytes),
            ("no text", [0xFF, 0xFE, 0x00, 0xC3]), ("a hole without end", deep.utf8Bytes),
            ("a name twice", "{\"name\":\"a\",\"name\":\"b\"}".utf8Bytes),
            (
                "the wrong kinds",
                """
                {"name":{}, "platform":[], "settings":"x", "targets":{"a":1}, "target_ids":"all", "action":5,
                "task_ids":[{}], "priority":[], "invite_message":17, "identifier":{}, "username":[],
                "phone_number":{}, "user_id_platform":1.5, "parsing_task_id":[], "filters":"all",
                "error_codes":"x", "target_id":"one", "account_id":5, "parameters":[], "new_name":{},
                "copy_targets":"yes", "force":"yes", "invite_data":"x", "scheduled_at":"soon", "scope":[],
                "accounts_added":-5, "reason":{}, "community":[]}
                """.utf8Bytes
            ),
            (
                "words beyond any measure",
                JSONValue.object([
                    JSONMember("name", .string(String(repeating: "x", count: 300_000))),
                    JSONMember("username", .string(String(repeating: "y", count: 300_000))),
                    JSONMember("identifier", .string(String(repeating: "z", count: 300_000))),
                ]).bytes
            ),
            (
                "what is hidden in words",
                JSONValue.object([
                    JSONMember("name", "a\u{0}b"), JSONMember("username", "a\u{0}b"),
                    JSONMember("identifier", "\u{0}"), JSONMember("new_name", "\u{0}"),
                    JSONMember("settings", ["group_id": "\u{0}'; --"]), JSONMember("platform", "telegram"),
                ]).bytes
            ),
        ]
        try await alone { town, routes in
            let task = try await town.makeTask()
            for route in routes where route.method != .get {
                // Those that are gone afterwards are asked on their own.
                guard route.method != .delete else { continue }
                let path = filled(route.path, task: String(task), other: "1")
                for (what, body) in bodies {
                    let answer = try await ask(town, route, path, body)
                    #expect(
                        answer.status < 500 || answer.status == 503,
                        "\(route.method) \(route.path), \(what): \(answer)")
                    if answer.status >= 400 {
                        #expect(isExplained(answer), "\(route.method) \(route.path), \(what): \(answer)")
                    }
                }
                for type in [
                    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "\u{1}",
                ] {
                    let answer = try await ask(town, route, path, "{}".utf8Bytes, type: type)
                    #expect(
                        answer.status < 500 || answer.status == 503,
                        "\(route.method) \(route.path), \(type): \(answer)")
                }
            }
            // It stands, and nobody has come into it.
            let after = try await town.get("/api/v1/tasks/\(task)")
            #expect(after.status == 200)
            #expect(after["target_count"] == 0)
        }
    }

    @Test func `takes no query that is none`() async throws {
        try await alone { town, routes in
            let task = try await town.makeTask()
            let queries = [
                "page=0", "page=-1", "page=x", "page_size=0", "page_size=100000000",
                "page=9223372036854775807",
                "sort_by=password", "sort_order=sideways", "status=%00", "created_after=yesterday",
                "name_contains=%25%25%00", "q=%00", "q=\(String(repeating: "a", count: 5000))", "format=exe",
                "limit=-1", "language=%ff",
            ]
            for route in routes where route.method == .get {
                let path = filled(route.path, task: String(task), other: "1")
                for query in queries {
                    let found = town.run(.invites)
                    let router = try #require(found).service.router
                    let response = await router.answer(
                        Request(
                            .get, path, query: Query("\(query)&user_id=1"), headers: ["Host": "localhost"],
                            body: .empty))
                    #expect(
                        response.status < 500 || response.status == 503,
                        "\(path)?\(query): \(response.status)")
                    _ = try await response.collect()
                }
            }
        }
    }
}

extension String {
    fileprivate var utf8Bytes: Bytes { Bytes(utf8) }
}
