import Core
public import HTTP
import Security

/// Finds out who calls, before any route is reached.
///
/// A token is believed when its signature, time and issuer are right and nobody logged out with it. Without
/// a token a call is refused, except to public paths and in `dev` mode, where the caller acts as the user it
/// names.
struct Authentication: Middleware {
    let mode: AuthMode
    let publicPaths: Set<String>
    let tokens: Tokens
    let ended: EndedSessions
    let time: any TimeSource
    let refusals: Labeled<Counter>

    func handle(
        _ request: Request, next: @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        var request = request
        let path =
            request.path.count > 1 && request.path.hasSuffix("/")
            ? String(request.path.dropLast()) : request.path
        let isPublic = publicPaths.contains(path)
        if mode == .dev { try DevelopmentGuard.check(request) }
        let headers = request.headers.all("authorization")
        if let header = headers.first {
            do {
                // Two of them would let two readers see two callers.
                guard headers.count == 1 else { throw refusal("repeated") }
                request.identity = try await identity(header)
            } catch  where isPublic {
                // A stale token must not keep anybody from signing in again.
                return try await next(request)
            }
        } else if !isPublic {
            guard mode == .dev, !path.hasPrefix("/internal/") else { throw refusal("missing") }
            request = try await DevelopmentGuard.actingAsNamedUser(request)
        }
        if path.hasPrefix("/internal/") {
            guard case .service = request.identity else { throw Problem.notFound }
        }
        return try await next(request)
    }

    private func identity(_ header: String) async throws -> Identity {
        let parts = header.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, sameName(String(parts[0]), "bearer") else { throw refusal("scheme") }
        do {
            let claims = try tokens.verify(String(parts[1]), now: time.now)
            let identity = claims.identity
            // A service vouches for the session of the user it acts for; a user's own token is looked up.
            if case .user = identity, try await ended.contains(Tokens.session(of: claims.id)) {
                throw refusal("ended")
            }
            return identity
        } catch let error as TokenError {
            throw refusal(error.rawValue)
        }
    }

    private func refusal(_ reason: String) -> Problem {
        refusals[reason].increment()
        return .unauthorized
    }
}

/// What keeps `dev` mode from being driven by a web page elsewhere: only loopback hosts, and only bodies
/// that a page cannot send without asking.
enum DevelopmentGuard {
    static func check(_ request: Request) throws {
        guard let host = request.headers["host"], isLoopback(hostName(host)) else {
            throw Problem(
                403, "loopback_only",
                .init(
                    "In development mode only localhost is served",
                    "В режиме разработки обслуживается только localhost"))
        }
        // `null` is what a page without an origin of its own sends, such as one in a sandboxed frame.
        if let origin = request.headers["origin"] {
            guard let start = origin.firstRange(of: "://"),
                isLoopback(hostName(String(origin[start.upperBound...])))
            else { throw foreignOrigin }
        }
        // A form can be sent by any page, and some browsers leave the origin out.
        if ![.get, .head].contains(request.method), let site = request.headers["sec-fetch-site"],
            site != "same-origin", site != "none", request.headers["origin"] == nil
        {
            throw foreignOrigin
        }
        guard request.body.length != 0, ![.get, .head].contains(request.method) else { return }
        let type = MediaType(request.headers["content-type"] ?? "")
        guard
            type.isJSON || type.essence == "multipart/form-data"
                || type.essence == "application/x-www-form-urlencoded"
        else { throw Problem.wrongContentType("application/json") }
    }

    private static let foreignOrigin = Problem(
        403, "foreign_origin",
        .init("A page elsewhere may not call this", "Чужая страница не может это вызвать"))

    private static func hostName(_ host: String) -> String {
        if host.hasPrefix("[") { return String(host.prefix { $0 != "]" }) + "]" }
        return String(host.prefix { $0 != ":" && $0 != "/" })
    }

    /// The user that `user_id` names in the query or the JSON body; 1 where it names none.
    static func actingAsNamedUser(_ request: Request) async throws -> Request {
        var request = request
        var named = request.query["user_id"].flatMap { Int64($0) }
        if named == nil, MediaType(request.headers["content-type"] ?? "").isJSON,
            let length = request.body.length, length > 0, length <= Request.typicalBodyLimit
        {
            let bytes = try await request.body.collect(upTo: Request.typicalBodyLimit)
            request.body = Body(bytes)
            named = (try? JSONValue(parsing: bytes))?["user_id"]?.intValue
        }
        let id = named ?? 1
        guard id > 0 else {
            throw ValidationError([
                FieldError(
                    "user_id", "out_of_range",
                    .init("A positive number is expected", "Ожидается положительное число"))
            ])
        }
        // An address, because a service that acts for this user has to name one.
        request.identity = .user(UserIdentity(id: id, email: "user-\(id)@localhost", tokenID: ""))
        return request
    }
}

extension Request {
    /// The id of the access token the user signed in with, whoever hands it on.
    public var tokenID: String? { identity.user.flatMap { $0.tokenID.isEmpty ? nil : $0.tokenID } }

    /// The address of the person's end of the line: what the gateway saw, or the connection's own.
    public var clientAddress: String {
        if case .service("gateway", _) = identity, let address = headers[Forwarded.address] { return address }
        return remoteAddress
    }

    /// The signed-in user, or the one a service acts for; 401 for neither.
    public func requireUser() throws -> Int64 {
        guard let id = identity.user?.id else { throw Problem.unauthorized }
        return id
    }

    /// The calling service's name; what does not concern people exists for services alone.
    public func requireService() throws -> String {
        guard case .service(let name, _) = identity else { throw Problem.notFound }
        return name
    }
}

/// What the gateway tells the services behind it about a call, beside its token. Nobody else is believed, and
/// the gateway removes these from what clients send.
public enum Forwarded {
    public static let address = "X-Convoke-Client-Address"
}
