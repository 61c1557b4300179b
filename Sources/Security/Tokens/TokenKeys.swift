public import Core

/// A key of HS256 and the id (`kid`) its tokens name it by.
public struct TokenKey: Sendable {
    public let id: String
    let hmac: HMACKey
    /// The header of this key's tokens, as it stands in front of the first dot.
    let header: [UInt8]

    /// `id` is made from the key where none is given, so that all processes with the same key agree on it.
    /// A digest of 256 random bits says nothing about them.
    public init(_ secret: Secret<[UInt8]>, id: String? = nil) {
        let key = secret.expose()
        precondition(key.count >= 32, "a key of HS256 has 256 bits at least")
        self.init(anyLength: key, id: id)
    }

    /// Nil where the text is too short for a key of HS256 (RFC 7518, 3.2: 256 bits).
    public init?(text: Secret<String>, id: String? = nil) {
        let key = Array(text.expose().utf8)
        guard key.count >= 32 else { return nil }
        self.init(anyLength: key, id: id)
    }

    private init(anyLength key: [UInt8], id: String?) {
        let id = id ?? Base64URL.encode(Array(sha256(Array("convoke.kid".utf8) + key).prefix(9)))
        self.id = id
        hmac = HMACKey(key)
        let header: JSONValue = ["alg": "HS256", "typ": "JWT", "kid": .string(id)]
        self.header = Array(Base64URL.encode(header.bytes).utf8)
    }
}

/// The key that signs, and those that signed before: a key is changed by putting the new one in front and
/// keeping the old one until the last token it signed has expired.
public struct TokenKeys: Sendable {
    public let current: TokenKey
    let all: [TokenKey]

    public init(current: TokenKey, previous: [TokenKey] = []) {
        precondition(Set(([current] + previous).map(\.id)).count == previous.count + 1, "key ids differ")
        self.current = current
        all = [current] + previous
    }

    /// Keys for another purpose that all processes with these keys agree on, the current one first. No token is
    /// ever signed over such a purpose: it holds a character that base64url has not.
    public func keys(for purpose: String) -> [Secret<[UInt8]>] {
        all.map { Secret($0.hmac.code(for: Array("convoke.derived/\(purpose)".utf8))) }
    }
}
