public import Core

/// Where Vault is and who we are there.
public struct VaultSettings: Sendable {
    public enum Login: Sendable {
        case appRole(id: String, secret: Secret<String>)
        case token(Secret<String>)
    }

    /// Without a slash at the end.
    public let address: String
    public let login: Login
    /// The KV version 2 engine and the path of our secrets in it.
    public let mount: String
    public let path: String
    /// How long a start waits for a Vault that does not answer.
    public let patience: Duration

    public init(
        address: String, login: Login, mount: String = "secret", path: String = "convoke",
        patience: Duration = .minutes(5)
    ) {
        self.address = address
        self.login = login
        self.mount = mount
        self.path = path
        self.patience = patience
    }

    /// Nil without `VAULT_ADDR`. AppRole comes before a token where both are given.
    public init?(from environment: inout Environment) {
        guard let address = environment.value("VAULT_ADDR") else { return nil }
        if !address.hasPrefix("http://") && !address.hasPrefix("https://") {
            environment.mistake("VAULT_ADDR must start with http:// or https://")
        }
        let role = environment.value("VAULT_ROLE_ID")
        let secret = environment.secret("VAULT_SECRET_ID")
        let token = environment.secret("VAULT_TOKEN")
        switch (role, secret, token) {
        case (let role?, let secret?, _): login = .appRole(id: role, secret: secret)
        case (nil, nil, let token?): login = .token(token)
        case (nil, nil, nil):
            environment.mistake("VAULT_ADDR needs VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_TOKEN")
            login = .token(Secret(""))
        default:
            environment.mistake("VAULT_ROLE_ID and VAULT_SECRET_ID must be given together")
            login = .token(Secret(""))
        }
        var trimmed = Substring(address)
        while trimmed.last == "/" { trimmed.removeLast() }
        self.address = String(trimmed)
        mount = Self.path("VAULT_MOUNT", default: "secret", &environment)
        path = Self.path("VAULT_PATH", default: "convoke", &environment)
        patience = environment.seconds("VAULT_PATIENCE_SECONDS", default: 300, in: 0...86_400)
    }

    private static func path(
        _ name: String, default fallback: String, _ environment: inout Environment
    ) -> String {
        environment.parsed(name, default: fallback, expects: "a path such as \(fallback)") { text in
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            let isPath = parts.allSatisfy { part in
                !part.isEmpty && part != "." && part != ".."
                    && part.utf8.allSatisfy {
                        ($0 | 0x20) >= 0x61 && ($0 | 0x20) <= 0x7A || ($0 >= 0x30 && $0 <= 0x39)
                            || "-_.".utf8.contains($0)
                    }
            }
            return isPath ? text : nil
        }
    }
}

/// Why Vault did not give what was asked.
public enum VaultError: Error, Equatable, Sendable {
    /// No answer, or one that says "not now": it is worth asking again.
    case unavailable(reason: String)
    /// It knows us not, or we may not read this.
    case denied(reason: String)
    /// An answer we do not understand.
    case unexpected(reason: String)

    public var isWorthRetrying: Bool {
        if case .unavailable = self { true } else { false }
    }
}
