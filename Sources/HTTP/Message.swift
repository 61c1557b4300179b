public import Core

/// A request method. Unknown ones are kept as they came.
public struct Method: RawRepresentable, Hashable, Sendable, ExpressibleByStringLiteral,
    CustomStringConvertible
{
    public let rawValue: String
    public init(rawValue: String) { self.rawValue = rawValue }
    public init(stringLiteral value: String) { rawValue = value }

    public static let get: Method = "GET"
    public static let head: Method = "HEAD"
    public static let post: Method = "POST"
    public static let put: Method = "PUT"
    public static let patch: Method = "PATCH"
    public static let delete: Method = "DELETE"
    public static let options: Method = "OPTIONS"

    public var description: String { rawValue }

    /// Whether sending it twice does no more than sending it once.
    public var isIdempotent: Bool { [.get, .head, .put, .delete, .options].contains(self) }
}

/// Who sends a request, as far as it has been proven.
public enum Identity: Sendable, Equatable {
    case nobody
    case user(UserIdentity)
    /// A service of ours, and the user it acts for, if any.
    case service(name: String, onBehalfOf: UserIdentity?)

    /// The person whose data this is about: the caller, or whom the calling service acts for.
    public var user: UserIdentity? {
        switch self {
        case .nobody: nil
        case .user(let user): user
        case .service(_, let user): user
        }
    }
}

public struct UserIdentity: Sendable, Equatable {
    public let id: Int64
    public let email: String
    /// The token's own id, which logging out blocks.
    public let tokenID: String

    public init(id: Int64, email: String, tokenID: String) {
        self.id = id
        self.email = email
        self.tokenID = tokenID
    }
}

/// What a client asks for. The head is a value; the body is pulled when it is wanted.
public struct Request: Sendable {
    public let method: Method
    /// As it stands in the request line, without the query.
    public let path: String
    public let query: Query
    public var headers: Headers
    public var body: Body
    /// The address of the other end of the connection.
    public let remoteAddress: String

    // What the router and its middleware find out on the way.
    public var parameters: [String: String] = [:]
    /// The route's pattern, such as `/tasks/{id}`: for metrics, which must not hold ids.
    public var route = ""
    public var id = ""
    public var trace = TraceContext.none
    public var language = Language.english
    public var identity = Identity.nobody
    public var log = Log.silent
    /// On the clock that is never set back, for the time its answer took.
    public var arrivedAt: Duration = .zero

    public init(
        _ method: Method, _ path: String, query: Query = Query(), headers: Headers = [:], body: Body = .empty,
        remoteAddress: String = "127.0.0.1"
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.remoteAddress = remoteAddress
    }

    /// A part of the path that the route names.
    public func parameter(_ name: String) -> String { parameters[name] ?? "" }

    /// A number in the path. What is no number names nothing that exists: 404.
    public func intParameter(_ name: String) throws -> Int64 {
        guard let number = Int64(parameter(name)), number > 0 else { throw Problem.notFound }
        return number
    }

    public static let typicalBodyLimit = 1 << 20

    /// The JSON body as a value of ours: 415 for another type, 413 over `limit`, 400 for what is no JSON,
    /// 422 with every mistake for what does not fit.
    // Inlined into a route, it makes the optimiser of Swift 6.3.1 crash while it splits the coroutine; only a
    // release build shows it.
    @inline(never)
    public func decode<Value: JSONDecodable>(
        _ type: Value.Type = Value.self, limit: Int = typicalBodyLimit
    ) async throws -> Value {
        try await Fields.decode(type, from: json(limit: limit))
    }

    public func json(limit: Int = typicalBodyLimit) async throws -> JSONValue {
        guard let type = headers["content-type"], MediaType(type).isJSON else {
            throw Problem.wrongContentType("application/json")
        }
        return try JSONValue(parsing: await body.collect(upTo: limit))
    }
}

/// What a client gets.
public struct Response: Sendable {
    public enum Content: Sendable {
        case bytes(Bytes)
        /// A part of a file, sent without passing through our memory.
        case file(path: String, offset: Int, length: Int)
        /// Written bit by bit while the client reads. The closure is cancelled when the client goes away.
        case stream(length: Int?, @Sendable (any BodyWriter) async throws -> Void)
    }
    public var status: Int
    public var headers: Headers
    public var content: Content

    public init(_ status: Int, headers: Headers = [:], content: Content = .bytes([])) {
        self.status = status
        self.headers = headers
        self.content = content
    }

    public static func json(_ value: some JSONEncodable, status: Int = 200) -> Response {
        Response(status, headers: ["Content-Type": "application/json"], content: .bytes(value.json.bytes))
    }

    public static func text(_ text: String, type: String = "text/plain; charset=utf-8") -> Response {
        Response(200, headers: ["Content-Type": type], content: .bytes(Bytes(text.utf8)))
    }

    public static func stream(
        type: String, length: Int? = nil, _ write: @escaping @Sendable (any BodyWriter) async throws -> Void
    ) -> Response {
        Response(200, headers: ["Content-Type": type], content: .stream(length: length, write))
    }

    public static let noContent = Response(204)

    /// All bytes of the answer, a stream run to its end: for tests and for answers that are kept.
    public func collect() async throws -> Bytes {
        switch content {
        case .bytes(let bytes): return bytes
        case .file: return []
        case .stream(_, let write):
            let gathered = GatheringWriter()
            try await write(gathered)
            return gathered.bytes
        }
    }
}

/// `type/subtype; parameter=value`
public struct MediaType: Sendable, Equatable {
    public let essence: String
    private let parameters: [String: String]

    public init(_ text: String) {
        var parts = text.split(separator: ";").map { trimmingBlanks($0) }
        essence = parts.isEmpty ? "" : parts.removeFirst().lowercased()
        parameters = Dictionary(
            parts.compactMap { part in
                guard let equals = part.firstIndex(of: "=") else { return nil }
                var value = part[part.index(after: equals)...]
                if value.count >= 2, value.first == "\"", value.last == "\"" {
                    value = value.dropFirst().dropLast()
                }
                return (part[..<equals].lowercased(), String(value))
            }, uniquingKeysWith: { first, _ in first })
    }

    public func parameter(_ name: String) -> String? { parameters[name] }
    /// A stream that tells what happens for as long as somebody listens: events, or lines that say so.
    public var hasNoEnd: Bool { essence == "text/event-stream" || parameter("end") == "never" }
    public var isJSON: Bool { essence == "application/json" || essence.hasSuffix("+json") }
}
