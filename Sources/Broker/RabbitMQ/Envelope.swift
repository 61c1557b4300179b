import Core

/// A message as it travels: what AMQP has a field for is in that field, the rest in headers.
struct Outgoing: Sendable {
    let message: Message
    let exchange: String
    let routingKey: String
    let attempt: Int
    var notBefore: Timestamp?
    var reason: String?
}

struct Incoming: Sendable {
    let channel: UInt16
    let tag: UInt64
    let message: Message
    /// The attempt that was begun when it was published.
    let attempt: Int
    /// How often a consumer ended without settling it, since then.
    let returns: Int
    let isRedelivered: Bool
    let notBefore: Timestamp?
    let reason: String?
}

enum Header {
    static let attempt = "convoke-attempt"
    static let notBefore = "convoke-not-before"
    static let reason = "convoke-reason"
    static let requestID = "convoke-request-id"
    static let traceparent = "traceparent"
    /// Counted by the server's quorum queues.
    static let deliveryCount = "x-delivery-count"
}
