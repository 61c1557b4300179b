import Cache
import Core
import HTTP
import Security
import ServiceKit

/// Checks at the door: who is it, and not too often.
struct Doorkeeper: Sendable {
    static let window: Duration = .minutes(1)

    let tokens: Tokens
    let ended: EndedSessions
    let cache: any Cache
    let addresses: ClientAddresses
    let userLimit: Int64
    let time: any TimeSource
    let refusals: Labeled<Counter>

    /// Tokens that were checked a moment ago.
    let known = KnownTokens()

    /// The signed-in user of a request; everything that is not exactly a good user's token is 401.
    func visitor(of request: Request) async throws -> Visitor {
        guard let header = request.headers["authorization"] else { throw refusal("missing") }
        let now = time.now
        let visitor: Visitor
        if let found = known.visitor(with: header, at: now), isOnly(header, in: request.headers) {
            visitor = found
        } else {
            visitor = try check(request.headers.all("authorization"), at: now)
            known.remember(visitor, with: header, at: now)
        }
        // Whether the session has ended is asked every time, however well the token is known.
        let admission: EndedSessions.Admission
        do {
            admission = try await ended.admit(
                visitor.session, counting: visitor.counter, limit: userLimit, window: Self.window)
        } catch is CacheError {
            throw Self.uncounted
        }
        switch admission {
        case .ended: throw refusal("ended")
        case .tooOften(let retryAfter): throw Problem.tooFast(retryAfter: retryAfter)
        case .admitted: return visitor
        }
    }

    private func isOnly(_ header: String, in headers: Headers) -> Bool {
        headers.count { $0.name.utf8.count == 13 && sameName($0.name, "authorization") } == 1
    }

    private func check(_ values: [String], at now: Timestamp) throws -> Visitor {
        guard values.count == 1 else { throw refusal("repeated") }
        let parts = values[0].split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, sameName(String(parts[0]), "bearer") else { throw refusal("scheme") }
        let claims: TokenClaims
        do {
            claims = try tokens.verify(String(parts[1]), now: now)
        } catch {
            throw refusal(error.rawValue)
        }
        // A service's own token has no business outside, even when it is genuine.
        guard case .user(let user) = claims.identity else { throw refusal("not_a_user") }
        return Visitor(
            user: user, session: Tokens.session(of: user.tokenID),
            token: tokens.service("gateway", onBehalfOf: user, now: now).expose(),
            isGoodBefore: claims.expiresAt)
    }

    func address(of request: Request) -> String {
        addresses.address(
            connection: request.remoteAddress, forwarded: request.headers.all("x-forwarded-for"))
    }

    /// Counts a request against an address; the 21st sign-in of a minute waits.
    func admit(address: String, to name: String, limit: Int64) async throws {
        try await admit("\(name):\(ClientAddresses.countedAs(address))", limit: limit)
    }

    private func admit(_ who: String, limit: Int64) async throws {
        let verdict: LimitVerdict
        do {
            verdict = try await cache.takeFromFixedWindow(
                CacheBytes("limit:\(who)"), limit: limit, window: Self.window)
        } catch is CacheError {
            throw Self.uncounted
        }
        guard verdict.isAllowed else { throw Problem.tooFast(retryAfter: verdict.retryAfter) }
    }

    /// Without the shared count nobody could be held to a limit, and a limit is a promise.
    private static let uncounted = Problem.unavailable(
        .init(
            "Requests cannot be counted just now; try again shortly",
            "Сейчас не удаётся считать запросы; повторите чуть позже")
    ).with(header: "Retry-After", "2")

    private func refusal(_ reason: String) -> Problem {
        refusals[reason].increment()
        return .unauthorized
    }
}
