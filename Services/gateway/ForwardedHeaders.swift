import HTTP
import ServiceKit

/// What of a client's headers reaches a service, and of a service's the client.
enum ForwardedHeaders {
    /// Between two ends of one connection, never passed on (RFC 9110, 7.6.1), and what the gateway says
    /// itself: a client must not pose as it.
    private static let fromClients = Names([
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
        "trailer", "transfer-encoding", "upgrade", "expect", "host", "content-length", "authorization",
        "cookie", "forwarded", "x-real-ip", "x-request-id", "traceparent", "tracestate", "accept-encoding",
        "x-http-method-override", "x-original-url", "x-rewrite-url", "x-accel-redirect", "via", "origin",
        "referer",
    ])
    private static let fromServices = Names([
        "connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade",
        "content-length", "server", "date", "x-powered-by", "x-request-id",
    ])

    static func toService(_ request: Request, token: String, from address: String) -> Headers {
        var headers = Headers()
        headers.reserveCapacity(request.headers.count + 5)
        let named = connectionNames(request.headers)
        for field in request.headers
        where !fromClients.contains(field.name) && !isOurs(field.name) && !named.contains(field.name) {
            headers.add(field)
        }
        headers.add("Authorization", "Bearer \(token)")
        headers.add("X-Request-ID", request.id)
        if let trace = request.trace.header { headers.add("traceparent", trace) }
        headers.add(Forwarded.address, address)
        headers.add("X-Forwarded-For", address)
        return headers
    }

    static func toClient(_ headers: Headers) -> Headers {
        let named = connectionNames(headers)
        var result = Headers()
        result.reserveCapacity(headers.count + 10)
        for field in headers
        where !fromServices.contains(field.name) && !isOurs(field.name) && !named.contains(field.name) {
            result.add(field)
        }
        return result
    }

    /// `_` and `-` are the same to some software, so to this too.
    private static func isOurs(_ name: String) -> Bool {
        guard let first = name.utf8.first, first | 0x20 == UInt8(ascii: "x") else { return false }
        return begins(name, with: "x-convoke-") || begins(name, with: "x-forwarded-")
            || begins(name, with: "x-user-")
    }

    private static func begins(_ name: String, with prefix: StaticString) -> Bool {
        var bytes = name.utf8.makeIterator()
        return prefix.withUTF8Buffer { prefix in
            unsafe prefix.allSatisfy { expected in
                guard let byte = bytes.next() else { return false }
                let isLetter = (0x41...0x5A).contains(byte)
                return (byte == UInt8(ascii: "_") ? UInt8(ascii: "-") : isLetter ? byte | 0x20 : byte)
                    == expected
            }
        }
    }

    /// What `Connection` names besides the usual, which is dropped anyway.
    private static func connectionNames(_ headers: Headers) -> Names {
        guard let first = headers["connection"], !sameName(first, "keep-alive") else { return .none }
        return Names(
            headers.all("connection").flatMap { $0.split(separator: ",") }
                .map { String($0.filter { $0 != " " && $0 != "\t" }) })
    }

    /// Names of fields, found by their length first.
    private struct Names {
        static let none = Names([])
        private var byLength: [[String]] = []

        init(_ names: [String]) {
            for name in names {
                while byLength.count <= name.utf8.count { byLength.append([]) }
                byLength[name.utf8.count].append(name)
            }
        }

        func contains(_ name: String) -> Bool {
            let length = name.utf8.count
            return length < byLength.count && byLength[length].contains { sameName($0, name) }
        }
    }
}
