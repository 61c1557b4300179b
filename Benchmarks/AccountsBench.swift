import Accounts
import Cache
import Core
import LocalServers
import Storage

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// The Account Manager over real servers, beside what the servers give their own clients for the same work.
    static let accounts = Benchmark(
        name: "accounts", summary: "leases, checks and records, against pgbench and redis-benchmark"
    ) { report in
        let ground = try await AccountsGround.open()
        try await ground.connect(user: 1, count: 10_000, from: 0)
        try await ground.cycles(report)
        try await ground.checks(report)
        try await ground.records(report)
        try await ground.plans(report)
        try await ground.latencies(report)
        try await ground.close()
    }
}

private struct AccountsGround: Sendable {
    let folder: TemporaryFolder
    let postgres: LocalPostgres
    let redis: LocalRedis
    let database: any Database
    let cache: RedisCache
    let manager: AccountManager
    let time = SystemTime()

    static func open() async throws -> AccountsGround {
        let folder = try await TemporaryFolder(named: "convoke-bench-accounts")
        let postgres = try await LocalPostgres(directory: folder.path + "/postgres").started()
        let redis = try await LocalRedis(directory: folder.path + "/redis", durability: .throwaway).started()
        let database = DatabaseLocation.postgres(Secret(postgres.url)).open(
            "bench", PoolSettings(connections: 16, statementTimeout: .minutes(10), keepsPlans: true))
        try await database.migrate(Migration.accounts, scope: "account-manager", at: SystemTime().now)
        let cache = RedisCache(RedisLocation(host: "127.0.0.1", port: redis.port))
        let manager = AccountManager(
            store: SQLAccountStore(database), views: AccountViews(cache, time: SystemTime()),
            metrics: AccountMetrics(Metrics()))
        return AccountsGround(
            folder: folder, postgres: postgres, redis: redis, database: database, cache: cache,
            manager: manager)
    }

    func close() async throws {
        await database.close()
        await cache.close()
        try await redis.stop()
        try await postgres.stop()
    }

    /// Accounts of a user, connected long ago.
    func connect(user: Int64, count: Int, from first: Int) async throws {
        let at = time.now - .days(100)
        for start in stride(from: first, to: first + count, by: 10_000) {
            let rows = (start..<min(start + 10_000, first + count)).map { number -> [SQLValue] in
                [
                    .text(account(number).description), .integer(user), .text(""), .integer(at.milliseconds),
                    .text("{}"),
                ]
            }
            try await database.transaction { transaction in
                try transaction.copy(
                    into: "telegram_sessions",
                    columns: ["id", "user_id", "phone", "connected_at", "per_channel_invites"], rows: rows)
            }
        }
        try await database.run("ANALYZE telegram_sessions")
    }

    private func wish(_ user: Int64) -> Acquire {
        Acquire(user: user, purpose: .inviteCampaign, service: "bench")
    }

    // MARK: - Against the servers' own clients

    func cycles(_ report: Report) async throws {
        let start = time.now
        let statements = manager.store.leaseStatements(wish(1), at: start)
        let script = folder.path + "/cycle.sql"
        // Time goes on for pgbench as it does for us: an account just given back is the last to be taken again.
        let moments = [(start.milliseconds, ":now"), ((start + wish(1).duration).milliseconds, ":until")]
        try write(
            """
            \\set tick :tick + 1
            \\set now \(start.milliseconds) + :tick
            \\set until :now + \(wish(1).duration.milliseconds)
            \(literal(statements.claim, moments)) \\gset
            \(literal(statements.release, moments)) WHERE id = :account;

            """, to: script)
        try await report.ratio(
            "allocate and release, 16 callers", unit: "cycles a second", target: 0.5,
            ours: {
                try await report.callsPerSecond(callers: 16, for: .seconds(3)) { _ in
                    let granted = try await manager.allocate(wish(1), at: time.now).account
                    try await manager.release(
                        granted.id, owner: nil, lease: granted.lease?.id, by: "bench", stats: UsageStats(),
                        at: time.now)
                }
            },
            limit: { try await pgbench(script) },
            limitName: "pgbench -c 16 with the same two updates")
        await drainEvents()
    }

    func checks(_ report: Report) async throws {
        let accounts = (0..<1_000).map { account($0) }
        for account in accounts {
            _ = try await manager.record(
                account, owner: nil, Report_(.message), at: time.now - .minutes(10))
        }
        let random = SeededRandom(seed: 3)
        let script = CacheScript(
            "bench-same-reads", lua: "return redis.call('MGET', KEYS[1], KEYS[2])"
        ) { _, _, _ in .null }
        let windows = cache.database(3)
        _ = try await windows.run(script, keys: ["a", "b"], arguments: [])
        let key = "view:\(accounts[0])"
        try await report.ratio(
            "check, 16 callers", unit: "checks a second", target: 0.3,
            ours: {
                try await report.callsPerSecond(callers: 16, for: .seconds(3)) { _ in
                    _ = try await manager.check(
                        accounts[random.int(in: 0...999)], owner: 1, .invite, into: nil, at: time.now)
                }
            },
            limit: {
                try redisBenchmark(
                    redis.port, "--dbnum 3 -c 16 -n 30000 EVALSHA \(script.digest) 2 \(key) limits_revision")
            },
            limitName: "redis-benchmark -c 16 with a script of the same reads")
    }

    func records(_ report: Report) async throws {
        let random = SeededRandom(seed: 4)
        let script = folder.path + "/record.sql"
        // As many others: what pgbench changes behind the Account Manager's back would make its views old.
        try await connect(user: 6, count: 10_000, from: 3_000_000)
        try write(
            """
            \\set number random(3000000, 3009999)
            BEGIN;
            INSERT INTO account_ledger (account_id, action, success, service, at)
                SELECT id, 'message', TRUE, 'bench', \(time.now.milliseconds) FROM telegram_sessions
                WHERE id = ('00000000-0000-4000-8000-' || lpad(to_hex(CAST(:number AS BIGINT)), 12, '0'))::UUID;
            UPDATE telegram_sessions SET used_messages_today = used_messages_today + 1, last_used_at = \(time.now.milliseconds),
                message_free_at = \(time.now.milliseconds), revision = revision + 1
                WHERE id = ('00000000-0000-4000-8000-' || lpad(to_hex(CAST(:number AS BIGINT)), 12, '0'))::UUID;
            END;

            """, to: script)
        // Nobody records before a check: the views are there.
        for number in 0..<10_000 {
            _ = try await manager.check(account(number), owner: nil, .message, into: nil, at: time.now)
        }
        try await report.ratio(
            "record, 16 callers", unit: "records a second", target: 0.5,
            ours: {
                try await report.callsPerSecond(callers: 16, for: .seconds(3)) { _ in
                    _ = try await manager.record(
                        account(random.int(in: 0...9_999)), owner: nil, Report_(.message), at: time.now)
                }
            },
            limit: { try await pgbench(script) },
            limitName: "pgbench -c 16 with insert and update in one transaction")
    }

    /// A plan is arithmetic: it should cost little beside reading the accounts it is about.
    func plans(_ report: Report) async throws {
        try await connect(user: 5, count: 100, from: 2_000_000)
        let channel = try ChannelKey("sales")
        let start = time.now
        let found = try await manager.store.candidates(of: 5, limit: 2_000, at: start)
        let candidates = found.accounts.map(\.candidate)
        let request = PlanRequest(
            channel: channel, invites: 10_000, start: start, accounts: candidates, newcomer: candidates[0])
        try await report.ratio(
            "plan of 10000 invites by 100 accounts", unit: "plans a second",
            ours: {
                try await report.callsPerSecond(callers: 1) { _ in
                    precondition(Plan(request).isPossible, "a hundred accounts can do it")
                }
            },
            limit: {
                try await report.callsPerSecond(callers: 1) { _ in
                    _ = try await manager.store.candidates(of: 5, limit: 2_000, at: start)
                }
            }, limitName: "reading the hundred accounts from PostgreSQL")
        let plans = try await report.callsPerSecond(callers: 1) { _ in _ = Plan(request) }
        await report.hold("a plan in under 100 ms: \(two(1000 / plans)) ms", plans > 10)
    }

    // MARK: - However many accounts there are

    func latencies(_ report: Report) async throws {
        var last = 10_000
        var firstTail: Double?
        for (user, count) in [(Int64(2), 1_000), (3, 10_000), (4, 100_000)] {
            try await connect(user: user, count: count, from: last)
            last += count
            firstTail =
                try await latency(report, user, "\(count) accounts of one user", first: firstTail)
                ?? firstTail
        }
        // The rest belong to users of a thousand each, up to a million in all.
        var user: Int64 = 100
        while last < 1_000_000 {
            let count = min(1_000, 1_000_000 - last)
            let at = time.now - .days(100)
            let rows = (last..<(last + count)).map { number -> [SQLValue] in
                [
                    .text(account(number).description), .integer(user), .text(""), .integer(at.milliseconds),
                    .text("{}"),
                ]
            }
            try await database.transaction { transaction in
                try transaction.copy(
                    into: "telegram_sessions",
                    columns: ["id", "user_id", "phone", "connected_at", "per_channel_invites"], rows: rows)
            }
            last += count
            user += 1
        }
        try await database.run("VACUUM ANALYZE telegram_sessions")
        _ = try await latency(report, 2, "1000 accounts of one user, 1000000 in all", first: firstTail)
        _ = try await latency(report, 4, "100000 accounts of one user, 1000000 in all", first: firstTail)
    }

    private func latency(
        _ report: Report, _ user: Int64, _ what: String, first: Double?
    ) async throws -> Double? {
        var times: [Double] = []
        for round in 0..<1_100 {
            let start = time.uptime
            let granted = try await manager.allocate(wish(user), at: time.now).account
            if round >= 100 { times.append((time.uptime - start).inSeconds * 1000) }
            try await manager.release(
                granted.id, owner: nil, lease: granted.lease?.id, by: "bench", stats: UsageStats(),
                at: time.now)
        }
        await drainEvents()
        times.sort()
        let (middle, tail) = (times[times.count / 2], times[times.count * 99 / 100])
        let beside = first.map { ", \(two(tail / $0)) times the first" } ?? ""
        await report.note("allocate, \(what): median \(two(middle)) ms, p99 \(two(tail)) ms\(beside)")
        return first ?? tail
    }

    private func drainEvents() async { try? await manager.events.flush() }

    private func pgbench(_ script: String) async throws -> Double {
        let output = folder.path + "/pgbench.txt"
        // Output is appended, and the first figure in it is the one that is read.
        unlink(output)
        let status = try await ChildProcess.run(
            Command(
                "/usr/bin/pgbench",
                [
                    "-n", "-c", "16", "-j", "2", "-M", "prepared", "-D", "tick=0", "-T", "3", "-f", script,
                    postgres.url,
                ],
                environment: [
                    "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
                    // Plans are kept for it as they are for us.
                    "PGOPTIONS": "-c plan_cache_mode=force_generic_plan",
                ], output: .file(output)))
        let text = read(output)
        guard status.code == 0, !text.contains("failed to execute") else {
            throw AccountsBenchFailed(reason: text)
        }
        for line in text.split(separator: "\n") where line.hasPrefix("tps = ") {
            return Double(line.dropFirst(6).prefix { $0 != " " }) ?? 0
        }
        throw AccountsBenchFailed(reason: text)
    }
}

private func Report_(_ action: ActionType) -> Accounts.Report {
    Accounts.Report(action, success: true, service: "bench")
}

private struct AccountsBenchFailed: Error { let reason: String }

private func two(_ value: Double) -> String { String(Double(Int((value * 100).rounded())) / 100) }

private func account(_ number: Int) -> AccountID {
    let digits = String(number, radix: 16)
    let id = "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
    guard let account = AccountID(id) else { preconditionFailure("\(id) is a UUID") }
    return account
}

/// A statement with its arguments written into it, for pgbench: on one line, for `\gset`. Moments become variables.
private func literal(_ sql: SQL, _ moments: [(Int64, String)]) -> String {
    var text = sql.text
    for (index, value) in sql.arguments.enumerated().reversed() {
        let written: String =
            switch value {
            case .null: "NULL"
            case .integer(let number): moments.first { $0.0 == number }?.1 ?? String(number)
            case .double(let number): String(number)
            case .text(let text): "'\(text)'"
            case .bool(let flag): flag ? "TRUE" : "FALSE"
            case .bytes: "''"
            }
        text = text.replacing("$\(index + 1)", with: written)
    }
    return text.replacing("\n", with: " ")
}

private func redisBenchmark(_ port: Int, _ arguments: String) throws -> Double {
    guard let pipe = popen("redis-benchmark -p \(port) --csv \(arguments)", "r") else {
        throw AccountsBenchFailed(reason: "redis-benchmark does not start")
    }
    defer { pclose(pipe) }
    var last = ""
    var line = [CChar](repeating: 0, count: 4096)
    while fgets(&line, Int32(line.count), pipe) != nil {
        last = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    let fields = last.split(separator: "\"", omittingEmptySubsequences: true).filter {
        $0 != "," && $0 != "\n"
    }
    guard fields.count > 1, let rate = Double(fields[1]) else {
        throw AccountsBenchFailed(reason: "redis-benchmark says \(last)")
    }
    return rate
}

private func write(_ text: String, to path: String) throws {
    guard let file = fopen(path, "w") else { throw AccountsBenchFailed(reason: "\(path) cannot be written") }
    defer { fclose(file) }
    fputs(text, file)
}

private func read(_ path: String) -> String {
    guard let file = fopen(path, "r") else { return "" }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 262_144)
    let count = fread(&bytes, 1, bytes.count, file)
    return String(decoding: bytes[..<count], as: UTF8.self)
}
