public import Core

/// Our session with Vault: logs in, keeps its token alive as a `Service`, reads secrets, encrypts.
public actor Vault: Service {
    public nonisolated let name = "vault"

    private let settings: VaultSettings
    private let transport: any VaultTransport
    private let time: any TimeSource
    private let random: any RandomSource
    private let log: Log
    private let backoff = Backoff(first: .milliseconds(500), ceiling: .seconds(30))

    private var session: (token: Secret<String>, lease: VaultLease)?

    public init(
        _ settings: VaultSettings, over transport: any VaultTransport, time: any TimeSource = SystemTime(),
        random: any RandomSource = SystemRandom(), log: Log
    ) {
        self.settings = settings
        self.transport = transport
        self.time = time
        self.random = random
        self.log = log
    }

    // MARK: - Secrets

    /// All secrets at our path; empty where nothing was ever written there.
    public func read() async throws -> [String: Secret<String>] {
        let answer = try await ask("GET", "/v1/\(settings.mount)/data/\(settings.path)")
        if answer.status == 404 { return [:] }
        let body = try Self.success(answer, "read \(settings.mount)/\(settings.path)")
        guard let members = body["data"]?["data"]?.objectValue else {
            throw VaultError.unexpected(
                reason: "no data at \(settings.mount)/\(settings.path): is it KV version 2?")
        }
        let pairs = members.map { member in
            (member.name, Secret(member.value.stringValue ?? member.value.text))
        }
        return Dictionary(pairs) { _, last in last }
    }

    /// Encrypts with a key that never leaves Vault (its transit engine); the result is text that names the
    /// key's version.
    public func encrypt(_ plain: Secret<[UInt8]>, key: String) async throws -> String {
        let body: JSONValue = ["plaintext": .string(Base64.encode(plain.expose()))]
        let answer = try await ask("POST", "/v1/transit/encrypt/\(key)", body)
        guard let text = try Self.success(answer, "encrypt")["data"]?["ciphertext"]?.stringValue else {
            throw VaultError.unexpected(reason: "no ciphertext")
        }
        return text
    }

    public func decrypt(_ text: String, key: String) async throws -> Secret<[UInt8]> {
        let answer = try await ask("POST", "/v1/transit/decrypt/\(key)", ["ciphertext": .string(text)])
        let body = try Self.success(answer, "decrypt")
        guard let plain = body["data"]?["plaintext"]?.stringValue.flatMap({ Base64.decode($0) }) else {
            throw VaultError.unexpected(reason: "no plaintext")
        }
        return Secret(plain)
    }

    /// Whether Vault answers and knows us, for health.
    public func ping() async throws {
        _ = try Self.success(try await ask("GET", "/v1/auth/token/lookup-self"), "look up the token")
    }

    // MARK: - Keeping the token

    /// Keeps the session alive until cancelled. What fails is said at once and tried again: a service goes
    /// on with the secrets it has while Vault is away.
    public func run() async throws {
        var failures = 0
        while true {
            do {
                try await keepAlive()
                failures = 0
            } catch let error where !(error is CancellationError) {
                failures += 1
                let delay = backoff.delay(after: failures, random)
                log.error("vault.failed", ["error": .error(error), "retry_in_ms": .duration(delay)])
                try await time.sleep(for: delay)
            }
        }
    }

    private func keepAlive() async throws {
        guard let session else { return try await logIn() }
        switch session.lease.step(at: time.uptime) {
        case .rest: try await time.sleep(for: .hours(1))
        case .wait(let due): try await time.sleep(for: due - time.uptime)
        case .logIn: try await logIn()
        case .renew: try await renew(session)
        }
    }

    private func renew(_ session: (token: Secret<String>, lease: VaultLease)) async throws {
        let asked = time.uptime
        let answer = try await send(VaultRequest("POST", "/v1/auth/token/renew-self", token: session.token))
        do {
            let (token, lease) = try Self.session(try Self.success(answer, "renew the token"), asked)
            self.session = (token, lease)
            if !lease.isFading(after: session.lease) { return log.debug("vault.renewed") }
        } catch let error as VaultError where !error.isWorthRetrying {
            // The token is gone or may not be renewed: only a new one helps.
        }
        try await logIn()
    }

    private func logIn() async throws {
        // The lifetime counts from when it was asked for, so that it is never thought longer than it is.
        let asked = time.uptime
        switch settings.login {
        case .appRole(let id, let secret):
            let body: JSONValue = ["role_id": .string(id), "secret_id": .string(secret.expose())]
            let answer = try await send(VaultRequest("POST", "/v1/auth/approle/login", body: Secret(body)))
            session = try Self.session(try Self.success(answer, "log in as AppRole"), asked)
        case .token(let token):
            let answer = try await send(VaultRequest("GET", "/v1/auth/token/lookup-self", token: token))
            let data = try Self.success(answer, "use VAULT_TOKEN")["data"]
            guard let seconds = data?["ttl"]?.intValue else { throw VaultError.unexpected(reason: "no ttl") }
            let lease = VaultLease(
                obtained: asked, lifetime: .seconds(seconds), isRenewable: data?["renewable"] == .bool(true))
            session = (token, lease)
            if !lease.isRenewable, lease.lifetime > .zero {
                // Nothing but this token is known to us, so there is nothing to do about its end but to say it.
                log.warning("vault.token-ends", ["in_seconds": .int(seconds)])
            }
        }
        log.debug("vault.logged-in")
    }

    private static func session(
        _ body: JSONValue, _ asked: Duration
    ) throws -> (token: Secret<String>, lease: VaultLease) {
        guard let auth = body["auth"], let token = auth["client_token"]?.stringValue,
            let seconds = auth["lease_duration"]?.intValue, (0...1 << 40).contains(seconds)
        else { throw VaultError.unexpected(reason: "no token in the answer") }
        let lease = VaultLease(
            obtained: asked, lifetime: .seconds(seconds), isRenewable: auth["renewable"] == .bool(true))
        return (Secret(token), lease)
    }

    // MARK: - Asking

    /// Asks with our token, logging in first where there is none, and once more where Vault refuses it.
    private func ask(_ method: String, _ path: String, _ body: JSONValue? = nil) async throws -> VaultResponse
    {
        let hadSession = session != nil
        let answer = try await ask(method, path, body, logIn: !hadSession)
        guard answer.status == 403, hadSession else { return answer }
        return try await ask(method, path, body, logIn: true)
    }

    private func ask(
        _ method: String, _ path: String, _ body: JSONValue?, logIn mustLogIn: Bool
    ) async throws -> VaultResponse {
        if mustLogIn { try await logIn() }
        return try await send(
            VaultRequest(method, path, token: session?.token, body: body.map { Secret($0) }))
    }

    private func send(_ request: VaultRequest) async throws -> VaultResponse {
        do {
            return try await transport.send(request)
        } catch let error where !(error is CancellationError) {
            throw VaultError.unavailable(reason: String(describing: error))
        }
    }

    private static func success(_ answer: VaultResponse, _ what: String) throws -> JSONValue {
        let body = answer.body.expose()
        let errors = (body["errors"]?.arrayValue ?? []).compactMap(\.stringValue).joined(separator: ", ")
        let reason = "cannot \(what): \(answer.status) \(errors)"
        switch answer.status {
        case 200..<300: return body
        case 400, 401, 403, 404: throw VaultError.denied(reason: reason)
        // 412: this standby has not caught up, 429 and 472, 473: busy or standby, 503: sealed or in upkeep.
        case 408, 412, 429, 472, 473, 500...: throw VaultError.unavailable(reason: reason)
        default: throw VaultError.unexpected(reason: reason)
        }
    }
}
