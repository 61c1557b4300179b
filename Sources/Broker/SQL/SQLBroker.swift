public import Core
public import Storage
import Synchronization

/// How an `SQLBroker` behaves.
public struct SQLBrokerSettings: Sendable, Equatable {
    /// Whether this broker is the only one on its database. Then whatever is claimed when it starts was
    /// claimed by its former life and is free at once. Otherwise claims end when their consumer has not said
    /// for `lease` that it lives.
    public var isExclusive = false
    public var lease: Duration = .seconds(30)
    /// How often to look for what others have published. What this broker itself publishes wakes its
    /// consumers at once.
    public var pollInterval: Duration = .seconds(1)
    public var backoff = Backoff(first: .milliseconds(100), ceiling: .seconds(10))

    public init() {}
}

/// Queues in the service's own database: no server to run, and still nothing is lost.
///
/// A message is taken by claiming its row and gone when the row is deleted. It claims as many as handlers can
/// begin at once, so `prefetch` has no meaning here.
public final class SQLBroker: Broker {
    let store: SQLQueueStore
    let book: QueueBook
    let settings: SQLBrokerSettings
    let metrics: BrokerMetrics
    let time: any TimeSource
    let random: any RandomSource
    let log: Log
    let bells = Bells()
    private let preparation = Preparation()
    private let isClosed = Mutex(false)

    public init(
        _ database: any Database, queues: [Queue], settings: SQLBrokerSettings = SQLBrokerSettings(),
        metrics: BrokerMetrics, time: any TimeSource, random: any RandomSource = SystemRandom(), log: Log
    ) {
        store = SQLQueueStore(database: database)
        book = QueueBook(queues)
        self.settings = settings
        self.metrics = metrics
        self.time = time
        self.random = random
        self.log = log
    }

    public func publish(_ message: Message, to queue: String, after delay: Duration) async throws {
        try message.validate()
        try book.require(queue)
        try await ready()
        try await BrokerError.translating {
            try await store.insert(message, into: queue, visibleAt: time.now + max(delay, .zero))
        }
        metrics.published[queue].increment()
        // Also for one that is not due yet: its consumer has to learn when it will be.
        bells.ring(queue)
    }

    public func depth(of queue: String) async throws -> Int {
        try book.require(queue)
        try await ready()
        return try await BrokerError.translating { try await store.depth(of: queue, at: time.now) }
    }

    public func ping() async throws {
        try await ready()
        try await BrokerError.translating { try await store.database.ping() }
    }

    /// The database stays open: it is the service's.
    public func close() async { isClosed.withLock { $0 = true } }

    private func ready() async throws {
        guard !isClosed.withLock({ $0 }) else { throw BrokerError.closed }
        try await prepare()
    }

    /// Makes the tables, and frees what the former life held, once.
    func prepare() async throws {
        try await preparation.once { [store, settings, time] in
            try await BrokerError.translating {
                try await store.migrate(at: time.now)
                if settings.isExclusive { _ = try await store.release(everyone: true, at: time.now) }
            }
        }
    }

    // MARK: - Consuming

    public func consume(
        _ queues: [String], _ options: ConsumerOptions,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws {
        for queue in queues { try book.require(queue) }
        let bell = Bell()
        bells.add(bell, for: queues)
        defer { bells.remove(bell) }
        let consumer = SQLConsumer(
            broker: self, holder: UniqueID(random).description, queues: queues, options: options,
            handler: handler, bell: bell)
        await consumer.run()
    }
}

/// Runs a piece of work once; again, when it failed.
private actor Preparation {
    private var task: Task<Void, any Error>?

    func once(_ work: @escaping @Sendable () async throws -> Void) async throws {
        // Not the caller's child: others wait for it too, and the caller may be cancelled.
        let task = self.task ?? Task.detached { try await work() }
        self.task = task
        do {
            try await task.value
        } catch {
            if self.task == task { self.task = nil }
            throw error
        }
    }
}
