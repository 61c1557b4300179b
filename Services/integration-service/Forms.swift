import Core
import HTTP
import Integration
import Storage
import Telegram

/// A phone number in the international form: digits with a plus.
private func readPhone(_ fields: inout Fields, _ name: String) -> String? {
    guard let text = fields.optionalString(name, length: 1...40) else { return nil }
    let written = text.hasPrefix("+") ? text : "+\(text)"
    guard case .phone(let phone)? = TelegramReference(written) else {
        fields.fail(
            name, "not_a_phone",
            .init(
                "A phone number in international form is expected, such as +15550001111",
                "Ожидается номер телефона в международном формате, например +15550001111"))
        return nil
    }
    return phone
}

private func readID(_ fields: inout Fields, _ name: String) -> UniqueID? {
    guard let text = fields.optionalString(name, length: 1...64) else { return nil }
    guard let id = UniqueID(text) else {
        fields.fail(name, "not_an_id", .init("This is no id", "Это не идентификатор"))
        return nil
    }
    return id
}

/// A group however it is written; names, links, ids of either sign.
private func readGroup(_ fields: inout Fields, _ name: String) -> String {
    if let number = fields.raw(name)?.intValue { return String(number) }
    let text = fields.string(name, length: 1...300)
    if fields.has(name), !text.isEmpty, TelegramReference(text) == nil {
        fields.fail(
            name, "not_a_group",
            .init(
                "A group's @name, link or id is expected", "Ожидается @имя, ссылка или идентификатор группы"))
    }
    return text
}

struct ConnectForm: JSONDecodable {
    let phone: String

    init(from fields: inout Fields) {
        phone = readPhone(&fields, "phone") ?? ""
        if !fields.has("phone") {
            fields.fail("phone", "missing", .init("This field is required", "Это поле обязательно"))
        }
    }
}

/// Which login a page means: by its id, or the newest of a number.
struct LoginReference: Sendable {
    let id: UniqueID?
    let phone: String?

    init(_ fields: inout Fields, isNeeded: Bool) {
        id = readID(&fields, "connection_id")
        phone = readPhone(&fields, "phone")
        if isNeeded, !fields.has("connection_id"), !fields.has("phone") {
            fields.fail(
                "connection_id", "missing",
                .init("connection_id or phone is required", "Нужен connection_id или phone"))
        }
    }
}

struct VerifyForm: JSONDecodable {
    let login: LoginReference
    let code: String?
    let password: String?

    init(from fields: inout Fields) {
        login = LoginReference(&fields, isNeeded: true)
        code = fields.optionalString("code", length: 1...64)
        password = fields.optionalString("password", length: 1...1024)
        if !fields.has("code"), !fields.has("password") {
            fields.fail("code", "missing", .init("code or password is required", "Нужен code или password"))
        }
    }
}

struct ResendForm: JSONDecodable {
    let login: LoginReference
    init(from fields: inout Fields) { login = LoginReference(&fields, isNeeded: true) }
}

struct QRCheckForm: JSONDecodable {
    let id: UniqueID?
    let password: String?

    init(from fields: inout Fields) {
        id = readID(&fields, "connection_id")
        password = fields.optionalString("password", length: 1...1024)
    }
}

struct CheckAdminForm: JSONDecodable {
    let group: String
    let required: [String]

    init(from fields: inout Fields) {
        group = readGroup(&fields, "group_id")
        required = fields.strings("required_permissions", count: 0...50, length: 1...64)
    }
}

struct TargetFields: Sendable {
    let target: Target

    init(_ fields: inout Fields) {
        var id = fields.raw("target_user_id")?.intValue
        if id == nil, let text = fields.raw("target_user_id")?.stringValue { id = Int64(text) }
        if fields.has("target_user_id"), id ?? 0 <= 0 {
            fields.fail(
                "target_user_id", "wrong_type",
                .init("A positive number is expected", "Ожидается положительное число"))
        }
        let names = ["target_username", "target_phone", "target_user_id"]
        if !names.contains(where: { fields.has($0) }) {
            fields.fail(
                "target_username", "missing",
                .init(
                    "target_username, target_phone or target_user_id is required",
                    "Нужен target_username, target_phone или target_user_id"))
        }
        var origin: Origin?
        let name = fields.optionalString("target_name", length: 0...300)
        if fields.has("target_seen_in") {
            origin = Origin(community: readGroup(&fields, "target_seen_in"), name: name)
        }
        target = Target(
            username: fields.optionalString("target_username", length: 1...300),
            phone: fields.optionalString("target_phone", length: 1...40), userID: id, origin: origin)
    }
}

struct SendForm: JSONDecodable {
    let kind: Attempt.Kind
    let target: Target
    let group: String
    let message: String
    let name: String
    let leaseID: String?
    let fencingToken: Int64?
    let attemptID: String?
    /// Nothing is begun later: what allowed it has run out by then.
    let notAfter: Timestamp?
    /// Nothing is to be sent: what became of the attempt is asked for, and one that was not made never will be.
    let isWithdrawal: Bool

    init(from fields: inout Fields) {
        kind = fields.choice("invite_type")
        target = TargetFields(&fields).target
        group = kind == .groupInvite || fields.has("group_id") ? readGroup(&fields, "group_id") : ""
        // Telegram takes 4096 characters.
        message =
            kind == .directMessage
            ? fields.string("message", length: 1...4096)
            : fields.optionalString("message", length: 0...4096) ?? ""
        name = fields.optionalString("name", length: 0...64) ?? ""
        leaseID = fields.optionalString("lease_id", length: 1...100)
        fencingToken = fields.optionalInt("fencing_token", in: 0 ... .max)
        attemptID = fields.optionalString("attempt_id", length: 1...200)
        notAfter = fields.optionalTimestamp("not_after")
        isWithdrawal = fields.bool("withdraw", default: false)
        if isWithdrawal, attemptID == nil {
            fields.fail("attempt_id", "missing", .init("This field is required", "Это поле обязательно"))
        }
    }
}

struct MembershipForm: JSONDecodable {
    let group: String
    let target: Target

    init(from fields: inout Fields) {
        group = readGroup(&fields, "group_id")
        target = TargetFields(&fields).target
    }
}

struct GroupForm: JSONDecodable {
    let group: String
    init(from fields: inout Fields) { group = readGroup(&fields, "group_id") }
}

struct InviteLinkForm: JSONDecodable {
    let group: String
    let link: NewInviteLink

    init(from fields: inout Fields) {
        group = readGroup(&fields, "group_id")
        let asks = fields.bool("creates_join_request", default: true)
        let limit = fields.optionalInt("member_limit", in: 0...99_999) ?? 0
        if asks, limit > 0 {
            fields.fail(
                "member_limit", "contradiction",
                .init(
                    "A link that asks administrators cannot have a limit",
                    "У ссылки с одобрением администратора не может быть предела"))
        }
        link = NewInviteLink(
            name: fields.optionalString("name", length: 0...32) ?? "",
            expires: fields.optionalTimestamp("expires_at"),
            memberLimit: Int(limit), createsJoinRequest: asks)
    }
}

struct BotForm: JSONDecodable {
    let token: BotToken?
    let description: String?
    let isActive: Bool?

    init(from fields: inout Fields) {
        if let text = fields.optionalString("token", length: 1...200) {
            token = BotToken(text)
            if token == nil {
                fields.fail(
                    "token", "malformed",
                    .init(
                        "This is no bot token; BotFather gives them",
                        "Это не токен бота; токены выдаёт BotFather"))
            }
        } else {
            token = nil
        }
        description = fields.optionalString("description", length: 0...1000)
        isActive = fields.has("is_active") ? fields.bool("is_active") : nil
    }
}

struct NewBotForm: JSONDecodable {
    let bot: BotForm
    init(from fields: inout Fields) {
        bot = BotForm(from: &fields)
        if !fields.has("token") {
            fields.fail("token", "missing", .init("This field is required", "Это поле обязательно"))
        }
    }
}

struct ChannelForm: JSONDecodable {
    let link: String
    let accountID: UniqueID?
    let note: String

    init(from fields: inout Fields) {
        link = readGroup(&fields, fields.has("group_id") && !fields.has("link") ? "group_id" : "link")
        accountID = readID(&fields, "account_id")
        note = fields.optionalString("note", length: 0...1000) ?? ""
    }
}

struct ChannelNoteForm: JSONDecodable {
    let note: String
    init(from fields: inout Fields) { note = fields.string("note", length: 0...1000) }
}

/// Reads a query's values and gathers all mistakes, as `Fields` does for bodies.
struct QueryReader {
    let query: Query
    private(set) var errors: [FieldError] = []

    init(_ query: Query) { self.query = query }

    mutating func parsed<Value>(
        _ name: String, _ english: String, _ russian: String, _ parse: (String) -> Value?
    ) -> Value? {
        guard let text = query[name], !text.isEmpty else { return nil }
        if let value = parse(text) { return value }
        errors.append(FieldError(name, "wrong_value", .init("Expected: \(english)", "Ожидается: \(russian)")))
        return nil
    }

    mutating func moment(_ name: String) -> Timestamp? {
        parsed(name, "a time such as 2025-08-24T10:00:00Z", "время вида 2025-08-24T10:00:00Z") {
            Timestamp($0)
        }
    }

    mutating func number(_ name: String, in range: ClosedRange<Int64>) -> Int64? {
        parsed(
            name, "a number from \(range.lowerBound) to \(range.upperBound)",
            "число от \(range.lowerBound) до \(range.upperBound)"
        ) {
            Int64($0).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String, _ type: Choice.Type)
        -> Choice?
    {
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return parsed(name, "one of: \(known)", "одно из: \(known)") { Choice(rawValue: $0.lowercased()) }
    }

    mutating func id(_ name: String) -> UniqueID? { parsed(name, "an id", "идентификатор") { UniqueID($0) } }

    mutating func group(_ name: String) -> String {
        guard let text = query[name], !text.isEmpty else {
            errors.append(
                FieldError(name, "missing", .init("This field is required", "Это поле обязательно")))
            return ""
        }
        return parsed(name, "a group's @name, link or id", "@имя, ссылка или идентификатор группы") {
            $0.utf8.count <= 300 && TelegramReference($0) != nil ? $0 : nil
        } ?? text
    }

    consuming func finish() throws(ValidationError) {
        guard errors.isEmpty else { throw ValidationError(errors) }
    }
}
