import CSodium
public import Core

/// A token nobody can guess: 256 bits or more from the kernel, as base64url.
public enum RandomToken {
    public static func make(bytes: Int = 32, _ random: any RandomSource = SystemRandom()) -> Secret<String> {
        precondition(bytes >= 32, "a token has 256 bits at least")
        return Secret(Base64URL.encode(random.bytes(bytes)))
    }
}

/// What is stored of a token that only its holder shall know, such as a refresh token: whoever reads the
/// table cannot use what stands in it. A token has 256 random bits, so a fast digest is enough.
public enum TokenDigest {
    /// SHA-256 in hex.
    public static func of(_ token: Secret<String>) -> String {
        Hex.encode(sha256(Array(token.expose().utf8)))
    }
}

public func sha256(_ bytes: [UInt8]) -> [UInt8] {
    Sodium.prepare()
    var digest = [UInt8](repeating: 0, count: 32)
    crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
    return digest
}

/// BLAKE2b under a key: keeps a person on the stop-list without keeping who it is. Phone numbers are so few
/// that a digest without a key could be undone by trying them all.
public struct KeyedHash: Sendable {
    private let key: Secret<[UInt8]>

    public init(key: Secret<[UInt8]>) {
        precondition((32...64).contains(key.expose().count), "a key has 32 to 64 bytes")
        self.key = key
    }

    /// 32 bytes.
    public func digest(_ bytes: [UInt8]) -> [UInt8] {
        Sodium.prepare()
        let key = key.expose()
        var digest = [UInt8](repeating: 0, count: 32)
        crypto_generichash(&digest, digest.count, bytes, UInt64(bytes.count), key, key.count)
        return digest
    }

    /// The digest in hex.
    public func digest(_ text: String) -> String { Hex.encode(digest(Array(text.utf8))) }
}

/// HKDF of RFC 5869 over HMAC-SHA256 (libsodium 1.0.18 has none of its own): a key for every purpose from one
/// master key, so that no two uses ever share one.
public struct KeyDerivation: Sendable {
    private let pseudorandomKey: Secret<[UInt8]>

    public init(master: Secret<[UInt8]>, salt: [UInt8] = []) {
        let salt = salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt
        pseudorandomKey = Secret(HMACKey(salt).code(for: master.expose()))
    }

    public func key(for purpose: String, bytes: Int = 32) -> Secret<[UInt8]> {
        key(for: Array(purpose.utf8), bytes: bytes)
    }

    func key(for purpose: [UInt8], bytes count: Int) -> Secret<[UInt8]> {
        precondition((16...255 * 32).contains(count), "HKDF gives 16 to 8160 bytes")
        let hmac = HMACKey(pseudorandomKey.expose())
        var result: [UInt8] = []
        var block: [UInt8] = []
        var number: UInt8 = 0
        while result.count < count {
            number += 1
            block = hmac.code(for: block + purpose + [number])
            result += block
        }
        return Secret(Array(result.prefix(count)))
    }
}
