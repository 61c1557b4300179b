public import Core

/// Why a token is refused. A client hears the same of all of them; the word is for counting.
public enum TokenError: String, Error, Equatable, Sendable, CaseIterable {
    /// Not three parts of strict base64url with the JSON we expect.
    case malformed
    /// The header does not say HS256. Nothing it says is ever followed.
    case wrongAlgorithm = "wrong_algorithm"
    /// No key of ours made this signature.
    case badSignature = "bad_signature"
    case expired
    case notYetValid = "not_yet_valid"
    case wrongIssuer = "wrong_issuer"
    case wrongAudience = "wrong_audience"
    case tooLarge = "too_large"
}

/// Checks tokens. Nothing is read of a token's claims before its signature was found right.
public struct TokenVerifier: Sendable {
    /// The longest token that is looked at.
    public static let largest = 8 * 1024

    private let keys: TokenKeys
    private let issuer: String
    private let audience: String?
    private let clockSlack: Duration

    /// - Parameters:
    ///   - audience: who we are; nil where a token for anyone will do.
    ///   - clockSlack: how far the issuer's clock may be ahead of ours. It never prolongs a token: a blocked
    ///     id is forgotten when its token has expired.
    public init(
        keys: TokenKeys, issuer: String, audience: String? = nil, clockSlack: Duration = .seconds(5)
    ) {
        self.keys = keys
        self.issuer = issuer
        self.audience = audience
        self.clockSlack = clockSlack
    }

    public func verify(_ token: Secret<String>, now: Timestamp) throws(TokenError) -> TokenClaims {
        try verify(token.expose(), now: now)
    }

    public func verify(_ token: String, now: Timestamp) throws(TokenError) -> TokenClaims {
        var token = token
        // `withUTF8` forgets the type of the error, a `Result` keeps it.
        let result: Result<TokenClaims, TokenError> = token.withUTF8 { bytes in
            do throws(TokenError) {
                return .success(try signedClaims(bytes))
            } catch {
                return .failure(error)
            }
        }
        let claims = try result.get()
        guard now < claims.expiresAt else { throw .expired }
        let latest = now + clockSlack
        guard claims.issuedAt <= latest, (claims.notBefore ?? .epoch) <= latest else { throw .notYetValid }
        guard claims.issuer == issuer else { throw .wrongIssuer }
        if let audience, !claims.audience.contains(audience) { throw .wrongAudience }
        return claims
    }

    private func signedClaims(_ token: UnsafeBufferPointer<UInt8>) throws(TokenError) -> TokenClaims {
        guard token.count <= Self.largest else { throw .tooLarge }
        let dot = UInt8(ascii: ".")
        guard let first = token.firstIndex(of: dot), let last = token.lastIndex(of: dot), first < last,
            token[(first + 1)..<last].firstIndex(of: dot) == nil
        else { throw .malformed }
        let candidates = try candidates(UnsafeBufferPointer(rebasing: token[..<first]))
        let signature = UnsafeBufferPointer(rebasing: token[(last + 1)...])
        guard let code = Base64URL.alphabet.decode(signature) else { throw .malformed }
        let message = UnsafeBufferPointer(rebasing: token[..<last])
        let isSigned = code.withUnsafeBufferPointer { code in
            candidates.contains { $0.hmac.verifies(code, for: message) }
        }
        guard isSigned else { throw .badSignature }
        let payload = UnsafeBufferPointer(rebasing: token[(first + 1)..<last])
        guard let bytes = Base64URL.alphabet.decode(payload), let json = try? JSONValue(parsing: bytes),
            let claims = TokenClaims(json)
        else { throw .malformed }
        return claims
    }

    /// The keys that may have signed under this header: the one it names, all where it names none.
    private func candidates(
        _ header: UnsafeBufferPointer<UInt8>
    ) throws(TokenError) -> ArraySlice<TokenKey> {
        // Our own header to the byte is the way nearly every token takes, and needs no parsing.
        if let index = keys.all.firstIndex(where: { $0.header.elementsEqual(header) }) {
            return keys.all[index...index]
        }
        guard let bytes = Base64URL.alphabet.decode(header), let json = try? JSONValue(parsing: bytes),
            case .object(let members) = json
        else { throw .malformed }
        guard case .string("HS256") = json["alg"], members.count(where: { $0.name == "alg" }) == 1 else {
            throw .wrongAlgorithm
        }
        // `crit`, `jku`, `jwk`, `zip`, … would ask something of us that we do not do.
        var names: Set<String> = []
        for member in members {
            guard names.insert(member.name).inserted, ["alg", "typ", "kid"].contains(member.name) else {
                throw .malformed
            }
        }
        if let type = json["typ"], type.stringValue?.lowercased() != "jwt" { throw .malformed }
        guard let kid = json["kid"] else { return keys.all[...] }
        guard let index = keys.all.firstIndex(where: { .string($0.id) == kid }) else { throw .badSignature }
        return keys.all[index...index]
    }
}
