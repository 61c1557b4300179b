public import Core

/// Where a RabbitMQ server is: `amqp://user:password@host:port/vhost`, or `amqps` for TLS.
public struct AMQPAddress: Sendable, Equatable, CustomStringConvertible {
    public let host: String
    public let port: Int
    public let user: String
    public let password: Secret<String>
    public let virtualHost: String
    public let isEncrypted: Bool

    public init?(_ text: String) {
        guard let scheme = text.firstRange(of: "://") else { return nil }
        switch text[..<scheme.lowerBound] {
        case "amqp": isEncrypted = false
        case "amqps": isEncrypted = true
        default: return nil
        }
        var rest = text[scheme.upperBound...]
        if let query = rest.firstIndex(of: "?") { rest = rest[..<query] }
        // No path at all is the default virtual host, as everywhere; `/` alone would be the one without a name.
        var path: Substring = "%2F"
        if let slash = rest.firstIndex(of: "/") {
            let named = rest[rest.index(after: slash)...]
            if !named.isEmpty { path = named }
            rest = rest[..<slash]
        }
        var credentials: Substring = "guest:guest"
        if let at = rest.lastIndex(of: "@") {
            credentials = rest[..<at]
            rest = rest[rest.index(after: at)...]
        }
        let userAndPassword = credentials.split(
            separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        var port = isEncrypted ? 5671 : 5672
        var host = rest
        if rest.hasPrefix("["), let end = rest.firstIndex(of: "]") {
            host = rest[rest.index(after: rest.startIndex)..<end]
            rest = rest[rest.index(after: end)...]
        } else if let colon = rest.lastIndex(of: ":") {
            host = rest[..<colon]
            rest = rest[colon...]
        } else {
            rest = ""
        }
        if rest.hasPrefix(":") {
            guard let number = Int(rest.dropFirst()), (1...65_535).contains(number) else { return nil }
            port = number
        }
        guard !host.isEmpty, let user = decoded(userAndPassword[0]),
            let password = decoded(userAndPassword.count > 1 ? userAndPassword[1] : ""),
            let virtualHost = decoded(path)
        else { return nil }
        self.host = String(host)
        self.port = port
        self.user = user
        self.password = Secret(password)
        self.virtualHost = virtualHost
    }

    /// Without credentials.
    public var description: String { "\(isEncrypted ? "amqps" : "amqp")://\(host):\(port)" }
}

/// Undoes percent encoding; `nil` when it is broken.
private func decoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "%") else {
            bytes.append(byte)
            continue
        }
        guard let digits = String(rest.prefix(2)), digits.utf8.count == 2,
            let value = UInt8(digits, radix: 16)
        else { return nil }
        bytes.append(value)
        rest = rest.dropFirst(2)
    }
    return String(validating: bytes, as: UTF8.self)
}
