import Broker
import Core

/// Erases a service's share of a user who is gone.
struct UserDeletionListener: Service {
    let name: String
    private let service: String
    private let broker: any Broker
    private let readiness: Readiness
    private let time: any TimeSource
    private let log: Log
    private let erase: @Sendable (Int64) async throws -> Void

    init(
        _ service: String, _ broker: any Broker, _ readiness: Readiness, _ time: any TimeSource, _ log: Log,
        _ erase: @escaping @Sendable (Int64) async throws -> Void
    ) {
        name = "\(service)-user-deletion"
        self.service = service
        self.broker = broker
        self.readiness = readiness
        self.time = time
        self.log = log
        self.erase = erase
    }

    func run() async throws {
        try await readiness.wait(time)
        let (erase, log) = (erase, log)
        try await broker.consume([UserDeletion.queue(of: service).name], concurrency: 1) { delivery in
            guard let user = UserDeletion.user(in: delivery.message) else {
                return .reject(reason: "no user")
            }
            try await erase(user)
            log.info("user.erased", ["user_id": .int(user)])
            return .ack
        }
    }
}
