import Core
import HTTP
import Integration
import ServiceKit
import Storage
import Telegram

/// A person's wish to be forgotten, as far as it concerns this service.
struct PrivacyRoutes: Sendable {
    let erasure: PersonErasure
    let resolver: Resolver

    func register(on router: inout Router) { router.on("POST", "/internal/privacy/erase", erase) }

    func erase(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        let form = try await request.decode(ErasureForm.self)
        // First what is in memory: it could be asked for again while the rest is removed.
        let forgotten = resolver.forget(form.references)
        let erased = try await erasure.erase(form.person, of: request.identity.user?.id)
        return .json(["erased": JSONValue(erased + forgotten)] as JSONValue)
    }
}

struct ErasureForm: JSONDecodable {
    var person = PersonErasure.Person()
    var references: Set<TelegramReference> = []

    init(from fields: inout Fields) {
        let text =
            fields.raw("identifier")?.intValue.map(String.init)
            ?? fields.string("identifier", length: 1...300)
        guard fields.has("identifier"), !text.isEmpty else { return }
        take(TelegramReference(text))
        // Digits alone may be an id, and a number without its plus as well.
        if text.allSatisfy(\.isNumber) { take(TelegramReference("+\(text)")) }
        guard references.isEmpty else { return }
        fields.fail(
            "identifier", "not_a_person",
            .init(
                "A person's @name, phone number or id is expected",
                "Ожидается @имя, номер телефона или идентификатор человека"))
    }

    private mutating func take(_ reference: TelegramReference?) {
        switch reference {
        case .username(let name)?: person.username = name
        case .phone(let phone)?: person.phone = phone
        case .person(let id)?: person.telegramUserID = id
        case .chat?, .inviteLink?, .message?, nil: return
        }
        if let reference { references.insert(reference) }
    }
}
