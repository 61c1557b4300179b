public import Broker
public import Cache
public import Core
public import HTTP
public import Security
public import Storage

/// What makes a service this one: everything else is the same for all.
public struct ServiceDefinition: Sendable {
    public let name: String
    /// Added to the base port, 8000 by default.
    public let portOffset: Int
    /// The name of its database; `nil` for a service that keeps nothing.
    public let database: String?
    /// How it speaks to its database.
    let pool: PoolSettings
    /// The queues it publishes to or takes from.
    public let queues: [Queue]
    public let migrations: [Migration]
    /// Its contract, as `docs/openapi/<service>.yaml` has it.
    public let contract: [UInt8]
    /// Reads the settings that only this service has, to find their mistakes before anything is opened.
    let checkSettings: @Sendable (Environment, AuthMode) throws(ConfigurationError) -> Void
    let build: @Sendable (ServiceContext) async throws -> ServiceParts

    public init(
        _ name: String, portOffset: Int, database: String? = nil,
        pool: PoolSettings = PoolSettings(), queues: [Queue] = [],
        migrations: [Migration] = [], contract: [UInt8],
        checkSettings: @escaping @Sendable (Environment, AuthMode) throws(ConfigurationError) -> Void = {
            _, _ in
        },
        build: @escaping @Sendable (ServiceContext) async throws -> ServiceParts
    ) {
        self.name = name
        self.portOffset = portOffset
        self.database = database
        self.pool = pool
        self.queues = queues
        self.migrations = migrations
        self.contract = contract
        self.checkSettings = checkSettings
        self.build = build
    }
}

/// What a service is built from: opened once, handed to its `build`.
public struct ServiceContext: Sendable {
    public let name: String
    public let settings: ServiceSettings
    /// For settings of the service's own.
    public let environment: Environment
    public let time: any TimeSource
    public let random: any RandomSource
    public let log: Log
    public let metrics: Metrics
    /// Present where the definition names a database.
    let openDatabase: (any Database)?
    public let cache: any Cache
    let openBroker: (any Broker)?
    public let client: any HTTPSending
    public let secrets: Secrets
    public let tokens: Tokens
    /// Whether the schema is there; workers wait for it.
    public let readiness: Readiness
    /// The other services.
    public let peers: Peers
    public let endedSessions: EndedSessions
    /// Answers kept for repeated requests; `nil` for a service that keeps nothing.
    let keptAnswers: KeptAnswers?

    /// The service's database. Asking for one that the definition does not name is a mistake of ours.
    public var database: any Database {
        guard let openDatabase else { preconditionFailure("\(name) names no database") }
        return openDatabase
    }

    /// Forgets the answers kept for a user who is gone.
    public func forgetAnswers(for user: Int64) async throws { try await keptAnswers?.erase(user: user) }

    public var broker: any Broker {
        guard let openBroker else { preconditionFailure("\(name) names no queue") }
        return openBroker
    }
}

/// What a service adds to what all have.
public struct ServiceParts: Sendable {
    public var routes: @Sendable (inout Router) -> Void
    /// What runs beside the listener.
    public var workers: [any Service]
    /// What its health depends on beside its database, cache and queue.
    public var components: [Component]
    /// Paths that need no sign-in, beside health and contract.
    public var publicPaths: Set<String>
    /// Patterns of POST routes whose answers are never kept for an `Idempotency-Key`, because they are secret
    /// or nothing is made by them.
    public var unrepeatedRoutes: Set<String>
    /// Whom an answer is about that nobody who had signed in asked for, so that what is kept of it is erased
    /// with that user.
    public var subjectOfAnswer: @Sendable (Response) -> Int64?
    /// Erases everything of a user that is gone; called until it succeeds.
    public var eraseUser: (@Sendable (Int64) async throws -> Void)?
    /// The truth about ended sessions, from the service that keeps it; all others ask that service.
    public var hasEndedSession: (@Sendable (String) async throws -> Bool)?
    /// What stands around the routes in place of the common authentication: for the gateway, which lets
    /// people in by rules of its own.
    public var guards: [any Middleware]?
    /// Where metrics are read, when that is not for everybody who reaches the service.
    public var operators: ListeningAddress?
    /// Whether its handlers do no more than pass things on, and may run where requests are read.
    public var passesOn: Bool

    public init(
        workers: [any Service] = [], components: [Component] = [], publicPaths: Set<String> = [],
        unrepeatedRoutes: Set<String> = [],
        subjectOfAnswer: @escaping @Sendable (Response) -> Int64? = { _ in nil },
        eraseUser: (@Sendable (Int64) async throws -> Void)? = nil,
        hasEndedSession: (@Sendable (String) async throws -> Bool)? = nil,
        guards: [any Middleware]? = nil, operators: ListeningAddress? = nil, passesOn: Bool = false,
        routes: @escaping @Sendable (inout Router) -> Void = { _ in }
    ) {
        self.routes = routes
        self.workers = workers
        self.components = components
        self.publicPaths = publicPaths
        self.unrepeatedRoutes = unrepeatedRoutes
        self.subjectOfAnswer = subjectOfAnswer
        self.eraseUser = eraseUser
        self.hasEndedSession = hasEndedSession
        self.guards = guards
        self.operators = operators
        self.passesOn = passesOn
    }
}

/// A host and a port of ours.
public struct ListeningAddress: Sendable, Equatable {
    public let host: String
    public let port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }
}
