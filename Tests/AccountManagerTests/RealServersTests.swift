import Accounts
import Core
import HTTP
import HTTPClient
import LimitAudit
import Storage
import Synchronization
import TestServers
import Testing

/// account-manager as a process of its own over PostgreSQL and Redis, all of which are killed while 64 callers
/// work with it. `CONVOKE_LONG=1` lets it last a minute.
@Suite(.enabled(if: TestServers.areAvailable)) struct `Accounts over real servers that are killed` {
    @Test func `are in the ledger exactly once, within every limit`() async throws {
        let isLong = Environment.process.has("CONVOKE_LONG")
        let folder = try await TestServers.directory()
        let postgres = try await LocalPostgres(directory: "\(folder)/postgres").started()
        let redis = try await LocalRedis(directory: "\(folder)/redis").started()
        let database = DatabaseLocation.postgres(Secret(postgres.url)).open(
            "audit", PoolSettings(connections: 2, waiting: .minutes(2)))
        let manager = try ManagerProcess(postgres: postgres.url, redis: redis.url, folder: "\(folder)/data")
        try await manager.start()
        // Each may send once a minute: many, so that it is the chaos that takes time and not the waiting.
        try await connectAccounts(isLong ? 20_000 : 1_000, database)
        let acknowledged = Acknowledged()
        let rounds = isLong ? 8 : 1
        let chaos = Chaos()

        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 1...64 {
                group.addTask {
                    var caller = Caller(
                        name: "caller-\(number)", manager: manager, acknowledged: acknowledged)
                    var cycles = 0
                    // Each goes on until it has worked through all that happens.
                    while cycles < 3 || !chaos.isOver {
                        try await caller.cycle()
                        cycles += 1
                    }
                }
            }
            group.addTask {
                for _ in 1...rounds {
                    try await acknowledged.wait(forMore: isLong ? 200 : 30)
                    try await flush(redis)
                    try await acknowledged.wait(forMore: isLong ? 200 : 30)
                    await redis.kill()
                    try await acknowledged.wait(forMore: isLong ? 200 : 30)
                    try await redis.start()
                    try await acknowledged.wait(forMore: isLong ? 200 : 30)
                    await manager.kill()
                    try await manager.start()
                    try await acknowledged.wait(forMore: isLong ? 200 : 30)
                }
                chaos.end()
            }
            try await group.waitForAll()
        }

        // Every acknowledged action once; no permit twice; no limit broken by any window of the ledger.
        let permits = acknowledged.permits
        #expect(!permits.isEmpty)
        var recorded: [String: Int] = [:]
        for row in try await database.run("SELECT permit_id FROM account_ledger WHERE permit_id IS NOT NULL")
        {
            recorded[try row.text("permit_id"), default: 0] += 1
        }
        #expect(permits.allSatisfy { recorded[$0] == 1 })
        #expect(recorded.values.allSatisfy { $0 == 1 })
        let report = try await LimitAudit(database).run()
        #expect(report.breaches.isEmpty, "\(report.breaches.prefix(3))")
        // The counters agree with the ledger, whatever was lost on the way.
        let wrong = try await database.run(
            """
            SELECT count(*) AS n FROM telegram_sessions WHERE used_messages_today <> (
                SELECT count(*) FROM account_ledger WHERE account_id = telegram_sessions.id)
            """
        ).first?.int("n")
        #expect(wrong == 0)
        await manager.kill()
        await database.close()
        try await redis.stop()
        try await postgres.stop()
    }
}

private func flush(_ redis: LocalRedis) async throws {
    _ = Loopback.ask(redis.port, "FLUSHALL\r\n")
}

private func connectAccounts(_ count: Int, _ database: any Database) async throws {
    let at = SystemTime().now - .days(100)
    try await database.transaction { transaction in
        try transaction.copy(
            into: "telegram_sessions",
            columns: ["id", "user_id", "phone", "connected_at", "per_channel_invites"],
            rows: (1...count).map {
                [.text(accountName($0)), .integer(1), .text(""), .integer(at.milliseconds), .text("{}")]
            })
    }
}

/// Whether all that was to happen has happened.
private final class Chaos: Sendable {
    private let over = Mutex(false)
    var isOver: Bool { over.withLock { $0 } }
    func end() { over.withLock { $0 = true } }
}

/// What account-manager has said yes to.
private final class Acknowledged: Sendable {
    private let state = Mutex<Set<String>>([])
    var permits: Set<String> { state.withLock { $0 } }
    func add(_ permit: String) { state.withLock { _ = $0.insert(permit) } }

    func wait(forMore count: Int) async throws {
        let goal = state.withLock { $0.count } + count
        while state.withLock({ $0.count }) < goal { try await SystemTime().sleep(for: .milliseconds(20)) }
    }
}

/// The executable beside the tests, started as an administrator would and killed as nobody should.
private final class ManagerProcess: Sendable {
    let address: String
    private let command: Command
    private let process = Mutex<ChildProcess?>(nil)
    private let client = HTTPClient()

    init(postgres: String, redis: String, folder: String) throws {
        let port = try Loopback.freePort()
        address = "http://127.0.0.1:\(port)"
        let own = CommandLine.arguments[0].split(separator: "/").dropLast().joined(separator: "/")
        let bundle = own.split(separator: "/").firstIndex { $0.hasSuffix(".xctest") }
        let parts = own.split(separator: "/")
        let products = parts.prefix(bundle ?? parts.count).joined(separator: "/")
        command = Command(
            "/\(products)/account-manager",
            environment: [
                "DATABASE_URL": postgres, "REDIS_URL": redis, "DATA_DIR": folder, "LOG_LEVEL": "error",
                "ACCOUNT_MANAGER_PORT": String(port), "PATH": "/usr/bin:/bin",
            ], output: .inherited)
    }

    func start() async throws {
        let started = try await ChildProcess.spawn(command)
        process.withLock { $0 = started }
        // Up to two minutes: the machine may be busy with anything.
        for _ in 0..<2_400 {
            if let answer = try? await ask("GET", "/stats/recovery", nil), answer.status == 200 { return }
            try #require(started.status == nil, "account-manager ended")
            try await SystemTime().sleep(for: .milliseconds(50))
        }
        Issue.record("account-manager does not answer")
    }

    func kill() async {
        let running = process.withLock { process in
            defer { process = nil }
            return process
        }
        running?.signal(9)
        _ = await running?.wait()
    }

    func ask(_ method: Method, _ path: String, _ body: JSONValue?) async throws -> (
        status: Int, json: JSONValue
    ) {
        var headers: Headers = [:]
        if body != nil { headers["Content-Type"] = "application/json" }
        let response = try await client.send(
            ClientRequest(
                method, address + "/api/v1/account-manager" + path, headers: headers,
                body: body.map { Body($0.bytes) } ?? .empty))
        return (response.status, try await response.json())
    }
}

/// One that takes an account, asks, acts, tells, and gives back, and is not put off by anything.
private struct Caller {
    let name: String
    let manager: ManagerProcess
    let acknowledged: Acknowledged

    mutating func cycle() async throws {
        let wish: JSONValue = [
            "user_id": 1, "purpose": "messaging", "service_name": .string(name), "timeout_minutes": 1,
        ]
        guard let lease = try await patiently("/allocate", wish), lease.status == 200,
            let account = lease.json["account_id"]?.stringValue
        else { return }
        let id = lease.json["lease_id"] ?? .null
        // A reservation whose answer was lost is not repeated: its permit runs out by itself.
        let reserved = try? await manager.ask(
            "POST", "/rate-limit/check/\(account)",
            ["action_type": "message", "reserve": true, "lease_id": id, "service_name": .string(name)])
        if let permit = reserved?.json["permit_id"]?.stringValue {
            // What was done is told until it has been heard.
            let report: JSONValue = [
                "action_type": "message", "success": true, "permit_id": .string(permit), "lease_id": id,
                "service_name": .string(name),
            ]
            while true {
                if let told = try await patiently("/rate-limit/record/\(account)", report), told.status == 200
                {
                    break
                }
            }
            acknowledged.add(permit)
        }
        _ = try await patiently("/release/\(account)", ["service_name": .string(name), "lease_id": id])
    }

    /// Asks until somebody answers.
    private func patiently(_ path: String, _ body: JSONValue) async throws -> (status: Int, json: JSONValue)?
    {
        while true {
            do {
                let answer = try await manager.ask("POST", path, body)
                if answer.status < 500 { return answer }
            } catch is ClientError {
            } catch is JSONSyntaxError {}
            try await SystemTime().sleep(for: .milliseconds(50))
        }
    }
}
