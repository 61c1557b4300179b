import Core
import Invites

/// What an administrator may choose about the campaigns' work.
struct InviteSettings: Sendable {
    /// Whether this process works on campaigns beside answering.
    let hasWorker: Bool
    /// How many pieces of work run here at once.
    let concurrency: Int
    let runner: CampaignRunner.Settings
    let logRetention: Duration
    /// How often somebody looks which campaigns are due.
    let wakeInterval: Duration

    init(from environment: consuming Environment) throws(ConfigurationError) {
        hasWorker = environment.bool("INVITE_WORKER", default: true)
        concurrency = environment.int("INVITE_WORKER_CONCURRENCY", default: 8, in: 1...256)
        runner = CampaignRunner.Settings(
            lanes: environment.int("INVITE_LANES", default: 4, in: 1...64),
            chunk: environment.int("INVITE_CHUNK", default: 5, in: 1...100),
            rightsLast: environment.seconds("INVITE_RIGHTS_SECONDS", default: 3600, in: 60...86_400))
        logRetention = .days(Int64(environment.int("INVITE_LOG_DAYS", default: 365, in: 1...3650)))
        wakeInterval = .milliseconds(
            Int64(environment.int("INVITE_WAKE_MILLISECONDS", default: 400, in: 10...60_000)))
        try environment.finish()
    }
}
