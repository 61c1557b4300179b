import HTTP
import ServiceKit

/// What of a client's headers reaches a service, and of a service's the client.
enum ForwardedHeaders {
    /// Between two ends of one connection, never passed on (RFC 9110, 7.6.1), and what the gateway says
    /// itself: a client must not pose as it.
    private static let dropped: Set<String> = [
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
        "trailer",
        "transfer-encoding", "upgrade", "expect", "host", "content-length", "authorization", "cookie",
        "forwarded",
        "x-real-ip", "x-request-id", "traceparent", "tracestate", "accept-encoding", "x-http-method-override",
        "x-original-url", "x-rewrite-url", "x-accel-redirect", "via", "origin", "referer",
    ]

    static func toService(_ request: Request, token: String, from address: String) -> Headers {
        var headers = Headers()
        headers.reserveCapacity(request.headers.count + 5)
        let named = connectionNames(request.headers)
        for field in request.headers {
            let name = field.name.lowercased()
            guard !dropped.contains(name), !named.contains(name), !isOurs(name) else { continue }
            headers.add(field.name, field.value)
        }
        headers.add("Authorization", "Bearer \(token)")
        headers.add("X-Request-ID", request.id)
        if let trace = request.trace.header { headers.add("traceparent", trace) }
        headers.add(Forwarded.address, address)
        headers.add("X-Forwarded-For", address)
        return headers
    }

    static func toClient(_ headers: Headers) -> Headers {
        var result = headers
        let named = connectionNames(headers)
        result.removeAll { field in
            let name = field.name.lowercased()
            return named.contains(name)
                || [
                    "connection", "keep-alive", "proxy-authenticate", "te", "trailer", "transfer-encoding",
                    "upgrade",
                    "content-length", "server", "date", "x-powered-by", "x-request-id",
                ].contains(name) || isOurs(name)
        }
        return result
    }

    /// `_` and `-` are the same to some software, so to this too.
    private static func isOurs(_ name: String) -> Bool {
        let name = name.replacing("_", with: "-")
        return name.hasPrefix("x-convoke-") || name.hasPrefix("x-forwarded-") || name.hasPrefix("x-user-")
    }

    private static func connectionNames(_ headers: Headers) -> Set<String> {
        Set(
            headers.all("connection").flatMap { $0.split(separator: ",") }
                .map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() })
    }
}
