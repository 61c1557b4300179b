import Broker
import Cache
import Core
import HTTP
import Storage
import TestServers
import Testing
import UserServiceWiring

@testable import ServiceKit

/// What a service keeps its things in.
enum Stores: String, CaseIterable, CustomTestStringConvertible {
    case embedded = "SQLite and memory"
    case real = "PostgreSQL and Redis"

    static var available: [Stores] { TestServers.areAvailable ? allCases : [.embedded] }
    var testDescription: String { rawValue }
}

/// user-service with two replicas over the same stores, and whatever a test puts beside them.
struct House: Sendable {
    let time: SteeredTime
    let log: MemorySink
    let first: AssembledService
    /// Another process, as it were: of the first it shares what stores share.
    let second: AssembledService
    let broker: any Broker
    let folder: String
    let environment: Environment

    static func open(
        _ stores: Stores, _ settings: [String: String] = [:],
        _ test: @escaping @Sendable (House) async throws -> Void
    ) async throws {
        let folder = try await TestServers.directory()
        var values = [
            "DATA_DIR": folder, "AUTH_MODE": "strict", "REGISTRATION": "open", "PASSWORD_PASSES": "1",
            "PASSWORD_MEMORY_MB": "8", "LOG_LEVEL": "debug",
        ]
        if stores == .real {
            values["DATABASE_URL"] = try await TestServers.postgres()
            values["REDIS_URL"] = try await TestServers.redis().url
        }
        let environment = Environment(values.merging(settings) { _, new in new })
        let time = SteeredTime()
        let sink = MemorySink()
        let log = Log(service: "test", level: .debug, time: time, to: sink)
        let resources = try await ProcessResources.open(environment, log: log, time: time, sink: sink)
        // A memory is shared by nobody but its own process, so there the replicas are in one.
        let others =
            stores == .embedded
            ? resources : try await ProcessResources.open(environment, log: log, time: time, sink: sink)
        let queues = DatabaseLocation.sqlite("\(folder)/queues.sqlite").open("queues", time: time)
        let broker = SQLBroker(
            queues, queues: UserDeletion.queues, metrics: BrokerMetrics(Metrics()), time: time, log: log)
        let house = House(
            time: time, log: sink, first: try await assemble(.userService, resources, broker: broker),
            second: try await assemble(.userService, others, broker: broker), broker: broker, folder: folder,
            environment: environment)
        var services = resources.services
        if stores == .real { services += others.services }
        services += house.first.services + house.second.services
        let running = services
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runAll(running, log: log) }
            group.addTask {
                try await house.first.readiness.wait(time)
                try await house.second.readiness.wait(time)
                try await test(house)
            }
            // Whichever ends first: the test, or a service that should not have ended.
            defer { group.cancelAll() }
            try await group.next()
        }
        await broker.close()
        await queues.close()
    }

    /// Somebody at the door of a replica.
    func caller(_ replica: AssembledService? = nil, address: String = "192.0.2.1") -> Caller {
        Caller(service: replica ?? first, address: address)
    }

    /// A registered person who has signed in.
    func person(_ name: String = "anna", address: String = "192.0.2.1") async throws -> Person {
        let caller = caller(address: address)
        let registered = await caller.post("/auth/register", Self.registration(name))
        #expect(registered.status == 201)
        return try await signedIn(name, caller)
    }

    func signedIn(_ name: String = "anna", _ caller: Caller? = nil) async throws -> Person {
        let caller = caller ?? self.caller()
        let answer = await caller.post(
            "/auth/login", ["email": "\(name)@example.com", "password": Self.password])
        try #require(answer.status == 200)
        return Person(
            caller: caller.with(token: answer["access_token"].stringValue ?? ""),
            refreshToken: answer["refresh_token"].stringValue ?? "")
    }

    static let password: JSONValue = "correct horse battery"

    static func registration(_ name: String) -> JSONValue {
        ["email": "\(name)@example.com", "username": "\(name)_name", "password": password]
    }

    func serviceToken(_ name: String, for user: UserIdentity? = nil) -> String {
        first.context.tokens.service(name, onBehalfOf: user, now: time.now).expose()
    }

    /// Moves time in small steps until something that others do on their own has come about.
    func eventually(
        _ what: String, sourceLocation: SourceLocation = #_sourceLocation,
        _ isSo: () async throws -> Bool
    ) async throws {
        let clock = SystemTime()
        let end = clock.uptime + .seconds(60)
        while try await !isSo() {
            guard clock.uptime < end else {
                Issue.record("never happened: \(what)", sourceLocation: sourceLocation)
                return
            }
            time.advance(by: .seconds(1))
            try await clock.sleep(for: .milliseconds(10))
        }
    }
}

/// A person with the tokens of a session.
struct Person: Sendable {
    let caller: Caller
    let refreshToken: String

    /// The same person at another replica.
    func at(_ replica: AssembledService) -> Caller {
        Caller(service: replica, address: caller.address, token: caller.token)
    }
}

/// Sends requests to one replica, and holds every answer against the contract.
struct Caller: Sendable {
    let service: AssembledService
    var address: String
    var token: String?
    var language: String?

    init(service: AssembledService, address: String, token: String? = nil) {
        self.service = service
        self.address = address
        self.token = token
    }

    private static let contract = ContractCheck(
        (try? JSONValue.contract(ServiceDefinition.userService.contract)) ?? .null)

    func with(token: String?) -> Caller {
        var caller = self
        caller.token = token
        return caller
    }

    func speaking(_ language: String) -> Caller {
        var caller = self
        caller.language = language
        return caller
    }

    func get(_ path: String) async -> Answer { await send("GET", path) }
    func delete(_ path: String) async -> Answer { await send("DELETE", path) }
    func post(_ path: String, _ body: JSONValue, headers: Headers = [:]) async -> Answer {
        await send("POST", path, json: body, headers: headers)
    }
    func put(_ path: String, _ body: JSONValue) async -> Answer { await send("PUT", path, json: body) }

    func send(_ method: Method, _ path: String, json: JSONValue, headers: Headers = [:]) async -> Answer {
        var headers = headers
        headers["Content-Type"] = "application/json"
        return await send(method, path, headers: headers, body: Body(json.bytes))
    }

    func send(
        _ method: Method, _ path: String, headers: Headers = [:], body: Body = .empty,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async -> Answer {
        var headers = headers
        headers["Host"] = "localhost:8005"
        if headers["User-Agent"] == nil { headers["User-Agent"] = "A phone" }
        if let token, headers["Authorization"] == nil { headers["Authorization"] = "Bearer \(token)" }
        if let language { headers["Accept-Language"] = language }
        let parts = path.split(separator: "?", maxSplits: 1).map(String.init)
        let request = Request(
            method, parts[0], query: Query(parts.count > 1 ? parts[1] : ""), headers: headers, body: body,
            remoteAddress: address)
        let response: Response
        if let quick = service.router.answerAtOnce(request) {
            response = quick
        } else {
            response = await service.router.answer(request)
        }
        let bytes = (try? await response.collect()) ?? []
        let breaches = Self.contract.breaches(
            method.rawValue, parts[0], status: response.status, contentType: response.headers["content-type"],
            body: bytes)
        #expect(breaches == [], "\(method) \(path) \(response.status)", sourceLocation: sourceLocation)
        #expect(
            response.status < 500 || response.status == 503, "\(method) \(path)",
            sourceLocation: sourceLocation)
        #expect(response.headers["x-request-id"] != nil, sourceLocation: sourceLocation)
        return Answer(status: response.status, headers: response.headers, bytes: bytes)
    }

    /// A figure of the service's metrics; 0 where it does not stand there.
    func figure(_ name: String) async -> Int {
        let text = String(decoding: await get("/metrics").bytes, as: UTF8.self)
        let line = text.split(separator: "\n").first { $0.hasPrefix("\(name) ") }
        return line.flatMap { $0.split(separator: " ").last }.flatMap { Int($0) } ?? 0
    }
}

struct Answer: Sendable {
    let status: Int
    let headers: Headers
    let bytes: Bytes

    var json: JSONValue { (try? JSONValue(parsing: bytes)) ?? .null }
    subscript(name: String) -> JSONValue { json[name] ?? .null }
    var code: String { self["code"].stringValue ?? "" }
    var detail: String { self["detail"].stringValue ?? "" }
    /// `field code` for every mistake named.
    var mistakes: [String] {
        (self["errors"].arrayValue ?? []).map {
            "\($0["field"]?.stringValue ?? "") \($0["code"]?.stringValue ?? "")"
        }
    }
}
