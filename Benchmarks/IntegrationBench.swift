import Core
import HTTP
import HTTPClient
import HTTPServer
import LocalServers
import Sandbox
import Telegram

#if canImport(Glibc)
    import Glibc
#endif

extension Benchmark {
    /// A thousand accounts connected to one integration-service, a program of its own, over a sandbox here.
    static let integration = Benchmark(
        name: "integration", summary: "1,000 sandbox accounts in one integration-service"
    ) { report in
        let count = 1000
        // The world begins with some that are banned, unregistered and the like, which nobody can connect.
        let unusable = 10
        let folder = try await TemporaryFolder(named: "convoke-bench-integration")
        let time = SystemTime()
        let world = SandboxWorld(
            WorldOptions(
                seed: 1, people: 20_000, accounts: count + unusable, communities: 0, strictness: .off,
                isOdd: false,
                start: time.now),
            time: time)
        var router = Router()
        NetworkLinks(world).register(on: &router)
        let server = HTTPServer(ServerSettings(port: 0), router)
        try server.bind()
        let service = try Program(folder: folder.path, port: Loopback.freePort(), sandbox: server.port)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            group.addTask { try await world.run() }
            group.addTask {
                let served = try await measure(service, world, count, report)
                let direct = try await measureDirect("http://127.0.0.1:\(server.port)", world, report)
                await report.note(
                    "over HTTP, with every attempt in SQL: \(rounded(served / direct)) of what our client sends alone on the same road"
                )
            }
            // The measuring ends; the others do not by themselves.
            try await group.next()
            group.cancelAll()
            while let _ = await group.nextResult() {}
        }
        await service.client.shutdown()
    }
}

/// The same sends without the service: our client alone, on the same road to the same sandbox.
private func measureDirect(_ address: String, _ world: SandboxWorld, _ report: Report) async throws -> Double
{
    let time = SystemTime()
    let http = HTTPClient()
    let telegram = Telegram(NetworkTransport(address, client: http), application: .sandbox, time: time)
    // Not a child: it ends in order, after the clients that use it.
    let running = Task.detached { try await telegram.run() }
    let phones = world.accounts().filter { $0.kind == .warmed }.prefix(200).map(\.phone)
    let clients = try await inParallel(phones, width: 16) { number, phone in
        let client = try await telegram.open(
            SessionParameters(
                directory: "/direct/\(number)", encryptionKey: Secret(Array(repeating: 1, count: 32))))
        try await client.submit(phone: phone)
        try await client.submit(code: Secret(world.code(of: phone)))
        return client
    }
    let names = world.people(.open, notIn: -1_000_000_001_001, limit: clients.count).compactMap(\.username)
    // The service remembers whom a name leads to; so does this.
    let people = try await inParallel(Array(zip(clients, names)), width: 16) { _, pair in
        guard case .person(let person) = try await pair.0.resolve(.username(pair.1)) else {
            throw Refused(answer: .string(pair.1))
        }
        return person.id
    }
    var rate = 0.0
    for round in ["cold", "warm"] {
        let began = time.uptime
        let taken = try await inParallel(Array(zip(clients, people)), width: 16) { _, pair in
            let start = time.uptime
            // What the service asks for a message, in its order.
            _ = try await pair.0.mayWrite(to: pair.1)
            let chat = try await pair.0.privateChat(with: pair.1)
            _ = try await pair.0.send("direct \(round)", to: chat)
            return time.uptime - start
        }.sorted()
        rate = Double(taken.count) / (time.uptime - began).inSeconds
        await report.note(
            "without the service, \(round): median \(milliseconds(taken[taken.count / 2])), 99 % below \(milliseconds(taken[taken.count * 99 / 100])), \(Int(rate)) a second"
        )
    }
    running.cancel()
    _ = await running.result
    await http.shutdown()
    return rate
}

/// How many a second the service sends, warm.
private func measure(
    _ service: Program, _ world: SandboxWorld, _ count: Int, _ report: Report
) async throws -> Double {
    let time = SystemTime()
    let phones = world.accounts().filter { [.warmed, .fresh, .premium, .twoFactor].contains($0.kind) }
        .prefix(count).map(\.phone)
    let first = try await service.started()
    let bare = service.memory(of: first)
    let begun = time.uptime
    let accounts = try await inParallel(phones, width: 16) { number, phone in
        try await service.connect(user: number + 1, phone, world)
    }
    await report.note(
        "\(accounts.count) accounts connected by QR in \(rounded((time.uptime - begun).inSeconds)) s, 16 at a time"
    )
    let connected = service.memory(of: first)
    await report.note(
        "memory: \(bare) kB without accounts, \(connected) kB with all open: \(rounded(Double(connected - bare) / Double(accounts.count))) kB each"
    )
    first.signal(SIGTERM)
    _ = await first.wait()

    let restarted = time.uptime
    let second = try await service.started()
    await report.note(
        "start until the first answer: \(rounded((time.uptime - restarted).inSeconds)) s, \(service.memory(of: second)) kB"
    )
    let people = world.people(.open, notIn: -1_000_000_001_001, limit: accounts.count).compactMap(\.username)
    func send(_ suffix: String) async throws -> [Duration] {
        try await inParallel(Array(zip(accounts, people)), width: 16) { number, pair in
            let start = time.uptime
            let answer = try await service.post(
                "/api/v1/telegram/invites/accounts/\(pair.0)/invite",
                [
                    "user_id": .int(Int64(number + 1)), "invite_type": "direct_message",
                    "target_username": .string(pair.1),
                    "message": .string("hello \(suffix)"), "attempt_id": .string("\(suffix)-\(number)"),
                ])
            guard answer["status"] == "success" else { throw Refused(answer: answer) }
            return time.uptime - start
        }
    }
    var rate = 0.0
    for (suffix, what) in [
        ("cold", "the first send of each account, which opens its session"), ("warm", "the second"),
    ] {
        let began = time.uptime
        let taken = try await send(suffix).sorted()
        rate = Double(taken.count) / (time.uptime - began).inSeconds
        await report.note(
            "\(what): median \(milliseconds(taken[taken.count / 2])), 99 % below \(milliseconds(taken[taken.count * 99 / 100])), \(Int(rate)) a second by 16 callers"
        )
    }
    await report.note("memory with all open again: \(service.memory(of: second)) kB")
    second.signal(SIGKILL)
    _ = await second.wait()
    return rate
}

private struct Refused: Error { let answer: JSONValue }

private func milliseconds(_ duration: Duration) -> String { "\(rounded(duration.inSeconds * 1000)) ms" }

private func inParallel<Item: Sendable, Result: Sendable>(
    _ items: [Item], width: Int, _ work: @escaping @Sendable (Int, Item) async throws -> Result
) async throws -> [Result] {
    try await withThrowingTaskGroup(of: (Int, Result).self) { group in
        var results: [Int: Result] = [:]
        for (number, item) in items.enumerated() {
            if number >= width, let (done, result) = try await group.next() { results[done] = result }
            group.addTask { (number, try await work(number, item)) }
        }
        for try await (done, result) in group { results[done] = result }
        return items.indices.compactMap { results[$0] }
    }
}

/// integration-service as it is shipped, on its embedded defaults.
private struct Program: Sendable {
    let client = HTTPClient()
    let folder: String
    let port: Int
    let sandbox: Int

    func started() async throws -> ChildProcess {
        let executable = (FileSystem.programFolder ?? "") + "/integration-service"
        let process = try await ChildProcess.spawn(
            Command(
                executable, [],
                environment: [
                    "PATH": "/usr/bin:/bin", "DATA_DIR": "\(folder)/data",
                    "INTEGRATION_SERVICE_PORT": String(port),
                    "TELEGRAM_SANDBOX_URL": "http://127.0.0.1:\(sandbox)",
                    "ACCOUNT_MANAGER_URL": "http://127.0.0.1:1",
                    "LOG_LEVEL": "error",
                ], output: .file("\(folder)/output")))
        while true {
            if let answer = try? await get("/api/v1/telegram/accounts?user_id=1"), answer["items"] != nil {
                return process
            }
            guard process.status == nil else { throw Refused(answer: "integration-service has ended") }
            try await SystemTime().sleep(for: .milliseconds(5))
        }
    }

    func get(_ path: String) async throws -> JSONValue {
        try await client.send(ClientRequest(.get, "http://127.0.0.1:\(port)\(path)")).json()
    }

    func post(_ path: String, _ body: JSONValue) async throws -> JSONValue {
        try await client.send(
            ClientRequest(
                .post, "http://127.0.0.1:\(port)\(path)", headers: ["Content-Type": "application/json"],
                body: Body(body.bytes), deadline: .seconds(120))
        ).json()
    }

    func connect(user: Int, _ phone: String, _ world: SandboxWorld) async throws -> String {
        let shown = try await get("/api/v1/telegram/qr-code?user_id=\(user)")
        guard let link = shown["qr_link"]?.stringValue else { throw Refused(answer: shown) }
        try world.scan(link, with: phone)
        while true {
            let check = try await post(
                "/api/v1/telegram/qr-check", ["user_id": .int(Int64(user)), "password": "sandbox-password"])
            if let account = check["account"]?["id"]?.stringValue { return account }
            guard check["status"] == "waiting" || check["status"] == "2fa_required" else {
                throw Refused(answer: check)
            }
            try await SystemTime().sleep(for: .milliseconds(2))
        }
    }

    /// Resident memory in kilobytes.
    func memory(of process: ChildProcess) -> Int {
        guard let file = fopen("/proc/\(process.id)/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            guard text.hasPrefix("VmRSS:") else { continue }
            return text.split { !$0.isNumber }.first.flatMap { Int($0) } ?? 0
        }
        return 0
    }
}
