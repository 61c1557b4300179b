import Broker
import Contracts
import Core
import HTTP
import Invites
import Security
public import ServiceKit
import Storage

extension ServiceDefinition {
    /// Invitation campaigns.
    public static let inviteService = ServiceDefinition(
        "invite-service", portOffset: 2, database: "invite_db",
        queues: InviteQueues.all + [UserDeletion.queue(of: "invite-service")],
        migrations: Migration.invites + Migration.inviteLists, contract: PackageResources.openapi_yaml,
        checkSettings: { environment, _ throws(ConfigurationError) in
            _ = try InviteSettings(from: environment)
            _ = try ListSettings(from: environment)
        }
    ) { context in
        let settings = try InviteSettings(from: context.environment)
        let parts = try await InviteParts(context, settings)
        let lists = try ListParts(context, parts.store)
        return ServiceParts(
            workers: lists.services + (settings.hasWorker ? parts.workers + lists.workers : []),
            components: parts.components,
            eraseUser: { user in
                try await lists.eraseUser(user)
                try await parts.store.erase(user: user)
            },
            routes: { router in
                parts.register(&router)
                lists.register(&router)
            })
    }

    /// The campaigns' work alone, for a process of its own: `invite-service worker`.
    public static let inviteServiceWorker = ServiceDefinition(
        "invite-service-worker", portOffset: 12, database: "invite_db", queues: InviteQueues.all,
        contract: PackageResources.openapi_yaml
    ) { context in
        let parts = try await InviteParts(context, try InviteSettings(from: context.environment))
        return ServiceParts(workers: parts.workers, components: parts.components)
    }
}

/// What the service is made of, for the one that answers and the one that only works.
struct InviteParts: Sendable {
    let store: InviteStore
    let workers: [any Service]
    let components: [Component]
    let register: @Sendable (inout Router) -> Void

    init(_ context: ServiceContext, _ settings: InviteSettings) async throws {
        let (time, random, log) = (context.time, context.random, context.log)
        let digests = SuppressionDigests(
            key: try await context.secrets.key(Secrets.suppressionKey))
        let store = InviteStore(context.database, digests: digests, random: random)
        self.store = store
        let manager = AccountManagerClient(context.peers, as: "invite-service")
        let integration = IntegrationClient(context.peers)
        let runner = CampaignRunner(
            store: store, manager: manager, integration: integration, settings: settings.runner,
            metrics: CampaignMetrics(context.metrics), time: time, random: random, log: log)
        let bell = CampaignBell(broker: context.broker, time: time, random: random)
        workers = [
            CampaignWaker(
                interval: settings.wakeInterval, store: store, bell: bell, readiness: context.readiness,
                time: time, log: log),
            CampaignWorker(
                runner: runner, store: store, bell: bell, broker: context.broker,
                concurrency: settings.concurrency,
                readiness: context.readiness, time: time, log: log),
            CampaignKeeper(
                runner: runner, store: store, retention: settings.logRetention, readiness: context.readiness,
                time: time, log: log),
        ]
        let peers = context.peers
        components = ["account-manager", "integration-service"].map { name in
            let label = String(name.map { $0 == "-" ? "_" : $0 })
            return Component(
                label, isNeeded: false,
                ping: {
                    let answer = try await peers.ask(name, .get, "/health", deadline: .seconds(2))
                    guard answer.status == 200 else {
                        throw PeerError.unavailable(service: name, mayHaveActed: false)
                    }
                    _ = try await answer.json(limit: 64 << 10)
                })
        }
        register = { router in
            TaskRoutes(store: store, integration: integration, time: time).register(on: &router)
            TargetRoutes(store: store, time: time).register(on: &router)
            RunRoutes(
                store: store, runner: runner, bell: bell, manager: manager, integration: integration,
                time: time,
                log: log
            ).register(on: &router)
            InsightRoutes(store: store, manager: manager, integration: integration, time: time)
                .register(on: &router)
        }
    }
}
