public import HTTP

extension Response {
    /// Below it the packing costs more than the bytes it saves.
    public static let worthPacking = 1024

    /// The answer packed with gzip, where the client takes it and it is large JSON. Event streams and lines
    /// of JSON are left alone: packing would hold back what is to be seen at once.
    public func packed(for request: Request) -> Response {
        guard mayPack else { return self }
        var response = self
        // Also where this client gets it plain: the next one behind the same cache may not.
        response.headers.add("Vary", "Accept-Encoding")
        guard request.takesGzip else { return response }
        switch content {
        case .bytes(let bytes): response.content = .bytes(Gzip.packed(bytes))
        case .stream(_, let write):
            response.content = .stream(length: nil) { writer in
                let packing = PackingWriter(writer)
                try await write(packing)
                try await packing.finish()
            }
        case .file: return response
        }
        response.headers["Content-Encoding"] = "gzip"
        // Other bytes than those the strong tag was given for.
        if let tag = headers["etag"], !tag.hasPrefix("W/") { response.headers["ETag"] = "W/\(tag)" }
        response.headers["Accept-Ranges"] = nil
        return response
    }

    private var mayPack: Bool {
        let isLarge =
            switch content {
            case .bytes(let bytes): bytes.count >= Self.worthPacking
            case .stream(let length, _): length.map { $0 >= Self.worthPacking } ?? true
            case .file: false
            }
        guard isLarge, status == 200, headers["content-encoding"] == nil,
            let type = headers["content-type"]
        else { return false }
        return MediaType(type).isJSON
    }
}

extension Request {
    /// Whether gzip is named, and not with a weight of zero.
    public var takesGzip: Bool {
        headers.all("accept-encoding").contains { value in
            value.split(separator: ",").contains { part in
                let words = part.split(separator: ";").map { String($0.filter { $0 != " " && $0 != "\t" }) }
                guard let name = words.first, sameName(name, "gzip") || name == "*" else { return false }
                let weight = words.dropFirst().first { $0.lowercased().hasPrefix("q=") }
                return weight.flatMap { Double($0.dropFirst(2)) } != 0
            }
        }
    }
}

/// Packs what one task writes to it and hands it on.
private actor PackingWriter: BodyWriter {
    private let gzip = Gzip()
    private let writer: any BodyWriter

    init(_ writer: any BodyWriter) { self.writer = writer }

    func write(_ bytes: Bytes) async throws { try await send(gzip.pack(bytes)) }
    func finish() async throws { try await send(gzip.pack([], isLast: true)) }

    private func send(_ packed: Bytes) async throws {
        // An empty piece would say nothing, and to some writers the end.
        if !packed.isEmpty { try await writer.write(packed) }
    }
}
