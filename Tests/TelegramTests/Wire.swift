import Core
import Foundation
import HTTP
import HTTPClient
import HTTPServer
import Sandbox
import Telegram
import Testing

/// The ways to the sandbox; the client behind them is the same.
enum Wire: String, CaseIterable, CustomTestStringConvertible {
    case inProcess, network

    var testDescription: String { rawValue }
}

let noon = Timestamp(seconds: 1_760_011_200)

/// A sandbox, and our client on it, while `body` runs.
struct Stage: Sendable {
    let telegram: Telegram
    let world: SandboxWorld

    static func run(
        _ wire: Wire = .inProcess, _ options: WorldOptions = .tests, time: any TimeSource = SystemTime(),
        limits: RequestLimits = .init(), _ body: @Sendable (Stage) async throws -> Void
    ) async throws {
        let world = SandboxWorld(options, time: time)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await world.run() }
            let transport: any TelegramTransport
            let client = HTTPClient()
            switch wire {
            case .inProcess: transport = SandboxTransport(world)
            case .network:
                var router = Router()
                NetworkLinks(world).register(on: &router)
                ControlRoutes(world).register(on: &router)
                let server = HTTPServer(ServerSettings(port: 0, threads: 2), router)
                try server.bind()
                group.addTask { try await server.run() }
                transport = NetworkTransport("http://127.0.0.1:\(server.port)", client: client)
            }
            let telegram = Telegram(transport, application: .sandbox, limits: limits, time: time)
            let running = Task { try await telegram.run() }
            func end() async {
                running.cancel()
                _ = await running.result
                await client.shutdown()
                group.cancelAll()
            }
            do {
                try await body(Stage(telegram: telegram, world: world))
            } catch {
                await end()
                throw error
            }
            await end()
        }
    }

    /// Opens a folder of its own for the account, without signing in.
    func open(_ name: String = UUID().uuidString, key: UInt8 = 7) async throws -> TelegramClient {
        try await telegram.open(
            SessionParameters(
                directory: "/sandbox/\(name)", encryptionKey: Secret(Array(repeating: key, count: 32))))
    }

    func phone(_ kind: AccountKind) -> String {
        world.accounts().first { $0.kind == kind }?.phone ?? ""
    }

    /// An account of the kind, signed in.
    func account(_ kind: AccountKind = .warmed, folder: String = UUID().uuidString) async throws
        -> TelegramClient
    {
        try await account(phone(kind), folder: folder)
    }

    func account(_ phone: String, folder: String = UUID().uuidString) async throws -> TelegramClient {
        let client = try await open(folder)
        try await client.submit(phone: "+" + phone)
        try await client.submit(code: Secret(world.code(of: phone)))
        if case .waitPassword = client.authorization {
            try await client.submit(password: Secret("sandbox-password"))
        }
        #expect(client.authorization == .ready)
        return client
    }

    /// Somebody of that temper who is not in the club, as the client sees them.
    func person(_ temper: Temper, _ client: TelegramClient, index: Int = 0) async throws -> Person {
        let people = world.people(temper, notIn: Self.club.rawValue, limit: index + 1)
        let id = try #require(people.last)
        if let username = id.username { return try await client.find(username) }
        // Who has no name is met in a group.
        return try await client.person(id.userID)
    }

    static let club: ChatID = -1_000_000_001_001
}

extension WorldOptions {
    /// Small, without moods: what is not provoked does not happen.
    static let tests = WorldOptions(people: 4000, communities: 12, strictness: .off, start: noon)
}

extension TelegramClient {
    func find(_ username: String) async throws -> Person {
        guard case .person(let person) = try await resolve(.username(username)) else {
            throw TelegramFailure(.noSuchName)
        }
        return person
    }

    func group(_ username: String) async throws -> Community {
        guard case .community(let community) = try await resolve(.username(username)) else {
            throw TelegramFailure(.noSuchName)
        }
        return community
    }
}

/// The reason a thing failed for; nil where it did not.
func reason(_ work: () async throws -> Void) async throws -> FailureReason? {
    do {
        try await work()
        return nil
    } catch let failure as TelegramFailure {
        return failure.reason
    }
}
