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
            log.warning("claim.open", ["message": "No users yet: open the link to create the first operator", "link": .id(link)])
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
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        var round = 0
        while true {
            do {
                if try await !ended.isComplete() {
                    let now = time.now
                    for session in try await store.endedSessions(at: now) {
                        try await ended.block(session.id, until: session.blockedUntil, now: now)
                    }
                    try await ended.markComplete()
                }
                if round % 180 == 0 { try await store.tidy(at: time.now) }
                round += 1
            } catch where !(error is CancellationError) {
                log.warning("session-keeper.failed", ["error": .error(error)])
            }
            try await time.sleep(for: Self.interval)
        }
    }
}

/// The queues in which services hear that a user is gone and erase their share.
enum UserDeletion {
    static let listeners = [
        "integration-service", "account-manager", "parsing-service", "invite-service", "report-service",
    ]
    static func queue(of service: String) -> String { "user-deleted-\(service)" }
    static let queues = listeners.map { Queue(queue(of: $0)) }
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
        try await readiness.wait(time)
        while true {
            do {
                for (event, user) in try await store.pendingDeletions() {
                    let body: JSONValue = ["event": "user_deleted", "user_id": .int(user)]
                    for service in UserDeletion.listeners {
                        try await broker.publish(
                            Message(id: "\(event)-\(service)", body: body.bytes), to: UserDeletion.queue(of: service))
                    }
                    try await store.deletionAnnounced(event)
                }
            } catch where !(error is CancellationError) {
                log.warning("deletion.not-announced", ["error": .error(error)])
            }
            try await time.sleep(for: Self.interval)
        }
    }
}
