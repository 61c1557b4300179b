import CZlib
public import HTTP

/// Packs bytes into one gzip stream, piece by piece. For one task at a time.
public final class Gzip {
    /// Quick and good enough for text; higher levels cost several times as much for a few percent.
    public static let usualLevel: Int32 = 4

    private let stream: UnsafeMutablePointer<z_stream>

    public init(level: Int32 = usualLevel) {
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        let code = convoke_gzip_begin(stream, level)
        precondition(code == Z_OK, "zlib cannot begin: \(code)")
    }

    deinit {
        deflateEnd(stream)
        stream.deallocate()
    }

    /// What the stream has to say after `bytes`, often nothing yet. `isLast` ends it.
    public func pack(_ bytes: Bytes, isLast: Bool = false) -> Bytes {
        var result = Bytes()
        var input = bytes
        input.withUnsafeMutableBufferPointer { input in
            stream.pointee.next_in = input.baseAddress
            stream.pointee.avail_in = UInt32(input.count)
            var isRoomUsedUp = true
            while isRoomUsedUp {
                let piece = Bytes(unsafeUninitializedCapacity: max(bytes.count / 2, 4096)) { room, count in
                    stream.pointee.next_out = room.baseAddress
                    stream.pointee.avail_out = UInt32(room.count)
                    deflate(stream, isLast ? Z_FINISH : Z_NO_FLUSH)
                    count = room.count - Int(stream.pointee.avail_out)
                    isRoomUsedUp = stream.pointee.avail_out == 0
                }
                if result.isEmpty { result = piece } else { result += piece }
            }
        }
        return result
    }

    public static func packed(_ bytes: Bytes, level: Int32 = usualLevel) -> Bytes {
        Gzip(level: level).pack(bytes, isLast: true)
    }
}
