import Broker
import Core
import HTTP

/// The request or message that is being worked on. Its id and trace go along with whatever is called or
/// published on its behalf, so that one search finds all that came of a click.
public struct CallContext: Sendable, Equatable {
    @TaskLocal public static var current: CallContext?

    public let requestID: String?
    public let traceparent: String?

    public init(requestID: String?, traceparent: String?) {
        self.requestID = requestID
        self.traceparent = traceparent
    }
}

/// Makes the request known to what is called while it is answered.
struct Correlation: Middleware {
    func handle(
        _ request: Request, next: @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        let context = CallContext(requestID: request.id, traceparent: request.trace.header)
        return try await CallContext.$current.withValue(context) { try await next(request) }
    }
}

/// Sends the id and trace of the work at hand with every request; what a caller has set itself stays.
struct CorrelatedClient: HTTPSending {
    let client: any HTTPSending

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        guard let context = CallContext.current else { return try await client.send(request) }
        var request = request
        if request.headers["x-request-id"] == nil { request.headers["X-Request-ID"] = context.requestID }
        if request.headers["traceparent"] == nil { request.headers["traceparent"] = context.traceparent }
        return try await client.send(request)
    }
}

/// Publishes the id and trace of the work at hand with every message, and works under those of a message.
struct CorrelatedBroker: Broker {
    let broker: any Broker

    func publish(_ message: Message, to queue: String, after delay: Duration) async throws {
        var message = message
        if let context = CallContext.current {
            message.requestID = message.requestID ?? context.requestID
            message.traceparent = message.traceparent ?? context.traceparent
        }
        try await broker.publish(message, to: queue, after: delay)
    }

    func consume(
        _ queues: [String], _ options: ConsumerOptions,
        _ handler: @escaping @Sendable (Delivery) async throws -> Verdict
    ) async throws {
        try await broker.consume(queues, options) { delivery in
            let context = CallContext(
                requestID: delivery.message.requestID, traceparent: delivery.message.traceparent)
            return try await CallContext.$current.withValue(context) { try await handler(delivery) }
        }
    }

    func depth(of queue: String) async throws -> Int { try await broker.depth(of: queue) }
    func ping() async throws { try await broker.ping() }
    func close() async { await broker.close() }
}
