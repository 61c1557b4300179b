import CZlib
import Compression
import Core
import HTTP
import Testing

@Suite struct `A large answer of JSON` {
    private let large = Response.json(
        ["text": .string(String(repeating: "convoke ", count: 20_000))] as JSONValue)
    private let accepting = Request(.get, "/", headers: ["Accept-Encoding": "br, gzip;q=0.8"])

    @Test func `is packed for who takes it, and unpacks to the same`() async throws {
        let packed = large.packed(for: accepting)
        #expect(packed.headers["content-encoding"] == "gzip")
        #expect(packed.headers["vary"] == "Accept-Encoding")
        let bytes = try await packed.collect()
        let plain = try await large.collect()
        #expect(bytes.count < plain.count / 20)
        #expect(unpacked(bytes) == plain)
    }

    @Test func `is packed while it is streamed`() async throws {
        let piece = Bytes(repeating: UInt8(ascii: "7"), count: 10_000)
        let streamed = Response(
            200, headers: ["Content-Type": "application/json", "ETag": "\"a\""],
            content: .stream(length: 1_000_000) { writer in
                for _ in 0..<100 { try await writer.write(piece) }
            })
        let packed = streamed.packed(for: accepting)
        #expect(packed.headers["etag"] == "W/\"a\"", "the packed bytes are not those of the strong tag")
        #expect(unpacked(try await packed.collect()) == Bytes(repeating: UInt8(ascii: "7"), count: 1_000_000))
    }

    @Test(arguments: ["", "identity", "gzip;q=0", "gzip; q=0.0", "br"])
    func `stays as it is for who does not`(accepted: String) {
        let response = large.packed(for: Request(.get, "/", headers: ["Accept-Encoding": accepted]))
        #expect(response.headers["content-encoding"] == nil)
        #expect(response.headers["vary"] == "Accept-Encoding", "caches have to know all the same")
    }

    @Test func `is left alone when it is small, no JSON, packed already or seen at once`() {
        let bytes = Bytes(repeating: 32, count: 5000)
        for response in [
            Response.json(["small": true] as JSONValue),
            Response(200, headers: ["Content-Type": "image/png"], content: .bytes(bytes)),
            Response(
                200, headers: ["Content-Type": "application/json", "Content-Encoding": "br"],
                content: .bytes(bytes)),
            Response(200, headers: ["Content-Type": "application/x-ndjson"], content: .bytes(bytes)),
            Response(200, headers: ["Content-Type": "text/event-stream"], content: .bytes(bytes)),
            Response(206, headers: ["Content-Type": "application/json"], content: .bytes(bytes)),
        ] {
            #expect(
                response.packed(for: accepting).headers["content-encoding"]
                    == response.headers["content-encoding"])
            #expect(response.packed(for: accepting).headers["vary"] == nil)
        }
    }
}

/// By zlib itself, which is told nothing of what was packed.
private func unpacked(_ bytes: Bytes) -> Bytes {
    var stream = z_stream()
    guard convoke_gzip_read(&stream) == Z_OK else { return [] }
    defer { inflateEnd(&stream) }
    var input = bytes
    var result = Bytes()
    input.withUnsafeMutableBufferPointer { input in
        stream.next_in = input.baseAddress
        stream.avail_in = UInt32(input.count)
        var code = Z_OK
        while code == Z_OK {
            result += Bytes(unsafeUninitializedCapacity: 1 << 16) { room, count in
                stream.next_out = room.baseAddress
                stream.avail_out = UInt32(room.count)
                code = inflate(&stream, Z_NO_FLUSH)
                count = room.count - Int(stream.avail_out)
            }
        }
        if code != Z_STREAM_END { result = [] }
    }
    return result
}
