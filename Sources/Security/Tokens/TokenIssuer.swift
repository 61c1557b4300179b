public import Core

/// Makes signed tokens: JWTs with HS256, the one algorithm there is.
public struct TokenIssuer: Sendable {
    private let keys: TokenKeys
    private let issuer: String
    private let audience: [String]

    public init(keys: TokenKeys, issuer: String, audience: [String] = []) {
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
    }

    /// A token for `subject` that holds from now on for `lifetime`, and the claims that stand in it.
    ///
    /// JWTs count in whole seconds; both ends are cut, so that a token never outlives what was asked.
    public func issue(
        to subject: TokenClaims.Subject, id: String, for lifetime: Duration, now: Timestamp
    ) -> (token: Secret<String>, claims: TokenClaims) {
        let claims = TokenClaims(
            subject: subject, id: id, issuer: issuer, audience: audience,
            issuedAt: Timestamp(seconds: now.seconds),
            expiresAt: Timestamp(seconds: (now + lifetime).seconds))
        return (sign(claims), claims)
    }

    /// Signs claims as they are.
    public func sign(_ claims: TokenClaims) -> Secret<String> {
        let payload = Array(Base64URL.encode(claims.json.bytes).utf8)
        return Secret(signed(header: keys.current.header, payload: payload, with: keys.current))
    }
}

func signed(header: [UInt8], payload: [UInt8], with key: TokenKey) -> String {
    var token = header
    token.reserveCapacity(header.count + payload.count + 45)
    token.append(UInt8(ascii: "."))
    token.append(contentsOf: payload)
    let code = key.hmac.code(for: token)
    return String(decoding: token, as: UTF8.self) + "." + Base64URL.encode(code)
}
