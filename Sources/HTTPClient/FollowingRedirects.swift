public import Core
public import HTTP

/// Follows the redirects of GET and HEAD that stay within the scheme, host and port of the request; any
/// other is handed to the caller as the answer it is. So no field, such as a token, reaches another party.
///
/// The request's deadline bounds all steps together.
public struct FollowingRedirects: HTTPSending {
    private let next: any HTTPSending
    private let limit: Int
    private let time: any TimeSource

    public init(_ next: any HTTPSending, limit: Int = 5, time: any TimeSource = SystemTime()) {
        self.next = next
        self.limit = limit
        self.time = time
    }

    public func send(_ request: ClientRequest) async throws -> ClientResponse {
        let begun = time.uptime
        var current = request
        var followed = 0
        while true {
            let answer = try await next.send(current)
            guard followed < limit, request.method == .get || request.method == .head,
                request.body.length == 0,
                [301, 302, 303, 307, 308].contains(answer.status), let location = answer.headers["Location"],
                let here = try? Target(current.url), let there = here.resolve(location)
            else { return answer }
            let left = request.deadline - (time.uptime - begun)
            guard left > .zero else { return answer }
            current.url = there.url
            current.deadline = left
            followed += 1
        }
    }
}

extension Target {
    /// What a `Location` seen here means, if it leads to the same origin.
    func resolve(_ location: String) -> Target? {
        let base = url.utf8.prefix(pathStart)
        let rest = url.utf8.dropFirst(pathStart).prefix { $0 != UInt8(ascii: "#") }
        let path = rest.prefix { $0 != UInt8(ascii: "?") }
        let absolute: String
        if location.hasPrefix("//") {
            absolute = (isSecure ? "https:" : "http:") + location
        } else if location.hasPrefix("/") {
            absolute = "\(Substring(base))\(location)"
        } else if location.hasPrefix("?") {
            absolute = "\(Substring(base))\(Substring(path))\(location)"
        } else if location.utf8.prefix(while: { $0 != UInt8(ascii: "/") }).contains(UInt8(ascii: ":")) {
            absolute = location  // it names a scheme
        } else {
            let folder = path.lastIndex(of: UInt8(ascii: "/")).map { path[...$0] }
            absolute = "\(Substring(base))\(folder.map { String(Substring($0)) } ?? "/")\(location)"
        }
        guard let target = try? Target(absolute), target.origin == origin else { return nil }
        return target
    }
}
