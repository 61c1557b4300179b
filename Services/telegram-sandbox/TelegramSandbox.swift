import Core
import HTTP
import Sandbox
public import ServiceKit

extension ServiceDefinition {
    /// A simulated Telegram for development, tests and demonstrations.
    public static let telegramSandbox = ServiceDefinition(
        "telegram-sandbox", portOffset: 90,
        contract: PackageResources.openapi_yaml
    ) { context in
        let settings = try SandboxSettings(from: context.environment, now: context.time.now)
        let journal = SQLJournal(folder: settings.dataFolder, time: context.time, log: context.log)
        let world = SandboxWorld(settings.options, time: context.time, journal: journal, log: context.log)
        try await world.restore()
        let links = NetworkLinks(world)
        let control = ControlRoutes(world)
        context.log.info("sandbox.simulated", ["seed": .int(settings.options.seed)])
        return ServiceParts(
            workers: [journal, world],
            routes: { router in
                links.register(on: &router)
                control.register(on: &router)
            })
    }
}

/// What world is simulated.
struct SandboxSettings: Sendable {
    let options: WorldOptions
    let dataFolder: String

    init(from environment: consuming Environment, now: Timestamp) throws(ConfigurationError) {
        dataFolder = environment.string("DATA_DIR", default: "data")
        let seed = environment.int("CONVOKE_SEED", default: 1, in: 0 ... .max)
        options = WorldOptions(
            seed: UInt64(seed),
            people: environment.int("SANDBOX_PEOPLE", default: 20_000, in: 100...1_000_000),
            accounts: environment.int("SANDBOX_ACCOUNTS", default: 30, in: 1...20_000),
            communities: environment.int("SANDBOX_COMMUNITIES", default: 24, in: 0...2000),
            strictness: environment.choice("SANDBOX_STRICTNESS", default: .telegram),
            latency: .milliseconds(environment.int("SANDBOX_LATENCY_MS", default: 0, in: 0...60_000)),
            peopleReact: environment.bool("SANDBOX_PEOPLE_REACT", default: true),
            isOdd: environment.bool("SANDBOX_ODD", default: true), start: now)
        try environment.finish()
    }
}
