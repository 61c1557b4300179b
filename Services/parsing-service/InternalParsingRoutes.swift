import Contracts
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

    /// Somebody wants to be forgotten, in the results of the user the caller acts for. The answer tells how else
    /// the results knew them.
    func erase(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        let user = try request.requireUser()
        let order = try await request.decode(ErasureOrder.self)
        var erased: [String: Int] = ["people": 0, "messages": 0]
        var known = ErasureOrder()
        for identifier in order.usernames + order.phones + order.userIDs.map(String.init) {
            let gone = try await store.erase(person: identifier, of: user)
            erased["people", default: 0] += gone.people
            erased["messages", default: 0] += gone.messages
            known.usernames += gone.usernames
            known.phones += gone.phones
            known.userIDs += gone.platformIDs.compactMap { Int64($0) }
        }
        // Whom it was about must not stand in a log either.
        request.log.info(
            "person.erased",
            ["people": .int(erased["people"] ?? 0), "messages": .int(erased["messages"] ?? 0)])
        return .json(ErasureAnswer(service: "parsing-service", erased: erased, known: known))
    }
}
