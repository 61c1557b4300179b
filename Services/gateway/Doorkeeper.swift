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

    /// The signed-in user of a request; everything that is not exactly a good user's token is 401.
    func user(of request: Request) async throws -> UserIdentity {
        let values = request.headers.all("authorization")
        guard values.count == 1 else { throw refusal(values.isEmpty ? "missing" : "repeated") }
        let parts = values[0].split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, sameName(String(parts[0]), "bearer") else { throw refusal("scheme") }
        let claims: TokenClaims
        do {
            claims = try tokens.verify(String(parts[1]), now: time.now)
        } catch {
            throw refusal(error.rawValue)
        }
        // A service's own token has no business outside, even when it is genuine.
        guard case .user(let user) = claims.identity else { throw refusal("not_a_user") }
        // Both questions go to the cache in one batch.
        async let isEnded = ended.contains(Tokens.session(of: user.tokenID))
        async let isWithinLimit: Void = admit("user:\(user.id)", limit: userLimit)
        guard try await !isEnded else { throw refusal("ended") }
        try await isWithinLimit
        return user
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
            // Without the shared count nobody could be held to a limit, and a limit is a promise.
            throw Problem.unavailable(
                .init(
                    "Requests cannot be counted just now; try again shortly",
                    "Сейчас не удаётся считать запросы; повторите чуть позже")
            ).with(header: "Retry-After", "2")
        }
        guard verdict.isAllowed else { throw Problem.tooFast(retryAfter: verdict.retryAfter) }
    }

    private func refusal(_ reason: String) -> Problem {
        refusals[reason].increment()
        return .unauthorized
    }
}
