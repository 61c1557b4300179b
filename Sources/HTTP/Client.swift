public import Core

/// A request to another server.
public struct ClientRequest: Sendable {
    public var method: Method
    /// Absolute, `http` or `https`.
    public var url: String
    public var headers: Headers
    public var body: Body
    /// From the call to the last byte of the answer's head; the body has to go on within `idle`.
    public var deadline: Duration
    /// The longest pause within a streamed body before the exchange is given up.
    public var idle: Duration

    public init(
        _ method: Method, _ url: String, headers: Headers = [:], body: Body = .empty,
        deadline: Duration = .seconds(30), idle: Duration = .seconds(60)
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.deadline = deadline
        self.idle = idle
    }
}

/// The head of an answer, and its body while it arrives. A body that is dropped unread ends the exchange.
public struct ClientResponse: Sendable {
    public let status: Int
    public let headers: Headers
    public let body: Body

    public init(status: Int, headers: Headers, body: Body) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    public func json(limit: Int = 16 << 20) async throws -> JSONValue {
        try JSONValue(parsing: await body.collect(upTo: limit))
    }
}

/// Why there is no answer.
public enum ClientError: Error, Equatable, Sendable {
    /// Nothing was sent: no connection, no such host, no place in the queue. It is safe to try again.
    case notSent(reason: String)
    /// The request may have arrived; whether it was carried out is not known.
    case inDoubt(reason: String)
    case timedOut(mayHaveArrived: Bool)
    case invalidURL
    case badAnswer(reason: String)

    /// Whether the other side cannot have seen the request.
    public var isSafeToRepeat: Bool {
        switch self {
        case .notSent: true
        case .timedOut(let mayHaveArrived): !mayHaveArrived
        case .inDoubt, .invalidURL, .badAnswer: false
        }
    }
}

/// Sends requests. The real one is in `HTTPClient`; tests put a `Responder` behind it.
public protocol HTTPSending: Sendable {
    func send(_ request: ClientRequest) async throws -> ClientResponse
}
