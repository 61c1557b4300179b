import Core
import Sandbox
import Synchronization
import Telegram
import Testing

let noon = Timestamp(seconds: 1_760_011_200)

extension WorldOptions {
    static func small(_ strictness: Strictness = .off, seed: UInt64 = 1) -> WorldOptions {
        WorldOptions(seed: seed, people: 3000, communities: 6, strictness: strictness, start: noon)
    }
}

/// Signs accounts in to a world that runs while `body` does.
func running(
    _ world: SandboxWorld, time: any TimeSource = SystemTime(),
    _ body: @Sendable (Telegram) async throws -> Void
) async throws {
    let life = Task { try await world.run() }
    let telegram = Telegram(SandboxTransport(world), application: .sandbox, time: time)
    do {
        try await body(telegram)
    } catch {
        life.cancel()
        throw error
    }
    await telegram.closeAll()
    life.cancel()
    _ = await life.result
}

func signIn(_ telegram: Telegram, _ world: SandboxWorld, _ kind: AccountKind) async throws
    -> TelegramClient
{
    let phone = try #require(world.accounts().first { $0.kind == kind }?.phone)
    let client = try await telegram.open(
        SessionParameters(directory: "/s/\(phone)", encryptionKey: Secret(Array(repeating: 1, count: 32))))
    try await client.submit(phone: phone)
    try await client.submit(code: Secret(world.code(of: phone)))
    return client
}

func club(_ client: TelegramClient) async throws -> ChatID {
    guard case .community(let community) = try await client.resolve(.username("sandbox_club")) else {
        return 0
    }
    return community.chat
}

func meet(_ name: String?, _ client: TelegramClient) async throws -> UserID {
    guard case .person(let person) = try await client.resolve(.username(try #require(name))) else { return 0 }
    return person.id
}

extension SessionParameters {
    static func sample(_ directory: String) -> SessionParameters {
        SessionParameters(directory: directory, encryptionKey: Secret(Array(repeating: 1, count: 32)))
    }
}

/// Polls until something that others do on their own has come about.
func happens(
    sourceLocation: SourceLocation = #_sourceLocation, _ isSo: () async throws -> Bool
) async throws {
    let clock = SystemTime()
    let end = clock.uptime + .seconds(240)
    while try await !isSo() {
        try #require(clock.uptime < end, "it never came about", sourceLocation: sourceLocation)
        try await clock.sleep(for: .milliseconds(5))
    }
}

@Suite struct `A simulated world` {
    @Test func `is the same again from the same seed, and another from another`() {
        func report(_ seed: UInt64) -> JSONValue {
            SandboxWorld(.small(seed: seed), time: ManualTime(noon)).report
        }
        #expect(report(1) == report(1))
        #expect(report(1) != report(2))
    }

    @Test func `has communities of every kind and people of every temper`() {
        let world = SandboxWorld(.small(), time: ManualTime(noon))
        let communities = world.communities()
        #expect(Set(communities.map(\.kind)) == ["basic_group", "supergroup", "channel"])
        #expect(communities.contains { $0.linkedChat != nil && $0.kind == "channel" })
        #expect(communities.contains { $0.hidesMembers })
        #expect(communities.contains { $0.username == nil && $0.kind == "supergroup" })
        for temper in Temper.allCases { #expect(!world.people(temper, limit: 1).isEmpty, "\(temper)") }
        #expect(Set(world.accounts().map(\.kind)) == Set(AccountKind.allCases))
    }

    @Test
    func
        `asks for a wait when people are added too fast: short ones it keeps to itself, longer ones it says`()
        async throws
    {
        let time = ManualTime(noon)
        let world = SandboxWorld(.small(.telegram), time: time)
        try await running(world, time: time) { telegram in
            let client = try await signIn(telegram, world, .warmed)
            let chat = try await club(client)
            let people = world.people(.open, notIn: chat.rawValue, limit: 60)
            var next = 0
            func add() async throws -> AddOutcome {
                defer { next += 1 }
                return try await client.add(try await meet(people[next].username, client), to: chat)
            }
            // The first ones are quick.
            for _ in 1...6 { #expect(try await add() == .accepted) }
            // Then one has to wait, and sooner or later it is told for how long.
            let driving = Task {
                while !Task.isCancelled {
                    if time.sleeperCount > 0 { time.advance(by: .milliseconds(500)) }
                    await Task.yield()
                }
            }
            var failure: TelegramFailure?
            do {
                for _ in 6..<40 { _ = try await add() }
            } catch let refused as TelegramFailure {
                failure = refused
            }
            driving.cancel()
            await driving.value
            #expect(failure?.reason == .floodWait)
            #expect(failure?.wait ?? .zero > .seconds(60))
            let again = await #expect(throws: TelegramFailure.self) {
                try await client.add(try await meet(people[50].username, client), to: chat)
            }
            #expect(again?.reason == .floodWait)
        }
    }

    @Test func `limits a fresh account that adds too many strangers, however slowly`() async throws {
        let time = ManualTime(noon)
        let world = SandboxWorld(.small(.telegram), time: time)
        try await running(world, time: time) { telegram in
            let client = try await signIn(telegram, world, .fresh)
            let chat = try await club(client)
            var failure: TelegramFailure?
            for person in world.people(.open, notIn: chat.rawValue, limit: 40) {
                do {
                    _ = try await client.add(try await meet(person.username, client), to: chat)
                } catch let refused as TelegramFailure {
                    failure = refused
                    break
                }
                time.advance(by: .minutes(20))
            }
            #expect(failure?.reason == .peerFlood)
        }
    }

    @Test func `refuses names after two hundred a day`() async throws {
        let time = ManualTime(noon)
        let world = SandboxWorld(.small(.telegram), time: time)
        try await running(world, time: time) { telegram in
            let client = try await signIn(telegram, world, .warmed)
            var asked = 0
            var failure: TelegramFailure?
            while failure == nil, asked < 300 {
                asked += 1
                do {
                    _ = try await client.resolve(.username("nobody_\(asked)"))
                } catch let refused as TelegramFailure where refused.reason == .noSuchName {
                    continue
                } catch let refused as TelegramFailure {
                    failure = refused
                }
            }
            #expect(asked == 201)
            #expect(failure?.wait == .days(1))
        }
    }

    @Test func `goes on from its journal where it was`() async throws {
        let journal = MemoryJournal()
        let time = ManualTime(noon)
        let first = SandboxWorld(.small(), time: time, journal: journal)
        try await first.restore()
        let name = first.people(.open, notIn: -1_000_000_001_001, limit: 1).first?.username
        try await running(first, time: time) { telegram in
            let client = try await signIn(telegram, first, .warmed)
            let chat = try await club(client)
            _ = try await client.add(try await meet(name, client), to: chat)
            _ = try await client.send("Hello", to: chat)
            _ = try await client.createInviteLink(for: chat, NewInviteLink(name: "x"))
            let me = try await client.me().phone
            try first.freeze(me)
            await client.close()
        }
        try await first.flushJournal()

        let second = SandboxWorld(.small(), time: time, journal: journal)
        try await second.restore()
        #expect(second.ledger == first.ledger)
        #expect(second.communities() == first.communities())
        #expect(second.accounts().map(\.isFrozen) == first.accounts().map(\.isFrozen))
        try await running(second, time: time) { telegram in
            let phone = try #require(second.accounts().first { $0.kind == .warmed }?.phone)
            let client = try await telegram.open(
                SessionParameters(
                    directory: "/s/\(phone)", encryptionKey: Secret(Array(repeating: 1, count: 32))))
            #expect(client.authorization == .ready, "the session outlived the restart")
            #expect(client.freeze != nil)
        }
    }

    @Test func `begins anew with another seed`() async throws {
        let journal = MemoryJournal()
        try await SandboxWorld(.small(seed: 1), time: ManualTime(noon), journal: journal).restore()
        let other = SandboxWorld(.small(seed: 2), time: ManualTime(noon), journal: journal)
        try await other.restore()
        #expect(other.options.seed == 2)
        #expect(try await journal.load()?.count == 1)
    }
}

/// A journal that lasts as long as the test.
private final class MemoryJournal: SandboxJournal {
    private let lines = Mutex<[JSONValue]>([])
    func load() async throws -> [JSONValue]? { lines.withLock { $0.isEmpty ? nil : $0 } }
    func restart(_ options: JSONValue) async throws { lines.withLock { $0 = [options] } }
    func append(_ changes: [JSONValue]) async throws { lines.withLock { $0 += changes } }
}
