import HTTP

/// What browsers are told: who may call from where, and what the page may do.
struct BrowserRules: Middleware {
    let origins: Set<String>
    let isSecure: Bool

    func handle(
        _ request: Request, next: @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        var response: Response
        if let answer = preflight(request) { response = answer } else { response = try await next(request) }
        dress(&response, for: request)
        return response
    }

    /// The answer to a browser that asks before it calls; `nil` for anything else.
    private func preflight(_ request: Request) -> Response? {
        guard request.method == .options, let origin = request.headers["origin"],
            request.headers["access-control-request-method"] != nil
        else { return nil }
        guard origins.contains(origin) else {
            return Problem.forbidden.response(requestID: request.id, language: request.language)
        }
        return Response(
            204,
            headers: [
                "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers":
                    "Authorization, Content-Type, Idempotency-Key, If-Match, Accept-Language, Last-Event-ID, X-Request-ID",
                "Access-Control-Max-Age": "600",
            ])
    }

    private static let always = [
        Headers.Field(name: "X-Content-Type-Options", value: "nosniff"),
        Headers.Field(name: "Referrer-Policy", value: "no-referrer"),
        Headers.Field(name: "X-Frame-Options", value: "DENY"),
        Headers.Field(name: "Cross-Origin-Resource-Policy", value: "same-origin"),
    ]
    private static let overTLS = [
        Headers.Field(name: "Strict-Transport-Security", value: "max-age=31536000; includeSubDomains")
    ]

    private static func isPage(_ type: String) -> Bool {
        // Most answers are JSON, and need no taking apart to be seen to be no page.
        type.utf8.first.map { $0 | 0x20 } == UInt8(ascii: "t") && MediaType(type).essence == "text/html"
    }

    /// Adds what every answer carries.
    private func dress(_ response: inout Response, for request: Request) {
        response.headers.set(isSecure ? Self.always + Self.overTLS : Self.always)
        if response.headers["content-type"].map(Self.isPage) ?? false {
            response.headers["Content-Security-Policy"] =
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
                + "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        }
        // Answers of the API are one person's; no cache in between may keep them.
        if response.headers["Cache-Control"] == nil { response.headers["Cache-Control"] = "no-store" }
        guard !origins.isEmpty else { return }
        response.headers.add("Vary", "Origin")
        guard let origin = request.headers["origin"], origins.contains(origin) else { return }
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] =
            "X-Request-ID, Retry-After, ETag, Content-Disposition"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    }
}
