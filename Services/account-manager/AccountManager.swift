import Accounts
import Broker
import Cache
import Core
import HTTP
import LimitAudit
public import ServiceKit
import Storage

extension ServiceDefinition {
    /// Leases of accounts and their limits.
    public static let accountManager = ServiceDefinition(
        "account-manager", portOffset: 4, database: "integration_db", pool: .accounts,
        queues: Upkeep.queues + [UserDeletion.queue(of: "account-manager")], migrations: Migration.accounts,
        contract: PackageResources.openapi_yaml,
        checkSettings: { environment, _ throws(ConfigurationError) in
            _ = try AccountManagerSettings(from: environment)
        }
    ) { context in
        let settings = try AccountManagerSettings(from: context.environment)
        let parts = AccountManagerParts(context, settings)
        return ServiceParts(
            workers: [
                EventWriter(
                    events: parts.manager.events, readiness: context.readiness, time: context.time,
                    log: context.log)
            ]
                + (settings.hasWorker ? parts.workers : [parts.cacheKeeper]),
            components: [parts.component],
            eraseUser: { user in try await parts.manager.erase(user: user) },
            routes: parts.register)
    }

    /// The periodic work alone, for a process of its own: `account-manager worker`.
    public static let accountManagerWorker = ServiceDefinition(
        "account-manager-worker", portOffset: 14, database: "integration_db", pool: .accounts,
        queues: Upkeep.queues, contract: PackageResources.openapi_yaml
    ) { context in
        let settings = try AccountManagerSettings(from: context.environment)
        let parts = AccountManagerParts(context, settings)
        return ServiceParts(
            workers: [
                EventWriter(
                    events: parts.manager.events, readiness: context.readiness, time: context.time,
                    log: context.log)
            ]
                + parts.workers,
            components: [parts.component])
    }
}

extension PoolSettings {
    /// Every statement finds its rows by an index; planning the choice of an account anew for each lease
    /// would cost three times the choice.
    static let accounts = PoolSettings(keepsPlans: true)
}

/// What the service is made of, for the one that answers and the one that only works.
struct AccountManagerParts: Sendable {
    let manager: AccountManager
    let upkeep: Upkeep
    let workers: [any Service]
    let cacheKeeper: any Service
    let component: Component
    let register: @Sendable (inout Router) -> Void

    init(_ context: ServiceContext, _ settings: AccountManagerSettings) {
        let metrics = AccountMetrics(context.metrics)
        let store = SQLAccountStore(context.database, random: context.random, rampUp: settings.rampUp)
        let manager = AccountManager(
            store: store, views: AccountViews(context.cache, rampUp: settings.rampUp, time: context.time),
            metrics: metrics, log: context.log, random: context.random)
        self.manager = manager
        let audit = LimitAudit(context.database)
        let upkeep = Upkeep(
            manager: manager, audit: audit, database: context.database, broker: context.broker,
            cache: context.cache.database(4), settings: settings, random: context.random, log: context.log)
        self.upkeep = upkeep
        cacheKeeper = CacheKeeper(
            manager: manager, upkeep: upkeep, readiness: context.readiness, time: context.time,
            log: context.log)
        workers = [
            cacheKeeper,
            UpkeepScheduler(
                upkeep: upkeep, readiness: context.readiness, time: context.time, log: context.log),
            UpkeepWorker(upkeep: upkeep, readiness: context.readiness, time: context.time),
        ]
        let time = context.time
        component = Component("account_manager") {
            let counts = try await manager.store.counts(at: time.now)
            return [JSONMember("stats", counts.json)]
        }
        let authMode = context.settings.authMode
        register = { router in
            LeaseRoutes(manager: manager, time: time).register(on: &router)
            LimitRoutes(manager: manager, time: time).register(on: &router)
            InsightRoutes(
                manager: manager, settings: settings, audit: audit, upkeep: upkeep, authMode: authMode,
                time: time
            ).register(on: &router)
            OperatorRoutes(manager: manager, upkeep: upkeep, audit: audit, authMode: authMode, time: time)
                .register(on: &router)
            InternalAccountRoutes(manager: manager, time: time).register(on: &router)
        }
    }
}

extension Router {
    /// Everything of ours that is not internal.
    mutating func manage(_ method: Method, _ path: String, _ handler: @escaping Handler) {
        on(method, "/api/v1/account-manager" + path, handler)
    }
}
