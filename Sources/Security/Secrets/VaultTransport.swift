public import Core

/// One question to Vault.
public struct VaultRequest: Sendable {
    public let method: String
    /// Behind the address, such as `/v1/secret/data/convoke`.
    public let path: String
    /// Goes into the header `X-Vault-Token`.
    public let token: Secret<String>?
    /// Holds secrets: it is never logged.
    public let body: Secret<JSONValue>?

    public init(
        _ method: String, _ path: String, token: Secret<String>? = nil, body: Secret<JSONValue>? = nil
    ) {
        self.method = method
        self.path = path
        self.token = token
        self.body = body
    }
}

/// Vault's answer, whatever its status. A body that is empty or no JSON is `null`.
public struct VaultResponse: Sendable {
    public let status: Int
    public let body: Secret<JSONValue>

    public init(status: Int, body: JSONValue) {
        self.status = status
        self.body = Secret(body)
    }
}

/// How Vault is reached. Throws only where no answer came, and within a time-out of its own.
public protocol VaultTransport: Sendable {
    func send(_ request: VaultRequest) async throws -> VaultResponse
}
