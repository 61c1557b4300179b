import Core

/// Answers requests: what an HTTP server serves, and what a test asks directly.
public protocol Responder: Sendable {
    /// An answer that needs no waiting, or `nil`. It is asked first, on the connection's own thread, with
    /// the head alone, so it must be quick.
    func answerAtOnce(_ request: Request) -> Response?

    func answer(_ request: Request) async -> Response
}

extension Responder {
    public func answerAtOnce(_: Request) -> Response? { nil }
}

/// Stands around the routes: looks at a request before and at the answer after.
public protocol Middleware: Sendable {
    /// `next` may outlive this call: work that was begun can go on when its client is gone.
    func handle(
        _ request: Request, next: @escaping @Sendable (Request) async throws -> Response
    ) async throws -> Response
}

/// Finds the handler for a request and turns errors into problems. A path that is known with another method
/// is 405 with `Allow`; a trailing slash makes no difference; `HEAD` is `GET` without its body.
public struct Router: Responder {
    public typealias Handler = @Sendable (Request) async throws -> Response
    public typealias QuickHandler = @Sendable (Request) throws -> Response

    fileprivate enum Endpoint: Sendable {
        case quick(QuickHandler)
        case waiting(Handler)
    }
    fileprivate struct Route: Sendable {
        let pattern: String
        let names: [String]
        var endpoints: [Method: Endpoint] = [:]
    }
    fileprivate struct Node: Sendable {
        var children: [String: Node] = [:]
        var parameter: [Node] = []
        var route: Route?
        /// Takes all that is left of the path, as `rest`.
        var remainder: Route?
    }
    private var root = Node()
    private var finder: (@Sendable (Request) throws -> (route: String, handler: Handler))?
    private var middleware: [any Middleware] = []
    private var preparations: [@Sendable (inout Request) -> Void] = []
    private var observers: [@Sendable (Request, Response) -> Void] = []

    public init() {}

    // MARK: - Building

    /// `pattern` is `/tasks/{id}/pause`; a last part `{rest...}` takes whatever follows.
    public mutating func on(_ method: Method, _ pattern: String, _ handler: @escaping Handler) {
        add(method, pattern, .waiting(handler))
    }

    /// A handler that never waits; it is called on the connection's own thread and passes no middleware.
    public mutating func quick(_ method: Method, _ pattern: String, _ handler: @escaping QuickHandler) {
        add(method, pattern, .quick(handler))
    }

    /// Finds a handler for whatever no route of this router takes, with any method; `route` is what metrics
    /// call it. For a gateway, whose routes are other services'.
    public mutating func otherwise(
        _ find: @escaping @Sendable (Request) throws -> (route: String, handler: Handler)
    ) {
        finder = find
    }

    /// The first one added stands outermost.
    public mutating func use(_ middleware: any Middleware) { self.middleware.append(middleware) }

    /// Fills in what a request's head tells (its id, its language) before anything else looks at it.
    public mutating func prepare(_ preparation: @escaping @Sendable (inout Request) -> Void) {
        preparations.append(preparation)
    }

    /// Sees every request with its answer, whoever gave it: for the request log and metrics.
    public mutating func observe(_ observer: @escaping @Sendable (Request, Response) -> Void) {
        observers.append(observer)
    }

    /// `GET /tasks/{id}` for every route, sorted: for comparing with a contract.
    public var operations: [String] { root.operations.sorted() }

    private mutating func add(_ method: Method, _ pattern: String, _ endpoint: Endpoint) {
        let segments = pattern.split(separator: "/").map(String.init)
        var names: [String] = []
        root.insert(segments[...], &names, pattern) { route in
            precondition(route.endpoints[method] == nil, "\(method) \(pattern) is routed twice")
            route.endpoints[method] = endpoint
        }
    }

    // MARK: - Answering

    public func answerAtOnce(_ request: Request) -> Response? {
        guard let segments = pathSegments(request.path), let match = root.find(segments[...], []) else {
            return nil
        }
        let method = request.method == .head ? .get : request.method
        guard case .quick(let handler)? = match.route.endpoints[method] else { return nil }
        var request = request
        for preparation in preparations { preparation(&request) }
        request.route = match.route.pattern
        request.parameters = match.parameters
        let response: Response
        do {
            response = try handler(request)
        } catch {
            response = failure(error, request)
        }
        return finished(response, request)
    }

    public func answer(_ request: Request) async -> Response {
        var request = request
        for preparation in preparations { preparation(&request) }
        let endpoint: Endpoint
        do {
            endpoint = try route(&request)
        } catch {
            // An unknown path is answered by the middleware too: nobody learns without signing in what exists.
            endpoint = .waiting { _ in throw error }
        }
        do {
            let routed = request
            return finished(try await run(middleware[...], routed, endpoint), routed)
        } catch {
            return finished(failure(error, request), request)
        }
    }

    private func run(
        _ middleware: ArraySlice<any Middleware>, _ request: Request, _ endpoint: Endpoint
    ) async throws -> Response {
        guard let first = middleware.first else {
            switch endpoint {
            case .quick(let handler): return try handler(request)
            case .waiting(let handler): return try await handler(request)
            }
        }
        return try await first.handle(request) { request in
            do {
                return try await run(middleware.dropFirst(), request, endpoint)
            } catch {
                // Turned into an answer here, so that outer middleware sees what the client will see.
                return failure(error, request)
            }
        }
    }

    private func route(_ request: inout Request) throws -> Endpoint {
        guard let segments = pathSegments(request.path) else { throw Problem.badPath }
        // A filter that nobody can read must not silently become none.
        guard request.query.isWellFormed else { throw Problem.badQuery }
        guard let match = root.find(segments[...], []) else {
            guard let finder else { throw Problem.notFound }
            let found = try finder(request)
            request.route = found.route
            return .waiting(found.handler)
        }
        request.route = match.route.pattern
        request.parameters = match.parameters
        let method = request.method == .head ? .get : request.method
        guard let endpoint = match.route.endpoints[method] else {
            var allowed = Array(match.route.endpoints.keys)
            if allowed.contains(.get) { allowed.append(.head) }
            throw Problem.methodNotAllowed(allowed)
        }
        return endpoint
    }

    private func failure(_ error: any Error, _ request: Request) -> Response {
        let problem: Problem
        if let known = Problem.describing(error) {
            problem = known
            if problem.status >= 500 { request.log.warning("request.refused", ["error": .error(error)]) }
        } else if error is CancellationError {
            problem = Problem(503, "stopping", .init("The service is stopping", "Служба останавливается"))
        } else {
            request.log.error("request.failed", ["error": .error(error)])
            problem = .internalError
        }
        return problem.response(requestID: request.id, language: request.language)
    }

    private func finished(_ response: Response, _ request: Request) -> Response {
        var response = response
        if !request.id.isEmpty { response.headers["X-Request-ID"] = request.id }
        for observer in observers { observer(request, response) }
        return response
    }
}

/// The decoded parts of a path; `nil` for one that is not written correctly. An encoded slash stays within
/// its part, and a part of dots is a name like any other: nothing here walks a tree of files.
private func pathSegments(_ path: String) -> [String]? {
    var result: [String] = []
    // By bytes: characters would have to be told apart first.
    for part in path.utf8.split(separator: UInt8(ascii: "/")).map(Substring.init) {
        guard part.utf8.contains(UInt8(ascii: "%")) else {
            result.append(String(part))
            continue
        }
        guard let decoded = percentDecoded(part) else { return nil }
        result.append(decoded)
    }
    return result
}

extension Router.Node {
    fileprivate mutating func insert(
        _ segments: ArraySlice<String>, _ names: inout [String], _ pattern: String,
        _ change: (inout Router.Route) -> Void
    ) {
        guard let first = segments.first else {
            var made = route ?? Router.Route(pattern: pattern, names: names)
            precondition(made.names == names, "\(pattern) and \(made.pattern) are the same path")
            change(&made)
            route = made
            return
        }
        guard first.hasPrefix("{"), first.hasSuffix("}") else {
            children[first, default: Router.Node()].insert(segments.dropFirst(), &names, pattern, change)
            return
        }
        let name = String(first.dropFirst().dropLast())
        if name.hasSuffix("...") {
            names.append(String(name.dropLast(3)))
            var made = remainder ?? Router.Route(pattern: pattern, names: names)
            change(&made)
            remainder = made
        } else {
            names.append(name)
            if parameter.isEmpty { parameter.append(Router.Node()) }
            parameter[0].insert(segments.dropFirst(), &names, pattern, change)
        }
    }

    fileprivate var operations: [String] {
        let own = [route, remainder].compactMap { $0 }.flatMap { route in
            route.endpoints.keys.map { "\($0) \(route.pattern)" }
        }
        return own + children.values.flatMap(\.operations) + parameter.flatMap(\.operations)
    }

    /// A literal part wins over a parameter, and both over a remainder.
    fileprivate func find(
        _ segments: ArraySlice<String>, _ values: [String]
    ) -> (route: Router.Route, parameters: [String: String])? {
        if let first = segments.first {
            if let found = children[first]?.find(segments.dropFirst(), values) { return found }
            if let found = parameter.first?.find(segments.dropFirst(), values + [first]) { return found }
        } else if let route {
            return (route, Self.parameters(route, values))
        }
        guard let remainder else { return nil }
        return (remainder, Self.parameters(remainder, values + [segments.joined(separator: "/")]))
    }

    private static func parameters(_ route: Router.Route, _ values: [String]) -> [String: String] {
        route.names.isEmpty
            ? [:] : Dictionary(zip(route.names, values), uniquingKeysWith: { _, last in last })
    }
}
