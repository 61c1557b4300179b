public import Core
public import HTTP
import Storage
import Synchronization

/// The service runs and its schema is not there yet.
struct NotReady: Error {}

/// Whether a service has what it needs to work at all. Until then it answers its health and nothing else.
public final class Readiness: Middleware {
    private let flag: Mutex<Bool>

    init(isReady: Bool) { flag = Mutex(isReady) }

    public var isReady: Bool { flag.withLock { $0 } }

    /// Returns once the service is ready.
    public func wait(_ time: any TimeSource) async throws {
        while !isReady { try await time.sleep(for: .milliseconds(50)) }
    }

    /// Once the service is ready, does `work` again and again, so far apart, until its task is cancelled. A round
    /// that fails is told as `failure`, and the next one follows all the same.
    public func repeating(
        every interval: Duration, _ time: any TimeSource, _ log: Log, failure: StaticString,
        _ work: () async throws -> Void
    ) async throws {
        try await wait(time)
        while true {
            do {
                try await work()
            } catch  where !(error is CancellationError) {
                log.warning(failure, ["error": .error(error)])
            }
            try await time.sleep(for: interval)
        }
    }

    func becomeReady() { flag.withLock { $0 = true } }

    public func handle(
        _ request: Request, next: @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        guard isReady || request.path.hasPrefix("/api/v1/health") else {
            throw Problem.unavailable(.init("The service is starting", "Служба запускается"))
                .with(header: "Retry-After", "2")
        }
        return try await next(request)
    }
}

/// Brings the schema up to date, for as long as it takes the database to answer.
struct MigrationService: Service {
    let name: String
    private let definition: ServiceDefinition
    private let database: any Database
    private let readiness: Readiness
    private let time: any TimeSource
    private let log: Log

    init(
        _ definition: ServiceDefinition, _ database: any Database, _ readiness: Readiness,
        _ time: any TimeSource,
        _ log: Log
    ) {
        name = "\(definition.name)-migrations"
        self.definition = definition
        self.database = database
        self.readiness = readiness
        self.time = time
        self.log = log
    }

    func run() async throws {
        let backoff = Backoff(first: .milliseconds(200), ceiling: .seconds(10))
        var attempt = 0
        while true {
            do {
                let shared = try await database.migrate(
                    KeptAnswers.migrations, scope: "kept-answers", at: time.now)
                let own = try await database.migrate(
                    definition.migrations, scope: definition.name, at: time.now)
                log.info("schema.ready", ["applied": .int(shared.count + own.count)])
                readiness.becomeReady()
                break
            } catch StorageError.unavailable(let reason, _) {
                attempt += 1
                log.error("database.unavailable", ["reason": .text(reason), "attempt": .int(attempt)])
                try await time.sleep(for: backoff.delay(after: attempt, SystemRandom()))
            }
        }
        while true { try await time.sleep(for: .days(1)) }
    }
}
