import Core
import Glibc
import HTTP

/// A short answer that goes to the socket past libmicrohttpd, where that cannot answer any more, or not yet.
/// It ends the connection.
struct RawAnswer {
    private let bytes: Bytes

    init?(_ response: Response) {
        guard case .bytes(let body) = response.content, body.count <= 64 << 10 else { return nil }
        var head = "HTTP/1.1 \(response.status) \(reasonPhrase(response.status))\r\n"
        for field in response.headers
        where !Answering.isOurs(field.name) && !field.value.contains(where: \.isNewline) {
            head += "\(field.name): \(field.value)\r\n"
        }
        head += "Connection: close\r\nContent-Length: \(body.count)\r\n\r\n"
        bytes = Bytes(head.utf8) + body
    }

    /// It fits into the socket's buffer, or the client reads nothing and does not want it.
    func send(to socket: Int32) {
        _ = bytes.withUnsafeBytes {
            Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
    }
}
