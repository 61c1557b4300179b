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

    /// Adds what every answer carries.
    private func dress(_ response: inout Response, for request: Request) {
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if isSecure { response.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains" }
        if response.headers["content-type"].map({ MediaType($0).essence }) == "text/html" {
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
