import HTTP

/// Why a head is no request that we answer.
enum HeadMistake: Error, Equatable {
    case malformed
    case tooManyFields
    case tooLong
    case badLength
    case badTransferEncoding
    case badHost
}

/// The fields of a request, read strictly from the bytes as they came.
///
/// libmicrohttpd 0.9.75 accepts what a proxy in front of us may read differently (folded lines, blanks
/// before the colon, bare line feeds, NUL bytes, several lengths), and that difference is how requests are
/// smuggled. So its reading is not used: it leaves the head in place, contiguous, with NUL where CR, LF and
/// the first colon of a line were, and that is enough to tell a correct line from any other.
struct RequestHead {
    private(set) var headers = Headers()
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    private(set) var expectsContinue = false

    /// `lines` begins behind the request line and ends with the empty line.
    init(_ lines: UnsafeBufferPointer<UInt8>, maximumCount: Int, isHTTP11: Bool) throws(HeadMistake) {
        var hosts = 0
        var index = 0
        headers.reserveCapacity(12)
        while true {
            guard index + 1 < lines.count else { throw .malformed }
            if lines[index] == 0 { break }
            let nameStart = index
            while index < lines.count, isTokenByte(lines[index]) { index += 1 }
            let nameEnd = index
            // Where the colon stood. A blank before it, or at the start of the line, ends up here too.
            guard nameEnd > nameStart, index < lines.count, lines[index] == 0 else { throw .malformed }
            index += 1
            while index < lines.count, lines[index] == 0x20 || lines[index] == 0x09 { index += 1 }
            let valueStart = index
            while index < lines.count, isValueByte(lines[index]) { index += 1 }
            // A line ends with both of them; one NUL alone was a bare line feed or a NUL.
            guard index + 1 < lines.count, lines[index] == 0, lines[index + 1] == 0 else { throw .malformed }
            var valueEnd = index
            while valueEnd > valueStart, lines[valueEnd - 1] == 0x20 || lines[valueEnd - 1] == 0x09 {
                valueEnd -= 1
            }
            index += 2
            guard headers.count < maximumCount else { throw .tooManyFields }
            let name = UnsafeBufferPointer(rebasing: lines[nameStart..<nameEnd])
            let value = UnsafeBufferPointer(rebasing: lines[valueStart..<valueEnd])
            // With the blanks at its end: libmicrohttpd keeps them, so to it `chunked ` is no `chunked`.
            try note(name, UnsafeBufferPointer(rebasing: lines[valueStart..<(index - 2)]), &hosts)
            headers.add(String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
        }
        guard index + 2 == lines.count, lines[index + 1] == 0 else { throw .malformed }
        if isHTTP11 ? hosts != 1 : hosts > 1 { throw .badHost }
        if isChunked && (contentLength != nil || !isHTTP11) { throw .badTransferEncoding }
    }

    /// What framing depends on.
    private mutating func note(
        _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, _ hosts: inout Int
    ) throws(HeadMistake) {
        switch name.count {
        case 4 where isSame(name, "host"):
            hosts += 1
        case 6 where isSame(name, "expect"):
            guard isSame(value, "100-continue") else { throw .malformed }
            expectsContinue = true
        case 14 where isSame(name, "content-length"):
            // A second one is refused even if it says the same: what has come together once may again.
            guard contentLength == nil, let length = decimal(value) else { throw .badLength }
            contentLength = length
        case 17 where isSame(name, "transfer-encoding"):
            guard !isChunked, isSame(value, "chunked") else { throw .badTransferEncoding }
            isChunked = true
        default: break
        }
    }
}

private func decimal(_ text: UnsafeBufferPointer<UInt8>) -> Int? {
    guard (1...18).contains(text.count) else { return nil }
    var value = 0
    for byte in text {
        guard byte >= 0x30, byte <= 0x39 else { return nil }
        value = value * 10 + Int(byte - 0x30)
    }
    return value
}

/// `expected` is in lower case.
private func isSame(_ text: UnsafeBufferPointer<UInt8>, _ expected: StaticString) -> Bool {
    guard text.count == expected.utf8CodeUnitCount else { return false }
    for index in 0..<text.count {
        let byte = text[index]
        let lower = byte >= 0x41 && byte <= 0x5A ? byte | 0x20 : byte
        if lower != expected.utf8Start[index] { return false }
    }
    return true
}
