import Core
import HTTP
import Testing

@testable import ParsingServiceWiring
@testable import ServiceKit

/// What the contract lists, met with what nobody should send. Every answer is held against the contract as well.
@Suite(.timeLimit(.minutes(5)))
struct `Every endpoint` {
    struct Endpoint: CustomStringConvertible {
        let method: HTTP.Method
        /// As the contract writes it, `{id}` included.
        let path: String
        let queries: [String]
        let takesBody: Bool
        let isPublic: Bool
        var description: String { "\(method) \(path)" }
        var isInternal: Bool { path.hasPrefix("/internal") }
        var namesTask: Bool { path.contains("{") }

        func path(_ id: String) -> String {
            path.replacing("{id}", with: id).replacing("{task_id}", with: id)
        }
    }

    static func all() throws -> [Endpoint] {
        let contract = try JSONValue.contract(ServiceDefinition.parsingService.contract)
        func resolved(_ value: JSONValue) -> JSONValue {
            guard let reference = value["$ref"]?.stringValue else { return value }
            return reference.split(separator: "/").dropFirst().reduce(contract) { $0[String($1)] ?? .null }
        }
        return (contract["paths"]?.objectValue ?? []).flatMap { path in
            ["get", "post", "delete"].compactMap { name in
                guard let operation = path.value[name] else { return nil }
                let parameters = (operation["parameters"]?.arrayValue ?? []).map(resolved)
                return Endpoint(
                    method: HTTP.Method(rawValue: name.uppercased()), path: path.name,
                    queries: parameters.filter { $0["in"] == "query" }.compactMap { $0["name"]?.stringValue },
                    takesBody: operation["requestBody"] != nil, isPublic: operation["security"] == [])
            }
        }
    }

    /// A finished task of a user of this test's own, and those who may ask the endpoint.
    private func finished(_ run: Plant.Run, of user: Int64) async throws -> String {
        let id = try await run.create("sandbox_club", "members", of: user)
        #expect(await run.user(user).post("/tasks/\(id)/cancel")["status"] == "cancelled")
        return id
    }

    private func caller(_ endpoint: Endpoint, _ run: Plant.Run, _ user: Int64) -> Caller {
        endpoint.isInternal ? run.service("invite-service", for: user) : run.user(user)
    }

    @Test func `is known to these tests`() throws {
        let all = try Self.all()
        #expect(all.count >= 15)
        #expect(all.contains { $0.namesTask && $0.method == .delete })
        #expect(all.flatMap(\.queries).contains("min_messages"))
        #expect(all.contains { $0.isInternal && $0.takesBody })
    }

    @Test func `answers nobody without a token, and nobody with a wrong one`() async throws {
        try await Shared.plant { _, run in
            let id = try await finished(run, of: 101)
            for endpoint in try Self.all() where !endpoint.isPublic {
                for caller in [
                    run.nobody, Caller(router: run.service.router, token: "x"),
                    Caller(router: run.service.router, token: "eyJhbGciOiJub25lIn0.eyJ1aWQiOjEwMX0."),
                ] {
                    let answer = await caller.ask(
                        endpoint.method, endpoint.path(id),
                        bytes: endpoint.takesBody ? Bytes("{}".utf8) : nil,
                        headers: ["Content-Type": "application/json"])
                    #expect(answer.status == 401, "\(endpoint)")
                }
            }
            #expect(await run.user(101).get("/tasks/\(id)")["status"] == "cancelled")
        }
    }

    @Test func `has no task of another's, and none under a hostile name`() async throws {
        try await Shared.plant { _, run in
            let foreign = try await finished(run, of: 102)
            for endpoint in try Self.all() where endpoint.namesTask {
                for id in [
                    foreign, foreign.uppercased(), "\(foreign)%00", "task_1", "1", "-1", "%00", "%ff", "%zz",
                    "%",
                    "..%2f..%2finternal", "%2e%2e", "'%20OR%201=1--", "%F0%9F%8F%B4", "{id}", "null",
                    String(repeating: "x", count: 5000), String(repeating: "%F0%9F%8F%B4", count: 500),
                ] {
                    let answer = await run.user(103).ask(endpoint.method, endpoint.path(id))
                    #expect([400, 404].contains(answer.status), "\(endpoint) \(id) \(answer.status)")
                }
            }
            #expect(await run.user(102).get("/tasks/\(foreign)")["status"] == "cancelled")
        }
    }

    /// What cannot be read is no value, and must not count as none: a filter that is dropped shows everything.
    @Test func `refuses what is wrong in its query`() async throws {
        try await Shared.plant { _, run in
            let id = try await finished(run, of: 104)
            for endpoint in try Self.all() {
                for name in endpoint.queries where name != "last_event_id" {
                    for value in ["%00", "a%00b", "%ff", "%zz", "%", "%ED%A0%80"] {
                        // Beside what the endpoint needs, so that nothing else is wrong.
                        let rest = endpoint.path.hasSuffix("/search") && name != "q" ? "&q=chess" : ""
                        let answer = await caller(endpoint, run, 104).ask(
                            endpoint.method, "\(endpoint.path(id))?\(name)=\(value)\(rest)")
                        #expect(answer.status == 400, "\(endpoint) \(name)=\(value) \(answer.text)")
                        #expect(answer.code == "bad_query", "\(answer.text)")
                    }
                }
                guard endpoint.method == .get, !endpoint.isPublic else { continue }
                for query in [
                    "%00=1", "=", "&&&", "page=1&page=%00", String(repeating: "a", count: 9000),
                    String(repeating: "a=1&", count: 3000),
                    "q=\(String(repeating: "%F0%9F%8F%B4", count: 201))",
                ] {
                    let answer = await caller(endpoint, run, 104).ask(
                        endpoint.method, "\(endpoint.path(id))?\(query)")
                    #expect(answer.status < 500, "\(endpoint) \(query)")
                }
            }
            let user = run.user(104)
            for wrong in [
                "page=99999999999999999999", "page=-1", "page=1.5", "page_size=0", "page_size=101", "page=x",
            ] {
                for path in ["/tasks", "/results/\(id)"] {
                    #expect(await user.get("\(path)?\(wrong)").status == 422, "\(path) \(wrong)")
                }
            }
            for wrong in [
                "sort_by=nonsense", "sort_by=id;drop", "sort_order=sideways",
                "sort_by=created_at&sort_order=0",
            ] {
                for path in ["/tasks", "/results/\(id)", "/results/\(id)/export"] {
                    #expect(await user.get("\(path)?\(wrong)").status == 422, "\(path) \(wrong)")
                }
            }
            for wrong in ["after=-1", "after=99999999999999999999", "kind=%D1%8F", "active_since=2025-13-01"]
            {
                #expect(await user.get("/results/\(id)?\(wrong)").status == 422, "\(wrong)")
            }
        }
    }

    @Test func `refuses a body that is none`() async throws {
        try await Shared.plant { _, run in
            let deep = String(repeating: "[", count: 100_000)
            let wrong: [(Bytes, String, [Int])] = [
                (Bytes(), "application/json", [400, 422]), (Bytes("{".utf8), "application/json", [400]),
                (Bytes("[]".utf8), "application/json", [422]),
                (Bytes("null".utf8), "application/json", [422]),
                (Bytes("{\"a\":\(deep)".utf8), "application/json", [400]),
                ([0x7B, 0x22, 0xFF, 0x22, 0x3A, 0x31, 0x7D], "application/json", [400]),
                (Bytes("{}".utf8), "text/plain", [415]), (Bytes("a=1".utf8), "multipart/form-data", [415]),
                (
                    Bytes("{\"a\":\"\(String(repeating: "x", count: 2 << 20))\"}".utf8), "application/json",
                    [413]
                ),
                (Bytes("{\"links\":1e999,\"usernames\":{\"a\":[]}}".utf8), "application/json", [400, 422]),
            ]
            for endpoint in try Self.all() where endpoint.takesBody {
                for (body, type, expected) in wrong {
                    let answer = await caller(endpoint, run, 105).ask(
                        endpoint.method, endpoint.path, bytes: body, headers: ["Content-Type": type])
                    #expect(
                        expected.contains(answer.status),
                        "\(endpoint) \(type) \(String(decoding: body.prefix(40), as: UTF8.self)) \(answer.text)"
                    )
                }
            }
            for (field, value) in [
                ("title", "\"a\\u0000b\""), ("title", "\"\(String(repeating: "я", count: 201))\""),
                ("config", #"{"message_limit":99999999999999999999}"#),
                ("config", #"{"filters":{"keywords":["a\u0000"]}}"#), ("config", #"{"filters":[]}"#),
                ("config", #"{"since":"99999-01-01T00:00:00Z"}"#),
                ("config", #"{"speed_config":{"speed":1}}"#),
            ] {
                let answer = await run.user(105).ask(
                    .post, "/api/v1/tasks",
                    bytes: Bytes(#"{"platform":"telegram","link":"abcd","\#(field)":\#(value)}"#.utf8),
                    headers: ["Content-Type": "application/json"])
                #expect(answer.status == 422, "\(field) \(value) \(answer.text)")
                #expect(answer.mistakes.contains { $0.hasPrefix(field) }, "\(answer.text)")
            }
            for order in [
                #"{"usernames":"anna"}"#, #"{"user_ids":["x"]}"#, #"{"phones":[""]}"#, #"{}"#,
                #"{"usernames":["a\u0000b"]}"#,
            ] {
                let answer = await run.service("invite-service", for: 105).ask(
                    .post, "/internal/privacy/erase", bytes: Bytes(order.utf8),
                    headers: ["Content-Type": "application/json"])
                #expect(answer.status == 422, "\(order) \(answer.text)")
            }
            #expect(await run.user(105).get("/tasks")["total"] == 0)
        }
    }
}
