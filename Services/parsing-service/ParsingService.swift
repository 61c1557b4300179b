import Broker
import Cache
import Contracts
import Core
import HTTP
public import Parsing
public import ServiceKit
import Storage

extension ServiceDefinition {
    /// Reading communities.
    public static let parsingService = parsingService(rhythm: .documented)

    /// The same at another rhythm: for tests and benchmarks.
    public static func parsingService(rhythm: Rhythm) -> ServiceDefinition {
        ServiceDefinition(
            "parsing-service", portOffset: 3, database: "parsing_db",
            queues: ParseDispatcher.queues + [UserDeletion.queue(of: "parsing-service")],
            migrations: Migration.parsing, contract: PackageResources.openapi_yaml,
            checkSettings: { environment, _ throws(ConfigurationError) in
                _ = try ParsingSettings(from: environment)
            }
        ) { context in
            let settings = try ParsingSettings(from: context.environment)
            let parts = ParsingParts(context, settings, rhythm)
            return ServiceParts(
                workers: [parts.figures, parts.hub] + (settings.hasWorker ? parts.workers : []),
                components: parts.components,
                eraseUser: { user in
                    parts.running.stopAll(of: user)
                    try await parts.store.erase(user: user)
                },
                routes: parts.register)
        }
    }

    /// The work alone, for a process of its own: `parsing-service worker`.
    public static let parsingServiceWorker = ServiceDefinition(
        "parsing-service-worker", portOffset: 13, database: "parsing_db", queues: ParseDispatcher.queues,
        contract: PackageResources.openapi_yaml
    ) { context in
        let settings = try ParsingSettings(from: context.environment)
        let parts = ParsingParts(context, settings, .documented)
        return ServiceParts(workers: [parts.figures] + parts.workers, components: parts.components)
    }
}

/// What the service is made of, for the one that answers and the one that only works.
struct ParsingParts: Sendable {
    let store: ParseStore
    let running: RunningParses
    let hub: ProgressHub
    let figures: ParsingFigures
    let workers: [any Service]
    let components: [Component]
    let register: @Sendable (inout Router) -> Void

    init(_ context: ServiceContext, _ settings: ParsingSettings, _ rhythm: Rhythm) {
        let (time, log) = (context.time, context.log)
        let store = ParseStore(context.database)
        let reading = ReadingClient(context.peers)
        let adapter = TelegramAdapter(reading)
        let lender = AccountLender(AccountManagerClient(context.peers, as: "parsing-service"))
        let metrics = ParsingMetrics(context.metrics)
        let running = RunningParses()
        let errands = Errands("parsing-errands")
        let engine = ParseEngine(
            store: store, adapters: [adapter], lender: lender, rhythm: rhythm, retention: settings.retention,
            time: time, random: context.random, log: log,
            didSave: { _, counts in metrics.saved(counts) },
            isCrowded: { running.count >= settings.places })
        let dispatcher = ParseDispatcher(
            engine: engine, store: store, running: running, errands: errands, broker: context.broker,
            settings: settings, metrics: metrics, readiness: context.readiness, time: time,
            random: context.random, log: log)
        self.store = store
        self.running = running
        let hub = ProgressHub(store: store, readiness: context.readiness, time: time, log: log)
        self.hub = hub
        workers = [
            errands, dispatcher,
            ParseQueueListener(
                broker: context.broker, dispatcher: dispatcher, readiness: context.readiness, time: time),
            ParsingUpkeep(store: store, readiness: context.readiness, time: time, log: log),
        ]
        figures = ParsingFigures(
            store: store, peers: context.peers, metrics: metrics, readiness: context.readiness, time: time,
            log: log)
        components = [
            Component(
                "account_manager", isNeeded: false,
                ping: { try await isHealthy("account-manager", context.peers) }),
            Component(
                "integration_service", isNeeded: false,
                ping: { try await isHealthy("integration-service", context.peers) }),
        ]
        let tasks = TaskRoutes(
            store: store, adapter: adapter, dispatcher: dispatcher, running: running, hub: hub,
            metrics: metrics, settings: settings, time: time, random: context.random)
        let results = ResultRoutes(store: store, settings: settings)
        let search = SearchRoutes(
            finder: CommunityFinder(
                reading: reading, looking: IntegrationClient(context.peers), lender: lender, store: store,
                time: time, log: log),
            cache: context.cache, metrics: metrics, settings: settings)
        let internals = InternalParsingRoutes(store: store)
        register = { router in
            func add(to router: inout Router, _ prefixes: [String]) {
                var router2 = PrefixedRouter(router: router, prefixes: prefixes)
                tasks.register(on: &router2)
                results.register(on: &router2)
                search.register(on: &router2)
                router = router2.router
            }
            add(to: &router, ["/api/v1", ""])
            internals.register(on: &router)
            // The documents call it a third way.
            var short = Router()
            add(to: &short, ["/v1"])
            let answering = short
            router.otherwise { request in
                guard request.path == "/v1" || request.path.hasPrefix("/v1/") else { throw Problem.notFound }
                return ("/v1/{rest...}", { request in await answering.answer(request) })
            }
        }
    }
}

private func isHealthy(_ service: String, _ peers: Peers) async throws {
    struct Unhealthy: Error {}
    let answer = try await peers.ask(service, .get, "/health", deadline: .seconds(2))
    guard answer.status == 200 else { throw Unhealthy() }
}

/// Puts every route under each of the beginnings by which the documents call it.
struct PrefixedRouter {
    var router: Router
    let prefixes: [String]

    mutating func on(_ method: Method, _ pattern: String, _ handler: @escaping Router.Handler) {
        for prefix in prefixes { router.on(method, prefix + pattern, handler) }
    }
}

/// What an administrator may say about reading.
struct ParsingSettings: Sendable {
    /// Under which name this process claims tasks; it takes them up again when it starts again.
    let worker: String
    let hasWorker: Bool
    /// How many tasks are worked on at once.
    let places: Int
    let retention: Duration
    let searchMemory: Duration

    init(from environment: consuming Environment) throws(ConfigurationError) {
        worker = environment.string("PARSING_WORKER_NAME", default: environment.value("HOSTNAME") ?? "here")
        hasWorker = environment.bool("PARSING_WORKER", default: true)
        places = environment.int("PARSING_TASKS_AT_ONCE", default: 64, in: 1...10_000)
        retention = .days(Int64(environment.int("PARSING_RETENTION_DAYS", default: 90, in: 1...3650)))
        searchMemory = environment.seconds("PARSING_SEARCH_CACHE_SECONDS", default: 600, in: 0...86_400)
        try environment.finish()
    }
}
