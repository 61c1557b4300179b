public import Core

/// Where the cache is.
public enum CacheLocation: Equatable, Sendable {
    case memory
    case redis(RedisLocation)

    /// `REDIS_URL`, or `REDIS_HOST` with `REDIS_PORT`, `REDIS_DB`, `REDIS_USER` and `REDIS_PASSWORD`; the
    /// memory when neither is set.
    public init(from environment: inout Environment) {
        let password = environment.secret("REDIS_PASSWORD")
        if environment.has("REDIS_URL") {
            let parsed = environment.parsed(
                "REDIS_URL", default: nil, expects: "redis://[user:password@]host[:port][/base]"
            ) { Optional(RedisLocation($0)) }
            guard var location = parsed ?? nil else {
                if parsed == .some(nil) {
                    environment.mistake("REDIS_URL must be redis://[user:password@]host[:port][/base]")
                }
                self = .memory
                return
            }
            if location.password == nil { location.password = password }
            self = .redis(location)
        } else if let host = environment.value("REDIS_HOST") {
            self = .redis(
                RedisLocation(
                    host: host, port: environment.int("REDIS_PORT", default: 6379, in: 1...65_535),
                    base: environment.int("REDIS_DB", default: 0, in: 0...RedisLocation.largestBase),
                    user: environment.value("REDIS_USER"), password: password))
        } else {
            self = .memory
        }
    }

    /// The cache, which for Redis begins to connect; `ping()` says whether it is there.
    public func open(
        time: any TimeSource = SystemTime(), log: Log = .silent, metrics: Metrics = Metrics()
    ) -> any Cache {
        switch self {
        case .memory: MemoryCache(time: time)
        case .redis(let location): RedisCache(location, log: log, metrics: metrics)
        }
    }
}

/// A Redis and the index its databases are counted from.
public struct RedisLocation: Equatable, Sendable {
    static let largestBase = 1_000_000

    public var host: String
    public var port: Int
    public var base: Int
    public var user: String?
    public var password: Secret<String>?

    public init(
        host: String, port: Int = 6379, base: Int = 0, user: String? = nil, password: Secret<String>? = nil
    ) {
        self.host = host
        self.port = port
        self.base = base
        self.user = user
        self.password = password
    }

    /// `redis://[user:password@]host[:port][/base]`; user and password percent-encoded, `[…]` around IPv6.
    public init?(_ url: String) {
        let scheme = "redis://"
        guard url.lowercased().hasPrefix(scheme) else { return nil }
        var rest = url.dropFirst(scheme.count)
        guard !rest.contains(where: { $0 == "?" || $0 == "#" || $0.isWhitespace }) else { return nil }

        var (user, password): (String?, Secret<String>?) = (nil, nil)
        if let at = rest.lastIndex(of: "@") {
            let parts = rest[..<at].split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = percentDecoded(parts[0]) else { return nil }
            if !name.isEmpty { user = name }
            if parts.count == 2 {
                guard let secret = percentDecoded(parts[1]) else { return nil }
                if !secret.isEmpty { password = Secret(secret) }
            }
            rest = rest[rest.index(after: at)...]
        }

        var base = 0
        if let slash = rest.firstIndex(of: "/") {
            let text = rest[rest.index(after: slash)...]
            if !text.isEmpty {
                guard let number = Int(text), (0...Self.largestBase).contains(number) else { return nil }
                base = number
            }
            rest = rest[..<slash]
        }

        var host = rest
        var portText: Substring?
        if rest.hasPrefix("[") {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = rest[rest.index(after: rest.startIndex)..<end]
            let tail = rest[rest.index(after: end)...]
            guard tail.isEmpty || tail.hasPrefix(":") else { return nil }
            if !tail.isEmpty { portText = tail.dropFirst() }
        } else if let colon = rest.firstIndex(of: ":") {
            host = rest[..<colon]
            portText = rest[rest.index(after: colon)...]
        }
        var port = 6379
        if let portText {
            guard let number = Int(portText), (1...65_535).contains(number) else { return nil }
            port = number
        }
        guard !host.isEmpty, !host.utf8.contains(0) else { return nil }
        self.init(host: String(host), port: port, base: base, user: user, password: password)
    }
}

private func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "%") else {
            bytes.append(byte)
            continue
        }
        guard let high = rest.popFirst(), let low = rest.popFirst(),
            let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16),
            high != UInt8(ascii: "+")
        else { return nil }
        bytes.append(value)
    }
    return String(validating: bytes, as: UTF8.self)
}
