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
    /// Whether browsers are told to come over TLS alone.
    let isSecure: Bool
    let webRoot: String?
    let metricsPort: Int

    init(from environment: consuming Environment) throws(ConfigurationError) {
        origins = Set(environment.list("CORS_ORIGINS"))
        for origin in origins where origin == "*" || !origin.contains("://") || origin.hasSuffix("/") {
            environment.mistake("CORS_ORIGINS must list origins such as https://app.example")
        }
        userLimit = Int64(environment.int("USER_REQUESTS_PER_MINUTE", default: 1200, in: 1...10_000_000))
        deadline = environment.seconds("UPSTREAM_SECONDS", default: 30, in: 1...600)
        idle = environment.seconds("UPSTREAM_IDLE_SECONDS", default: 60, in: 1...3600)
        let base = environment.int("CONVOKE_PORT_BASE", default: 8000, in: 1024...65_000)
        isSecure = environment.string("PUBLIC_URL", default: "").hasPrefix("https://")
        webRoot = environment.value("WEB_ROOT")
        metricsPort = environment.int("GATEWAY_METRICS_PORT", default: base + 9, in: 0...65_535)
        try environment.finish()
    }
}
