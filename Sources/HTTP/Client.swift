public import Core

/// A request to another server.
public struct ClientRequest: Sendable {
    public var method: Method
    /// Absolute, `http` or `https`.
    public var url: String
    /// Those that frame the message or belong to a connection (`Content-Length`, `Transfer-Encoding`,
    /// `Connection`, `Expect` and the like) are the client's business and not passed on.
    public var headers: Headers
    /// A stream is read once: such a request is never sent a second time.
    public var body: Body
    /// From the call to the last byte of the answer's head; the body has to go on within `idle`.
    public var deadline: Duration
    /// The longest pause of the other side within the answer's body before the exchange is given up.
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
    /// It cannot be sent as it is, such as for a line break in a header; nothing was sent.
    case invalidRequest(reason: String)
    /// The other side does not speak HTTP as it should, or broke off within its answer.
    case badAnswer(reason: String)

    /// Whether the other side cannot have seen the request, and might get it another time.
    public var isSafeToRepeat: Bool {
        switch self {
        case .notSent: true
        case .timedOut(let mayHaveArrived): !mayHaveArrived
        case .inDoubt, .invalidURL, .invalidRequest, .badAnswer: false
        }
    }
}

/// Sends requests. The real one is in `HTTPClient`; tests put a `Responder` behind it.
public protocol HTTPSending: Sendable {
    /// Returns with the head of the answer. Throws `ClientError`, `CancellationError`, or what the request's
    /// own body throws.
    func send(_ request: ClientRequest) async throws -> ClientResponse
}
