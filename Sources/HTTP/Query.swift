/// The names and values behind the `?`, decoded, in their order.
public struct Query: Sendable, Equatable {
    public private(set) var items: [(name: String, value: String)]
    /// As it came, without the `?`.
    public let raw: String
    /// False where a part of it cannot be decoded or there are too many: then `items` is not what was asked.
    public let isWellFormed: Bool

    private static let most = 200

    public init(_ raw: String = "") {
        self.raw = raw
        let parts = raw.split(separator: "&", maxSplits: Self.most)
        items = parts.prefix(Self.most).compactMap { part in
            let equals = part.firstIndex(of: "=")
            let name = percentDecoded(part[..<(equals ?? part.endIndex)], plusIsBlank: true)
            let value = equals.map { percentDecoded(part[part.index(after: $0)...], plusIsBlank: true) } ?? ""
            guard let name, let value else { return nil }
            return (name, value)
        }
        isWellFormed = items.count == parts.count
    }

    public init(_ items: KeyValuePairs<String, String>) {
        self.init(items.map { "\(percentEncoded($0))=\(percentEncoded($1))" }.joined(separator: "&"))
    }

    public subscript(name: String) -> String? { items.first { $0.name == name }?.value }

    public static func == (left: Query, right: Query) -> Bool { left.raw == right.raw }
}

/// `nil` for a broken escape, a null byte, or what is not UTF-8.
public func percentDecoded(_ text: some StringProtocol, plusIsBlank: Bool = false) -> String? {
    var bytes = Bytes()
    var iterator = text.utf8.makeIterator()
    while let byte = iterator.next() {
        switch byte {
        case UInt8(ascii: "%"):
            guard let high = iterator.next().flatMap(hexDigit), let low = iterator.next().flatMap(hexDigit)
            else {
                return nil
            }
            guard high << 4 | low != 0 else { return nil }
            bytes.append(high << 4 | low)
        case UInt8(ascii: "+") where plusIsBlank: bytes.append(0x20)
        case 0: return nil
        default: bytes.append(byte)
        }
    }
    return String(validating: bytes, as: UTF8.self)
}

/// Everything but RFC 3986's unreserved characters is escaped.
public func percentEncoded(_ text: some StringProtocol) -> String {
    var result = Bytes()
    let digits = Bytes("0123456789ABCDEF".utf8)
    for byte in text.utf8 {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            result.append(byte)
        default:
            result.append(UInt8(ascii: "%"))
            result.append(digits[Int(byte >> 4)])
            result.append(digits[Int(byte & 15)])
        }
    }
    return String(decoding: result, as: UTF8.self)
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x37
    case 0x61...0x66: byte - 0x57
    default: nil
    }
}
