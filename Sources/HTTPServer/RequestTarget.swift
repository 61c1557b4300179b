import HTTP

/// The target of a request line, split but not decoded: telling `%2F` from `/` is the router's business.
struct RequestTarget {
    let path: String
    let query: String
    /// `host:port` of an absolute target, which has to agree with `Host`.
    let authority: String?

    init?(_ bytes: UnsafeBufferPointer<UInt8>) {
        // No blanks, controls, non-ASCII bytes, and no fragment: it is never sent.
        for byte in bytes where byte <= 0x20 || byte >= 0x7F || byte == UInt8(ascii: "#") { return nil }
        guard let first = bytes.first else { return nil }
        var start = 0
        if first == UInt8(ascii: "/") || (bytes.count == 1 && first == UInt8(ascii: "*")) {
            authority = nil
        } else {
            // RFC 9112 has servers accept `http://host/path` from anyone.
            guard let rest = Self.afterScheme(bytes) else { return nil }
            let end = bytes[rest...].firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }
            start = end ?? bytes.count
            guard start > rest else { return nil }
            authority = String(decoding: bytes[rest..<start], as: UTF8.self)
        }
        let mark = bytes[start...].firstIndex(of: UInt8(ascii: "?"))
        let pathBytes = UnsafeBufferPointer(rebasing: bytes[start..<(mark ?? bytes.count)])
        path = pathBytes.isEmpty ? "/" : String(decoding: pathBytes, as: UTF8.self)
        query = mark.map { String(decoding: bytes[($0 + 1)...], as: UTF8.self) } ?? ""
    }

    private static func afterScheme(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? {
        for scheme in ["http://", "https://"] {
            let prefix = bytes.prefix(scheme.utf8.count)
            guard prefix.count == scheme.utf8.count else { continue }
            if zip(prefix, scheme.utf8).allSatisfy({ $0 | 0x20 == $1 | 0x20 }) { return scheme.utf8.count }
        }
        return nil
    }
}
