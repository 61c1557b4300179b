public import Broker
public import Cache
public import Core
public import HTTP
import HTTPClient
public import HTTPServer
import Security
import Storage

/// What all services of a process share.
public struct ProcessResources: Sendable {
    public let settings: ProcessSettings
    public let time: any TimeSource
    public let random: any RandomSource
    public let log: Log
    public let metrics: Metrics
    public let cache: any Cache
    public let tokens: Tokens
    let client: any HTTPSending
    let ownClient: HTTPClient
    let secrets: Secrets
    let environment: Environment
    let sink: any LogSink

    /// Opens them for a process of these services, whose settings are checked before anything is touched.
    ///
    /// - Parameters:
    ///   - time: a test's own; else what the settings say.
    ///   - client: a test's own way to other services.
    ///   - sink: where the services of this process write their log.
    public static func open(
        _ environment: Environment, for services: [ServiceDefinition] = [], log: Log,
        time: (any TimeSource)? = nil, random: any RandomSource = SystemRandom(),
        client: (any HTTPSending)? = nil, sink: any LogSink = StandardErrorSink.shared
    ) async throws -> ProcessResources {
        try checkSettings(of: services, in: environment)
        let settings = try ProcessSettings(from: environment)
        try DataFolder.prepare(settings.dataFolder)
        let time = time ?? settings.time
        // Read together with those of each service.
        let metrics = Metrics(label: "shared", "process")
        let ownClient = HTTPClient(metrics: metrics, log: log)
        let secrets = Secrets(
            vault: settings.vault, environment: environment,
            folder: SecretFolder("\(settings.dataFolder)/secrets"),
            time: time, random: random, log: log
        ) { HTTPVaultTransport(ownClient, address: $0.address) }
        let keys = try await secrets.tokenKeys()
        return ProcessResources(
            settings: settings, time: time, random: random, log: log, metrics: metrics,
            cache: settings.cache.open(time: time, log: log, metrics: metrics),
            tokens: Tokens(keys: keys, random: random), client: client ?? ownClient, ownClient: ownClient,
            secrets: secrets, environment: environment, sink: sink)
    }
}

extension ProcessResources {
    /// What has to run, and be closed at the end, whatever services there are.
    var services: [any Service] {
        var services: [any Service] = []
        if let vault = secrets.session { services.append(vault) }
        if let memory = cache as? MemoryCache { services.append(memory.sweeper()) }
        services.append(closing("cache", time) { await cache.close() })
        services.append(closing("http-client", time) { await ownClient.shutdown() })
        return services
    }
}

/// One service, ready to be served or asked directly.
public struct AssembledService: Sendable {
    public let context: ServiceContext
    public let readiness: Readiness
    public let router: Router
    /// Answers operators at an address of their own, where there is one.
    public let operators: (address: ListeningAddress, router: Router)?
    /// In the order of their start.
    public let services: [any Service]
    /// What its listener is to be.
    public let listener: ServerSettings
}

/// Opens what the service needs and wires its routes, short of a socket.
public func assemble(
    _ definition: ServiceDefinition, _ resources: ProcessResources, broker: (any Broker)?
) async throws -> AssembledService {
    let log = Log(
        service: definition.name, level: resources.settings.logLevel, time: resources.time, to: resources.sink
    )
    let metrics = Metrics()
    let settings = try ServiceSettings(
        for: definition, from: resources.environment, dataFolder: resources.settings.dataFolder)
    let database = settings.database.map {
        $0.open(
            definition.database ?? "", definition.pool, time: resources.time.machine,
            random: resources.random,
            log: log,
            metrics: metrics)
    }
    let broker = broker.map { CorrelatedBroker(broker: $0) }
    let client = CorrelatedClient(client: resources.client)
    // Every service that keeps anything can keep its answers.
    let readiness = Readiness(isReady: database == nil)
    let keptAnswers = database.map { KeptAnswers($0, service: definition.name) }
    let peers = Peers(
        environment: resources.environment, client: client, tokens: resources.tokens, caller: definition.name,
        time: resources.time)
    let context = ServiceContext(
        name: definition.name, settings: settings, environment: resources.environment, time: resources.time,
        random: resources.random, log: log, metrics: metrics, openDatabase: database, cache: resources.cache,
        openBroker: broker, client: client, secrets: resources.secrets, tokens: resources.tokens,
        readiness: readiness, peers: peers,
        endedSessions: EndedSessions(resources.cache) { try await peers.hasEnded(session: $0) },
        keptAnswers: keptAnswers)
    let parts = try await definition.build(context)
    let ended = parts.hasEndedSession.map(context.endedSessions.owned) ?? context.endedSessions

    var services: [any Service] = []
    if let database {
        services.append(closing("database", resources.time) { await database.close() })
        services.append(MigrationService(definition, database, readiness, resources.time, log))
    }
    services += parts.workers
    if let eraseUser = parts.eraseUser, let broker {
        services.append(
            UserDeletionListener(definition.name, broker, readiness, resources.time, log) { user in
                try await eraseUser(user)
                try await keptAnswers?.erase(user: user)
            })
    }
    let repeating = keptAnswers.map { answers in
        IdempotentRequests(
            answers, unrepeated: parts.unrepeatedRoutes, subject: parts.subjectOfAnswer,
            keys: resources.tokens.keys(for: "idempotency"),
            time: resources.time, random: resources.random)
    }
    if let repeating, let keptAnswers {
        services.append(AnswerKeeper(keptAnswers, repeating, readiness, resources.time, log))
    }

    var components: [Component] = []
    if let database {
        components.append(
            Component(
                "database",
                ping: {
                    try await database.ping()
                    guard readiness.isReady else { throw NotReady() }
                }))
    }
    components.append(Component("cache", ping: { try await resources.cache.ping() }))
    if let broker { components.append(Component("queue", ping: { try await broker.ping() })) }
    if let vault = resources.secrets.session {
        components.append(Component("vault", ping: { try await vault.ping() }))
    }
    let health = Health(
        service: definition.name, components: components + parts.components, time: resources.time)

    let contract = try JSONValue.contract(definition.contract)
    let record = RequestRecord(log: log, metrics: metrics, time: resources.time, random: resources.random)
    var router = Router()
    record.attach(to: &router)
    let authentication = Authentication(
        mode: settings.authMode,
        publicPaths: parts.publicPaths.union([
            "/health", "/metrics", "/openapi.json", "/api/v1/health/detailed",
        ]),
        tokens: resources.tokens, ended: ended, time: resources.time,
        refusals: metrics.counters("auth_refusals_total", "Calls refused for their token", labels: ["reason"])
    )
    for guardian in parts.guards ?? [Correlation(), authentication] { router.use(guardian) }
    router.use(readiness)
    if let repeating { router.use(repeating) }
    health.addRoutes(to: &router)
    router.quick("GET", "/openapi.json") { _ in .json(contract) }
    parts.routes(&router)

    let process = ProcessFigures(metrics, started: resources.time.now)
    let shared = resources.metrics
    func addMetrics(to router: inout Router) {
        router.quick("GET", "/metrics") { _ in
            process.update()
            return .text(
                Metrics.text(of: [metrics, shared]), type: "text/plain; version=0.0.4; charset=utf-8")
        }
    }
    var operators: (address: ListeningAddress, router: Router)?
    if let address = parts.operators {
        var router = Router()
        record.attach(to: &router)
        health.addRoutes(to: &router)
        addMetrics(to: &router)
        operators = (address, router)
    } else {
        addMetrics(to: &router)
    }
    return AssembledService(
        context: context, readiness: readiness, router: router, operators: operators, services: services,
        listener: serverSettings(settings, passesOn: parts.passesOn))
}

/// Runs services in this process until it is told to stop.
public func runProcess(_ name: String, _ definitions: [ServiceDefinition]) async -> Never {
    await runService(name) { log in
        let resources = try await ProcessResources.open(.process, for: definitions, log: log)
        return try await processServices(definitions, resources, log: log)
    }
}

/// Everything that runs in a process, in the order of its start: what others need comes first. They stop the
/// other way round, each service with its listener before its workers, and nobody before those who need it.
public func processServices(
    _ definitions: [ServiceDefinition], _ resources: ProcessResources, log: Log
) async throws -> [any Service] {
    var services = resources.services
    let broker = try await openBroker(definitions, resources, log: log, &services)
    for definition in definitions {
        let assembled = try await assemble(
            definition, resources, broker: definition.queues.isEmpty ? nil : broker)
        services += assembled.services
        let context = assembled.context
        let server = HTTPServer(
            assembled.listener, assembled.router, name: "\(definition.name)-listener",
            log: context.log, metrics: context.metrics, time: resources.time.machine)
        try server.bind()
        services.append(server)
        if let (address, router) = assembled.operators {
            let settings = ServerSettings(host: address.host, port: address.port, threads: 1)
            let server = HTTPServer(
                settings, router, name: "\(definition.name)-operators", log: context.log, time: resources.time
            )
            try server.bind()
            services.append(server)
        }
    }
    return services
}

private func serverSettings(_ settings: ServiceSettings, passesOn: Bool) -> ServerSettings {
    var limits = ServerSettings.Limits()
    limits.connections = settings.connections
    limits.connectionsPerAddress = settings.connectionsPerAddress
    limits.bodyBytes = settings.bodyLimit
    return ServerSettings(
        host: settings.host, port: settings.port, threads: settings.threads,
        handlers: passesOn ? .onLoop : .onPool, limits: limits, tls: settings.tls)
}

/// One broker for all services of a process: RabbitMQ where it is configured, else SQL in the data folder.
private func openBroker(
    _ definitions: [ServiceDefinition], _ resources: ProcessResources, log: Log,
    _ services: inout [any Service]
) async throws -> (any Broker)? {
    var queues: [Queue] = []
    for queue in definitions.flatMap(\.queues) where !queues.contains(queue) { queues.append(queue) }
    guard !queues.isEmpty else { return nil }
    let metrics = BrokerMetrics(resources.metrics)
    let broker: any Broker
    if let address = resources.settings.queue {
        broker = RabbitMQBroker(address, queues: queues, metrics: metrics, time: resources.time, log: log)
    } else {
        let location = DatabaseLocation.sqlite("\(resources.settings.dataFolder)/queues.sqlite")
        let database = location.open(
            "queues", time: resources.time.machine, log: log, metrics: resources.metrics)
        services.append(closing("queue-database", resources.time) { await database.close() })
        broker = SQLBroker(
            database, queues: queues, metrics: metrics, time: resources.time, log: log)
    }
    services.append(closing("queue", resources.time) { await broker.close() })
    return broker
}

/// Does nothing until it is stopped, then closes something.
private func closing(
    _ name: String, _ time: any TimeSource, _ close: @escaping @Sendable () async -> Void
) -> any Service {
    ClosureService(name) {
        do {
            while true { try await time.sleep(for: .days(1)) }
        } catch {
            await close()
        }
    }
}
