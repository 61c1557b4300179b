/// What a command or a script answers.
public enum CacheReply: Hashable, Sendable {
    case null
    case ok
    case integer(Int64)
    case bytes(CacheBytes)
    case array([CacheReply])

    public static func text(_ text: String) -> CacheReply { .bytes(CacheBytes(text)) }
    public static func flag(_ flag: Bool) -> CacheReply { .integer(flag ? 1 : 0) }
}

/// Reading a reply in the type the caller knows it has.
extension CacheReply {
    public var asInteger: Int64 {
        get throws(CacheError) {
            guard case .integer(let value) = self else { throw .unexpectedReply }
            return value
        }
    }

    public var asFlag: Bool {
        get throws(CacheError) { try asInteger != 0 }
    }

    public var asBytes: CacheBytes? {
        get throws(CacheError) {
            switch self {
            case .bytes(let bytes): return bytes
            case .null: return nil
            default: throw .unexpectedReply
            }
        }
    }

    public var asArray: [CacheReply] {
        get throws(CacheError) {
            guard case .array(let elements) = self else { throw .unexpectedReply }
            return elements
        }
    }

    public var asScore: Double? {
        get throws(CacheError) {
            guard let bytes = try asBytes else { return nil }
            guard let score = Double(bytes.text) else { throw .unexpectedReply }
            return score
        }
    }

    /// `[first, second, first, second, …]`, which is how pairs come.
    func pairs<First, Second>(
        _ first: (CacheReply) throws(CacheError) -> First, _ second: (CacheReply) throws(CacheError) -> Second
    ) throws(CacheError) -> [(First, Second)] {
        let elements = try asArray
        guard elements.count.isMultiple(of: 2) else { throw .unexpectedReply }
        var result: [(First, Second)] = []
        result.reserveCapacity(elements.count / 2)
        for index in stride(from: 0, to: elements.count, by: 2) {
            result.append((try first(elements[index]), try second(elements[index + 1])))
        }
        return result
    }

    func present() throws(CacheError) -> CacheBytes {
        guard let bytes = try asBytes else { throw .unexpectedReply }
        return bytes
    }

    func presentScore() throws(CacheError) -> Double {
        guard let score = try asScore else { throw .unexpectedReply }
        return score
    }
}
