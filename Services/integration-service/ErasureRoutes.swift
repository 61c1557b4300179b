import Core
import HTTP
import Integration
import ServiceKit
import Storage
import Telegram

/// For invite-service alone: forgets a person of the user it acts for.
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
        let form = try await request.decode(ErasureForm.self)
        var outcome = try await erasure.erase(form.wish, of: user)
        outcome.erased["names_in_memory"] = resolver.forget(form.references)
        try await forgetAnswers(user)
        let known = outcome.known
        return .json(
            [
                "service": "integration-service",
                "erased": .object(
                    outcome.erased.sorted { $0.key < $1.key }.map { JSONMember($0.key, JSONValue($0.value)) }),
                "known": [
                    "usernames": JSONValue(known.usernames), "phones": JSONValue(known.phones),
                    "user_ids": .array(known.platformIDs.map { .int($0) }),
                ],
            ] as JSONValue)
    }
}

struct ErasureForm: JSONDecodable {
    private(set) var wish: PersonErasure.Wish

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
        let (identifier, hasIdentifier) = (Self.identifier(&fields), fields.has("identifier"))
        wish = PersonErasure.Wish(
            usernames: values("usernames", most: Self.mostNames, text),
            phones: values("phones", most: Self.mostNames, text),
            platformIDs: values("user_ids", most: Self.mostNames) { $0.intValue },
            attempts: values("attempt_ids", most: Self.mostAttempts, text))
        if let identifier { take(identifier) }
        if !hasIdentifier, wish == PersonErasure.Wish() {
            fields.fail("identifier", "missing", .init("A person has to be named", "Нужно назвать человека"))
        }
    }

    /// A person as somebody writes them: one @name, number, id or link.
    private static func identifier(_ fields: inout Fields) -> String? {
        guard fields.has("identifier") else { return nil }
        let text =
            fields.raw("identifier")?.intValue.map(String.init)
            ?? fields.string("identifier", length: 1...300)
        if Self.references(text).isEmpty {
            fields.fail(
                "identifier", "not_a_person",
                .init(
                    "A person's @name, phone number or id is expected",
                    "Ожидается @имя, номер телефона или идентификатор человека"))
        }
        return text
    }

    private mutating func take(_ identifier: String) {
        for reference in Self.references(identifier) {
            switch reference {
            case .username(let name): wish.usernames.append(name)
            case .phone(let phone): wish.phones.append(phone)
            case .person(let id): wish.platformIDs.append(id)
            case .chat, .inviteLink, .message: break
            }
        }
    }

    /// Digits alone may be an id, and a number without its plus as well.
    private static func references(_ text: String) -> [TelegramReference] {
        let readings = text.allSatisfy(\.isNumber) ? [text, "+\(text)"] : [text]
        return readings.compactMap { TelegramReference($0) }.filter { reference in
            switch reference {
            case .username, .phone, .person: true
            case .chat, .inviteLink, .message: false
            }
        }
    }

    /// All of it as the resolver knows people.
    var references: Set<TelegramReference> {
        Set(
            wish.platformIDs.map { .person($0) }
                + (wish.usernames.map { "@\($0)" } + wish.phones.map { $0.hasPrefix("+") ? $0 : "+\($0)" })
                .compactMap { TelegramReference($0) })
    }
}
