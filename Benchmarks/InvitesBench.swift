import AccountManagerWiring
import Broker
import Cache
import Core
import HTTP
import HTTPClient
import HTTPServer
import IntegrationServiceWiring
import InviteServiceWiring
import LocalServers
import Sandbox
import ServiceKit
import Storage
import Synchronization
import Telegram

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// A campaign from the first claim to the last answer, through account-manager and integration-service over
    /// HTTP, with PostgreSQL, Redis and RabbitMQ under all three, into a sandbox that answers at once.
    ///
    /// The limits are those that are shipped: an account invites one person and rests. So there are as many
    /// accounts as people, and an hour passes between two rounds: nothing ever waits, and each invitation pays
    /// for its own account as it does in life.
    static let invites = Benchmark(
        name: "invites", summary: "campaigns end to end over real servers, people a second"
    ) { report in
        let ground = try await InvitesGround.open(accounts: 1000)
        do {
            try await ground.measure(report)
        } catch {
            await ground.close()
            throw error
        }
        await ground.close()
    }

    /// What a Celery build of the same campaign reaches on two cores.
    fileprivate static let celery = 120.0
    fileprivate static let goal = 1000.0
}

private struct InvitesGround: Sendable {
    let servers: Servers
    let world: SandboxWorld
    let time: ShiftedTime
    let client: HTTPClient
    let manager: Running
    let integration: Running
    let invites: Running
    private let simulating: Task<Void, any Error>
    private let environment: @Sendable (String, [String: String]) -> [String: String]
    /// How many people one round invites: one for each account.
    let count: Int

    struct Servers: Sendable {
        let folder: TemporaryFolder
        let postgres: LocalPostgres
        let redis: LocalRedis
        let rabbit: LocalRabbitMQ
    }

    static func open(accounts: Int) async throws -> InvitesGround {
        let folder = try await TemporaryFolder(named: "convoke-bench-invites")
        let servers = Servers(
            folder: folder, postgres: try await LocalPostgres(directory: folder.path + "/postgres").started(),
            redis: try await LocalRedis(directory: folder.path + "/redis").started(),
            rabbit: try await LocalRabbitMQ(directory: folder.path + "/rabbitmq").started())
        for name in ["integration_db", "invite_db"] { try await servers.postgres.createDatabase(name) }
        let time = ShiftedTime()
        let world = SandboxWorld(
            // Every fifth account has a password, a few cannot be connected at all.
            WorldOptions(
                seed: 3, people: 60_000, accounts: accounts * 2, communities: 0, strictness: .off,
                isOdd: false, start: time.now), time: time)
        let (managerPort, integrationPort) = (try Loopback.freePort(), try Loopback.freePort())
        let environment: @Sendable (String, [String: String]) -> [String: String] = { name, more in
            [
                "AUTH_MODE": "dev",
                "LOG_LEVEL": Environment.process.value("LOG_LEVEL") ?? "error",
                "JWT_SECRET": String(repeating: "k", count: 32),
                "DATA_DIR": "\(folder.path)/\(name)", "REDIS_URL": servers.redis.url,
                "RABBITMQ_URL": servers.rabbit.url, "INVITE_RIGHTS_SECONDS": "86400",
                "TELEGRAM_IDLE_SECONDS": "86400",
                "ACCOUNT_MANAGER_URL": "http://127.0.0.1:\(managerPort)",
                "INTEGRATION_SERVICE_URL": "http://127.0.0.1:\(integrationPort)",
            ].merging(more) { $1 }
        }
        let client = HTTPClient()
        let shared = ["DATABASE_URL": servers.postgres.url(database: "integration_db")]
        let own = ["DATABASE_URL": servers.postgres.url(database: "invite_db"), "INVITE_WORKER": "false"]
        // The schema of integration-service stands before account-manager's, as in a deployment.
        let integration = try await Running(
            .integrationService { _ in
                TelegramSource(SandboxTransport(world), .sandbox, botAPI: "http://bots.invalid")
            }, environment("integration", shared), client, time, port: integrationPort)
        let manager = try await Running(
            .accountManager, environment("manager", shared), client, time, port: managerPort)
        let invites = try await Running(.inviteService, environment("invites", own), client, time)
        let ground = InvitesGround(
            servers: servers, world: world, time: time, client: client, manager: manager,
            integration: integration, invites: invites, simulating: Task { try await world.run() },
            environment: environment, count: accounts)
        try await ground.connect(accounts)
        return ground
    }

    func close() async {
        for service in [invites, integration, manager] { await service.stop() }
        simulating.cancel()
        await client.shutdown()
        try? await servers.rabbit.stop()
        try? await servers.redis.stop()
        try? await servers.postgres.stop()
    }

    // MARK: - Measuring

    func measure(_ report: Report) async throws {
        var steps: [String: Step] = [:]
        var rates: [Int: [Double]] = [:]
        var costs: [Cost] = []
        var workers: [Running] = []
        for count in [1, 2, 4] {
            // Workers live for days: what each has to do once is not what a person costs. The first round opens
            // every session as well, and finds out that each account may invite.
            while workers.count < count { workers.append(try await worker(workers.count)) }
            _ = try await round(workers)
            for _ in 0..<3 {
                let done = try await round(workers)
                await report.note("\(count) at work: \(rate(done.rate)) a second")
                rates[count, default: []].append(done.rate)
                if count == 4 {
                    steps.merge(done.steps) { $0 + $1 }
                    costs.append(done.cost)
                }
            }
        }
        for worker in workers { await worker.stop() }
        let medians = rates.mapValues(median)
        let (one, two, four) = (medians[1] ?? 0, medians[2] ?? 0, medians[4] ?? 0)
        let best = max(one, two, four)
        await report.hold(
            "\(rate(best)) people a second of \(rate(Benchmark.goal)) aimed for: \(rounded(best / Benchmark.goal))",
            best >= Benchmark.goal)
        await report.note(
            "\(rounded(best / Benchmark.celery)) times what a Celery build reaches on two cores")
        await report.note(
            "1 worker 1, 2 workers \(rounded(two / one)), 4 workers \(rounded(four / one)) (1 is \(rate(one)) a second)"
        )
        // Others may be at work on this machine; what a person costs does not depend on them.
        let (ours, theirs) = (median(costs.map(\.ours)), median(costs.map(\.theirs)))
        let cost =
            "\(rounded(ours)) ms of the three services and the sandbox, \(rounded(theirs)) ms of the servers"
        await report.note("processor time a person: \(cost)")
        await report.note(
            "two cores with nothing else to do would carry \(rate(2000 / (ours + theirs))) a second")
        let total = steps.values.map(\.seconds).reduce(0, +)
        for (name, step) in steps.sorted(by: { $0.value.seconds > $1.value.seconds }) {
            let (share, each) = (step.seconds / total * 100, step.seconds / step.count * 1000)
            let times = rounded(step.count / Double(3 * count))
            await report.note(
                "\(name): \(rounded(share)) % of the time, \(rounded(each)) ms, \(times) a person")
        }
    }

    /// Milliseconds of processor time for each person.
    struct Cost {
        var ours = 0.0
        var theirs = 0.0

        static func now() -> Cost {
            let servers = ProcessTable.descendants(of: getpid())
            return Cost(ours: used(by: getpid()), theirs: servers.map(used).reduce(0, +))
        }

        private static func used(by process: Int32) -> Double {
            guard let file = fopen("/proc/\(process)/stat", "r") else { return 0 }
            defer { fclose(file) }
            var text = [CChar](repeating: 0, count: 1024)
            guard fgets(&text, Int32(text.count), file) != nil else { return 0 }
            let line = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            // Behind the name, which may hold anything: the state, and from the twelfth on the ticks.
            let words = (line.split(separator: ")").last ?? "").split(separator: " ")
            let ticks = words.dropFirst(11).prefix(2).compactMap { Double($0) }.reduce(0, +)
            return ticks * 1000 / Double(sysconf(Int32(_SC_CLK_TCK)))
        }
    }

    struct Step {
        var seconds = 0.0
        var count = 0.0
        static func + (left: Step, right: Step) -> Step {
            Step(seconds: left.seconds + right.seconds, count: left.count + right.count)
        }
        static func - (left: Step, right: Step) -> Step {
            Step(seconds: left.seconds - right.seconds, count: left.count - right.count)
        }
    }

    private func worker(_ number: Int) async throws -> Running {
        try await Running(
            .inviteServiceWorker,
            environment(
                "worker-\(number)",
                [
                    "DATABASE_URL": servers.postgres.url(database: "invite_db"), "INVITE_LANES": "32",
                    "INVITE_WAKE_MILLISECONDS": "50",
                ]), client, time)
    }

    /// One campaign from `execute` to its end.
    private func round(_ workers: [Running]) async throws -> (
        rate: Double, cost: Cost, steps: [String: Step]
    ) {
        time.shift(by: .hours(1))
        guard let club = world.communities().first(where: { $0.username == "sandbox_club" })?.chatID else {
            throw InvitesFailed(answer: "no club")
        }
        let people = world.people(.open, notIn: club, limit: count)
        guard people.count == count else { throw InvitesFailed(answer: "the world is out of people") }
        let made = try await invites.ask(
            .post, "/api/v1/tasks",
            [
                "name": "Bench", "platform": "telegram",
                "settings": ["group_id": "@sandbox_club", "batch_size": 100, "verify_membership": false],
            ])
        guard let task = made["id"]?.intValue else { throw InvitesFailed(answer: made) }
        _ = try await invites.ask(
            .post, "/api/v1/tasks/\(task)/targets/bulk",
            ["targets": .array(people.map { ["username": JSONValue($0.username)] })])
        let earlier = workers.reduce(into: [String: Step]()) { $0.merge($1.steps) { $0 + $1 } }
        let before = Cost.now()
        let start = time.uptime
        _ = try await invites.ask(.post, "/api/v1/tasks/\(task)/execute", ["force": true])
        var state = made
        while state["status"] != "COMPLETED" {
            guard time.uptime - start < .seconds(120) else { throw InvitesFailed(answer: state) }
            // Seldom enough that looking costs next to nothing: each look counts a thousand targets.
            try await time.sleep(for: .milliseconds(150))
            state = try await invites.ask(.get, "/api/v1/tasks/\(task)")
        }
        let taken = time.uptime - start
        let after = Cost.now()
        guard state["completed_count"]?.intValue == Int64(count) else { throw InvitesFailed(answer: state) }
        var steps = workers.reduce(into: [String: Step]()) { $0.merge($1.steps) { $0 + $1 } }
        for (name, step) in earlier { steps[name] = steps[name].map { $0 - step } }
        let share = Double(count)
        let cost = Cost(
            ours: (after.ours - before.ours) / share, theirs: (after.theirs - before.theirs) / share)
        return (share / taken.inSeconds, cost, steps)
    }

    // MARK: - Accounts

    /// Each by a user of its own, for a person connects one after the other; then all are the campaign's.
    private func connect(_ wanted: Int) async throws {
        let phones = world.accounts().filter { $0.kind == .warmed }.prefix(wanted).map(\.phone)
        guard phones.count == wanted else { throw InvitesFailed(answer: "too few accounts in the world") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, phone) in phones.enumerated() {
                if number >= 8 { try await group.next() }
                group.addTask { try await connect(phone, user: Int64(number + 1)) }
            }
            try await group.waitForAll()
        }
        let database = manager.database
        while try await database.run("SELECT COUNT(*) AS count FROM telegram_sessions").first?.int("count")
            != wanted
        { try await time.sleep(for: .milliseconds(50)) }
        try await database.run("UPDATE telegram_sessions SET user_id = 1, revision = revision + 1")
        try await database.run("UPDATE telegram_accounts SET user_id = 1")
    }

    private func connect(_ phone: String, user: Int64) async throws {
        let shown = try await integration.ask(.get, "/api/v1/telegram/qr-code", user: user)
        guard let link = shown["qr_link"]?.stringValue else { throw InvitesFailed(answer: shown) }
        try world.scan(link, with: phone)
        while true {
            let check = try await integration.ask(
                .post, "/api/v1/telegram/qr-check", ["password": "sandbox-password"], user: user)
            if check["account"]?["id"] != nil { return }
            guard check["status"] == "waiting" || check["status"] == "2fa_required" else {
                throw InvitesFailed(answer: check)
            }
            try await time.sleep(for: .milliseconds(2))
        }
    }
}

private struct InvitesFailed: Error { let answer: JSONValue }

/// One service with connections of its own, as a process would have them.
private final class Running: Sendable {
    private let service: AssembledService
    private let resources: ProcessResources
    private let broker: any Broker
    private let task: Task<Void, any Error>

    init(
        _ definition: ServiceDefinition, _ environment: [String: String], _ client: HTTPClient,
        _ time: ShiftedTime, port: Int? = nil
    ) async throws {
        resources = try await ProcessResources.open(
            Environment(environment), log: .silent, time: time, client: client)
        guard let address = resources.settings.queue else { throw InvitesFailed(answer: "no RabbitMQ") }
        broker = RabbitMQBroker(
            address, queues: definition.queues, metrics: BrokerMetrics(Metrics()), time: time, log: .silent)
        service = try await assemble(definition, resources, broker: broker)
        var all = service.services
        if let port {
            let server = HTTPServer(ServerSettings(port: port), service.router)
            try server.bind()
            all.append(server)
        }
        let services = all
        task = Task { try await runAll(services, log: .silent) }
        try await service.readiness.wait(time)
    }

    func stop() async {
        task.cancel()
        _ = await task.result
        await broker.close()
        await resources.cache.close()
    }

    var database: any Database { service.context.database }

    func ask(
        _ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil, user: Int64 = 1
    ) async throws -> JSONValue {
        let request = Request(
            method, path, query: Query("user_id=\(user)"),
            headers: ["Host": "localhost", "Content-Type": "application/json"],
            body: Body(body?.bytes ?? []))
        return try JSONValue(parsing: try await service.router.answer(request).collect())
    }

    /// What the histogram of the steps has summed up.
    var steps: [String: InvitesGround.Step] {
        var steps: [String: InvitesGround.Step] = [:]
        for line in service.context.metrics.text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, let value = Double(words[1]), line.hasPrefix("invite_step_seconds_"),
                let name = line.split(separator: "\"").dropFirst().first.map(String.init)
            else { continue }
            if line.hasPrefix("invite_step_seconds_sum") { steps[name, default: .init()].seconds += value }
            if line.hasPrefix("invite_step_seconds_count") { steps[name, default: .init()].count += value }
        }
        return steps
    }
}

/// The machine's time, set forward by hand.
private final class ShiftedTime: TimeSource {
    private let system = SystemTime()
    private let ahead = Mutex(Duration.zero)

    var now: Timestamp { system.now + ahead.withLock { $0 } }
    var uptime: Duration { system.uptime }
    var machine: any TimeSource { system }
    func sleep(for duration: Duration) async throws { try await system.sleep(for: duration) }
    func shift(by duration: Duration) { ahead.withLock { $0 += duration } }
}
