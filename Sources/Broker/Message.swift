public import Core

/// What is put into a queue. The id stays the same through retries, redeliveries and the dead letters, so
/// that a consumer can notice what it has already done: delivery is at least once.
public struct Message: Sendable, Equatable {
    /// Bodies are pointers to work, not the work's data; this bounds what one message can cost.
    public static let maximumBody = 4 << 20

    public var id: String
    public var contentType: String
    public var body: [UInt8]
    /// W3C trace context of whoever published.
    public var traceparent: String?
    public var requestID: String?

    public init(
        id: String, body: [UInt8], contentType: String = "application/json",
        traceparent: String? = nil, requestID: String? = nil
    ) {
        self.id = id
        self.body = body
        self.contentType = contentType
        self.traceparent = traceparent
        self.requestID = requestID
    }

    /// Throws what no broker could carry: AMQP's short strings end at 255 bytes.
    func validate() throws(BrokerError) {
        guard !id.isEmpty, id.utf8.count <= 255 else { throw .invalid("a message id has 1 to 255 bytes") }
        guard contentType.utf8.count <= 255 else { throw .invalid("a content type has at most 255 bytes") }
        guard (traceparent ?? "").utf8.count <= 255, (requestID ?? "").utf8.count <= 255 else {
            throw .invalid("trace context and request id have at most 255 bytes")
        }
        guard body.count <= Self.maximumBody else {
            throw .invalid("a body has at most \(Self.maximumBody) bytes")
        }
    }
}

/// A message in a consumer's hands.
public struct Delivery: Sendable, Equatable {
    public let message: Message
    public let queue: String
    /// 1 for the first time a handler is given the message. Counts retries and every handler that ended
    /// without a verdict, crashes included.
    public let attempt: Int
    /// Why it is among the dead letters; `nil` in a queue of living ones.
    public let reason: String?

    public init(message: Message, queue: String, attempt: Int, reason: String? = nil) {
        self.message = message
        self.queue = queue
        self.attempt = attempt
        self.reason = reason
    }
}

/// What a handler decides. An error it throws counts as `retry` after the queue's backoff.
public enum Verdict: Sendable, Equatable {
    /// Done, or need not be done: the message is gone.
    case ack
    /// Again, not before `after` has passed; to the dead letters when the attempts are used up.
    case retry(after: Duration)
    /// Never again: to the dead letters at once. Among the dead letters themselves: away for good.
    case reject(reason: String)
}

/// A durable queue with a queue of dead letters beside it.
public struct Queue: Sendable, Equatable {
    public let name: String
    /// How often a handler may be given one message before it becomes a dead letter.
    public let maximumAttempts: Int
    /// The delays between attempts after an error.
    public let backoff: Backoff

    public init(
        _ name: String, maximumAttempts: Int = 5,
        backoff: Backoff = Backoff(first: .seconds(1), ceiling: .minutes(5))
    ) {
        precondition(maximumAttempts > 0, "a message is tried at least once")
        precondition(!name.isEmpty && name.utf8.count <= 200, "a queue's name has 1 to 200 bytes")
        precondition(!name.hasSuffix(Self.deadSuffix), "the dead letters' queue comes by itself")
        self.name = name
        self.maximumAttempts = maximumAttempts
        self.backoff = backoff
    }

    /// Where this queue's dead letters are: to be consumed like any other, when someone wants to.
    public var deadLetters: String { Self.deadLetters(of: name) }

    public static func deadLetters(of name: String) -> String { name + deadSuffix }

    static let deadSuffix = ".dead"
}

/// The queues a broker knows, the dead letters' included.
struct QueueBook: Sendable {
    let queues: [Queue]
    private let byName: [String: Queue]

    init(_ queues: [Queue]) {
        self.queues = queues
        byName = Dictionary(queues.map { ($0.name, $0) }) { first, _ in first }
        precondition(byName.count == queues.count, "a queue is declared once")
    }

    /// The queue of living messages of this name.
    func living(_ name: String) -> Queue? { byName[name] }

    func knows(_ name: String) -> Bool {
        byName[name] != nil
            || name.hasSuffix(Queue.deadSuffix)
                && byName[String(name.dropLast(Queue.deadSuffix.count))] != nil
    }

    func require(_ name: String) throws(BrokerError) {
        guard knows(name) else { throw .unroutable(queue: name) }
    }
}

extension Verdict {
    var name: String {
        switch self {
        case .ack: "ack"
        case .retry: "retry"
        case .reject: "reject"
        }
    }

    /// Asks the handler; an error becomes a retry after the queue's backoff.
    init(
        of delivery: Delivery, _ queue: Queue?, _ handler: @Sendable (Delivery) async throws -> Verdict,
        _ log: Log
    ) async {
        do {
            self = try await handler(delivery)
        } catch {
            log.warning(
                "broker.handler-failed",
                [
                    "queue": .id(delivery.queue), "message": .id(delivery.message.id),
                    "attempt": .int(delivery.attempt), "error": .error(error),
                ])
            let backoff = queue?.backoff ?? Backoff(first: .seconds(30))
            self = .retry(after: backoff.delay(after: delivery.attempt, SystemRandom()))
        }
    }
}
