import Broker
import Cache
import Core
import HTTP
import Security
public import ServiceKit
import Storage
import Users

extension ServiceDefinition {
    /// Users, passwords, tokens.
    public static let userService = ServiceDefinition(
        "user-service", portOffset: 5, database: "user_db", queues: UserDeletion.queues,
        migrations: Migration.users, contract: PackageResources.openapi_yaml,
        checkSettings: { environment, mode throws(ConfigurationError) in
            _ = try UserServiceSettings(from: environment, authMode: mode)
        }
    ) { context in
        let settings = try UserServiceSettings(from: context.environment, authMode: context.settings.authMode)
        let store = UserStore(context.database)
        let ended = context.endedSessions
        let checks = context.metrics.counter("password_checks_total", "Passwords compared with a hash")
        let signIn = SignIn(
            store: store,
            passwords: Passwords(
                cost: settings.passwordCost, random: context.random, didCheck: { checks.increment() }),
            time: context.time,
            random: context.random,
            issueAccess: { user, session, now in
                (
                    context.tokens.access(userID: user.id, email: user.email, session: session, now: now),
                    Tokens.accessLifetime
                )
            },
            sessionsEnded: { sessions in
                do {
                    for session in sessions {
                        try await ended.block(session.id, until: session.blockedUntil, now: context.time.now)
                    }
                } catch let error as CacheError {
                    context.log.error("sessions.not-blocked", ["error": .error(error)])
                    throw Problem.notEverywhereYet
                }
            })
        let auth = AuthRoutes(
            signIn: signIn, settings: settings, time: context.time, counts: SignInMetrics(context.metrics),
            forgetAnswers: { try await context.forgetAnswers(for: $0) })
        let internalRoutes = InternalUserRoutes(store: store, time: context.time)
        return ServiceParts(
            workers: [
                ClaimOffer(
                    signIn: signIn, address: settings.publicAddress, readiness: context.readiness,
                    time: context.time, log: context.log),
                SessionKeeper(
                    store: store, ended: ended, readiness: context.readiness, time: context.time,
                    random: context.random, log: context.log),
                DeletionAnnouncer(
                    store: store, broker: context.broker, readiness: context.readiness, time: context.time,
                    log: context.log),
            ],
            publicPaths: AuthRoutes.publicPaths,
            // What these answer is secret, or makes nothing.
            unrepeatedRoutes: ["/auth/login", "/auth/refresh", "/auth/logout"],
            // A registration's answer holds the address of the one it made.
            subjectOfAnswer: { answer in
                guard case .bytes(let bytes) = answer.content else { return nil }
                return (try? JSONValue(parsing: bytes))?["id"]?.intValue
            },
            hasEndedSession: { try await store.hasEnded(session: $0) },
            routes: { router in
                auth.register(on: &router)
                internalRoutes.register(on: &router)
            })
    }
}

/// Who may sign up, and what a password costs.
struct UserServiceSettings: Sendable {
    enum Registration: String, CaseIterable { case open, closed }

    let registration: Registration
    let passwordCost: PasswordCost
    /// Where people reach the page, for links in messages to them.
    let publicAddress: String

    init(from environment: consuming Environment, authMode: AuthMode) throws(ConfigurationError) {
        // A server on a network is opened to strangers by its administrator alone.
        registration = environment.choice("REGISTRATION", default: authMode == .dev ? .open : .closed)
        passwordCost = PasswordCost(from: &environment)
        let base = environment.int("CONVOKE_PORT_BASE", default: 8000, in: 1024...65_000)
        publicAddress = environment.string("PUBLIC_URL", default: "http://127.0.0.1:\(base)")
        try environment.finish()
    }
}
