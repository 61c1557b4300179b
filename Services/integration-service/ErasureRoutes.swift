import Core
import HTTP
import Integration
import ServiceKit

/// For invite-service alone: forgets a person of the user it acts for.
struct ErasureRoutes: Sendable {
    let erasure: PersonErasure
    /// Answers kept for repeated requests name people too.
    let forgetAnswers: @Sendable (Int64) async throws -> Void

    func register(on router: inout Router) {
        router.on("POST", "/internal/privacy/erase", erase)
    }

    func erase(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        let user = try request.requireUser()
        let form = try await request.decode(ErasureForm.self)
        let erased = try await erasure.erase(form.wish, of: user)
        try await forgetAnswers(user)
        return .json(
            [
                "service": "integration-service",
                "erased": .object(
                    erased.sorted { $0.key < $1.key }.map { JSONMember($0.key, .int(Int64($0.value))) }),
            ] as JSONValue)
    }
}

struct ErasureForm: JSONDecodable {
    let wish: PersonErasure.Wish

    /// A person has a few names, not thousands; attempts are what was sent to them.
    private static let mostNames = 1000
    private static let mostAttempts = 100_000

    init(from fields: inout Fields) {
        func values<Value>(_ name: String, most: Int, _ read: (JSONValue) -> Value?) -> [Value] {
            guard let raw = fields.raw(name) else { return [] }
            let values = (raw.arrayValue ?? []).compactMap(read)
            guard let count = raw.arrayValue?.count, count == values.count, count <= most else {
                fields.fail(
                    name, "wrong_list",
                    .init("A list of at most \(most) is expected", "Ожидается список, не больше \(most)"))
                return []
            }
            return values
        }
        func text(_ value: JSONValue) -> String? {
            value.stringValue.flatMap { $0.isEmpty || $0.utf8.contains(0) || $0.utf8.count > 300 ? nil : $0 }
        }
        wish = PersonErasure.Wish(
            usernames: values("usernames", most: Self.mostNames, text),
            phones: values("phones", most: Self.mostNames, text),
            platformIDs: values("user_ids", most: Self.mostNames) { $0.intValue },
            attempts: values("attempt_ids", most: Self.mostAttempts, text))
    }
}
