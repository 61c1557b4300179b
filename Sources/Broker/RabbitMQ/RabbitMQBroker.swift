public import Core

/// How a connection to RabbitMQ behaves. The defaults are right but for tests.
public struct RabbitMQSettings: Sendable, Equatable {
    /// Both sides say something at least this often; twice this without a word ends the connection.
    public var heartbeatSeconds = 10
    public var connectTimeout: Duration = .seconds(5)
    /// From the call of `publish` to its confirm.
    public var publishDeadline: Duration = .seconds(10)
    public var backoff = Backoff(first: .milliseconds(100), ceiling: .seconds(2))
    /// A message held here for so long without its turn goes back to the others. Must stay under the
    /// server's `consumer_timeout` (half an hour).
    public var maximumHold: Duration = .minutes(5)

    public init() {}
}

/// Queues on a RabbitMQ server.
///
/// One connection with its thread publishes; each call of `consume` has another of its own, so that a server
/// that slows publishers down does not slow acknowledgements.
public final class RabbitMQBroker: Broker {
    private let link: Link
    private let publisher: RabbitMQPublisher

    public init(
        _ address: AMQPAddress, queues: [Queue], settings: RabbitMQSettings = RabbitMQSettings(),
        metrics: BrokerMetrics, time: any TimeSource, log: Log
    ) {
        link = Link(
            address: address, book: QueueBook(queues), settings: settings, time: time, log: log,
            metrics: metrics)
        publisher = RabbitMQPublisher(link)
    }

    deinit { publisher.requestClose() }

    public func publish(_ message: Message, to queue: String, after delay: Duration) async throws {
        try message.validate()
        // A rung of the ladder takes everything, so it cannot say that nobody is there at its end.
        if delay > .zero { try link.book.require(queue) }
        let outgoing = Outgoing(
            message: message, exchange: "", routingKey: queue, attempt: 1,
            notBefore: delay > .zero ? link.time.now + delay : nil)
        try await publisher.publish(outgoing)
    }

    public func consume(
        _ queues: [String], _ options: ConsumerOptions,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws {
        for queue in queues { try link.book.require(queue) }
        let consumer = RabbitMQConsumer(link, publisher, queues, options, handler)
        try await consumer.run()
    }

    public func depth(of queue: String) async throws -> Int {
        try link.book.require(queue)
        return try await publisher.depth(of: queue)
    }

    public func ping() async throws { try await publisher.ping() }

    public func close() async { await publisher.close() }
}
