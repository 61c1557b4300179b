import Core

/// One part of a form: a field or a file.
public struct MultipartPart: Sendable {
    public let name: String
    public let filename: String?
    public let contentType: String?
    /// Read it before asking for the next part; what is left unread is skipped.
    public let body: Body
}

/// Reads `multipart/form-data` while it arrives, in constant memory.
///
/// ```swift
/// let reader = try MultipartReader(request)
/// while let part = try await reader.next() { … }
/// ```
public actor MultipartReader {
    private var source: Body.Iterator
    private let delimiter: Bytes
    /// What was read and not handed out. It begins with a line break, so that the first delimiter is found
    /// like the others.
    private var buffer: Bytes = [0x0D, 0x0A]
    private var sourceEnded = false
    private var state = State.preamble
    private var partCount = 0

    private enum State { case preamble, body, betweenParts, end }

    static let headLimit = 16 * 1024
    static let partLimit = 1000

    public init(_ request: Request) throws {
        let type = MediaType(request.headers["content-type"] ?? "")
        guard type.essence == "multipart/form-data" else {
            throw Problem.wrongContentType("multipart/form-data")
        }
        guard let boundary = type.parameter("boundary"), (1...70).contains(boundary.utf8.count) else {
            throw Problem.malformedForm
        }
        delimiter = Bytes("\r\n--\(boundary)".utf8)
        source = request.body.makeAsyncIterator()
    }

    /// The next part; `nil` after the last.
    public func next() async throws -> MultipartPart? {
        if state == .preamble || state == .body { while try await chunk() != nil {} }
        guard state == .betweenParts else { return nil }
        // Behind a delimiter stands `--` at the end of all parts, a line break before another.
        while buffer.count < 2 { try await readMore() }
        if buffer.starts(with: "--".utf8) {
            state = .end
            return nil
        }
        partCount += 1
        guard partCount <= Self.partLimit else { throw Problem.malformedForm }
        let head = try await readHead()
        let disposition = MediaType(head["content-disposition"] ?? "")
        guard disposition.essence == "form-data", let name = disposition.parameter("name") else {
            throw Problem.malformedForm
        }
        state = .body
        return MultipartPart(
            name: name, filename: disposition.parameter("filename"), contentType: head["content-type"],
            body: Body(pull: { try await self.chunk() }))
    }

    /// The next bytes before the coming delimiter; `nil` when it is reached.
    private func chunk() async throws -> Bytes? {
        guard state == .body || state == .preamble else { return nil }
        while true {
            if let found = firstIndex(of: delimiter, in: buffer) {
                let chunk = Bytes(buffer[..<found])
                buffer.removeFirst(found + (chunk.isEmpty ? delimiter.count : 0))
                if chunk.isEmpty {
                    state = .betweenParts
                    return nil
                }
                return chunk
            }
            // A delimiter may begin at the very end of what has been read.
            let safe = buffer.count - (delimiter.count - 1)
            if safe > 0 {
                let chunk = Bytes(buffer[..<safe])
                buffer.removeFirst(safe)
                return chunk
            }
            try await readMore()
        }
    }

    private func readHead() async throws -> Headers {
        let end = Bytes("\r\n\r\n".utf8)
        while firstIndex(of: end, in: buffer) == nil {
            guard buffer.count <= Self.headLimit else { throw Problem.malformedForm }
            try await readMore()
        }
        guard let length = firstIndex(of: end, in: buffer),
            let text = String(validating: buffer[..<length], as: UTF8.self)
        else { throw Problem.malformedForm }
        buffer.removeFirst(length + end.count)
        var headers = Headers()
        for line in text.split(separator: "\r\n") {
            guard let colon = line.firstIndex(of: ":") else { throw Problem.malformedForm }
            headers.add(String(line[..<colon]), String(trimmingBlanks(line[line.index(after: colon)...])))
        }
        return headers
    }

    private func readMore() async throws {
        // The iterator is a value: taken out and put back, so that nobody else reads meanwhile.
        guard !sourceEnded else { throw Problem.malformedForm }
        var iterator = source
        let read = try await iterator.next()
        source = iterator
        guard let read else {
            sourceEnded = true
            throw Problem.malformedForm
        }
        buffer.append(contentsOf: read)
    }
}

extension Problem {
    public static let malformedForm = Problem(
        400, "malformed_form", .init("The form is not written correctly", "Форма записана неверно"))
}

/// Where `needle` first stands in `haystack`.
func firstIndex(of needle: Bytes, in haystack: Bytes) -> Int? {
    guard let first = needle.first, haystack.count >= needle.count else { return nil }
    var index = 0
    let last = haystack.count - needle.count
    while index <= last {
        guard let candidate = haystack[index...last].firstIndex(of: first) else { return nil }
        if haystack[candidate..<candidate + needle.count].elementsEqual(needle) { return candidate }
        index = candidate + 1
    }
    return nil
}
