import Core
import Synchronization
import Testing

@testable import Security

private let password = Secret("correct horse battery staple")

@Suite struct `A password` {
    private let passwords = Passwords(cost: .cheap)

    @Test func `is verified against its hash and no other is`() async throws {
        let hash = try await passwords.hash(password)
        #expect(hash.hasPrefix("$argon2id$v=19$m=8,t=1,p=1$"))
        #expect(try await passwords.verify(password, against: hash))
        for wrong in [
            "", "correct horse battery stapl", "Correct horse battery staple", password.expose() + "\0",
        ] {
            #expect(try await !passwords.verify(Secret(wrong), against: hash))
        }
    }

    @Test func `has another hash every time`() async throws {
        #expect(try await passwords.hash(password) != passwords.hash(password))
    }

    /// Computed by the reference implementation of Argon2 (argon2-cffi), which libsodium does not share.
    @Test func `hashed by the reference implementation is verified`() async throws {
        let hash =
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQxNmJ5dGVzIQ$Z+5BG07FiYJmwYP58XQDzg8TJluEeU5/HptcZChdE9w"
        #expect(try await passwords.verify(password, against: hash))
        #expect(try await !passwords.verify(Secret("another"), against: hash))
    }

    @Test func `costs by default what libsodium calls interactive`() async throws {
        let dear = Passwords()
        let hash = try await dear.hash(password)
        #expect(hash.hasPrefix("$argon2id$v=19$m=65536,t=2,p=1$"))
        #expect(try await dear.verify(password, against: hash))
        #expect(try await passwords.verify(password, against: hash))
        #expect(!dear.needsRehash(hash))
        #expect(passwords.needsRehash(hash))
    }

    @Test func `of nobody is compared with a hash of the same cost and never right`() async throws {
        #expect(try await !passwords.verifyAgainstNothing(password))
        // libsodium itself says that the form is right and the cost is the same, so it does the same work.
        #expect(!passwords.needsRehash(passwords.hashOfNobody))
        #expect(!Passwords().needsRehash(Passwords().hashOfNobody))
        let real = try await passwords.hash(password)
        #expect(real.utf8.count == passwords.hashOfNobody.utf8.count)
    }

    @Test(arguments: [
        "", "x", "$argon2id$", "$argon2id$v=19$m=8,t=1,p=1$short", "$2b$12$abcdefghijklmnopqrstuv",
        "$argon2i$v=19$m=8,t=3,p=1$c29tZXNhbHQ$aGFzaA", String(repeating: "$argon2id$", count: 20),
    ])
    func `is not compared with what is no hash`(hash: String) async {
        await #expect(throws: PasswordError.malformedHash) {
            try await passwords.verify(password, against: hash)
        }
        #expect(passwords.needsRehash(hash))
    }

    @Test func `that is absurdly long is refused unhashed`() async {
        let long = Secret(String(repeating: "x", count: 1025))
        await #expect(throws: PasswordError.tooLong) { try await passwords.hash(long) }
        await #expect(throws: PasswordError.tooLong) { try await passwords.verifyAgainstNothing(long) }
    }
}

@Suite struct `The threads for passwords` {
    /// Blocks whoever enters until it is opened.
    private final class Gate: Sendable {
        private let state = Mutex((isOpen: false, inside: 0, most: 0))
        private let condition = Condition()

        var inside: Int { state.withLock { $0.inside } }
        var most: Int { state.withLock { $0.most } }

        func pass() {
            state.withLock {
                $0.inside += 1
                $0.most = max($0.most, $0.inside)
            }
            condition.wait(until: { self.state.withLock { $0.isOpen } })
            state.withLock { $0.inside -= 1 }
        }

        func open() {
            state.withLock { $0.isOpen = true }
            condition.wake()
        }
    }

    @Test(.timeLimit(.minutes(1)))
    func `run no more at once than allowed, let a few wait and refuse the rest`() async throws {
        let threads = WorkerThreads(name: "test", count: 2, waiting: 3)
        let gate = Gate()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<5 { group.addTask { try await threads.run { gate.pass() } } }
            while gate.inside < 2 || threads.waitingCount < 3 { await Task.yield() }
            await #expect(throws: PasswordError.busy) { try await threads.run { gate.pass() } }
            gate.open()
            try await group.waitForAll()
        }
        #expect(gate.most == 2)
        #expect(try await threads.run { 42 } == 42)
    }

    @Test(.timeLimit(.minutes(1)))
    func `give the place of a cancelled caller to another`() async throws {
        let threads = WorkerThreads(name: "test", count: 1, waiting: 1)
        let gate = Gate()
        async let first: Void = threads.run { gate.pass() }
        while gate.inside < 1 { await Task.yield() }
        let waiting = Task { try await threads.run { 1 } }
        while threads.waitingCount < 1 { await Task.yield() }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        #expect(threads.waitingCount == 0)
        async let second = threads.run { 2 }
        while threads.waitingCount < 1 { await Task.yield() }
        gate.open()
        try await first
        #expect(try await second == 2)
    }
}
