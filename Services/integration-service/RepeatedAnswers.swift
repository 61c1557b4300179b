import Core
import HTTP
import Integration
import Security
import ServiceKit

/// `Idempotency-Key`: a request that is sent again, because its answer was lost, is answered again and not
/// carried out again. The first answer is kept for a day.
struct RepeatedAnswers: Sendable {
    let store: AnswerStore
    let time: any TimeSource

    func once(_ handler: @escaping Router.Handler) -> Router.Handler {
        { request in
            guard let key = request.headers["idempotency-key"] else { return try await handler(request) }
            guard (1...200).contains(key.utf8.count) else {
                throw Problem(
                    422, "bad_idempotency_key",
                    .init("Idempotency-Key has 1 to 200 characters", "Idempotency-Key содержит от 1 до 200 символов"))
            }
            var request = request
            let body = try await request.body.collect(upTo: Request.typicalBodyLimit)
            request.body = Body(body)
            let caller = try request.requireUser()
            let digest = Hex.encode(sha256(Bytes("\(request.method) \(request.path)\n".utf8) + body))
            switch try await store.begin(key, of: caller, request: digest, at: time.now) {
            case .known(let status, let text):
                return Response(
                    status, headers: ["Content-Type": "application/json", "Idempotency-Replayed": "true"],
                    content: .bytes(Bytes(text.utf8)))
            case .otherRequest:
                throw Problem(
                    422, "idempotency_key_reused",
                    .init("This key belongs to another request", "Этот ключ относится к другому запросу"))
            case .underWay:
                throw Problem(
                    409, "request_in_progress",
                    .init("The same request is being carried out", "Такой же запрос ещё выполняется"))
            case .begun: break
            }
            do {
                let response = try await handler(request)
                if case .bytes(let answer) = response.content {
                    try await store.finish(
                        key, of: caller, status: response.status, answer: String(decoding: answer, as: UTF8.self))
                }
                return response
            } catch {
                // Refused: nothing was done that may not be done again.
                try await store.withdraw(key, of: caller)
                throw error
            }
        }
    }
}
