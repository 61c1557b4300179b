import Contracts
import Core
import HTTP
import Integration
import ServiceKit
import Storage
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
        let order = try await request.decode(ErasureForm.self).order
        // First what is in memory: it could be asked for again while the rest is removed.
        let remembered = resolver.forget(order.references)
        let outcome = try await erasure.erase(
            PersonErasure.Wish(
                usernames: order.usernames, phones: order.phones, platformIDs: order.userIDs,
                attempts: order.attempts), of: user)
        try await forgetAnswers(user)
        let known = outcome.known
        return .json(
            ErasureAnswer(
                service: "integration-service",
                erased: outcome.erased.merging(["remembered": remembered]) { first, _ in first },
                known: ErasureOrder(
                    usernames: known.usernames, phones: known.phones, userIDs: known.platformIDs)))
    }
}

/// The order as services give it, or one `identifier` as a person writes it: a @name, number, id or link.
struct ErasureForm: JSONDecodable {
    let order: ErasureOrder

    init(from fields: inout Fields) {
        guard fields.has("identifier") else {
            order = ErasureOrder(from: &fields)
            return
        }
        let text =
            fields.raw("identifier")?.intValue.map(String.init)
            ?? fields.string("identifier", length: 1...300)
        order = ErasureOrder(identifier: text)
        if order == ErasureOrder() {
            fields.fail(
                "identifier", "not_a_person",
                .init(
                    "A person's @name, phone number or id is expected",
                    "Ожидается @имя, номер телефона или идентификатор человека"))
        }
    }
}

extension ErasureOrder {
    fileprivate init(identifier text: String) {
        self.init()
        // Digits alone may be an id, and a number without its plus as well.
        for reading in text.allSatisfy(\.isNumber) ? [text, "+\(text)"] : [text] {
            switch TelegramReference(reading) {
            case .username(let name)?: usernames.append(name)
            case .phone(let phone)?: phones.append(phone)
            case .person(let id)?: userIDs.append(id)
            case .chat?, .inviteLink?, .message?, nil: break
            }
        }
    }

    /// All of it as the resolver knows people.
    fileprivate var references: Set<TelegramReference> {
        let names = usernames.map { "@\($0)" } + phones.map { $0.hasPrefix("+") ? $0 : "+\($0)" }
        return Set(userIDs.map { .person($0) } + names.compactMap { TelegramReference($0) })
    }
}
