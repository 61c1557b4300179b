import CMicroHTTPD
import Core
import Glibc
import HTTP

/// Turns an answer into what libmicrohttpd sends.
enum Answering {
    /// Up to here an answer's bytes are copied at once; a larger one is copied bit by bit while it is sent.
    static let copiedAtOnce = 32 << 10

    /// Queues `response`; false where the connection has to be closed instead.
    static func queue(
        _ response: Response, on connection: OpaquePointer, exchange: Exchange?, isHead: Bool, closes: Bool
    ) -> Bool {
        var response = response
        var made = make(response, exchange: exchange, isHead: isHead)
        if made == nil {
            // A file that is not there any more, or not all of it, or no memory.
            response = Problem.internalError.response(requestID: "", language: .english)
            made = make(response, exchange: nil, isHead: isHead)
        }
        guard let made else { return false }
        defer { MHD_destroy_response(made) }
        for field in response.headers where !isOurs(field.name) {
            // Refused are empty values and control characters, which would let a value begin another field.
            _ = convoke_add_header(made, field.name, field.value)
        }
        if closes { _ = convoke_add_header(made, "Connection", "close") }
        return convoke_queue(connection, UInt32(clamping: response.status), made) != 0
    }

    /// Framing belongs to the server.
    static func isOurs(_ name: String) -> Bool {
        switch name.utf8.count {
        case 4: sameName(name, "date")
        case 6: sameName(name, "server")
        case 10: sameName(name, "connection") || sameName(name, "keep-alive")
        case 14: sameName(name, "content-length")
        case 17: sameName(name, "transfer-encoding")
        default: false
        }
    }

    private static func make(_ response: Response, exchange: Exchange?, isHead: Bool) -> OpaquePointer? {
        switch response.content {
        case .bytes(let bytes) where bytes.count <= copiedAtOnce:
            return bytes.withUnsafeBytes { convoke_copied_response($0.baseAddress, $0.count) }
        case .bytes(let bytes):
            let source = Unmanaged.passRetained(Source(bytes))
            return MHD_create_response_from_callback(
                UInt64(bytes.count), copiedAtOnce, { Source.read($0, $1, $2, $3) }, source.toOpaque(),
                { $0.map { Unmanaged<Source>.fromOpaque($0).release() } })
        case .file(let path, let offset, let length):
            let file = open(path, O_RDONLY | O_CLOEXEC)
            guard file >= 0 else { return nil }
            var status = stat()
            // Announcing more than there is would leave the client waiting for the rest.
            guard fstat(file, &status) == 0, Int(status.st_size) >= offset + length else {
                Glibc.close(file)
                return nil
            }
            // libmicrohttpd closes the file with the answer.
            let made = MHD_create_response_from_fd_at_offset64(UInt64(length), file, UInt64(offset))
            if made == nil { Glibc.close(file) }
            return made
        case .stream(let length, _):
            let size = length.map { UInt64($0) } ?? convoke_size_unknown
            guard let exchange, !isHead, response.mayHaveBody else {
                return convoke_bodiless_response(size)
            }
            return MHD_create_response_from_callback(
                size, copiedAtOnce, { Answering.readExchange($0, $2, $3) },
                Unmanaged.passRetained(exchange).toOpaque(),
                { $0.map { Unmanaged<Exchange>.fromOpaque($0).release() } })
        }
    }

    private static func readExchange(
        _ exchange: UnsafeMutableRawPointer?, _ room: UnsafeMutablePointer<CChar>?, _ count: Int
    ) -> Int {
        guard let exchange, let room else { return convoke_end_with_error }
        return room.withMemoryRebound(to: UInt8.self, capacity: count) { room in
            Unmanaged<Exchange>.fromOpaque(exchange).takeUnretainedValue()
                .send(UnsafeMutableBufferPointer(start: room, count: count))
        }
    }

    /// A large answer at hand.
    private final class Source {
        private let bytes: Bytes
        init(_ bytes: Bytes) { self.bytes = bytes }

        static func read(
            _ source: UnsafeMutableRawPointer?, _ position: UInt64, _ room: UnsafeMutablePointer<CChar>?,
            _ count: Int
        ) -> Int {
            guard let source, let room else { return convoke_end_with_error }
            let bytes = Unmanaged<Source>.fromOpaque(source).takeUnretainedValue().bytes
            let start = Int(clamping: position)
            let count = min(count, bytes.count - start)
            guard count > 0 else { return convoke_end_of_stream }
            bytes.withUnsafeBytes { all in
                UnsafeMutableRawBufferPointer(start: room, count: count)
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: all[start..<(start + count)]))
            }
            return count
        }
    }
}
