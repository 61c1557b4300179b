import Broker
import Cache
import Core
import HTTP
import HTTPClient
import InviteServiceWiring
import Invites
import Storage
import Synchronization
import TestServers
import Testing

@testable import ServiceKit

/// invite-service alone, with the other services played by the test.
final class ListOffice: Sendable {
    let time = SteeredTime()
    let neighbours = Neighbours()
    let service: AssembledService
    let folder: String
    private let resources: ProcessResources
    private let broker: any Broker
    private let queues: any Database
    private let running: Task<Void, any Error>

    var database: any Database { service.context.database }

    init(_ ground: Ground, settings: [String: String] = [:]) async throws {
        let folder = try await TestServers.directory()
        var values = [
            "DATA_DIR": folder, "LOG_LEVEL": "error", "JWT_SECRET": String(repeating: "k", count: 32),
        ]
        if ground == .real { values["DATABASE_URL"] = try await TestServers.postgres() }
        values.merge(settings) { _, new in new }
        self.folder = folder
        let definition = ServiceDefinition.inviteService
        resources = try await ProcessResources.open(
            Environment(values), log: .silent, time: time, client: neighbours, sink: MemorySink())
        queues = DatabaseLocation.sqlite("\(folder)/queues.sqlite").open("queues")
        broker = SQLBroker(
            queues, queues: definition.queues, settings: SQLBrokerSettings(),
            metrics: BrokerMetrics(Metrics()), time: SystemTime(), log: .silent)
        let service = try await assemble(definition, resources, broker: broker)
        self.service = service
        let services = service.services
        running = Task { try await runAll(services, log: .silent) }
        try await eventually("invite-service is ready") { service.readiness.isReady }
    }

    func close() async {
        running.cancel()
        _ = await running.result
        await database.close()
        await broker.close()
        await queues.close()
        await resources.cache.close()
        await resources.ownClient.shutdown()
    }

    // MARK: - Asking

    struct Answer: Sendable {
        let status: Int
        let headers: Headers
        let bytes: Bytes
        let json: JSONValue
        subscript(name: String) -> JSONValue { json[name] ?? .null }
        var code: String { self["code"].stringValue ?? "" }
        var text: String { String(decoding: bytes, as: UTF8.self) }
    }

    func ask(_ request: Request) async throws -> Answer {
        let response = await service.router.answer(request)
        let bytes = try await response.collect()
        return Answer(
            status: response.status, headers: response.headers, bytes: bytes,
            json: (try? JSONValue(parsing: bytes)) ?? .null)
    }

    func request(
        _ method: HTTP.Method, _ path: String, user: Int64 = 1, type: String? = nil, headers: Headers = [:],
        body: Body = .empty
    ) -> Request {
        var all: Headers = ["Host": "localhost"]
        if let type { all["Content-Type"] = type }
        for header in headers { all[header.name] = header.value }
        let parts = path.split(separator: "?", maxSplits: 1)
        let query = (parts.count > 1 ? "\(parts[1])&" : "") + "user_id=\(user)"
        return Request(method, String(parts[0]), query: Query(query), headers: all, body: body)
    }

    func get(_ path: String, user: Int64 = 1, headers: Headers = [:]) async throws -> Answer {
        try await ask(request(.get, path, user: user, headers: headers))
    }

    func delete(_ path: String, user: Int64 = 1) async throws -> Answer {
        try await ask(request(.delete, path, user: user))
    }

    func post(_ path: String, _ body: JSONValue, user: Int64 = 1) async throws -> Answer {
        try await ask(
            request(.post, path, user: user, type: "application/json", body: Body(body.bytes)))
    }

    /// Uploads a file as a browser does, in small pieces.
    func upload(
        _ path: String, _ file: Bytes, named name: String = "list.csv",
        fields: KeyValuePairs<String, String> = [:], user: Int64 = 1, headers: Headers = [:]
    ) async throws -> Answer {
        try await ask(form(path, file, named: name, fields: fields, user: user, headers: headers))
    }

    func form(
        _ path: String, _ file: Bytes, named name: String = "list.csv",
        fields: KeyValuePairs<String, String> = [:], user: Int64 = 1, headers: Headers = [:]
    ) -> Request {
        var form = Bytes()
        for (field, value) in fields {
            form += Bytes(
                "--edge\r\nContent-Disposition: form-data; name=\"\(field)\"\r\n\r\n\(value)\r\n".utf8)
        }
        form += Bytes(
            "--edge\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(name)\"\r\n\r\n".utf8)
        form += file + Bytes("\r\n--edge--\r\n".utf8)
        return request(
            .post, path, user: user, type: "multipart/form-data; boundary=edge", headers: headers,
            body: pieces(form))
    }

    func upload(_ path: String, _ text: String, user: Int64 = 1) async throws -> Answer {
        try await upload(path, Bytes(text.utf8), user: user)
    }

    private func pieces(_ bytes: Bytes) -> Body {
        let rest = Mutex(bytes[...])
        return Body(length: bytes.count) {
            rest.withLock { rest in
                guard !rest.isEmpty else { return nil }
                defer { rest = rest.dropFirst(16 << 10) }
                return Bytes(rest.prefix(16 << 10))
            }
        }
    }

    // MARK: - Campaigns

    func makeTask(group: String = "@club", user: Int64 = 1) async throws -> Int64 {
        let store = InviteStore(
            database, digests: SuppressionDigests(key: Secret(Array(repeating: 1, count: 32))),
            random: SystemRandom())
        let settings = try Fields.decode(TaskSettings.self, from: ["group_id": .string(group)])
        return try await store.create(
            NewTask(name: "Test", platform: "telegram", settings: settings), of: user, at: time.now
        ).id
    }

    /// Everybody in a task, as `username phone id name`, in their order.
    func people(_ task: Int64) async throws -> [String] {
        try await database.run(
            "SELECT username, phone, platform_id, full_name FROM invite_targets WHERE task_id = \(task) ORDER BY id"
        ).map { row in
            [
                try row.optionalText("username"), try row.optionalText("phone"),
                try row.optionalInt64("platform_id").map(String.init), try row.optionalText("full_name"),
            ].map { $0 ?? "-" }.joined(separator: " ")
        }
    }

    func count(_ sql: SQL) async throws -> Int { try await database.run(sql).first?.int("count") ?? 0 }

    /// What no import may leave behind.
    func stagedRows() async throws -> Int {
        try await count("SELECT COUNT(*) AS count FROM invite_import_people")
    }
}

func withOffice(
    _ ground: Ground, settings: [String: String] = [:], _ body: (ListOffice) async throws -> Void
) async throws {
    let office = try await ListOffice(ground, settings: settings)
    let result: Result<Void, any Error>
    do { result = .success(try await body(office)) } catch { result = .failure(error) }
    await office.close()
    try result.get()
}

/// The other services: answer what the test says, and keep what they were asked.
final class Neighbours: HTTPSending {
    struct Call: Sendable {
        let port: Int
        let target: String
        let body: JSONValue
        let onBehalfOf: Bool
    }
    private let calls = Mutex<[Call]>([])
    private let answers = Mutex<[Int: @Sendable (Call) -> ClientResponse?]>([:])

    static let integration = 8001
    static let parsing = 8003
    static let reports = 8006

    var made: [Call] { calls.withLock { $0 } }

    /// `nil` from the answer: nobody is there.
    func reply(_ port: Int, _ answer: @escaping @Sendable (Call) -> ClientResponse?) {
        answers.withLock { $0[port] = answer }
    }

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        let rest = request.url.drop { $0 != "/" }.dropFirst(2)
        let authority = rest.prefix { $0 != "/" }
        let port = authority.split(separator: ":").last.flatMap { Int($0) } ?? 80
        let bytes = try await request.body.collect(upTo: 1 << 20)
        let call = Call(
            port: port, target: String(rest[authority.endIndex...]),
            body: (try? JSONValue(parsing: bytes)) ?? .null,
            onBehalfOf: request.headers["authorization"] != nil)
        calls.withLock { $0.append(call) }
        guard let answer = answers.withLock({ $0[port] })?(call) else {
            throw ClientError.notSent(reason: "nobody listens")
        }
        return answer
    }
}

extension ClientResponse {
    static func lines(_ lines: [String]) -> ClientResponse {
        ClientResponse(
            status: 200, headers: ["Content-Type": "application/x-ndjson"],
            body: Body(Bytes((lines.joined(separator: "\n") + "\n").utf8)))
    }

    static func json(_ value: JSONValue, status: Int = 200) -> ClientResponse {
        ClientResponse(
            status: status, headers: ["Content-Type": "application/json"], body: Body(value.bytes))
    }
}
