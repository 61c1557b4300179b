import Core
import Testing

@testable import Security

private let start = Timestamp(seconds: 1_756_036_800)
private let appRole = VaultSettings.Login.appRole(id: "role", secret: Secret("role-secret"))

@Suite struct `The lease of a Vault token` {
    private let lease = VaultLease(obtained: .seconds(100), lifetime: .seconds(60), isRenewable: true)

    @Test func `is renewed when two thirds of it are over`() {
        #expect(lease.step(at: .seconds(100)) == .wait(until: .seconds(140)))
        #expect(lease.step(at: .seconds(140)) == .renew)
        #expect(lease.step(at: .milliseconds(159_999)) == .renew)
        #expect(lease.step(at: .seconds(160)) == .logIn)
    }

    @Test func `is renewed in time however short it is`() {
        let short = VaultLease(obtained: .zero, lifetime: .seconds(2), isRenewable: true)
        #expect(short.step(at: .milliseconds(1500)) == .renew)
    }

    @Test func `is replaced where it cannot be renewed`() {
        let fixed = VaultLease(obtained: .zero, lifetime: .seconds(60), isRenewable: false)
        #expect(fixed.step(at: .seconds(40)) == .logIn)
    }

    @Test func `rests for ever where the token never ends`() {
        let root = VaultLease(obtained: .zero, lifetime: .zero, isRenewable: false)
        #expect(root.step(at: .days(365)) == .rest)
    }

    @Test func `is not asked about ever faster towards its end`() {
        let short = VaultLease(obtained: .zero, lifetime: .seconds(3), isRenewable: false)
        #expect(short.step(at: .seconds(2)) == .wait(until: .seconds(3)))
        #expect(short.step(at: .seconds(3)) == .logIn)
    }
}

@Suite(.timeLimit(.minutes(1))) struct `A session with Vault` {
    private let time = ManualTime(start)

    private func vault(_ fake: FakeVault, _ login: VaultSettings.Login = appRole, log: Log = .silent) -> Vault
    {
        Vault(
            VaultSettings(address: "http://vault", login: login), over: fake, time: time,
            random: SeededRandom(seed: 1), log: log)
    }

    /// Lets the service act and sleep again after each step of time.
    private func advance(_ duration: Duration, by step: Duration = .seconds(1)) async {
        var left = duration
        while left > .zero {
            await time.waitForSleepers(1)
            time.advance(by: min(step, left))
            left -= step
        }
        await time.waitForSleepers(1)
    }

    @Test func `logs in by itself and reads`() async throws {
        let fake = FakeVault(time, fields: ["jwt_secret": "s3cret"])
        let secrets = try await vault(fake).read()
        #expect(secrets["jwt_secret"]?.expose() == "s3cret")
        #expect(fake.logins == 1)
    }

    @Test func `finds nothing where nothing was written`() async throws {
        #expect(try await vault(FakeVault(time, fields: nil)).read().isEmpty)
    }

    @Test func `keeps its token alive`() async throws {
        let fake = FakeVault(time)
        let vault = vault(fake)
        _ = try await vault.read()
        let running = Task { try await vault.run() }
        await advance(.minutes(10), by: .seconds(5))
        #expect(fake.logins == 1)
        #expect(fake.renewals >= 14)
        _ = try await vault.read()
        #expect(fake.logins == 1)
        running.cancel()
        _ = await running.result
    }

    @Test func `takes a new token when no renewal prolongs the old one`() async throws {
        let fake = FakeVault(time)
        fake.change { $0.longest = 100 }
        let vault = vault(fake)
        let running = Task { try await vault.run() }
        await advance(.minutes(10), by: .seconds(5))
        #expect(fake.logins > 3)
        let before = fake.asked.count
        _ = try await vault.read()
        #expect(fake.asked.count == before + 1, "the token at hand was good")
        running.cancel()
        _ = await running.result
    }

    @Test func `comes back by itself when Vault was away past the token's end`() async throws {
        let fake = FakeVault(time, fields: ["a": "b"])
        let sink = MemorySink()
        let vault = vault(fake, log: Log(service: "test", time: time, to: sink))
        let running = Task { try await vault.run() }
        await advance(.seconds(10))
        fake.change { $0.isDown = true }
        await advance(.minutes(5), by: .seconds(5))
        #expect(sink.lines.contains { $0.contains("vault.failed") })
        fake.change {
            $0.isDown = false
            $0.tokens = [:]
        }
        await advance(.minutes(1))
        let before = fake.asked.count
        #expect(try await vault.read()["a"]?.expose() == "b")
        #expect(fake.asked.count == before + 1)
        running.cancel()
        _ = await running.result
    }

    @Test func `logs in anew when its token was revoked`() async throws {
        let fake = FakeVault(time, fields: ["a": "b"])
        let vault = vault(fake)
        _ = try await vault.read()
        fake.change { $0.tokens = [:] }
        #expect(try await vault.read()["a"]?.expose() == "b")
        #expect(fake.logins == 2)
    }

    @Test func `says that it is refused, unavailable or sealed`() async throws {
        let fake = FakeVault(time)
        fake.change { $0.roleSecret = "another" }
        let vault = vault(fake)
        await #expect(
            throws: VaultError.denied(reason: "cannot log in as AppRole: 400 invalid role or secret ID")
        ) { try await vault.read() }
        fake.change { $0.isSealed = true }
        await #expect(
            throws: VaultError.unavailable(reason: "cannot log in as AppRole: 503 Vault is sealed")
        ) { try await vault.ping() }
        fake.change { $0.isDown = true }
        await #expect(throws: VaultError.unavailable(reason: "NoAnswer()")) { try await vault.read() }
    }

    @Test func `uses a token that was given, and renews it too`() async throws {
        let fake = FakeVault(time, fields: ["a": "b"])
        fake.change { $0.tokens = ["given": (.zero, .seconds(60))] }
        let vault = vault(fake, .token(Secret("given")))
        #expect(try await vault.read()["a"]?.expose() == "b")
        let running = Task { try await vault.run() }
        await advance(.minutes(3), by: .seconds(5))
        #expect(fake.logins == 0)
        #expect(try await vault.read()["a"]?.expose() == "b")
        running.cancel()
        _ = await running.result
        await #expect(throws: VaultError.self) {
            try await self.vault(fake, .token(Secret("stolen"))).read()
        }
    }

    @Test func `never writes a secret into the log`() async throws {
        let fake = FakeVault(time, fields: ["jwt_secret": "s3cret"])
        let sink = MemorySink()
        let vault = vault(fake, log: Log(service: "test", level: .debug, time: time, to: sink))
        let running = Task { try await vault.run() }
        await advance(.minutes(2), by: .seconds(5))
        fake.change { $0.isDown = true }
        await advance(.minutes(2), by: .seconds(5))
        running.cancel()
        _ = await running.result
        #expect(!sink.lines.isEmpty)
        for line in sink.lines {
            #expect(!line.contains("role-secret") && !line.contains("token-") && !line.contains("s3cret"))
        }
    }
}
