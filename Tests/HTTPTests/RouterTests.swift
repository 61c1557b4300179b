import Core
import HTTP
import Testing

@Suite struct `A router` {
    private func router() -> Router {
        var router = Router()
        router.on("GET", "/tasks") { _ in .text("list") }
        router.on("POST", "/tasks") { _ in .text("create") }
        router.on("GET", "/tasks/stats") { _ in .text("stats") }
        router.on("GET", "/tasks/{id}") { .text("task \($0.parameter("id"))") }
        router.on("POST", "/tasks/{id}/targets/{target}") {
            .text("\($0.parameter("id"))+\($0.parameter("target"))")
        }
        router.on("GET", "/files/{rest...}") { .text($0.parameter("rest")) }
        router.on("GET", "/number/{id}") { .text("\(try $0.intParameter("id"))") }
        router.quick("GET", "/health") { _ in .text("fine") }
        router.on("GET", "/broken") { _ in throw Unforeseen() }
        return router
    }
    private struct Unforeseen: Error { let reason = "the password is swordfish" }

    @Test(arguments: ["sort_by=%00", "status=%ff", "%zz=1", "a=%c3%28"])
    func `refuses a query that nobody can read, rather than answer without it`(query: String) async throws {
        let response = await router().answer(Request("GET", "/tasks", query: Query(query)))
        #expect(response.status == 400)
        #expect(String(decoding: try await response.collect(), as: UTF8.self).contains("bad_query"))
    }

    private func ask(_ method: HTTP.Method, _ path: String) async throws -> (Int, String) {
        let response = await router().answer(Request(method, path))
        return (response.status, String(decoding: try await response.collect(), as: UTF8.self))
    }

    @Test(arguments: [
        ("GET", "/tasks", "list"), ("GET", "/tasks/", "list"), ("POST", "/tasks", "create"),
        ("GET", "/tasks/stats", "stats"), ("GET", "/tasks/7", "task 7"), ("GET", "/tasks/a%2Fb", "task a/b"),
        ("GET", "/tasks/%D1%8F", "task я"), ("POST", "/tasks/7/targets/9", "7+9"),
        ("GET", "/files/a/b/c", "a/b/c"),
        ("GET", "//tasks", "list"), ("HEAD", "/tasks", "list"), ("GET", "/number/12", "12"),
        ("GET", "/health", "fine"),
    ])
    func `finds the handler`(method: String, path: String, expected: String) async throws {
        let answer = try await ask(HTTP.Method(rawValue: method), path)
        #expect(answer.0 == 200)
        #expect(answer.1 == expected)
    }

    @Test(arguments: [
        ("GET", "/", 404), ("GET", "/tasks/7/nothing", 404), ("GET", "/tasks/%00", 400),
        ("GET", "/tasks/%zz", 400),
        ("GET", "/tasks/%ff", 400), ("GET", "/number/x", 404), ("GET", "/number/-1", 404),
        ("GET", "/number/99999999999999999999", 404), ("DELETE", "/tasks", 405), ("BREW", "/tasks", 405),
    ])
    func `refuses what is not there`(method: String, path: String, status: Int) async throws {
        #expect(try await ask(HTTP.Method(rawValue: method), path).0 == status)
    }

    @Test func `names the methods that are possible`() async {
        let response = await router().answer(Request("DELETE", "/tasks"))
        #expect(response.headers["allow"] == "GET, HEAD, POST")
    }

    @Test func `hides what went wrong inside from the client and not from the log`() async throws {
        let sink = MemorySink()
        var request = Request("GET", "/broken")
        request.log = Log(service: "test", to: sink)
        let response = await router().answer(request)
        #expect(response.status == 500)
        #expect(!String(decoding: try await response.collect(), as: UTF8.self).contains("swordfish"))
        #expect(sink.lines.count == 1)
        #expect(sink.lines[0].contains("Unforeseen"))
    }

    @Test func `answers at once only what needs no waiting`() {
        #expect(router().answerAtOnce(Request("GET", "/health"))?.status == 200)
        #expect(router().answerAtOnce(Request("GET", "/tasks")) == nil)
        #expect(router().answerAtOnce(Request("POST", "/health")) == nil)
    }

    private struct Note: Middleware {
        let word: String
        func handle(
            _ request: Request, next: @Sendable (Request) async throws -> Response
        ) async throws -> Response {
            var response = try await next(request)
            response.headers["X-Order"] = word + (response.headers["X-Order"] ?? "")
            return response
        }
    }
    private struct Guardian: Middleware {
        func handle(
            _ request: Request, next: @Sendable (Request) async throws -> Response
        ) async throws -> Response {
            throw Problem.unauthorized
        }
    }

    @Test func `calls middleware from outside in, also for what fails`() async {
        var router = router()
        router.use(Note(word: "a"))
        router.use(Note(word: "b"))
        #expect(await router.answer(Request("GET", "/tasks")).headers["x-order"] == "ab")
        let missing = await router.answer(Request("GET", "/nowhere"))
        #expect(missing.status == 404)
        #expect(missing.headers["x-order"] == "ab")
    }

    @Test func `tells nobody which paths exist before they have signed in`() async {
        var router = router()
        router.use(Guardian())
        #expect(await router.answer(Request("GET", "/tasks")).status == 401)
        #expect(await router.answer(Request("GET", "/nowhere")).status == 401)
        #expect(await router.answer(Request("PUT", "/tasks")).status == 401)
    }
}

@Suite struct `A problem` {
    private struct Person: JSONDecodable {
        init(from fields: inout Fields) {
            _ = fields.string("name", length: 1...5)
            _ = fields.int("age", in: 0...150)
        }
    }

    private func answer(to body: String, type: String? = "application/json", language: String = "en")
        async throws -> (Int, JSONValue)
    {
        var router = Router()
        router.prepare {
            $0.language = Language(accepting: $0.headers["accept-language"]); $0.id = "r1"
        }
        router.on("POST", "/people") { request in
            _ = try await request.decode(Person.self, limit: 100)
            return .noContent
        }
        var headers: Headers = ["Accept-Language": language]
        headers["Content-Type"] = type
        let response = await router.answer(
            Request("POST", "/people", headers: headers, body: Body(Bytes(body.utf8))))
        #expect(response.headers["x-request-id"] == "r1")
        let bytes = try await response.collect()
        return (response.status, bytes.isEmpty ? .null : try JSONValue(parsing: bytes))
    }

    @Test func `names every wrong field at once`() async throws {
        let (status, json) = try await answer(to: #"{"name":"too long","age":200}"#)
        #expect(status == 422)
        #expect(json["code"] == "validation_failed")
        #expect(json["request_id"] == "r1")
        #expect(json["errors"]?.arrayValue?.map { $0["field"] } == ["name", "age"])
        #expect(json["errors"]?[0]?["message"] == "From 1 to 5 characters are expected")
    }

    @Test func `shows its own members once, whatever else is put beside them`() async throws {
        let problem = Problem(409, "wrong_state", .init("Not now", "Не сейчас"))
            .with(["status": "PENDING", "retry_at": "later", "retry_at": "never"])
        let bytes = try await problem.response(requestID: "r1", language: .english).collect()
        let told = try JSONValue(parsing: bytes)
        #expect(told["status"] == 409)
        #expect(told["retry_at"] == "later")
        let names = told.objectValue?.map(\.name) ?? []
        #expect(names.count == Set(names).count)
    }

    @Test func `speaks the reader's language`() async throws {
        let (_, json) = try await answer(to: "{}", language: "ru-RU, en;q=0.5")
        #expect(json["detail"] == "Некоторые поля не заполнены или неверны")
        #expect(json["errors"]?[0]?["message"] == "Это поле обязательно")
        #expect(json["code"] == "validation_failed")
    }

    @Test func `tells malformed from mistyped from oversized`() async throws {
        #expect(try await answer(to: "{").0 == 400)
        #expect(try await answer(to: "{}", type: nil).0 == 415)
        #expect(try await answer(to: "{}", type: "text/plain").0 == 415)
        #expect(try await answer(to: "[]").0 == 422)
        #expect(try await answer(to: "null").0 == 422)
        #expect(try await answer(to: String(repeating: " ", count: 101)).0 == 413)
        #expect(try await answer(to: #"{"name":"Anna","age":30}"#).0 == 204)
        #expect(
            try await answer(to: #"{"name":"Anna","age":30}"#, type: "application/json; charset=utf-8").0
                == 204)
    }
}
