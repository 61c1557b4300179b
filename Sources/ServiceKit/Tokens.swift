public import Core
public import HTTP
public import Security

/// The tokens of the platform: access tokens of people, and the short-lived ones services show each other.
public struct Tokens: Sendable {
    public static let accessLifetime: Duration = .minutes(15)
    public static let serviceLifetime: Duration = .minutes(1)
    static let issuer = "convoke"

    private let issuer: TokenIssuer
    private let verifier: TokenVerifier
    private let random: any RandomSource
    private let all: TokenKeys

    public init(keys: TokenKeys, random: any RandomSource) {
        all = keys
        issuer = TokenIssuer(keys: keys, issuer: Self.issuer)
        verifier = TokenVerifier(keys: keys, issuer: Self.issuer)
        self.random = random
    }

    /// Keys for another purpose, which replicas share as they share the one for tokens.
    func keys(for purpose: String) -> [Secret<[UInt8]>] { all.keys(for: purpose) }

    /// An access token. Its id names the session it belongs to, so that ending the session ends all of them.
    public func access(userID: Int64, email: String, session: String, now: Timestamp) -> Secret<String> {
        issuer.issue(
            to: .user(id: userID, email: email), id: "\(session).\(Base64URL.encode(random.bytes(9)))",
            for: Self.accessLifetime, now: now
        ).token
    }

    /// The session that a token's id names.
    public static func session(of tokenID: String) -> String { String(tokenID.prefix { $0 != "." }) }

    public func service(_ name: String, onBehalfOf user: UserIdentity?, now: Timestamp) -> Secret<String> {
        issuer.issue(
            to: .service(name: name, onBehalfOf: user), id: Base64URL.encode(random.bytes(12)),
            for: Self.serviceLifetime, now: now
        ).token
    }

    public func verify(_ token: String, now: Timestamp) throws(TokenError) -> TokenClaims {
        try verifier.verify(token, now: now)
    }
}
