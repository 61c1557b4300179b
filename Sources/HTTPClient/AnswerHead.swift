import HTTP

/// Reads the head of an answer line by line, and refuses what two readers could understand differently.
struct AnswerHead {
    private(set) var status = 0
    private(set) var headers = Headers()
    private(set) var contentLength: Int?
    private(set) var isComplete = false
    private(set) var isChunked = false
    /// Whether the other side ends the connection behind this answer.
    private(set) var isLast = false
    private var size = 0
    private let limit: Int

    /// Whether nothing has come yet.
    var isUntouched: Bool { size == 0 }

    init(limit: Int) { self.limit = limit }

    /// Takes one line with its line break. Interim answers (1xx) are read and forgotten; what comes behind
    /// the head are trailers, which nobody here wants.
    mutating func take(_ line: UnsafeBufferPointer<UInt8>) throws(ClientError) {
        size += line.count
        guard size <= limit else { throw .badAnswer(reason: "the head is longer than \(limit) bytes") }
        guard !isComplete else { return }
        var end = line.count
        if end > 0, line[end - 1] == 0x0A { end -= 1 }
        if end > 0, line[end - 1] == 0x0D { end -= 1 }
        let text = UnsafeBufferPointer(rebasing: line[..<end])
        if status == 0 {
            try takeStatus(text)
        } else if text.isEmpty {
            try finish()
        } else {
            try takeField(text)
        }
    }

    private mutating func takeStatus(_ text: UnsafeBufferPointer<UInt8>) throws(ClientError) {
        // `HTTP/1.1 200 OK`; the words are optional.
        guard text.count >= 12, text.prefix(7).elementsEqual("HTTP/1.".utf8),
            text[7] == 0x30 || text[7] == 0x31, text[8] == 0x20, text.count == 12 || text[12] == 0x20
        else { throw .badAnswer(reason: "the answer does not begin as HTTP/1.1 does") }
        for byte in text[9..<12] {
            guard byte >= 0x30, byte <= 0x39 else { throw .badAnswer(reason: "the status is no number") }
            status = status * 10 + Int(byte - 0x30)
        }
        isLast = text[7] == 0x30
        guard (100...999).contains(status), status != 101 else {
            throw .badAnswer(reason: "an answer of status \(status) was not asked for")
        }
    }

    private mutating func takeField(_ text: UnsafeBufferPointer<UInt8>) throws(ClientError) {
        guard let colon = text.firstIndex(of: 0x3A), colon > 0, text[..<colon].allSatisfy(isTokenByte) else {
            throw .badAnswer(reason: "a header field has no proper name")
        }
        var start = colon + 1
        var end = text.count
        while start < end, text[start] == 0x20 || text[start] == 0x09 { start += 1 }
        while end > start, text[end - 1] == 0x20 || text[end - 1] == 0x09 { end -= 1 }
        guard text[start..<end].allSatisfy(isValueByte) else {
            throw .badAnswer(reason: "a header field holds a control character")
        }
        let name = String(decoding: text[..<colon], as: UTF8.self)
        let value = String(decoding: text[start..<end], as: UTF8.self)
        if colon == 14, sameName(name, "content-length") {
            guard end > start, text[start..<end].allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }),
                let length = Int(value),
                contentLength == nil || contentLength == length
            else { throw .badAnswer(reason: "the length of the body is not clear") }
            contentLength = length
        } else if colon == 17, sameName(name, "transfer-encoding") {
            guard !isChunked, sameName(value, "chunked") else {
                throw .badAnswer(reason: "the body is encoded in a way that was not asked for")
            }
            isChunked = true
        } else if colon == 10, sameName(name, "connection") {
            for option in value.split(separator: ",")
            where sameName(option.filter { $0 != " " && $0 != "\t" }, "close") { isLast = true }
        }
        headers.add(name, value)
    }

    private mutating func finish() throws(ClientError) {
        guard !isChunked || contentLength == nil else {
            throw .badAnswer(reason: "the length of the body is given twice")
        }
        if status >= 200 {
            isComplete = true
        } else {
            let size = size
            self = AnswerHead(limit: limit)
            self.size = size
        }
    }

    /// How long the body is, where that is known before it is read.
    func bodyLength(of method: Method) -> Int? {
        method == .head || status == 204 || status == 304 ? 0 : contentLength
    }
}
