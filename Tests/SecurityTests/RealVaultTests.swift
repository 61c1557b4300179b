import Core
import HTTP
import HTTPClient
import Synchronization
import TestServers
import Testing

@testable import Security

/// What a Vault-compatible server itself says to all of this.
@Suite(
    .timeLimit(.minutes(2)),
    .enabled("the server's binary is not installed") { try await TestServers.vault() != nil })
struct `A real Vault` {
    private let root: VaultSettings
    private let rootToken: Secret<String>
    private let transport: HTTPVaultTransport

    init() async throws {
        let server = try #require(try await TestServers.vault())
        rootToken = Secret(server.rootToken)
        root = VaultSettings(address: server.url, login: .token(rootToken))
        transport = HTTPVaultTransport(HTTPClient(), address: server.url)
    }

    private func admin(_ method: String, _ path: String, _ body: JSONValue? = nil) async throws -> JSONValue {
        let answer = try await transport.send(
            VaultRequest(method, path, token: rootToken, body: body.map { Secret($0) }))
        try #require((200..<300).contains(answer.status), "\(path): \(answer.status)")
        return answer.body.expose()
    }

    /// An AppRole that may read one path and use one transit key, with tokens of `seconds`.
    private func role(_ name: String, seconds: Int64, longest: Int64 = 3600) async throws -> VaultSettings {
        let path = "\(name)-\(Hex.encode(SystemRandom().bytes(4)))"
        // Switching on twice is refused, and no harm.
        for (mount, type) in [("auth/approle", "approle"), ("mounts/transit", "transit")] {
            _ = try await transport.send(
                VaultRequest(
                    "POST", "/v1/sys/\(mount)", token: rootToken,
                    body: Secret(["type": .string(type)])))
        }
        let policy = """
            path "secret/data/\(path)" { capabilities = ["read"] }
            path "transit/encrypt/\(path)" { capabilities = ["update"] }
            path "transit/decrypt/\(path)" { capabilities = ["update"] }
            """
        _ = try await admin("PUT", "/v1/sys/policies/acl/\(path)", ["policy": .string(policy)])
        _ = try await admin(
            "POST", "/v1/auth/approle/role/\(path)",
            [
                "token_policies": .string(path), "token_ttl": "\(seconds)s", "token_max_ttl": "\(longest)s",
            ])
        let id = try await admin("GET", "/v1/auth/approle/role/\(path)/role-id")["data"]?["role_id"]?
            .stringValue
        let secret = try await admin("POST", "/v1/auth/approle/role/\(path)/secret-id")["data"]?["secret_id"]
        return VaultSettings(
            address: root.address,
            login: .appRole(id: try #require(id), secret: Secret(try #require(secret?.stringValue))),
            path: path, patience: .seconds(1))
    }

    @Test func `gives secrets to an AppRole, and the last version written`() async throws {
        let settings = try await role("reads", seconds: 60)
        let vault = Vault(settings, over: transport, log: .silent)
        #expect(try await vault.read().isEmpty)
        for text in ["first", "second"] {
            _ = try await admin(
                "POST", "/v1/secret/data/\(settings.path)", ["data": ["jwt_secret": .string(text)]])
        }
        #expect(try await vault.read()["jwt_secret"]?.expose() == "second")
        try await vault.ping()
    }

    @Test func `serves the chain`() async throws {
        let settings = try await role("chain", seconds: 60)
        let secret = String(repeating: "v", count: 40)
        _ = try await admin(
            "POST", "/v1/secret/data/\(settings.path)", ["data": ["jwt_secret": .string(secret)]])
        let secrets = Secrets(
            vault: settings, environment: Environment(), folder: SecretFolder("/nowhere"), log: .silent
        ) { _ in transport }
        #expect(try await secrets.tokenKeys().current.id == TokenKey(Secret(Array(secret.utf8))).id)
        await #expect(throws: SecretError.missing(name: "SEALING_KEY")) { try await secrets.sealingKeys() }
    }

    @Test func `renews a token and gives a new one after its last day`() async throws {
        let settings = try await role("renews", seconds: 2, longest: 3)
        _ = try await admin("POST", "/v1/secret/data/\(settings.path)", ["data": ["a": "b"]])
        let counting = CountingTransport(transport)
        let vault = Vault(settings, over: counting, log: .silent)
        let running = Task { try await vault.run() }
        while counting.count(of: "renew-self") < 2 || counting.count(of: "login") < 2 {
            try await SystemTime().sleep(for: .milliseconds(20))
        }
        let logins = counting.count(of: "login")
        #expect(try await vault.read()["a"]?.expose() == "b")
        #expect(counting.count(of: "login") <= logins + 1)
        running.cancel()
        _ = await running.result
    }

    @Test func `revokes a token and takes us back`() async throws {
        let settings = try await role("revokes", seconds: 60)
        _ = try await admin("POST", "/v1/secret/data/\(settings.path)", ["data": ["a": "b"]])
        let counting = CountingTransport(transport)
        let vault = Vault(settings, over: counting, log: .silent)
        _ = try await vault.read()
        let token = try #require(counting.lastToken)
        _ = try await admin("POST", "/v1/auth/token/revoke", ["token": .string(token)])
        #expect(try await vault.read()["a"]?.expose() == "b")
        #expect(counting.count(of: "login") == 2)
    }

    @Test func `encrypts with a key that stays there`() async throws {
        let settings = try await role("transits", seconds: 60)
        _ = try await admin("POST", "/v1/transit/keys/\(settings.path)")
        let vault = Vault(settings, over: transport, log: .silent)
        let sealed = try await vault.encrypt(Secret([1, 2, 3, 0, 255]), key: settings.path)
        #expect(sealed.hasPrefix("vault:v1:"))
        #expect(try await vault.decrypt(sealed, key: settings.path).expose() == [1, 2, 3, 0, 255])
        await #expect(throws: VaultError.self) {
            try await vault.decrypt("vault:v1:AAAA", key: settings.path)
        }
    }

    @Test func `denies a wrong secret id and another's path`() async throws {
        let settings = try await role("denies", seconds: 60)
        guard case .appRole(let id, let secret) = settings.login else { return }
        for wrong in [
            VaultSettings(
                address: root.address, login: .appRole(id: id, secret: Secret("wrong")), path: settings.path),
            VaultSettings(
                address: root.address, login: .appRole(id: id, secret: secret), path: "another"),
            VaultSettings(address: root.address, login: .token(Secret("wrong"))),
        ] {
            await #expect {
                try await Vault(wrong, over: transport, log: .silent).read()
            } throws: { error in
                if case VaultError.denied = error { true } else { false }
            }
        }
    }

    @Test func `that is not there is unavailable`() async {
        let settings = VaultSettings(address: "http://127.0.0.1:1", login: .token(Secret("t")))
        let nowhere = HTTPVaultTransport(HTTPClient(), address: settings.address)
        await #expect {
            try await Vault(settings, over: nowhere, log: .silent).read()
        } throws: { ($0 as? VaultError)?.isWorthRetrying == true }
    }

    @Test func `knows its root token, which never ends`() async throws {
        _ = try await admin("POST", "/v1/secret/data/convoke", ["data": ["a": "b"]])
        let vault = Vault(root, over: transport, log: .silent)
        #expect(try await vault.read()["a"]?.expose() == "b")
    }
}

/// Counts what is asked on the way.
private final class CountingTransport: VaultTransport {
    private let inner: any VaultTransport
    private let asked = Mutex<[(path: String, token: String?)]>([])

    init(_ inner: any VaultTransport) { self.inner = inner }

    func count(of word: String) -> Int { asked.withLock { $0.count { $0.path.hasSuffix(word) } } }
    var lastToken: String? { asked.withLock { $0.last?.token } }

    func send(_ request: VaultRequest) async throws -> VaultResponse {
        asked.withLock { $0.append((request.path, request.token?.expose())) }
        return try await inner.send(request)
    }
}
