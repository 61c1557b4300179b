import CSodium
public import Core

/// Why a sealed value cannot be opened.
public enum SealingError: Error, Equatable, Sendable {
    /// No sealed value of ours.
    case malformed
    /// Sealed with a key that was not given; `doctor` and the log name the version.
    case unknownKey(version: UInt32)
    /// Changed, moved to another place, or sealed with another key of that version.
    case forged
}

/// A key for sealing and its number. Numbers grow with every change of the key and are never used again.
public struct SealingKey: Sendable {
    public static let length = Int(crypto_aead_xchacha20poly1305_ietf_KEYBYTES)

    public let version: UInt32
    let secret: Secret<[UInt8]>

    public init(version: UInt32, _ secret: Secret<[UInt8]>) {
        precondition(secret.expose().count == Self.length, "a sealing key has \(Self.length) bytes")
        self.version = version
        self.secret = secret
    }
}

/// Where a sealed value belongs: table, row, column. It is not stored with the value but has to be the same
/// when it is opened, so a value copied into another row does not open there.
public struct SealBinding: Sendable, Equatable {
    let bytes: [UInt8]

    /// Lengths go with the parts, so that `("ab", "c")` and `("a", "bc")` are two places.
    public init(_ parts: String...) {
        var bytes: [UInt8] = []
        for part in parts {
            withUnsafeBytes(of: UInt32(part.utf8.count).bigEndian) { bytes.append(contentsOf: $0) }
            bytes.append(contentsOf: part.utf8)
        }
        self.bytes = bytes
    }
}

/// Seals what must not be readable in the database: XChaCha20-Poly1305 under the current key; values sealed
/// under older keys still open, and `reseal` brings them up to date.
///
/// A sealed value is `form, key version, nonce, ciphertext and tag`; form and version are authenticated too.
public struct SealingKeys: Sendable {
    private static let form: UInt8 = 1
    private static let headerLength = 5
    private static let nonceLength = Int(crypto_aead_xchacha20poly1305_ietf_NPUBBYTES)
    private static let tagLength = Int(crypto_aead_xchacha20poly1305_ietf_ABYTES)

    private let current: SealingKey
    private let all: [SealingKey]
    private let random: any RandomSource

    /// - Parameter random: where nonces come from. Only a simulation gives its own: a nonce used twice under
    ///   one key would reveal both values.
    public init(
        current: SealingKey, previous: [SealingKey] = [], random: any RandomSource = SystemRandom()
    ) {
        precondition(
            Set(([current] + previous).map(\.version)).count == previous.count + 1, "versions differ")
        self.current = current
        self.random = random
        all = [current] + previous
    }

    public var currentVersion: UInt32 { current.version }

    /// Keys of the same versions for one purpose or one account alone.
    public func keys(for purpose: String) -> SealingKeys {
        let derived = all.map { key in
            SealingKey(
                version: key.version,
                KeyDerivation(master: key.secret).key(
                    for: "convoke.seal/" + purpose, bytes: SealingKey.length))
        }
        return SealingKeys(current: derived[0], previous: Array(derived.dropFirst()), random: random)
    }

    /// Hashes of the same versions for one purpose, the current one first.
    public func hashes(for purpose: String) -> [KeyedHash] {
        all.map { KeyedHash(key: KeyDerivation(master: $0.secret).key(for: "convoke.hash/" + purpose)) }
    }

    // MARK: - Bytes

    public func seal(_ plain: Secret<[UInt8]>, for binding: SealBinding) -> [UInt8] {
        Sodium.prepare()
        let plain = plain.expose()
        var sealed: [UInt8] = [Self.form]
        sealed.reserveCapacity(Self.headerLength + Self.nonceLength + plain.count + Self.tagLength)
        withUnsafeBytes(of: current.version.bigEndian) { sealed.append(contentsOf: $0) }
        let associated = sealed + binding.bytes
        let nonce = random.bytes(Self.nonceLength)
        var cipher = [UInt8](repeating: 0, count: plain.count + Self.tagLength)
        var length: UInt64 = 0
        crypto_aead_xchacha20poly1305_ietf_encrypt(
            &cipher, &length, plain, UInt64(plain.count), associated, UInt64(associated.count), nil, nonce,
            current.secret.expose())
        return sealed + nonce + cipher
    }

    public func open(
        _ sealed: [UInt8], for binding: SealBinding
    ) throws(SealingError) -> Secret<[UInt8]> {
        Sodium.prepare()
        let key = try key(of: sealed)
        let nonceEnd = Self.headerLength + Self.nonceLength
        let associated = Array(sealed[..<Self.headerLength]) + binding.bytes
        let nonce = Array(sealed[Self.headerLength..<nonceEnd])
        let cipher = Array(sealed[nonceEnd...])
        var plain = [UInt8](repeating: 0, count: cipher.count - Self.tagLength)
        var length: UInt64 = 0
        let result = crypto_aead_xchacha20poly1305_ietf_decrypt(
            &plain, &length, nil, cipher, UInt64(cipher.count), associated, UInt64(associated.count), nonce,
            key.secret.expose())
        guard result == 0 else { throw .forged }
        return Secret(plain)
    }

    /// The value under the current key, or nil where it already is.
    public func reseal(_ sealed: [UInt8], for binding: SealBinding) throws(SealingError) -> [UInt8]? {
        guard try key(of: sealed).version != current.version else { return nil }
        return seal(try open(sealed, for: binding), for: binding)
    }

    // MARK: - Text, as it stands in a column

    public func seal(_ plain: Secret<String>, for binding: SealBinding) -> String {
        Base64.encode(seal(Secret(Array(plain.expose().utf8)), for: binding))
    }

    public func open(_ sealed: String, for binding: SealBinding) throws(SealingError) -> Secret<String> {
        guard let bytes = Base64.decode(sealed) else { throw .malformed }
        let plain = try open(bytes, for: binding).expose()
        guard let text = String(validating: plain, as: UTF8.self) else { throw .malformed }
        return Secret(text)
    }

    public func reseal(_ sealed: String, for binding: SealBinding) throws(SealingError) -> String? {
        guard let bytes = Base64.decode(sealed) else { throw .malformed }
        return try reseal(bytes, for: binding).map(Base64.encode)
    }

    private func key(of sealed: [UInt8]) throws(SealingError) -> SealingKey {
        guard sealed.count >= Self.headerLength + Self.nonceLength + Self.tagLength, sealed[0] == Self.form
        else { throw .malformed }
        let version = sealed[1..<5].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard let key = all.first(where: { $0.version == version }) else {
            throw .unknownKey(version: version)
        }
        return key
    }
}
