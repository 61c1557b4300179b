import Accounts
import Core
import HTTP
import ServiceKit

/// A name of a service that holds an account. It ends up in Redis and in logs.
private func readService(_ fields: inout Fields) -> String {
    let name = fields.string("service_name", length: 1...100)
    if name.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7F }) {
        fields.fail(
            "service_name", "forbidden_character",
            .init("Control characters are not allowed", "Управляющие символы недопустимы"))
    }
    return name
}

/// A channel in any of its spellings, or a chat's number.
private func readChannel(_ fields: inout Fields, _ name: String = "target_channel_id") -> ChannelKey? {
    guard let raw = fields.raw(name) else { return nil }
    if let id = raw.intValue { return ChannelKey(chatID: id) }
    guard let text = fields.optionalString(name, length: 1...256) else { return nil }
    do { return try ChannelKey(text) } catch {
        fields.fail(name, "unknown_channel", error.text)
        return nil
    }
}

private func readAction(_ fields: inout Fields) -> ActionType {
    let name = fields.string("action_type", length: 1...50)
    if let action = ActionType(name) { return action }
    if fields.raw("action_type")?.stringValue != nil, !name.isEmpty {
        let known = ActionType.allCases.map(\.rawValue).joined(separator: ", ")
        fields.fail(
            "action_type", "unknown_value",
            .init("One of these is expected: \(known)", "Ожидается одно из: \(known)"))
    }
    return .invite
}

private func readAccount(_ fields: inout Fields, _ name: String) -> AccountID? {
    guard let text = fields.optionalString(name, length: 1...100) else { return nil }
    if let account = AccountID(text) { return account }
    fields.fail(name, "not_a_uuid", .init("A UUID is expected", "Ожидается UUID"))
    return nil
}

struct AllocateForm: JSONDecodable {
    let user: Int64
    let purpose: Purpose
    let service: String
    let preferred: AccountID?
    let channel: ChannelKey?
    let excluded: Set<AccountID>
    let duration: Duration
    let reserves: Bool

    init(from fields: inout Fields) {
        user = fields.int("user_id", in: 1 ... .max)
        purpose = fields.choice("purpose")
        service = readService(&fields)
        preferred = readAccount(&fields, "preferred_account_id")
        channel = readChannel(&fields)
        var excluded: Set<AccountID> = []
        for (index, text) in fields.strings("exclude_account_ids", count: 0...1000, length: 1...100)
            .enumerated()
        {
            if let account = AccountID(text) {
                excluded.insert(account)
            } else {
                fields.fail(
                    "exclude_account_ids[\(index)]", "not_a_uuid",
                    .init("A UUID is expected", "Ожидается UUID"))
            }
        }
        self.excluded = excluded
        duration = .minutes(fields.int("timeout_minutes", in: 1...240, default: 30))
        reserves = fields.bool("reserve", default: false)
    }

    var wish: Acquire {
        Acquire(
            user: user, purpose: purpose, service: service, channel: channel, preferred: preferred,
            excluded: excluded, duration: duration, reserves: reserves)
    }
}

struct UsageStatsForm: JSONDecodable {
    let stats: UsageStats
    let errorType: String?
    let errorMessage: String

    init(from fields: inout Fields) {
        let most = Int64(UsageStats.most)
        let invites = fields.int("invites_sent", in: 0...most, default: 0)
        let messages = fields.int("messages_sent", in: 0...most, default: 0)
        let contacts = fields.int("contacts_added", in: 0...most, default: 0)
        var channels: [ChannelKey] = []
        for (index, text) in fields.strings("channels_used", count: 0...1000, length: 1...256).enumerated() {
            do { channels.append(try ChannelKey(text)) } catch {
                fields.fail("channels_used[\(index)]", "unknown_channel", error.text)
            }
        }
        stats = UsageStats(
            invitesSent: Int(invites), messagesSent: Int(messages), contactsAdded: Int(contacts),
            channelsUsed: channels)
        let success = fields.bool("success", default: true)
        let type = fields.optionalString("error_type", length: 1...200)
        errorMessage = fields.optionalString("error_message", length: 0...4000) ?? ""
        errorType = success ? nil : type
    }
}

struct ReleaseForm: JSONDecodable {
    let service: String
    let lease: String?
    let usage: UsageStatsForm?

    init(from fields: inout Fields) {
        service = readService(&fields)
        lease = fields.optionalString("lease_id", length: 1...100)
        usage = fields.object("usage_stats")
    }
}

struct ExtendForm: JSONDecodable {
    let service: String
    let lease: String
    let duration: Duration

    init(from fields: inout Fields) {
        service = readService(&fields)
        lease = fields.string("lease_id", length: 1...100)
        duration = .minutes(fields.int("timeout_minutes", in: 1...240, default: 30))
    }
}

struct CheckForm: JSONDecodable {
    let action: ActionType
    let channel: ChannelKey?
    let reserves: Bool
    let lease: String?
    let service: String?

    init(from fields: inout Fields) {
        action = readAction(&fields)
        channel = readChannel(&fields)
        reserves = fields.bool("reserve", default: false)
        lease = fields.optionalString("lease_id", length: 1...100)
        service = fields.optionalString("service_name", length: 1...100)
    }
}

struct RecordForm: JSONDecodable {
    let action: ActionType
    let channel: ChannelKey?
    let success: Bool
    let permit: String?
    let errorType: String?
    let lease: String?
    let service: String?
    let leaseAfter: LeaseAfterRecord

    init(from fields: inout Fields) {
        action = readAction(&fields)
        channel = readChannel(&fields)
        success = fields.bool("success")
        permit = fields.optionalString("permit_id", length: 1...100)
        errorType = fields.optionalString("error_type", length: 1...200)
        lease = fields.optionalString("lease_id", length: 1...100)
        service = fields.optionalString("service_name", length: 1...100)
        leaseAfter = fields.choice("lease", default: .keep)
        if leaseAfter != .keep, lease == nil {
            fields.fail(
                "lease_id", "missing",
                .init("Which lease is to be given back?", "Какую аренду вернуть?"))
        }
    }
}

struct PermitForm: JSONDecodable {
    let permit: String
    init(from fields: inout Fields) { permit = fields.string("permit_id", length: 1...100) }
}

struct ErrorForm: JSONDecodable {
    let type: String
    let message: String
    let context: JSONValue

    init(from fields: inout Fields) {
        type = fields.string("error_type", length: 1...200)
        message = fields.optionalString("error_message", length: 0...4000) ?? ""
        context = fields.raw("context") ?? .null
        if !context.isNull, context.objectValue == nil {
            fields.fail("context", "wrong_type", .init("Expected: an object", "Ожидается: объект"))
        }
    }

    var service: String { String((context["service"]?.stringValue ?? "").prefix(100)) }
}

struct PlanForm: JSONDecodable {
    let user: Int64
    let channel: ChannelKey?
    let invites: Int
    let start: Timestamp?
    let added: Int

    init(from fields: inout Fields) {
        user = fields.int("user_id", in: 1 ... .max)
        channel = readChannel(&fields)
        if !fields.has("target_channel_id") {
            fields.fail(
                "target_channel_id", "missing", .init("This field is required", "Это поле обязательно"))
        }
        invites = Int(fields.int("invites", in: 1...1_000_000))
        start = fields.optionalTimestamp("start_at")
        added = Int(fields.int("accounts_added", in: 0...10_000, default: 0))
    }
}

/// `{"limits": {"invite.daily": 20}}`; an empty object lifts the tightening.
struct LimitsForm: JSONDecodable {
    private(set) var values: [LimitSetting: Int] = [:]

    init(from fields: inout Fields) {
        guard let raw = fields.raw("limits") else {
            fields.fail("limits", "missing", .init("This field is required", "Это поле обязательно"))
            return
        }
        guard let members = raw.objectValue else {
            fields.fail("limits", "not_an_object", .init("An object is expected", "Ожидается объект"))
            return
        }
        for member in members.prefix(100) {
            guard let setting = LimitSetting(name: member.name) else {
                let name = String(member.name.prefix(50))
                fields.fail(
                    "limits.\(name)", "unknown_limit", .init("There is no such limit", "Такого лимита нет"))
                continue
            }
            guard let value = member.value.intValue else {
                fields.fail(
                    "limits.\(member.name)", "wrong_type",
                    .init("Expected: a whole number", "Ожидается: целое число"))
                continue
            }
            values[setting] = Int(clamping: value)
        }
    }
}

struct RegisterForm: JSONDecodable {
    let account: AccountID?
    let user: Int64
    let phone: String

    init(from fields: inout Fields) {
        account = readAccount(&fields, "account_id")
        if !fields.has("account_id") {
            fields.fail("account_id", "missing", .init("This field is required", "Это поле обязательно"))
        }
        user = fields.int("user_id", in: 1 ... .max)
        phone = fields.optionalString("phone", length: 0...32) ?? ""
    }
}

extension Request {
    /// Whose accounts the caller may see: a user its own, a service those of the user it acts for, or all.
    var owner: Int64? {
        get throws {
            switch identity {
            case .user(let user): user.id
            case .service(_, let user): user?.id
            case .nobody: throw Problem.unauthorized
            }
        }
    }

    /// The user a request names has to be the caller, where the caller is one: others do not exist.
    func requireAccess(to user: Int64) throws {
        if let owner = try owner, owner != user { throw Problem.notFound }
    }

    /// What is about the whole installation is for its services and, in development mode, for whoever calls
    /// without a token: the operator of the laptop. For everybody else it does not exist.
    func requireOperator(_ mode: AuthMode) throws {
        if try owner == nil { return }
        guard mode == .dev, case .user(let user) = identity, user.tokenID.isEmpty else {
            throw Problem.notFound
        }
    }

    func account() throws -> AccountID {
        guard let account = AccountID(parameter("account_id")) else { throw AccountStoreError.unknownAccount }
        return account
    }

    /// Who acts, for the ledger.
    func actor(_ named: String?) -> String {
        if let named { return named }
        if case .service(let name, _) = identity { return name }
        return "api"
    }
}
