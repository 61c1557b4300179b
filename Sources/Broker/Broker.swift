/// Durable queues: what was published and confirmed is handled at least once, whatever is killed meanwhile.
///
/// There are two, with the same rules: `RabbitMQBroker`, and `SQLBroker` inside the service's own database.
public protocol Broker: Sendable {
    /// Returns once the message is safe on disk. `after` hides it from consumers for so long.
    ///
    /// An error says whether the message may have been published nevertheless; publishing again under the
    /// same id is then the right thing to do.
    func publish(_ message: Message, to queue: String, after delay: Duration) async throws

    /// Gives messages of `queues` to `handler` until the task is cancelled; whoever stands earlier in the list
    /// is served first. Then takes no more, lets the handlers that run finish, and returns.
    ///
    /// Outages are waited out. Throws only what waiting does not mend: a queue that nobody declared, or one
    /// that exists in another form.
    func consume(
        _ queues: [String], _ options: ConsumerOptions,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws

    /// How many messages wait to be taken, those delayed left out.
    func depth(of queue: String) async throws -> Int

    /// Whether the broker answers, for health.
    func ping() async throws

    /// Ends connections; what is published from now on fails with `closed`.
    func close() async
}

extension Broker {
    public func publish(_ message: Message, to queue: String) async throws {
        try await publish(message, to: queue, after: .zero)
    }

    public func consume(
        _ queues: [String], concurrency: Int = 8,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws {
        try await consume(queues, ConsumerOptions(concurrency: concurrency), handler)
    }
}

/// How much a consumer takes at once.
public struct ConsumerOptions: Sendable, Equatable {
    /// How many handlers run at once, all queues together.
    public var concurrency: Int
    /// How many messages of each queue may be held here, the running ones included. More than `concurrency`
    /// hides latency; but a crash counts as an attempt for all that were held.
    public var prefetch: Int

    public init(concurrency: Int = 8, prefetch: Int? = nil) {
        precondition(concurrency > 0 && (prefetch ?? 1) > 0, "a consumer takes at least one message")
        self.concurrency = concurrency
        self.prefetch = prefetch ?? concurrency
    }
}

/// What can go wrong, in the words a caller can act on.
public enum BrokerError: Error, Equatable, Sendable {
    /// The server cannot be reached; it is being tried again. The message was not published, unless
    /// `mayHaveRun`.
    case unavailable(reason: String, mayHaveRun: Bool)
    /// No confirmation came in time; the message may have been published.
    case timedOut
    /// There is no such queue.
    case unroutable(queue: String)
    /// The server would not take the message, for want of disk or memory.
    case refused
    /// The queue exists in another form, made by someone else or an older version.
    case declaration(reason: String)
    /// No broker could carry this message.
    case invalid(String)
    case closed
}
