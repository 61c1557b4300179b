import Core

/// How connections to one server are made, shared by the publisher and the consumers.
struct Link: Sendable {
    let address: AMQPAddress
    let book: QueueBook
    let settings: RabbitMQSettings
    let time: any TimeSource
    let log: Log
    let metrics: BrokerMetrics

    static let deadExchange = "convoke.dead"
    /// Where everything but the publishing itself happens on the publisher's connection.
    static let mainChannel: UInt16 = 1

    /// Connects, opens the first channel, and declares all queues: what exists already stays as it is.
    func connect(name: String) throws(BrokerError) -> AMQPConnection {
        let connection = try AMQPConnection(
            address, name: name, heartbeat: settings.heartbeatSeconds, timeout: settings.connectTimeout)
        try connection.openChannel(Self.mainChannel)
        try connection.declareExchange(Self.deadExchange, type: "direct", on: Self.mainChannel)
        for queue in book.queues {
            try connection.declareQueue(
                queue.deadLetters, [("x-queue-type", .text("quorum"))], on: Self.mainChannel)
            try connection.bind(
                queue.deadLetters, to: Self.deadExchange, key: queue.name, on: Self.mainChannel)
            try connection.declareQueue(
                queue.name,
                [
                    // Replicated where there is a cluster, and on one node the kind of queue that counts
                    // deliveries, so that a message that kills its consumers is found out.
                    ("x-queue-type", .text("quorum")),
                    ("x-dead-letter-exchange", .text(Self.deadExchange)),
                    ("x-dead-letter-strategy", .text("at-least-once")),
                    // The strategy demands it.
                    ("x-overflow", .text("reject-publish")),
                    // The consumers keep to the queue's own number of attempts. This is for a message that
                    // kills them before they can, and constant, since the arguments of a queue that exists
                    // cannot be changed.
                    ("x-delivery-limit", .number(100)),
                ], on: Self.mainChannel)
        }
        return connection
    }

    /// Makes a rung of the ladder: an exchange that takes everything, and the queue behind it, whose messages
    /// go on to the queue their routing key names.
    func declare(rung: Duration, on connection: AMQPConnection) throws(BrokerError) {
        let name = DelayLadder.name(rung)
        try connection.declareExchange(name, type: "fanout", on: Self.mainChannel)
        try connection.declareQueue(
            name,
            [
                ("x-queue-type", .text("quorum")),
                ("x-message-ttl", .number(rung.milliseconds)),
                ("x-dead-letter-exchange", .text("")),
                ("x-dead-letter-strategy", .text("at-least-once")),
                ("x-overflow", .text("reject-publish")),
            ], on: Self.mainChannel)
        try connection.bind(name, to: name, key: "", on: Self.mainChannel)
    }
}

/// When to try again, and whether anyone has been told.
struct Reconnection {
    private(set) var failures = 0
    private(set) var nextAttempt: Duration = .zero
    private(set) var wasConnected = false
    /// Why there is no connection, once an attempt to make one has failed.
    private(set) var failure: BrokerError?

    mutating func succeeded() {
        failures = 0
        failure = nil
        wasConnected = true
    }

    mutating func failed(_ error: BrokerError, at uptime: Duration, _ backoff: Backoff) {
        failures += 1
        failure = error
        nextAttempt = uptime + backoff.delay(after: failures, SystemRandom())
    }
}
