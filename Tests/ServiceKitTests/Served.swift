import Broker
import Core
import HTTP
import Security
import Storage
import Synchronization
import TestServers
import Testing

@testable import ServiceKit

/// The databases we ship.
enum Engine: String, CaseIterable, CustomTestStringConvertible {
    case sqlite = "SQLite"
    case postgres = "PostgreSQL"

    static var available: [Engine] { TestServers.areAvailable ? allCases : [.sqlite] }
    var testDescription: String { rawValue }

    func settings() async throws -> [String: String] {
        self == .postgres ? ["DATABASE_URL": try await TestServers.postgres()] : [:]
    }
}

/// A service of a test's own, assembled as all are.
struct Served: Sendable {
    let service: AssembledService
    let resources: ProcessResources
    let time: SteeredTime
    let log: MemorySink

    /// - Parameters:
    ///   - workers: whether what runs beside the listener runs.
    ///   - asksAboutSessions: whether user-service is asked; else no session has ended.
    static func open(
        with settings: [String: String] = [:], database: Bool = false, workers: Bool = true,
        asksAboutSessions: Bool = false, client: (any HTTPSending)? = nil, broker: (any Broker)? = nil,
        _ parts: @escaping @Sendable (ServiceContext) async throws -> ServiceParts,
        _ test: @escaping @Sendable (Served) async throws -> Void
    ) async throws {
        let values = [
            "DATA_DIR": try await TestServers.directory(), "AUTH_MODE": "strict", "LOG_LEVEL": "debug",
        ]
        let environment = Environment(values.merging(settings) { _, new in new })
        let time = SteeredTime()
        let sink = MemorySink()
        let log = Log(service: "process", level: .debug, time: time, to: sink)
        let resources = try await ProcessResources.open(
            environment, log: log, time: time, random: SeededRandom(seed: 7), client: client, sink: sink)
        let definition = ServiceDefinition(
            "test-service", portOffset: 42, database: database ? "test_db" : nil,
            contract: Array("openapi: 3.1.0\npaths:\n".utf8)
        ) { context in
            var parts = try await parts(context)
            if !asksAboutSessions { parts.hasEndedSession = { _ in false } }
            return parts
        }
        let service = try await assemble(definition, resources, broker: broker)
        let served = Served(service: service, resources: resources, time: time, log: sink)
        let running = workers ? resources.services + service.services : resources.services
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runAll(running, log: log) }
            group.addTask {
                if workers { try await service.readiness.wait(time) }
                try await test(served)
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// The same with routes alone.
    static func routes(
        with settings: [String: String] = [:], database: Bool = false, publicPaths: Set<String> = [],
        _ routes: @escaping @Sendable (inout Router) -> Void,
        _ test: @escaping @Sendable (Served) async throws -> Void
    ) async throws {
        try await open(
            with: settings, database: database,
            { _ in ServiceParts(publicPaths: publicPaths, routes: routes) }, test)
    }

    func ask(
        _ method: Method, _ path: String, headers: Headers = [:], json: JSONValue? = nil, body: Body? = nil,
        token: String? = nil, host: String? = "localhost:8042"
    ) async -> Answer {
        var headers = headers
        if let host { headers["Host"] = host }
        if let token { headers["Authorization"] = "Bearer \(token)" }
        if json != nil { headers["Content-Type"] = "application/json" }
        let parts = path.split(separator: "?", maxSplits: 1).map(String.init)
        let request = Request(
            method, parts[0], query: Query(parts.count > 1 ? parts[1] : ""), headers: headers,
            body: body ?? json.map { Body($0.bytes) } ?? .empty)
        let response: Response
        if let quick = service.router.answerAtOnce(request) {
            response = quick
        } else {
            response = await service.router.answer(request)
        }
        let bytes = (try? await response.collect()) ?? []
        return Answer(status: response.status, headers: response.headers, bytes: bytes)
    }

    func userToken(_ id: Int64 = 7, session: String = "s1") -> String {
        resources.tokens.access(userID: id, email: "anna@example.com", session: session, now: time.now)
            .expose()
    }

    func serviceToken(_ name: String = "gateway", for user: Int64? = nil) -> String {
        let person = user.map { UserIdentity(id: $0, email: "anna@example.com", tokenID: "s1.x") }
        return resources.tokens.service(name, onBehalfOf: person, now: time.now).expose()
    }

    var metrics: String { service.context.metrics.text }
}

struct Answer: Sendable {
    let status: Int
    let headers: Headers
    let bytes: Bytes

    var text: String { String(decoding: bytes, as: UTF8.self) }
    var json: JSONValue { (try? JSONValue(parsing: bytes)) ?? .null }
    subscript(name: String) -> JSONValue { json[name] ?? .null }
    var code: String { self["code"].stringValue ?? "" }
}

/// Waits for a condition that something else is about to make true; a failure after a generous time.
func eventually(
    _ what: String, sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () async throws -> Bool
) async throws {
    let time = SystemTime()
    let end = time.uptime + .seconds(60)
    while try await !isSo() {
        guard time.uptime < end else {
            Issue.record("never happened: \(what)", sourceLocation: sourceLocation)
            return
        }
        try await time.sleep(for: .milliseconds(5))
    }
}

/// `who` answers with the caller as the service sees it.
let whoami: @Sendable (inout Router) -> Void = { router in
    router.on("GET", "/who") { request in .json(JSONValue.string(describe(request.identity))) }
    router.on("POST", "/who") { request in .json(JSONValue.string(describe(request.identity))) }
    router.on("GET", "/public") { request in .json(JSONValue.string(describe(request.identity))) }
    router.on("GET", "/internal/who") { request in .json(JSONValue.string(try request.requireService())) }
}

private func describe(_ identity: Identity) -> String {
    switch identity {
    case .nobody: "nobody"
    case .user(let user): "user \(user.id)"
    case .service(let name, let user): "\(name) for \(user.map { String($0.id) } ?? "itself")"
    }
}

/// How often something has happened.
final class Tally: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }
    func increment() { count.withLock { $0 += 1 } }
}

/// What several tasks of a test keep for each other.
final class Kept<Value: Sendable>: Sendable {
    private let state: Mutex<Value>
    init(_ value: Value) { state = Mutex(value) }
    var value: Value {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}
