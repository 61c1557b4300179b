import Broker
import Core
import ServiceKit
import Storage
import Users

/// While there are no users, prints a one-time link with which the first operator makes an account.
struct ClaimOffer: Service {
    let name = "claim-offer"
    let signIn: SignIn
    let address: String
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        if let token = try await signIn.offerClaim() {
            // The one secret that is meant to be read where the administrator looks; it works once.
            let link = "\(address)/claim#\(token.expose())"
            log.warning(
                "claim.open",
                ["message": "No users yet: open the link to create the first operator", "link": .id(link)])
        }
        while true { try await time.sleep(for: .days(1)) }
    }
}

/// Keeps the cache's list of ended sessions complete, also after the cache was flushed, and forgets in SQL
/// what time has settled.
struct SessionKeeper: Service {
    static let interval: Duration = .seconds(20)

    let name = "session-keeper"
    let store: UserStore
    let ended: EndedSessions
    let readiness: Readiness
    let time: any TimeSource
    let random: any RandomSource
    let log: Log

    func run() async throws {
        var round = 0
        try await readiness.repeating(every: Self.interval, time, log, failure: "session-keeper.failed") {
            let now = time.now
            let sessions = try await store.endedSessions(at: now).map {
                (id: $0.id, until: $0.blockedUntil)
            }
            try await ended.fill(sessions, now: now, round: UniqueID(random).description)
            if round % 180 == 0 { try await store.tidy(at: time.now) }
            round += 1
        }
    }
}

/// Tells the other services of deleted users until each has surely heard. The note is written with the
/// deletion, so none is forgotten; telling twice does no harm.
struct DeletionAnnouncer: Service {
    static let interval: Duration = .seconds(2)

    let name = "deletion-announcer"
    let store: UserStore
    let broker: any Broker
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: Self.interval, time, log, failure: "deletion.not-announced") {
            for (event, user) in try await store.pendingDeletions() {
                for service in UserDeletion.listeners {
                    try await broker.publish(
                        UserDeletion.message(event: event.description, user: user, to: service),
                        to: UserDeletion.queue(of: service).name)
                }
                try await store.deletionAnnounced(event)
            }
        }
    }
}
