import Core
import ServiceKit

/// What an administrator may say about the way to Telegram.
struct IntegrationSettings: Sendable {
    /// Where the sessions' folders are: one for each account, on this machine's disk.
    let sessionFolder: String
    /// A client that nobody has used for so long is closed; its session stays.
    let idle: Duration
    let logRetention: Duration
    let attemptRetention: Duration
    /// Where tokens of bots are checked; nil leaves it to the kind of Telegram.
    let botAPI: String?

    init(from environment: consuming Environment) throws(ConfigurationError) {
        let data = environment.string("DATA_DIR", default: "data")
        sessionFolder = environment.string("TELEGRAM_SESSIONS_DIR", default: "\(data)/telegram")
        idle = environment.seconds("TELEGRAM_IDLE_SECONDS", default: 1800, in: 10...86_400)
        logRetention = .days(Int64(environment.int("INTEGRATION_LOG_DAYS", default: 90, in: 1...3650)))
        attemptRetention = .days(Int64(environment.int("SEND_ATTEMPT_DAYS", default: 30, in: 1...3650)))
        botAPI = environment.value("TELEGRAM_BOT_API_URL")
        try environment.finish()
    }
}
