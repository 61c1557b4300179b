import Broker
import Core
import HTTP
import Integration
import Security
public import ServiceKit
import Storage
import Telegram

extension ServiceDefinition {
    /// Everything that talks to Telegram.
    public static let integrationService = integrationService { try await TelegramSource.configured($0) }

    /// The same over another Telegram: for tests and benchmarks.
    public static func integrationService(
        over source: @escaping @Sendable (ServiceContext) async throws -> TelegramSource
    ) -> ServiceDefinition {
        ServiceDefinition(
            "integration-service", portOffset: 1, database: "integration_db",
            queues: [UserDeletion.queue(of: "integration-service")], migrations: Migration.integration,
            contract: PackageResources.openapi_yaml
        ) { context in
            let settings = try IntegrationSettings(from: context.environment)
            return try await IntegrationWiring(context, settings, source(context)).parts
        }
    }
}

/// The parts of the service and how they hang together.
private struct IntegrationWiring {
    let parts: ServiceParts

    init(_ context: ServiceContext, _ settings: IntegrationSettings, _ source: TelegramSource) async throws {
        let (time, random, log) = (context.time, context.random, context.log)
        let accounts = AccountStore(context.database, random: random)
        let logins = LoginStore(context.database)
        // A name for this run: what another run left open will never be finished by it.
        let keys = try await context.secrets.sealingKeys()
        let sends = SendStore(
            context.database, instance: UniqueID(at: time.now, random).description,
            hashes: keys.hashes(for: "send-attempts"))
        let logs = LogStore(context.database)
        let seals = SessionSeals(keys, random: random)
        let journal = Journal(logs, context)
        let gate = Gate()
        let errands = Errands("integration-errands")
        let telegram = Telegram(
            source.transport, application: source.application, time: time.machine, metrics: context.metrics,
            log: log)
        let sessions = Sessions(
            telegram, accounts: accounts, seals: seals, errands: errands, journal: journal, gate: gate,
            settings: settings, time: time, log: log)
        let desk = LoginDesk(
            telegram, sessions: sessions, accounts: accounts, logins: logins, seals: seals, errands: errands,
            journal: journal, gate: gate, time: time, random: random, log: log)
        let resolver = Resolver(time)

        let loginRoutes = LoginRoutes(desk: desk, journal: journal)
        let accountRoutes = AccountRoutes(
            accounts: accounts, sessions: sessions, resolver: resolver, journal: journal, time: time)
        let sendRoutes = SendRoutes(
            desk: SendDesk(
                store: sends, sessions: sessions, resolver: resolver, errands: errands, gate: gate,
                journal: journal, time: time, log: log),
            accounts: accounts, sessions: sessions, resolver: resolver, peers: context.peers,
            journal: journal, time: time,
            random: random)
        let botRoutes = BotRoutes(
            bots: BotStore(context.database), seals: seals,
            checker: BotChecker(client: context.client, address: settings.botAPI ?? source.botAPI),
            journal: journal,
            time: time, random: random)
        let channelRoutes = ChannelRoutes(
            channels: ChannelStore(context.database), accounts: accounts, sessions: sessions,
            resolver: resolver,
            journal: journal, time: time, random: random)
        let logRoutes = LogRoutes(
            store: logs, book: LogBook(store: logs, peers: context.peers, time: time, log: log))
        let erasureRoutes = ErasureRoutes(
            erasure: PersonErasure(context.database), resolver: resolver,
            forgetAnswers: { try await context.forgetAnswers(for: $0) })
        let internalRoutes = InternalRoutes(
            accounts: accounts,
            desk: ReadDesk(sessions: sessions, resolver: resolver, journal: journal, time: time))
        let proxy = AccountManagerProxy(
            peers: context.peers, client: context.client, tokens: context.tokens, time: time)
        let open = context.metrics.gauge("integration_sessions_open", "Accounts whose session is open here")
        context.metrics.beforeReading { open.set(sessions.openCount) }

        parts = ServiceParts(
            // They stop in the reverse order: first what begins work, then what finishes it, at last Telegram,
            // and the folder is let go of when nothing in it is open any more.
            workers: [
                Settlement(
                    sends: sends, folder: settings.sessionFolder, gate: gate, readiness: context.readiness,
                    time: time,
                    log: log),
                telegram, sessions,
                ClosureService("login-desk") {
                    try await context.readiness.wait(time)
                    try await desk.run()
                },
                errands,
                NoticeCourier(
                    notices: NoticeStore(context.database), peers: context.peers,
                    readiness: context.readiness, time: time,
                    random: random, log: log),
                Janitor(
                    logins: logins, sends: sends, logs: logs, settings: settings,
                    readiness: context.readiness, time: time, log: log),
            ],
            components: [
                Component(
                    "account_manager", isNeeded: false,
                    showing: { try await accountManagerHealth(context.peers) }),
                Component(
                    "telegram", isNeeded: false,
                    showing: {
                        [JSONMember("open_sessions", .int(Int64(sessions.openCount)))]
                    }),
            ],
            // The steps of a login carry codes and passwords; account-manager keeps its own answers; and sends
            // are attempts, which no crash makes twice and whose answers keep no name.
            unrepeatedRoutes: [
                "/api/v1/telegram/verify", "/api/v1/telegram/resend-code", "/api/v1/telegram/qr-check",
                "/api/v1/account-manager/{rest...}",
                "/api/v1/telegram/invites/accounts/{id}/invite",
                "/api/v1/integrations/telegram/invites/accounts/{id}/invite",
            ],
            eraseUser: { user in
                await desk.forget(user: user)
                for (session, sealedKey) in try await accounts.sessions(of: user) {
                    try await sessions.logOutOrWipe(session, sealedKey: sealedKey)
                }
                try await accounts.erase(user: user)
            },
            routes: { router in
                loginRoutes.register(on: &router)
                accountRoutes.register(on: &router)
                sendRoutes.register(on: &router)
                botRoutes.register(on: &router)
                channelRoutes.register(on: &router)
                logRoutes.register(on: &router)
                internalRoutes.register(on: &router)
                erasureRoutes.register(on: &router)
                proxy.register(on: &router)
            })
    }
}

/// What account-manager shows of itself, shown here too.
private func accountManagerHealth(_ peers: Peers) async throws -> [JSONMember] {
    struct Unhealthy: Error {}
    let answer = try await peers.ask(
        "account-manager", .get, "/api/v1/health/detailed", deadline: .seconds(2))
    let component = try await answer.json(limit: 64 << 10)["components"]?["account_manager"]
    guard answer.status == 200, let component else { throw Unhealthy() }
    return (component.objectValue ?? []).filter { $0.name != "status" && $0.name != "latency_ms" }
}
