import Core
import Foundation
import Testing

@testable import Security

private typealias Environment = Core.Environment

/// A folder of this test's own, gone with it.
private final class Scratch: Sendable {
    let path: String

    init() {
        path = NSTemporaryDirectory() + "convoke-secrets-" + UUID().uuidString
        try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var secrets: String { path + "/secrets" }

    func mode(_ path: String) -> Int? {
        let attributes = try? FileManager.default.attributesOfItem(atPath: path)
        return (attributes?[.posixPermissions] as? NSNumber)?.intValue
    }

    func write(_ text: String, to path: String, mode: Int) throws {
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    }
}

@Suite struct `A folder of generated secrets` {
    private let scratch = Scratch()
    private var folder: SecretFolder { SecretFolder(scratch.secrets) }

    @Test func `gives the same secret ever after`() throws {
        #expect(try folder.read("key") == nil)
        let made = try folder.read("key") { Secret("one") }
        #expect(made.expose() == "one")
        #expect(try folder.read("key", orMake: { Secret("two") }).expose() == "one")
        #expect(try folder.read("key")?.expose() == "one")
        #expect(scratch.mode(scratch.secrets) == 0o700)
        #expect(scratch.mode(scratch.secrets + "/key") == 0o600)
        #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.secrets) == ["key"])
    }

    @Test func `gives one secret to all who start at once`() async throws {
        let path = scratch.secrets
        let secrets = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<64 {
                group.addTask {
                    try SecretFolder(path).read("key") { RandomToken.make() }.expose()
                }
            }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        #expect(secrets.count == 1)
        #expect(try FileManager.default.contentsOfDirectory(atPath: path) == ["key"])
    }

    @Test(arguments: [0o644, 0o640, 0o604, 0o660, 0o620, 0o601])
    func `refuses a file that others could read or change`(mode: Int) throws {
        _ = try folder.read("key") { Secret("one") }
        try FileManager.default.setAttributes(
            [.posixPermissions: mode], ofItemAtPath: scratch.secrets + "/key")
        #expect {
            try folder.read("key")
        } throws: { error in
            guard case .unusableFile(let path, let reason)? = error as? SecretError else { return false }
            return path.hasSuffix("/secrets/key") && reason.contains(String(mode, radix: 8))
                && reason.contains("0600")
        }
        #expect(throws: SecretError.self) { try folder.read("key") { Secret("two") } }
    }

    @Test(arguments: [0o755, 0o750, 0o701])
    func `refuses a folder that others could enter`(mode: Int) throws {
        _ = try folder.read("key") { Secret("one") }
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: scratch.secrets)
        #expect(throws: SecretError.self) { try folder.read("key") }
        #expect(throws: SecretError.self) { try folder.read("other") { Secret("two") } }
    }

    @Test func `follows no link`() throws {
        _ = try folder.read("key") { Secret("one") }
        let elsewhere = scratch.path + "/elsewhere"
        try scratch.write("stolen\n", to: elsewhere, mode: 0o600)
        try FileManager.default.createSymbolicLink(
            atPath: scratch.secrets + "/link", withDestinationPath: elsewhere)
        #expect(throws: SecretError.self) { try folder.read("link") }
        try FileManager.default.createSymbolicLink(
            atPath: scratch.path + "/folder", withDestinationPath: scratch.secrets)
        #expect(throws: SecretError.self) { try SecretFolder(scratch.path + "/folder").read("key") }
    }

    @Test func `refuses an empty file, a folder in its place and a parent that is not there`() throws {
        _ = try folder.read("key") { Secret("one") }
        try scratch.write("", to: scratch.secrets + "/empty", mode: 0o600)
        #expect(throws: SecretError.self) { try folder.read("empty") { Secret("two") } }
        try FileManager.default.createDirectory(
            atPath: scratch.secrets + "/sub", withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700])
        #expect(throws: SecretError.self) { try folder.read("sub") }
        #expect(throws: SecretError.self) {
            try SecretFolder(scratch.path + "/no/such").read("key") { Secret("two") }
        }
    }
}

@Suite(.timeLimit(.minutes(1))) struct `The chain of secrets` {
    private let scratch = Scratch()
    private let time = ManualTime(Timestamp(seconds: 1_756_036_800))
    private static let long = String(repeating: "k", count: 32)
    private static let vaultSettings = VaultSettings(
        address: "http://vault", login: .appRole(id: "role", secret: Secret("role-secret")),
        patience: .seconds(60))

    private func secrets(
        vault fake: FakeVault? = nil, _ environment: [String: String] = [:], log: Log = .silent
    ) -> Secrets {
        Secrets(
            vault: fake == nil ? nil : Self.vaultSettings, environment: Environment(environment),
            folder: SecretFolder(scratch.secrets), time: time, random: SeededRandom(seed: 1), log: log
        ) { _ in fake ?? FakeVault(time) }
    }

    @Test func `asks Vault first`() async throws {
        let fake = FakeVault(time, fields: ["jwt_secret": "from vault"])
        #expect(
            try await secrets(vault: fake, ["JWT_SECRET": "from here"]).value("JWT_SECRET")?.expose()
                == "from vault")
    }

    @Test func `asks the environment for what Vault lacks`() async throws {
        let fake = FakeVault(time, fields: ["other": "x"])
        #expect(
            try await secrets(vault: fake, ["JWT_SECRET": "from here"]).value("JWT_SECRET")?.expose()
                == "from here")
        #expect(try await secrets(["JWT_SECRET": "from here"]).value("JWT_SECRET")?.expose() == "from here")
    }

    @Test func `reads a file the environment names`() async throws {
        let file = scratch.path + "/jwt"
        try scratch.write("from a file\n", to: file, mode: 0o400)
        #expect(try await secrets(["JWT_SECRET_FILE": file]).value("JWT_SECRET")?.expose() == "from a file")
        await #expect(throws: SecretError.self) {
            try await secrets(["JWT_SECRET_FILE": file + "x"]).value("JWT_SECRET") { Secret("made up") }
        }
    }

    @Test func `makes a secret only where there is no Vault`() async throws {
        let made = try await secrets().tokenKeys()
        #expect(try await secrets().tokenKeys().current.id == made.current.id)
        await #expect(throws: SecretError.missing(name: "JWT_SECRET")) {
            try await secrets(vault: FakeVault(time, fields: nil)).tokenKeys()
        }
    }

    @Test func `waits for a Vault that does not answer, aloud, and falls back to nothing`() async throws {
        let fake = FakeVault(time, fields: ["jwt_secret": "from vault"])
        fake.change { $0.isDown = true }
        let sink = MemorySink()
        let secrets = secrets(
            vault: fake, ["JWT_SECRET": "from here"], log: Log(service: "test", time: time, to: sink))
        let asking = Task { try await secrets.value("JWT_SECRET") }
        for _ in 0..<4 {
            await time.waitForSleepers(1)
            time.advance(by: .seconds(2))
        }
        await time.waitForSleepers(1)
        #expect(sink.lines.count >= 3)
        #expect(sink.lines.allSatisfy { $0.contains("vault.unavailable") })
        fake.change { $0.isDown = false }
        time.advance(by: .seconds(15))
        #expect(try await asking.value?.expose() == "from vault")
    }

    @Test func `gives up on a Vault that stays away, with an error`() async throws {
        let fake = FakeVault(time)
        fake.change { $0.isDown = true }
        let secrets = secrets(vault: fake, ["JWT_SECRET": "from here"])
        let asking = Task { try await secrets.value("JWT_SECRET") }
        let pushing = Task {
            while !Task.isCancelled {
                time.advance(by: .seconds(1))
                await Task.yield()
            }
        }
        await #expect(throws: VaultError.unavailable(reason: "NoAnswer()")) { try await asking.value }
        pushing.cancel()
    }

    @Test func `does not wait where Vault says no`() async {
        let fake = FakeVault(time)
        fake.change { $0.roleSecret = "another" }
        await #expect(throws: VaultError.self) { try await secrets(vault: fake).value("JWT_SECRET") }
    }

    @Test func `keeps the key before for checking`() async throws {
        let old = TokenKeys(current: TokenKey(Secret(Array(repeating: UInt8(ascii: "o"), count: 32))))
        let token = TokenIssuer(keys: old, issuer: "convoke").issue(
            to: .service(name: "a", onBehalfOf: nil), id: "1", for: .minutes(1), now: time.now)
        let keys = try await secrets([
            "JWT_SECRET": Self.long, "JWT_SECRET_PREVIOUS": String(repeating: "o", count: 32),
        ]).tokenKeys()
        let verifier = TokenVerifier(keys: keys, issuer: "convoke")
        #expect(throws: Never.self) { try verifier.verify(token.token, now: time.now) }
    }

    @Test func `refuses a token key that can be guessed`() async {
        await #expect(throws: SecretError.malformed(name: "JWT_SECRET", expected: "at least 32 bytes")) {
            try await secrets(["JWT_SECRET": "secret"]).tokenKeys()
        }
    }

    @Test func `reads sealing keys of several versions`() async throws {
        let (one, two) = (Base64.encode(Array(1...32)), Base64.encode(Array(2...33)))
        let place = SealBinding("a", "b")
        let before = try await secrets(["SEALING_KEY": one]).sealingKeys()
        let after = try await secrets(["SEALING_KEY": "2:\(two),1:\(one)"]).sealingKeys()
        let sealed = before.seal(Secret("text"), for: place)
        #expect(after.currentVersion == 2)
        #expect(try after.open(sealed, for: place).expose() == "text")
    }

    @Test(arguments: [
        "short", "0:" + Base64.encode(Array(1...32)), "x:" + Base64.encode(Array(1...32)),
        "1:" + Base64.encode(Array(1...31)), Base64.encode(Array(1...32)) + ",",
        "1:1:" + Base64.encode(Array(1...32)), "-1:" + Base64.encode(Array(1...32)),
        Base64.encode(Array(1...32)) + "," + Base64.encode(Array(1...32)),
    ])
    func `refuses sealing keys in any other form`(text: String) async {
        await #expect(throws: SecretError.self) { try await secrets(["SEALING_KEY": text]).sealingKeys() }
    }

    @Test func `generates a sealing key and a key for other uses once`() async throws {
        let place = SealBinding("a", "b")
        let sealed = try await secrets().sealingKeys().seal(Secret("text"), for: place)
        #expect(try await secrets().sealingKeys().open(sealed, for: place).expose() == "text")
        #expect(try await secrets().key("STOPLIST_KEY") == secrets().key("STOPLIST_KEY"))
    }
}

@Suite struct `The settings for Vault` {
    private func read(_ values: [String: String]) -> (settings: VaultSettings?, mistakes: [String]) {
        var environment = Environment(values)
        let settings = VaultSettings(from: &environment)
        return (settings, environment.mistakes)
    }

    @Test func `are absent without an address`() {
        #expect(read([:]).settings == nil)
        #expect(read(["VAULT_TOKEN": "t"]).settings == nil)
    }

    @Test func `prefer AppRole and fall back to a token`() throws {
        let both = read([
            "VAULT_ADDR": "https://vault:8200/", "VAULT_ROLE_ID": "r", "VAULT_SECRET_ID": "s",
            "VAULT_TOKEN": "t",
        ])
        #expect(both.mistakes.isEmpty)
        #expect(both.settings?.address == "https://vault:8200")
        guard case .appRole(let id, let secret)? = both.settings?.login else {
            Issue.record("no AppRole")
            return
        }
        #expect(id == "r" && secret.expose() == "s")
        let token = read(["VAULT_ADDR": "https://vault:8200", "VAULT_TOKEN": "t"])
        guard case .token? = token.settings?.login else {
            Issue.record("no token")
            return
        }
    }

    @Test(arguments: [
        ["VAULT_ADDR": "vault:8200", "VAULT_TOKEN": "t"], ["VAULT_ADDR": "https://vault"],
        ["VAULT_ADDR": "https://vault", "VAULT_ROLE_ID": "r"],
        ["VAULT_ADDR": "https://vault", "VAULT_SECRET_ID": "s", "VAULT_TOKEN": "t"],
        ["VAULT_ADDR": "https://vault", "VAULT_TOKEN": "t", "VAULT_PATH": "../sys"],
        ["VAULT_ADDR": "https://vault", "VAULT_TOKEN": "t", "VAULT_MOUNT": "secret?x"],
    ])
    func `name every mistake`(values: [String: String]) {
        #expect(read(values).mistakes.count == 1)
    }
}
