import Cache
import Core
import HTTP
import Synchronization

/// Somebody who has shown a good token, and the word that services are given for it.
struct Visitor: Sendable {
    let user: UserIdentity
    let session: String
    /// The gateway's own token, in which it vouches for the user.
    let token: String
    /// When the access token expires.
    let isGoodBefore: Timestamp
    /// What the user's requests are counted under.
    let counter: CacheBytes

    init(user: UserIdentity, session: String, token: String, isGoodBefore: Timestamp) {
        self.user = user
        self.session = session
        self.token = token
        self.isGoodBefore = isGoodBefore
        counter = CacheBytes("limit:user:\(user.id)")
    }
}

/// Tokens that were checked a moment ago, so that a page which asks for twenty things has its signature
/// checked once, and the service token for it is made once.
///
/// That a token is known says nothing about its session, which may have ended meanwhile.
final class KnownTokens: Sendable {
    /// Far below the life of the service token that is kept along.
    static let lifetime: Duration = .seconds(5)
    static let most = 10_000

    private let known = Mutex<[String: (visitor: Visitor, until: Timestamp)]>([:])

    func visitor(with header: String, at now: Timestamp) -> Visitor? {
        known.withLock { known in
            guard let (visitor, until) = known[header], now < until else { return nil }
            return visitor
        }
    }

    func remember(_ visitor: Visitor, with header: String, at now: Timestamp) {
        known.withLock { known in
            if known.count >= Self.most { known = known.filter { now < $0.value.until } }
            if known.count >= Self.most { known = [:] }
            known[header] = (visitor, min(now + Self.lifetime, visitor.isGoodBefore))
        }
    }
}
