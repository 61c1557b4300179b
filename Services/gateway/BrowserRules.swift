import HTTP

/// What browsers are told: who may call from where, and what the page may do.
struct BrowserRules: Sendable {
    let origins: Set<String>
    let isSecure: Bool

    /// The answer to a browser that asks before it calls; `nil` for anything else.
    func preflight(_ request: Request) -> Response? {
        guard request.method == .options, let origin = request.headers["origin"],
            request.headers["access-control-request-method"] != nil
        else { return nil }
        guard origins.contains(origin) else { return Problem.forbidden.response(requestID: request.id, language: request.language) }
        return Response(
            204,
            headers: [
                "Access-Control-Allow-Origin": origin,
                "Access-Control-Allow-Methods": "GET, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers":
                    "Authorization, Content-Type, Idempotency-Key, If-Match, Accept-Language, Last-Event-ID, X-Request-ID",
                "Access-Control-Max-Age": "600", "Vary": "Origin",
            ])
    }

    /// Adds what every answer carries.
    func dress(_ response: inout Response, for request: Request, isPage: Bool) {
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        if isSecure { response.headers["Strict-Transport-Security"] = "max-age=31536000; includeSubDomains" }
        if isPage {
            response.headers["Content-Security-Policy"] =
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
                + "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        } else if response.headers["Cache-Control"] == nil {
            // Answers of the API are one person's; no cache in between may keep them.
            response.headers["Cache-Control"] = "no-store"
        }
        guard let origin = request.headers["origin"], origins.contains(origin) else { return }
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After, ETag, Content-Disposition"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers.add("Vary", "Origin")
    }
}
