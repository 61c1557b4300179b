import Compression
import Core
import HTTP
import Security
import ServiceKit

/// The page and its files. They are listed once, at the start, and nothing else is ever opened: no name from
/// outside reaches the disk.
struct WebPages: Sendable {
    private struct File: Sendable {
        let path: String
        let size: Int
        let tag: String
        let type: String
        let isImmutable: Bool
        /// Whether the same file lies beside it, packed.
        let packed: (path: String, size: Int)?
    }
    private let files: [String: File]
    private static let entry = "/index.html"

    /// Every file of a folder, under its name. A folder that is not there has none.
    init(_ root: String?) throws {
        var files: [String: File] = [:]
        for (name, path) in try Self.list(root) {
            let bytes = try FileSystem.read(path)
            let packed = FileSystem.size(of: path + ".gz").map { (path: path + ".gz", size: $0) }
            files[name] = File(
                path: path, size: bytes.count, tag: "\"\(Hex.encode(Array(sha256(bytes).prefix(12))))\"",
                type: Self.type(of: name), isImmutable: Self.isHashed(name), packed: packed)
        }
        self.files = files
    }

    /// The folder `web` beside the program, where there is one.
    static var besideExecutable: String? {
        guard let folder = FileSystem.programFolder.map({ $0 + "/web" }) else { return nil }
        return FileSystem.kind(of: folder) == nil ? nil : folder
    }

    func answer(_ request: Request, _ path: RoutePath) throws -> Response {
        guard [.get, .head].contains(request.method) else { throw Problem.methodNotAllowed([.get, .head]) }
        if let file = files[path.text] { return answer(request, file) }
        // The page routes itself: an address of its own is the page. A file that is not there is not.
        let last = path.text.split(separator: "/").last ?? ""
        guard !last.contains("."), let page = files[Self.entry] else {
            if path.text == "/", files.isEmpty { return Self.noPage }
            throw Problem.notFound
        }
        return answer(request, page)
    }

    private func answer(_ request: Request, _ file: File) -> Response {
        var headers: Headers = [
            "Content-Type": file.type, "ETag": file.tag, "Accept-Ranges": "bytes",
            // A name that changes with its content is never asked for again; the rest is asked about.
            "Cache-Control": file.isImmutable ? "public, max-age=31536000, immutable" : "no-cache",
        ]
        if file.packed != nil { headers["Vary"] = "Accept-Encoding" }
        if let known = request.headers["if-none-match"], Self.names(known, file.tag) {
            headers["Content-Type"] = nil
            return Response(304, headers: headers)
        }
        if let range = request.headers["range"], request.headers["if-range"].map({ $0 == file.tag }) ?? true {
            switch ByteRange.wanted(range, of: file.size) {
            case .part(let part):
                headers["Content-Range"] = "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(file.size)"
                return Response(
                    206, headers: headers,
                    content: .file(path: file.path, offset: part.lowerBound, length: part.count))
            case .impossible:
                return Problem(
                    416, "range_not_satisfiable",
                    .init("The file has \(file.size) bytes", "В файле \(file.size) байт")
                ).with(header: "Content-Range", "bytes */\(file.size)")
                    .response(requestID: request.id, language: request.language)
            case .everything: break
            }
        }
        if let packed = file.packed, request.takesGzip {
            headers["Content-Encoding"] = "gzip"
            headers["Accept-Ranges"] = nil
            headers["ETag"] = "W/" + file.tag
            return Response(
                200, headers: headers, content: .file(path: packed.path, offset: 0, length: packed.size))
        }
        return Response(200, headers: headers, content: .file(path: file.path, offset: 0, length: file.size))
    }

    private static func names(_ list: String, _ tag: String) -> Bool {
        list.split(separator: ",").contains { part in
            let name = part.filter { $0 != " " && $0 != "\t" }
            return name == "*" || name == tag || name == "W/" + tag
        }
    }

    private static func list(_ root: String?) throws -> [(name: String, path: String)] {
        guard let root else { return [] }
        guard let files = try? FileSystem.files(under: root) else {
            throw ConfigurationError(mistakes: ["WEB_ROOT names a folder that is not there"])
        }
        // Links might lead out of the folder, and are not listed; hidden files are not meant for anybody.
        return files.filter { name in
            !name.hasSuffix(".gz") && !name.split(separator: "/").contains { $0.hasPrefix(".") }
        }.map { ("/" + $0, "\(root)/\($0)") }
    }

    private static func type(of name: String) -> String {
        switch name.split(separator: ".").last?.lowercased() {
        case "html": "text/html; charset=utf-8"
        case "js", "mjs": "text/javascript; charset=utf-8"
        case "css": "text/css; charset=utf-8"
        case "json", "map": "application/json"
        case "webmanifest": "application/manifest+json"
        case "svg": "image/svg+xml"
        case "png": "image/png"
        case "jpg", "jpeg": "image/jpeg"
        case "ico": "image/x-icon"
        case "woff2": "font/woff2"
        case "txt": "text/plain; charset=utf-8"
        default: "application/octet-stream"
        }
    }

    /// Bundlers put a hash of the content before the extension: `app-3F2A9C1B.js`, `app.3f2a9c1b.css`.
    static func isHashed(_ name: String) -> Bool {
        let file = name.split(separator: "/").last ?? ""
        let words = file.split { $0 == "." || $0 == "-" }
        guard words.count >= 3 else { return false }
        let hash = words[words.count - 2].utf8
        let isDigit: (UInt8) -> Bool = { (0x30...0x39).contains($0) }
        let isCapital: (UInt8) -> Bool = { (0x41...0x5A).contains($0) }
        return hash.count >= 8 && hash.allSatisfy { isDigit($0) || (0x41...0x5A).contains($0 & 0xDF) }
            && (hash.contains(where: isDigit) || hash.allSatisfy(isCapital))
    }

    private static let noPage = Response(
        200, headers: ["Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-cache"],
        content: .bytes(
            Bytes(
                "<!doctype html><title>Convoke</title><p>The page is not installed; the API is at /api.".utf8)
        ))
}

/// What a `Range` field asks for (RFC 9110, 14). Several ranges at once are answered with everything.
enum ByteRange: Equatable {
    case everything
    case part(Range<Int>)
    case impossible

    static func wanted(_ field: String, of size: Int) -> ByteRange {
        let text = field.filter { $0 != " " && $0 != "\t" }
        guard text.hasPrefix("bytes="), !text.contains(",") else { return .everything }
        let ends = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2,
            ends.allSatisfy({ $0.utf8.count <= 18 && $0.utf8.allSatisfy { (0x30...0x39).contains($0) } })
        else { return .everything }
        switch (Int(ends[0]), Int(ends[1])) {
        case (let first?, let last?):
            guard first <= last else { return .everything }
            return first < size ? .part(first..<min(last + 1, size)) : .impossible
        case (let first?, nil): return first < size ? .part(first..<size) : .impossible
        case (nil, let count?):
            return count > 0 && size > 0 ? .part(max(size - count, 0)..<size) : .impossible
        case (nil, nil): return .everything
        }
    }
}
