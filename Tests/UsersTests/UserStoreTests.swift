import Core
import Storage
import Testing
import Users

/// What the store promises about sessions, on a database of its own for each test.
@Suite struct `The store of users` {
    private let now = Timestamp(seconds: 1_000_000)

    private func opened() async throws -> (store: UserStore, user: User) {
        let database = DatabaseLocation.sqlite(":memory:").open()
        _ = try await database.migrate(Migration.users, scope: "users", at: now)
        let store = UserStore(database)
        let email = try #require(EmailAddress("anna@example.com"))
        let user = try await store.create(
            email: email, username: Username("Anna_1"), passwordHash: "hash", plan: "free", at: now)
        _ = try await store.open(
            UserStore.NewSession(
                id: "s1", refreshDigest: "r1", expiry: now + .days(30), device: "phone", address: "127.0.0.1"),
            for: user.id, withPassword: "hash", at: now)
        return (store, user)
    }

    @Test func `finds a user by address and by name in any case`() async throws {
        let (store, user) = try await opened()
        #expect(try await store.credentials(of: "ANNA@example.com")?.user == user)
        #expect(try await store.credentials(of: "anna_1")?.user == user)
        #expect(try await store.credentials(of: "nobody") == nil)
    }

    @Test func `refuses an address that is taken`() async throws {
        let (store, user) = try await opened()
        let email = try #require(EmailAddress(user.email))
        await #expect(throws: UserError.emailTaken) {
            try await store.create(email: email, username: nil, passwordHash: "x", plan: "free", at: now)
        }
    }

    @Test func `lets a refresh token be used once, and ends its family at the second use`() async throws {
        let (store, user) = try await opened()
        let first = try await store.rotate(from: "r1", to: "r2", expiry: now + .days(30), at: now)
        guard case .rotated(let owner, let session) = first else {
            Issue.record("the first use was refused")
            return
        }
        #expect(owner == user)
        #expect(session == "s1")
        let second = try await store.rotate(from: "r1", to: "r3", expiry: now + .days(30), at: now)
        guard case .reused(let ended) = second else {
            Issue.record("the second use was not noticed")
            return
        }
        #expect(ended.map(\.id) == ["s1"])
        #expect(try await store.hasEnded(session: "s1"))
        guard case .unknown = try await store.rotate(from: "r2", to: "r4", expiry: now + .days(30), at: now)
        else {
            Issue.record("the family goes on")
            return
        }
    }

    @Test func `keeps another user's sessions out of reach`() async throws {
        let (store, user) = try await opened()
        await #expect(throws: UserError.unknownSession) {
            try await store.end(session: "s1", of: user.id + 1, at: now)
        }
        #expect(try await store.sessions(of: user.id, at: now).count == 1)
        #expect(try await store.sessions(of: user.id + 1, at: now).isEmpty)
    }

    @Test func `erases a user and notes whom to tell`() async throws {
        let (store, user) = try await opened()
        let event = UniqueID(at: now, SeededRandom(seed: 1))
        let ended = try await store.delete(user.id, at: now, event: event)
        #expect(ended.map(\.id) == ["s1"])
        #expect(try await store.user(id: user.id) == nil)
        let pending = try await store.pendingDeletions()
        #expect(pending.map(\.user) == [user.id])
        try await store.deletionAnnounced(event)
        #expect(try await store.pendingDeletions().isEmpty)
    }

    @Test func `creates the first operator once for a claim link`() async throws {
        let database = DatabaseLocation.sqlite(":memory:").open()
        _ = try await database.migrate(Migration.users, scope: "users", at: now)
        let store = UserStore(database)
        let email = try #require(EmailAddress("first@example.com"))
        #expect(try await store.offerClaim("digest", at: now))
        let user = try await store.claim("digest", email: email, username: nil, passwordHash: "x", at: now)
        #expect(user.plan == "operator")
        await #expect(throws: UserError.invalidClaim) {
            try await store.claim("digest", email: email, username: nil, passwordHash: "x", at: now)
        }
        #expect(try await !store.offerClaim("another", at: now))
    }
}
