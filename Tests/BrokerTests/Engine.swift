import Core
import Storage
import TestServers
import Testing

@testable import Broker

/// The brokers we ship, each on a fresh server or database of its own.
enum Engine: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case sqlite = "SQL on SQLite"
    case postgres = "SQL on PostgreSQL"
    case rabbitMQ = "RabbitMQ"

    var testDescription: String { rawValue }

    /// Whether a consumer holds more than it has begun.
    var takesAhead: Bool { self == .rabbitMQ }

    static var available: [Engine] {
        TestServers.areAvailable ? allCases : [.sqlite]
    }

    func world(_ queues: [Queue]) async throws -> World {
        let metrics = Metrics()
        switch self {
        case .sqlite:
            let path = try await TestServers.directory() + ".db"
            return .sql(.sqlite(path), queues, metrics)
        case .postgres:
            return .sql(.postgres(Secret(try await TestServers.postgres())), queues, metrics)
        case .rabbitMQ:
            let url = try await TestServers.rabbitmq()
            guard let address = AMQPAddress(url) else { throw NeverHappened() }
            return World(
                metrics: metrics,
                open: {
                    RabbitMQBroker(
                        address, queues: queues, settings: .patient, metrics: BrokerMetrics(metrics),
                        time: SystemTime(), log: .testing)
                },
                crash: { queue in
                    let link = Link(
                        address: address, book: QueueBook(queues), settings: .patient, time: SystemTime(),
                        log: .silent, metrics: BrokerMetrics(Metrics()))
                    let connection = try link.connect(name: "doomed")
                    try connection.limitUnacknowledged(to: 1, on: 1)
                    try connection.subscribe(to: queue, tag: "doomed", on: 1)
                    while true {
                        if let taken = try connection.nextMessage() { return taken.begun }
                        connection.wait(WakeUp(), limit: .milliseconds(100))
                        try Task.checkCancellation()
                    }
                })
        }
    }
}

/// A server with queues, and brokers to talk to it.
struct World: Sendable {
    let metrics: Metrics
    /// Another process, as it were.
    let open: @Sendable () async throws -> any Broker
    /// Takes a message and dies with it; returns the attempt that this was.
    let crash: @Sendable (String) async throws -> Int
}

extension World {
    static func sql(_ location: DatabaseLocation, _ queues: [Queue], _ metrics: Metrics) -> World {
        let database = location.open("broker", .patient)
        return World(
            metrics: metrics,
            open: {
                // Each with connections of its own, as another process would have.
                var settings = SQLBrokerSettings()
                settings.lease = .hours(1)
                return SQLBroker(
                    location.open("broker", .patient), queues: queues, settings: settings,
                    metrics: BrokerMetrics(metrics), time: SystemTime(), log: .testing)
            },
            crash: { queue in
                let store = SQLQueueStore(database: database)
                let now = SystemTime().now
                try await store.sayAlive("doomed", until: now - .seconds(1))
                guard
                    let claimed = try await store.claim(
                        queue, isLiving: true, for: "doomed", count: 1, at: now
                    ).first
                else { throw NeverHappened() }
                // Whoever comes next finds the claim void.
                _ = try await store.release(everyone: false, at: now)
                return claimed.attempt
            })
    }
}

/// On a busy machine everything may take its time: what a test says about time, it says itself.
extension PoolSettings {
    static let patient = PoolSettings(
        waiting: .minutes(5), statementTimeout: .minutes(5), patience: .minutes(5), attempts: 1000)
}

extension RabbitMQSettings {
    static var patient: RabbitMQSettings {
        var settings = RabbitMQSettings()
        settings.heartbeatSeconds = 60
        settings.connectTimeout = .minutes(5)
        settings.publishDeadline = .minutes(5)
        return settings
    }
}

extension Log {
    static var testing: Log {
        Environment.process.has("BROKER_TEST_LOG") ? Log(service: "test", level: .debug) : .silent
    }
}
