import Core
import HTTP
import Parsing
import ServiceKit

/// For other services alone.
struct InternalParsingRoutes: Sendable {
    let store: ParseStore

    func register(on router: inout Router) {
        router.on("POST", "/internal/privacy/erase", erase)
    }

    /// Somebody wants to be forgotten: in the results of the user the caller acts for, or of all users.
    func erase(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        let form = try await request.decode(EraseForm.self)
        let erased = try await store.erase(person: form.identifier, of: request.identity.user?.id)
        // Whom it was about must not stand in a log either.
        request.log.info(
            "person.erased", ["people": .int(erased.people), "messages": .int(erased.messages)])
        return .json(
            [
                "service": "parsing-service", "erased": JSONValue(erased.people + erased.messages),
                "people": JSONValue(erased.people), "messages": JSONValue(erased.messages),
                "tasks": JSONValue(erased.tasks),
            ] as JSONValue)
    }
}
