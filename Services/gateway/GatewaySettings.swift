import Core
import ServiceKit

/// What an administrator may say about the public door.
struct GatewaySettings: Sendable {
    /// Pages elsewhere that may call the API; none by default.
    let origins: Set<String>
    /// Requests a minute of one signed-in user.
    let userLimit: Int64
    /// Until the head of an answer.
    let deadline: Duration
    /// The longest pause within a stream.
    let idle: Duration
    /// Exchanges at once with one replica.
    let upstreamConnections: Int
    /// Whether browsers are told to come over TLS alone.
    let isSecure: Bool
    /// Proxies of ours in front, whose word on a client's address counts.
    let addresses: ClientAddresses
    let webRoot: String?
    let operators: ListeningAddress

    init(from environment: consuming Environment) throws(ConfigurationError) {
        origins = Set(environment.list("CORS_ORIGINS"))
        for origin in origins where origin == "*" || !origin.contains("://") || origin.hasSuffix("/") {
            environment.mistake("CORS_ORIGINS must list origins such as https://app.example")
        }
        userLimit = Int64(environment.int("USER_REQUESTS_PER_MINUTE", default: 1200, in: 1...1_000_000_000))
        deadline = environment.seconds("UPSTREAM_SECONDS", default: 30, in: 1...600)
        idle = environment.seconds("UPSTREAM_IDLE_SECONDS", default: 60, in: 1...3600)
        upstreamConnections = environment.int("UPSTREAM_CONNECTIONS", default: 4096, in: 1...100_000)
        isSecure = environment.string("PUBLIC_URL", default: "").hasPrefix("https://")
        var trusted: [Network] = []
        for text in environment.list("TRUSTED_PROXIES") {
            if let network = Network(text) {
                trusted.append(network)
            } else {
                environment.mistake("TRUSTED_PROXIES must list addresses or networks such as 10.0.0.0/8")
            }
        }
        addresses = ClientAddresses(trusted: trusted)
        webRoot = environment.value("WEB_ROOT")
        let base = environment.int("CONVOKE_PORT_BASE", default: 8000, in: 1024...65_000)
        operators = ListeningAddress(
            host: environment.string("METRICS_HOST", default: "127.0.0.1"),
            port: environment.int("GATEWAY_METRICS_PORT", default: base + 9, in: 0...65_535))
        try environment.finish()
    }
}
