import HTTP

/// A path in the one spelling that is routed and handed on, or nothing.
///
/// A gateway and a service that read a path differently are how strangers get to what is not theirs. So what
/// could be read two ways is refused: encoded slashes, backslashes, null bytes, control characters, bytes that
/// are not ASCII, broken escapes, dots that climb out. What remains is decoded where that changes nothing
/// (`%61` is `a`, `%2e` is `.`), without double slashes and dot segments.
struct RoutePath: Equatable {
    let text: String

    init?(_ raw: String) {
        guard raw.utf8.first == UInt8(ascii: "/"), raw.utf8.count <= 8192 else { return nil }
        if Self.isNormal(raw) {
            text = raw
            return
        }
        var segments: [Bytes] = []
        for part in Bytes(raw.utf8).split(separator: UInt8(ascii: "/")) {
            guard let segment = Self.normalised(part) else { return nil }
            switch segment {
            case Bytes(".".utf8): continue
            case Bytes("..".utf8):
                guard segments.popLast() != nil else { return nil }
            // Some servers cut parameters off before they look for dots.
            case _ where segment.starts(with: ".;".utf8) || segment.starts(with: "..;".utf8): return nil
            default: segments.append(segment)
            }
        }
        text = "/" + segments.map { String(decoding: $0, as: UTF8.self) }.joined(separator: "/")
    }

    /// Most paths are: letters, digits, and nothing that could be read in two ways.
    private static func isNormal(_ raw: String) -> Bool {
        var previous: UInt8 = 0
        for byte in raw.utf8 {
            let isFine =
                byte == UInt8(ascii: "/")
                ? previous != byte
                : isUnreserved(byte) && !(byte == UInt8(ascii: ".") && previous == UInt8(ascii: "/"))
            guard isFine else { return false }
            previous = byte
        }
        return previous != UInt8(ascii: "/") || raw.utf8.count == 1
    }

    private static func normalised(_ part: ArraySlice<UInt8>) -> Bytes? {
        var result = Bytes()
        var index = part.startIndex
        while index < part.endIndex {
            let byte = part[index]
            if byte == UInt8(ascii: "%") {
                guard part.endIndex - index > 2, let high = hexValue(part[index + 1]),
                    let low = hexValue(part[index + 2])
                else { return nil }
                let decoded = high << 4 | low
                guard decoded > 0x1F, decoded != 0x7F, decoded != UInt8(ascii: "/"),
                    decoded != UInt8(ascii: "\\")
                else {
                    return nil
                }
                if isUnreserved(decoded) {
                    result.append(decoded)
                } else {
                    result.append(contentsOf: [byte, upperHex(part[index + 1]), upperHex(part[index + 2])])
                }
                index += 3
            } else {
                // Characters that may not stand in a path have to come escaped; some servers cut at them.
                guard byte > 0x20, byte < 0x7F, !Self.forbidden.contains(byte) else { return nil }
                result.append(byte)
                index += 1
            }
        }
        return result
    }

    private static let forbidden = Set("\\\"<>^`{|}#?".utf8)

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        (byte >= 0x30 && byte <= 0x39) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7A)
            || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
            || byte == UInt8(ascii: "~")
    }

    private static func upperHex(_ byte: UInt8) -> UInt8 { byte >= 0x61 ? byte - 0x20 : byte }

    private static func hexValue(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x37
        case 0x61...0x66: byte - 0x57
        default: nil
        }
    }
}
