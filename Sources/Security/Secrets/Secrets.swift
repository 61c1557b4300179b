public import Core

/// Why there is no secret.
public enum SecretError: Error, Equatable, Sendable {
    case unusableFile(path: String, reason: String)
    /// Neither Vault nor the environment has it, and where Vault is configured nothing is made up: every
    /// replica would make up another.
    case missing(name: String)
    /// It is there, but not in a form that can be used.
    case malformed(name: String, expected: String)
}

/// Where secrets come from: Vault, then the environment, then a file that was made on the first start.
///
/// A Vault that is configured and does not answer is waited for, aloud; it is never passed over.
public struct Secrets: Sendable {
    /// What signs tokens: text of 32 bytes or more. `JWT_SECRET_PREVIOUS` still checks them.
    public static let tokenKey = "JWT_SECRET"
    public static let previousTokenKey = "JWT_SECRET_PREVIOUS"
    /// `2:<base64>,1:<base64>`, the current one first; a bare key is version 1.
    public static let sealingKey = "SEALING_KEY"
    /// What keeps a person on the stop-list after all else of them is gone; it is never changed, or the stop is lost.
    public static let suppressionKey = "INVITE_SUPPRESSION_KEY"

    private let vault: Vault?
    private let patience: Duration
    private let environment: Environment
    private let folder: SecretFolder
    private let time: any TimeSource
    private let random: any RandomSource
    private let log: Log

    /// - Parameters:
    ///   - folder: for generated secrets; used, and made, only where there is no Vault.
    ///   - transport: makes the way to Vault from its address.
    public init(
        vault settings: VaultSettings?, environment: Environment, folder: SecretFolder,
        time: any TimeSource = SystemTime(), random: any RandomSource = SystemRandom(), log: Log,
        transport: (VaultSettings) throws -> any VaultTransport
    ) rethrows {
        vault = try settings.map { settings in
            Vault(settings, over: try transport(settings), time: time, random: random, log: log)
        }
        patience = settings?.patience ?? .zero
        self.environment = environment
        self.folder = folder
        self.time = time
        self.random = random
        self.log = log
    }

    /// The session with Vault, to be run beside the other services and asked for its health; nil without one.
    public var session: Vault? { vault }

    // MARK: - The keys of the platform

    public func tokenKeys() async throws -> TokenKeys {
        let current = try await value(Self.tokenKey) { RandomToken.make(bytes: 32, random) }
        let previous = try await value(Self.previousTokenKey)
        func key(_ secret: Secret<String>, _ name: String) throws -> TokenKey {
            guard let key = TokenKey(text: secret) else {
                throw SecretError.malformed(name: name, expected: "at least 32 bytes")
            }
            return key
        }
        return TokenKeys(
            current: try key(current, Self.tokenKey),
            previous: try previous.map { [try key($0, Self.previousTokenKey)] } ?? [])
    }

    public func sealingKeys() async throws -> SealingKeys {
        let text = try await value(Self.sealingKey) {
            Secret("1:" + Base64.encode(random.bytes(SealingKey.length)))
        }
        return try Self.sealingKeys(text, random)
    }

    /// A key of 32 bytes for anything else that has to stay the same when the others change, such as the
    /// stop-list's keyed hash.
    public func key(_ name: String) async throws -> Secret<[UInt8]> {
        let text = try await value(name) { Secret(Base64.encode(random.bytes(32))) }
        guard let bytes = Base64.decode(text.expose()), bytes.count == 32 else {
            throw SecretError.malformed(name: name, expected: "32 bytes in base64")
        }
        return Secret(bytes)
    }

    static func sealingKeys(
        _ text: Secret<String>, _ random: any RandomSource = SystemRandom()
    ) throws(SecretError) -> SealingKeys {
        let wrong = SecretError.malformed(
            name: sealingKey,
            expected: "version:base64 of 32 bytes, several with commas, the current one first")
        var keys: [SealingKey] = []
        for part in text.expose().split(separator: ",", omittingEmptySubsequences: false) {
            let halves = part.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            let version = halves.count == 2 ? UInt32(halves[0]) : 1
            guard halves.count <= 2, let version, version > 0, let last = halves.last,
                let bytes = Base64.decode(last), bytes.count == SealingKey.length,
                !keys.contains(where: { $0.version == version })
            else { throw wrong }
            keys.append(SealingKey(version: version, Secret(bytes)))
        }
        guard let current = keys.first else { throw wrong }
        return SealingKeys(current: current, previous: Array(keys.dropFirst()), random: random)
    }

    // MARK: - Any secret

    /// The secret called `name`, or nil where nobody has it.
    public func value(_ name: String) async throws -> Secret<String>? {
        if let found = try await configured(name) { return found }
        return vault == nil ? try folder.read(Self.fileName(name)) : nil
    }

    /// The secret called `name`; without a Vault it is made and kept where nobody has it.
    public func value(_ name: String, orMake make: () -> Secret<String>) async throws -> Secret<String> {
        if let found = try await configured(name) { return found }
        guard vault == nil else { throw SecretError.missing(name: name) }
        return try folder.read(Self.fileName(name), orMake: make)
    }

    private static func fileName(_ name: String) -> String { name.lowercased() }

    private func configured(_ name: String) async throws -> Secret<String>? {
        if let vault, let found = try await fields(of: vault)[name] { return found }
        var environment = environment
        let found = environment.secret(name)
        // An unreadable file behind `X_FILE` is no absent secret.
        if let found { return found }
        guard environment.value(name + "_FILE") == nil else {
            throw SecretError.malformed(name: name + "_FILE", expected: "the path of a readable file")
        }
        return nil
    }

    /// What Vault has, under names in capitals; waits for it as long as is configured.
    private func fields(of vault: Vault) async throws -> [String: Secret<String>] {
        let giveUp = time.uptime + patience
        let backoff = Backoff(first: .milliseconds(250), ceiling: .seconds(15))
        var attempt = 0
        while true {
            do {
                let pairs = try await vault.read().map { ($0.key.uppercased(), $0.value) }
                return Dictionary(pairs) { _, last in last }
            } catch let error as VaultError where error.isWorthRetrying && time.uptime < giveUp {
                attempt += 1
                let delay = backoff.delay(after: attempt, random)
                log.error(
                    "vault.unavailable",
                    ["error": .error(error), "attempt": .int(attempt), "retry_in_ms": .duration(delay)])
                try await time.sleep(for: delay)
            }
        }
    }
}
