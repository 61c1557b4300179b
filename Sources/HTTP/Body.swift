import Synchronization

public typealias Bytes = [UInt8]

/// The bytes of a message, in chunks, pulled by whoever reads them: what is not asked for is not read from
/// the connection, so a slow reader slows the sender and no memory fills up.
///
/// A body is read once.
public struct Body: AsyncSequence, Sendable {
    public typealias Element = Bytes

    enum Content: Sendable {
        case bytes(Bytes)
        case stream(@Sendable () async throws -> Bytes?)
    }
    let content: Content
    /// The length where it is known before reading.
    public let length: Int?

    public static let empty = Body([])

    public init(_ bytes: Bytes) {
        content = .bytes(bytes)
        length = bytes.count
    }

    /// `pull` gives the next chunk, and `nil` at the end. It throws when the sender goes away, and when the
    /// reading task is cancelled.
    public init(length: Int? = nil, pull: @escaping @Sendable () async throws -> Bytes?) {
        content = .stream(pull)
        self.length = length
    }

    /// The bytes, where they are all there already.
    public var bytesAtHand: Bytes? {
        if case .bytes(let bytes) = content { bytes } else { nil }
    }

    public struct Iterator: AsyncIteratorProtocol {
        private var content: Content?

        init(_ content: Content) { self.content = content }

        public mutating func next() async throws -> Bytes? {
            switch content {
            case nil: return nil
            case .bytes(let bytes):
                content = nil
                return bytes.isEmpty ? nil : bytes
            case .stream(let pull): return try await pull()
            }
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(content) }

    /// All bytes in one array; a body longer than `limit` is refused as soon as that is known.
    public func collect(upTo limit: Int) async throws -> Bytes {
        if let length, length > limit { throw BodyTooLarge(limit: limit) }
        if let bytes = bytesAtHand { return bytes }
        var result = Bytes()
        result.reserveCapacity(length ?? 0)
        for try await chunk in self {
            guard result.count + chunk.count <= limit else { throw BodyTooLarge(limit: limit) }
            result.append(contentsOf: chunk)
        }
        return result
    }
}

/// A body is longer than it may be.
public struct BodyTooLarge: Error, Equatable {
    public let limit: Int
    public init(limit: Int) { self.limit = limit }
}

/// Where a streamed answer goes.
public protocol BodyWriter: Sendable {
    /// Returns when there is room for more; throws `CancellationError` once the reader is gone. Each call's
    /// bytes are written in one piece, also when several tasks call at once.
    func write(_ bytes: Bytes) async throws
}

extension BodyWriter {
    public func write(_ text: String) async throws { try await write(Bytes(text.utf8)) }
}
