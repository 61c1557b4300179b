import HTTP

/// Where a request goes. Stricter than libcurl's own reading of a URL, so that both cannot disagree about
/// the host: what is unusual is refused.
struct Target: Equatable, Sendable {
    let url: String
    /// Scheme, host and port: what a connection can be shared for, and what a limit counts.
    let origin: String
    /// Without the port, for the log: a path may hold secrets.
    let host: String
    let port: Int
    let isSecure: Bool
    /// Where the path begins in `url`, in bytes.
    let pathStart: Int

    init(_ url: String) throws(ClientError) {
        let bytes = url.utf8
        // No blank, no control character, nothing beyond ASCII: a line break here would be a second request.
        guard bytes.count <= 32 << 10,
            bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") })
        else { throw .invalidURL }
        let authorityStart: Int
        if hasPrefix(bytes, "http://") {
            authorityStart = 7
            isSecure = false
        } else if hasPrefix(bytes, "https://") {
            authorityStart = 8
            isSecure = true
        } else {
            throw .invalidURL
        }
        let authority = bytes.dropFirst(authorityStart).prefix { $0 != 0x2F && $0 != 0x3F && $0 != 0x23 }
        let portText: Substring.UTF8View
        if authority.first == UInt8(ascii: "[") {
            guard let end = authority.firstIndex(of: UInt8(ascii: "]")) else { throw .invalidURL }
            let inner = authority[authority.index(after: authority.startIndex)..<end]
            guard inner.count >= 2, inner.allSatisfy({ isHexDigit($0) || $0 == 0x3A || $0 == 0x2E }) else {
                throw .invalidURL
            }
            host = String(Substring(authority[...end])).lowercased()
            portText = authority[authority.index(after: end)...]
        } else {
            let name = authority.prefix { $0 != 0x3A }
            guard !name.isEmpty, name.count <= 253, name.allSatisfy(isHostByte) else { throw .invalidURL }
            host = String(Substring(name)).lowercased()
            portText = authority[name.endIndex...]
        }
        var number = isSecure ? 443 : 80
        if !portText.isEmpty {
            let digits = portText.dropFirst()
            guard portText.first == 0x3A, (1...5).contains(digits.count),
                digits.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let read = Int(Substring(digits)),
                (1...65_535).contains(read)
            else { throw .invalidURL }
            number = read
        }
        self.url = url
        self.port = number
        origin = "\(isSecure ? "https" : "http")://\(host):\(number)"
        pathStart = authorityStart + authority.count
    }
}

extension Target {
    /// What `Host` says.
    var authority: String { port == (isSecure ? 443 : 80) ? host : "\(host):\(port)" }
}

private func hasPrefix(_ bytes: String.UTF8View, _ prefix: StaticString) -> Bool {
    var rest = bytes.makeIterator()
    return prefix.withUTF8Buffer { expected in
        expected.allSatisfy { letter in
            guard let byte = rest.next() else { return false }
            return byte == letter || (letter >= 0x61 && letter <= 0x7A && byte | 0x20 == letter)
        }
    }
}

private func isHexDigit(_ byte: UInt8) -> Bool {
    (byte >= 0x30 && byte <= 0x39) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x66)
}

private func isHostByte(_ byte: UInt8) -> Bool {
    (byte >= 0x30 && byte <= 0x39) || (byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A)
        || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_")
}

/// Refuses what would not arrive as it was meant.
func check(_ request: ClientRequest) throws(ClientError) {
    let method = request.method.rawValue.utf8
    guard !method.isEmpty, method.count <= 32, method.allSatisfy(isTokenByte), request.method != "CONNECT"
    else {
        throw .invalidRequest(reason: "the method is no method")
    }
    for field in request.headers {
        guard !field.name.utf8.isEmpty, all(field.name, isTokenByte) else {
            throw .invalidRequest(reason: "a header's name holds what no name may hold")
        }
        guard all(field.value, isValueByte) else {
            throw .invalidRequest(reason: "the header \(field.name) holds a control character")
        }
    }
    if request.method == .head, request.body.length != 0 {
        throw .invalidRequest(reason: "HEAD has no body")
    }
}

@inline(__always) private func all(_ text: String, _ isFine: (UInt8) -> Bool) -> Bool {
    let bytes = text.utf8.span
    for index in bytes.indices where !isFine(bytes[index]) { return false }
    return true
}

/// Fields that frame the message or belong to one connection: this driver's business, whatever the caller
/// passes on from elsewhere.
func isFraming(_ name: String) -> Bool {
    switch name.utf8.count {
    case 2: sameName(name, "te")
    case 6: sameName(name, "expect")
    case 7: sameName(name, "upgrade") || sameName(name, "trailer")
    case 10: sameName(name, "connection") || sameName(name, "keep-alive")
    case 14: sameName(name, "content-length")
    case 16: sameName(name, "proxy-connection")
    case 17: sameName(name, "transfer-encoding")
    default: false
    }
}
