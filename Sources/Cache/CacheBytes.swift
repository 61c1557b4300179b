/// A key, a value, a field or a member: any bytes, most often text.
///
/// `"account_lock:\(id)"` is one, and so is anything `CacheBytes(_:)` takes. Nothing is escaped or
/// re-encoded on the way, so what comes back is what went in.
public struct CacheBytes: Hashable, Sendable {
    public let bytes: [UInt8]

    @inlinable public init(_ bytes: [UInt8]) { self.bytes = bytes }
    @inlinable public init(_ text: some StringProtocol) { bytes = Array(text.utf8) }
    public init(_ number: some BinaryInteger) { self.init(String(number)) }

    /// The bytes as text; what is no UTF-8 is replaced by U+FFFD.
    public var text: String { String(decoding: bytes, as: UTF8.self) }

    /// The bytes as a number, by the server's strict rule: no blanks, no `+`, no leading zeros.
    public var integer: Int64? {
        guard let first = bytes.first, bytes.count <= 20 else { return nil }
        let isNegative = first == UInt8(ascii: "-")
        let digits = isNegative ? bytes[1...] : bytes[...]
        guard let leading = digits.first, leading != UInt8(ascii: "0") || bytes.count == 1 else { return nil }
        var value: Int64 = 0
        for byte in digits {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            let (shifted, isTooLarge) = value.multipliedReportingOverflow(by: 10)
            let digit = Int64(byte - 0x30)
            let (next, overflows) =
                isNegative
                ? shifted.subtractingReportingOverflow(digit) : shifted.addingReportingOverflow(digit)
            guard !isTooLarge, !overflows else { return nil }
            value = next
        }
        return value
    }

    public func hash(into hasher: inout Hasher) {
        // At once: an array hashes byte by byte, which is most of the time a lookup takes.
        bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    }
}

extension CacheBytes: ExpressibleByStringLiteral, ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) { self.init(value) }
}

extension CacheBytes: Comparable {
    /// Byte by byte, as the server orders members of equal score.
    public static func < (left: CacheBytes, right: CacheBytes) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

extension CacheBytes: CustomStringConvertible {
    public var description: String { text }
}
