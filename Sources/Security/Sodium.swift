import CSodium
public import Core

/// Whoever calls libsodium asks this first: it picks the fastest implementations for this processor and
/// opens the random device, once per process.
enum Sodium {
    private static let isReady: Bool = sodium_init() >= 0

    @inline(__always) static func prepare() {
        precondition(isReady, "libsodium cannot start: the system has no randomness")
    }

    /// Overwrites key material that is no longer needed. The compiler may not leave it out, as it may a
    /// plain loop.
    static func wipe(_ bytes: inout [UInt8]) {
        bytes.withUnsafeMutableBytes { sodium_memzero($0.baseAddress, $0.count) }
    }
}

/// Whether two byte strings are equal, in a time that depends on their lengths alone.
public func equalInConstantTime(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    Sodium.prepare()
    guard left.count == right.count else { return false }
    return sodium_memcmp(left, right, left.count) == 0
}

public func equalInConstantTime(_ left: Secret<String>, _ right: Secret<String>) -> Bool {
    equalInConstantTime(Array(left.expose().utf8), Array(right.expose().utf8))
}
