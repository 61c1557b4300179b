import Core
import HTTP
import HTTPClient
import HTTPServer
import Sandbox
import Security
import ServiceKit
import Telegram
import TestServers
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// A sandbox in this process and integration-service as a program of its own, which is killed as a power cut
/// would.
final class Station: Sendable {
    let world: SandboxWorld
    let client: HTTPClient
    private let server: HTTPServer
    private let running: Task<Void, any Error>
    private let port: Int
    private let folder: String
    private static let secret = String(repeating: "k", count: 32)

    init() async throws {
        let options = WorldOptions(
            seed: 7, people: 3000, accounts: 12, communities: 4, strictness: .off, isOdd: false,
            start: SystemTime().now)
        let world = SandboxWorld(options, time: SystemTime())
        var router = Router()
        NetworkLinks(world).register(on: &router)
        let server = HTTPServer(ServerSettings(port: 0), router)
        try server.bind()
        running = Task {
            async let served: Void = server.run()
            async let lived: Void = world.run()
            _ = try await (served, lived)
        }
        var settings = HTTPClient.Settings()
        // All readers at once: a token lives for a minute and must not wait for its turn.
        settings.limits.perHost = 200
        client = HTTPClient(settings)
        self.world = world
        self.server = server
        port = try Loopback.freePort()
        folder = try await TestServers.directory()
    }

    deinit { running.cancel() }

    /// The executable stands beside the tests.
    private static let executable: String = {
        var buffer = [CChar](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &buffer, buffer.count - 1)
        let path = String(
            decoding: buffer.prefix(max(length, 0)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return path.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/integration-service"
    }()

    func started() async throws -> ChildProcess {
        let process = try await ChildProcess.spawn(
            Command(
                Self.executable, [],
                environment: [
                    "PATH": "/usr/bin:/bin", "DATA_DIR": "\(folder)/data",
                    "INTEGRATION_SERVICE_PORT": String(port),
                    "TELEGRAM_SANDBOX_URL": "http://127.0.0.1:\(server.port)", "JWT_SECRET": Self.secret,
                    "ACCOUNT_MANAGER_URL": "http://127.0.0.1:1", "LOG_LEVEL": "warning",
                ], output: .file("\(folder)/output")))
        try await eventually("the service answers") {
            try #require(process.status == nil, "it ended by itself")
            let answer = try? await get("/api/v1/telegram/accounts?user_id=1")
            return answer?["items"] != nil
        }
        return process
    }

    func kill(_ process: ChildProcess) async {
        process.signal(SIGKILL)
        _ = await process.wait()
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

    /// An account of user 1, connected by QR code.
    func connected(_ kind: AccountKind = .warmed) async throws -> String {
        let phone = try #require(world.accounts().first { $0.kind == kind }?.phone)
        let shown = try await get("/api/v1/telegram/qr-code?user_id=1")
        try world.scan(try #require(shown["qr_link"]?.stringValue, "\(shown)"), with: phone)
        var account: String?
        try await eventually("the account is connected") {
            let check = try await post(
                "/api/v1/telegram/qr-check", ["user_id": 1, "connection_id": shown["connection_id"] ?? .null])
            account = check["account"]?["id"]?.stringValue
            return account != nil
        }
        return try #require(account)
    }

    /// The members a reader gets from a place on, until the end, the kill, or as many as it wants.
    func members(of group: String, _ account: String, from cursor: String?, upTo most: Int? = nil)
        async throws -> [JSONValue]
    {
        let keys = try #require(TokenKey(text: Secret(Self.secret)))
        let token = Tokens(keys: TokenKeys(current: keys), random: SystemRandom()).service(
            "parsing-service", onBehalfOf: UserIdentity(id: 1, email: "u1@example.com", tokenID: ""),
            now: SystemTime().now)
        let place = cursor.map { "&cursor=\($0)" } ?? ""
        var buffer = Bytes()
        var lines: [JSONValue] = []
        do {
            let response = try await client.send(
                ClientRequest(
                    .get,
                    "http://127.0.0.1:\(port)/internal/telegram/accounts/\(account)/members?group_id=\(group)\(place)",
                    headers: ["Authorization": "Bearer \(token.expose())"], deadline: .seconds(120)))
            if response.status != 200 {
                let text = String(decoding: try await response.body.collect(upTo: 1 << 20), as: UTF8.self)
                try #require(response.status == 200, "\(text)")
            }
            for try await chunk in response.body {
                buffer += chunk
                while let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                    lines.append(try JSONValue(parsing: Bytes(buffer[..<end])))
                    buffer.removeSubrange(...end)
                }
                if let most, lines.count > most { break }
            }
        } catch  where error is ClientError {
            // Killed meanwhile: what was received whole counts.
        }
        return lines.filter { $0["type"] == "member" }
    }
}

@Suite(.timeLimit(.minutes(15)), .enabled(if: TestServers.areAvailable))
struct `integration-service over the sandbox, killed as by a power cut` {
    @Test func `connects by QR and password, and one attempt of twenty callers has one effect`() async throws
    {
        let station = try await Station()
        let first = try await station.started()
        let phone = try #require(station.world.accounts().first { $0.kind == .twoFactor }?.phone)
        let shown = try await station.get("/api/v1/telegram/qr-code?user_id=1")
        try station.world.scan(try #require(shown["qr_link"]?.stringValue), with: phone)
        func check(_ password: String?) async throws -> JSONValue {
            try await station.post(
                "/api/v1/telegram/qr-check",
                .object(present: [
                    "user_id": 1, "connection_id": shown["connection_id"],
                    "password": password.map { .string($0) },
                ]))
        }
        try await eventually("the password is asked for") { try await check(nil)["status"] == "2fa_required" }
        #expect(try await check("wrong")["error"] == "password_wrong")
        let done = try await check("sandbox-password")
        #expect(done["status"] == "success", "\(done)")
        let list = try await station.get("/api/v1/telegram/accounts?user_id=1")
        #expect(list["items"]?[0]?["id"] == done["account"]?["id"])
        #expect(try await station.get("/api/v1/telegram/accounts?user_id=2")["total"] == 0)

        let account = try #require(done["account"]?["id"]?.stringValue)
        let club = try #require(station.world.communities().first { $0.username == "sandbox_club" }?.chatID)
        let person = try #require(station.world.people(.open, notIn: club, limit: 1).first?.username)
        let wish: JSONValue = [
            "user_id": 1, "invite_type": "group_invite", "target_username": .string(person),
            "group_id": "sandbox_club",
            "attempt_id": "one", "fencing_token": 3,
        ]
        let path = "/api/v1/telegram/invites/accounts/\(account)/invite"
        // Telegram acts, and its answer is never heard.
        for method in ["addChatMember", "addChatMembers"] {
            _ = station.world.add(Fault(method: method, isSilent: true, moment: .after))
        }
        func adds() -> [LedgerEntry] { station.world.ledger.filter { $0.kind == .addMember } }
        let callers = (0..<20).map { _ in Task { try? await station.post(path, wish) } }
        try await eventually("Telegram has acted") { adds().count == 1 }
        await station.kill(first)
        for caller in callers { _ = await caller.value }
        station.world.removeFaults()

        let second = try await station.started()
        let answers = try await withThrowingTaskGroup(of: JSONValue.self) { group in
            for _ in 0..<20 { group.addTask { try await station.post(path, wish) } }
            return try await group.reduce(into: [JSONValue]()) { $0.append($1) }
        }
        #expect(answers.allSatisfy { $0["status"] == "success" && $0["is_member"] == true }, "\(answers[0])")
        #expect(adds().map(\.outcome) == ["member"])
        await station.kill(second)
        await station.client.shutdown()
    }

    /// Killed with the code on the page, and again between the scan and the password.
    @Test func `goes on with a login by QR code after each of two kills`() async throws {
        let station = try await Station()
        let phone = try #require(station.world.accounts().first { $0.kind == .twoFactor }?.phone)
        let first = try await station.started()
        let shown = try await station.get("/api/v1/telegram/qr-code?user_id=1")
        func check(_ password: String? = nil, user: Int64 = 1) async throws -> JSONValue {
            try await station.post(
                "/api/v1/telegram/qr-check",
                .object(present: [
                    "user_id": .int(user), "connection_id": shown["connection_id"],
                    "password": password.map { .string($0) },
                ]))
        }
        await station.kill(first)

        let second = try await station.started()
        var link: String?
        try await eventually("a link is there again") {
            let found = try await check()
            #expect(found["status"] == "waiting", "\(found)")
            link = found["qr_link"]?.stringValue
            return link != nil
        }
        #expect(try await check(user: 2)["status"] == 404)
        try station.world.scan(try #require(link), with: phone)
        try await eventually("the password is asked for") { try await check()["status"] == "2fa_required" }
        await station.kill(second)

        let third = try await station.started()
        try await eventually("the login is taken up") {
            try await check("wrong")["error"] == "password_wrong"
        }
        #expect(try await check("sandbox-password")["status"] == "success")
        let list = try await station.get("/api/v1/telegram/accounts?user_id=1")
        #expect(list["items"]?[0]?["phone"] == .string("+\(phone)"))
        await station.kill(third)
        await station.client.shutdown()
    }

    @Test func `lets a hundred readers go on where each of them was`() async throws {
        let station = try await Station()
        let first = try await station.started()
        let account = try await station.connected()
        let group = "sandbox_full"
        let whole = try await station.members(of: group, account, from: nil)
        let ids = whole.compactMap { $0["user"]?["user_id"]?.intValue }
        #expect(ids.count > 400)
        #expect(Set(ids).count == ids.count)
        let parts = try await withThrowingTaskGroup(of: (Int, [JSONValue]).self) { tasks in
            for reader in 0..<100 {
                tasks.addTask {
                    (
                        reader,
                        try await station.members(
                            of: group, account, from: nil, upTo: reader * ids.count / 100)
                    )
                }
            }
            // While the others still read.
            var parts: [Int: [JSONValue]] = [:]
            for try await (reader, lines) in tasks {
                parts[reader] = lines
                if parts.count == 40 { await station.kill(first) }
            }
            return parts
        }
        let second = try await station.started()
        let read = try await withThrowingTaskGroup(of: [Int64].self) { tasks in
            for reader in 0..<100 {
                let part = parts[reader] ?? []
                tasks.addTask {
                    let rest = try await station.members(
                        of: group, account, from: part.last?["cursor"]?.stringValue)
                    return (part + rest).compactMap { $0["user"]?["user_id"]?.intValue }
                }
            }
            return try await tasks.reduce(into: [[Int64]]()) { $0.append($1) }
        }
        #expect(read.count == 100)
        #expect(read.allSatisfy { $0 == ids })
        await station.kill(second)
        await station.client.shutdown()
    }
}
