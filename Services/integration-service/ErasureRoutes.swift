import Contracts
import Core
import HTTP
import Integration
import ServiceKit
import Telegram

/// For other services alone: forgets a person of the user the caller acts for.
struct ErasureRoutes: Sendable {
    let erasure: PersonErasure
    let resolver: Resolver
    /// Answers kept for repeated requests name people too.
    let forgetAnswers: @Sendable (Int64) async throws -> Void

    func register(on router: inout Router) {
        router.on("POST", "/internal/privacy/erase", erase)
    }

    func erase(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        let user = try request.requireUser()
        let order = try await request.decode(ErasureOrder.self)
        // First what is in memory: it could be asked for again while the rest is removed.
        let remembered = resolver.forget(order.references)
        var erased = try await erasure.erase(
            PersonErasure.Wish(
                usernames: order.usernames, phones: order.phones.map { $0.filter(\.isNumber) },
                platformIDs: order.userIDs, attempts: order.attempts),
            of: user)
        erased["remembered"] = remembered
        try await forgetAnswers(user)
        return .json(ErasureAnswer(service: "integration-service", erased: erased))
    }
}

extension ErasureOrder {
    fileprivate var references: Set<TelegramReference> {
        Set(
            usernames.compactMap { TelegramReference("@\($0)") } + phones.compactMap { TelegramReference($0) }
                + userIDs.compactMap { TelegramReference(String($0)) })
    }
}
