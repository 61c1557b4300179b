import Core
import HTTP
import Security
import Storage

/// `Idempotency-Key`: a request that was sent again, because its answer was lost, is answered again and not
/// carried out again. The first answer is kept for a day.
struct RepeatedAnswers: Sendable {
    let database: any Database
    let time: any TimeSource

    private static let header = "idempotency-key"
    /// How long an unfinished attempt keeps others waiting: longer than any request lasts.
    private static let patience = Duration.seconds(60)

    func once(_ handler: @escaping Router.Handler) -> Router.Handler {
        { request in
            guard let key = request.headers[Self.header] else { return try await handler(request) }
            guard (1...200).contains(key.utf8.count) else {
                throw Problem(
                    422, "bad_idempotency_key",
                    .init(
                        "Idempotency-Key has 1 to 200 characters",
                        "Idempotency-Key содержит от 1 до 200 символов"))
            }
            var request = request
            let body = try await request.body.collect(upTo: Request.typicalBodyLimit)
            request.body = Body(body)
            return try await answer(request, key, body, handler)
        }
    }

    private func answer(
        _ request: Request, _ key: String, _ body: Bytes, _ handler: Router.Handler
    ) async throws -> Response {
        let caller: String =
            switch request.identity {
            case .user(let user): "user:\(user.id)"
            case .service(let name, let user): "service:\(name):\(user?.id ?? 0)"
            case .nobody: throw Problem.unauthorized
            }
        let digest = Hex.encode(sha256(Bytes("\(request.method) \(request.path)\n".utf8) + body))
        let now = time.now
        let taken = try await database.run(
            """
            INSERT INTO account_answers (caller, key, request, at) VALUES (\(caller), \(key), \(digest), \(now))
            ON CONFLICT (caller, key) DO UPDATE SET request = excluded.request, at = excluded.at, status = NULL,
                answer = NULL
            WHERE account_answers.at < \(now - .days(1))
                OR (account_answers.status IS NULL AND account_answers.at < \(now - Self.patience))
            """
        ).affected
        if taken == 0 { return try await repeated(caller, key, digest) }
        let response: Response
        do {
            response = try await handler(request)
        } catch {
            // Refused or failed: nothing was done that may not be done again.
            try await database.run("DELETE FROM account_answers WHERE caller = \(caller) AND key = \(key)")
            throw error
        }
        let answer = String(decoding: try await response.collect(), as: UTF8.self)
        try await database.run(
            """
            UPDATE account_answers SET status = \(response.status), answer = \(answer)
            WHERE caller = \(caller) AND key = \(key)
            """)
        return response
    }

    private func repeated(_ caller: String, _ key: String, _ digest: String) async throws -> Response {
        let row = try await database.run(
            "SELECT request, status, answer FROM account_answers WHERE caller = \(caller) AND key = \(key)"
        ).first
        guard let row, let status = try row.optionalInt("status") else {
            throw Problem(
                409, "request_in_progress",
                .init("The same request is being carried out", "Такой же запрос ещё выполняется"))
        }
        guard try row.text("request") == digest else {
            throw Problem(
                422, "idempotency_key_reused",
                .init("This key belongs to another request", "Этот ключ относится к другому запросу"))
        }
        return Response(
            status, headers: ["Content-Type": "application/json", "Idempotency-Replayed": "true"],
            content: .bytes(Bytes((try row.optionalText("answer") ?? "").utf8)))
    }
}
