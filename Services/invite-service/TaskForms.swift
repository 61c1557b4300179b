import Core
import HTTP
import Invites

/// A task as it is written for the first time.
struct NewTaskForm: JSONDecodable {
    let task: NewTask?
    let startsAtOnce: Bool

    init(from fields: inout Fields) {
        let name = readName(&fields, "name")
        readPlatform(&fields)
        let description = fields.optionalString("description", length: 0...5000) ?? ""
        let priority: TaskPriority = fields.choice("priority", default: .medium)
        let message = readMessage(&fields)
        if !fields.has("settings") {
            fields.fail("settings", "missing", .init("This field is required", "Это поле обязательно"))
        }
        let settings: TaskSettings? = fields.object("settings")
        let scheduled = fields.optionalTimestamp("scheduled_at")
        startsAtOnce = fields.bool("auto_start", default: false)
        if let settings { requireMessage(&fields, settings, message) }
        task = settings.map {
            NewTask(
                name: name, description: description, priority: priority, inviteMessage: message,
                settings: $0, scheduledAt: scheduled)
        }
    }
}

/// Changes to a task; what is not named stays.
struct TaskChangeForm: JSONDecodable {
    let name: String?
    let description: String?
    let priority: TaskPriority?
    let message: String?
    let clearsMessage: Bool
    let settings: TaskSettings?
    let scheduledAt: Timestamp?
    let clearsSchedule: Bool

    init(from fields: inout Fields) {
        name = fields.has("name") ? readName(&fields, "name") : nil
        if fields.has("platform") { readPlatform(&fields) }
        description = fields.optionalString("description", length: 0...5000)
        priority = fields.optionalChoice("priority")
        message = readMessage(&fields)
        clearsMessage = message?.isEmpty ?? false
        settings = fields.object("settings")
        scheduledAt = fields.optionalTimestamp("scheduled_at")
        clearsSchedule = fields.optionalChoice("schedule", Clearing.self) != nil
    }

    enum Clearing: String, CaseIterable { case none }

    func apply(to task: inout InviteTask) throws {
        if let name { task.name = name }
        if let description { task.description = description }
        if let priority { task.priority = priority }
        if let message { task.inviteMessage = clearsMessage ? nil : message }
        if let settings {
            // Who was invited where, and how, is not rewritten afterwards.
            let isElsewhere =
                settings.group != task.settings.group || settings.inviteType != task.settings.inviteType
            if isElsewhere, task.startedAt != nil { throw InviteError.running }
            task.settings = settings
        }
        if let scheduledAt { task.scheduledAt = scheduledAt }
        if clearsSchedule { task.scheduledAt = nil }
        try requireMessage(task.settings, task.inviteMessage)
    }
}

extension Fields {
    fileprivate mutating func optionalChoice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type
    ) -> Choice? { optionalChoice(name) }
}

private func readName(_ fields: inout Fields, _ field: String) -> String {
    let name = fields.string(field, length: 1...200)
    if fields.has(field), !name.isEmpty, name.allSatisfy(\.isWhitespace) {
        fields.fail(field, "blank", .init("A name is expected", "Ожидается название"))
    }
    return name
}

private func readPlatform(_ fields: inout Fields) {
    let platform = fields.optionalString("platform", length: 1...50) ?? "telegram"
    if platform.lowercased() != "telegram" {
        fields.fail(
            "platform", "unknown_value",
            .init("Only telegram is possible here", "Здесь возможен только telegram"))
    }
}

/// Telegram takes 4096 characters.
private func readMessage(_ fields: inout Fields) -> String? {
    fields.optionalString("invite_message", length: 0...4096)
}

private let missingMessage = FieldError(
    "invite_message", "missing",
    .init("A message is needed for this kind of invitation", "Для такого приглашения нужно сообщение"))

private func needsMessage(_ settings: TaskSettings, _ message: String?) -> Bool {
    (settings.inviteType == .directMessage || settings.fallsBackToMessages) && (message ?? "").isEmpty
}

private func requireMessage(_ fields: inout Fields, _ settings: TaskSettings, _ message: String?) {
    guard needsMessage(settings, message) else { return }
    fields.fail(missingMessage.field, missingMessage.code, missingMessage.message)
}

private func requireMessage(_ settings: TaskSettings, _ message: String?) throws(ValidationError) {
    if needsMessage(settings, message) { throw ValidationError([missingMessage]) }
}

struct DuplicateForm: JSONDecodable {
    let name: String?
    let copiesTargets: Bool
    let copiesSettings: Bool
    let resetsSchedule: Bool

    init(from fields: inout Fields) {
        name = fields.optionalString("new_name", length: 1...200)
        copiesTargets = fields.bool("copy_targets", default: true)
        copiesSettings = fields.bool("copy_settings", default: true)
        resetsSchedule = fields.bool("reset_schedule", default: true)
    }
}

struct BulkTasksForm: JSONDecodable {
    enum Action: String, CaseIterable {
        case delete, pause, resume, cancel
        case setPriority = "set_priority"
    }
    let ids: [Int64]
    let action: Action
    let priority: TaskPriority?

    init(from fields: inout Fields) {
        ids = readIDs(&fields, "task_ids", most: 500)
        action = fields.choice("action")
        let parameters: PriorityForm? = fields.object("parameters")
        priority = parameters?.priority
        if action == .setPriority, priority == nil {
            fields.fail(
                "parameters.priority", "missing", .init("This field is required", "Это поле обязательно"))
        }
    }

    struct PriorityForm: JSONDecodable {
        let priority: TaskPriority?
        init(from fields: inout Fields) { priority = fields.optionalChoice("priority") }
    }
}

func readIDs(_ fields: inout Fields, _ name: String, most: Int) -> [Int64] {
    guard let raw = fields.raw(name) else {
        fields.fail(name, "missing", .init("This field is required", "Это поле обязательно"))
        return []
    }
    let ids = (raw.arrayValue ?? []).compactMap(\.intValue)
    guard let values = raw.arrayValue, ids.count == values.count, (1...most).contains(ids.count) else {
        fields.fail(
            name, "wrong_value",
            .init("A list of 1 to \(most) numbers is expected", "Ожидается список из 1–\(most) чисел"))
        return []
    }
    return ids
}

// MARK: - People

struct TargetForm: JSONDecodable {
    let target: NewTarget?

    init(from fields: inout Fields) { target = TargetForm.read(&fields) }

    /// `phone` is how the documents' campaigns write `phone_number`.
    static func read(_ fields: inout Fields) -> NewTarget? {
        let username = fields.optionalString("username", length: 0...300)
        let phone =
            fields.optionalString("phone_number", length: 0...40)
            ?? fields.optionalString("phone", length: 0...40)
        var id = fields.raw("user_id_platform")?.intValue.map(String.init)
        if id == nil { id = fields.optionalString("user_id_platform", length: 0...20) }
        let email = fields.optionalString("email", length: 0...320)
        let name = fields.optionalString("full_name", length: 0...300)
        let source: TargetSource = fields.choice("source", default: .manual)
        let basis = fields.optionalString("consent_basis", length: 0...1000)
        do {
            let identity = try PersonIdentity(
                writtenUsername: username, writtenPhone: phone, writtenID: id)
            return NewTarget(
                identity, email: email, fullName: name, source: source, consentBasis: basis,
                seenIn: seenIn(&fields))
        } catch {
            for mistake in error.mistakes { fields.fail(mistake.field, mistake.code, mistake.text) }
            return nil
        }
    }
}

extension TargetForm {
    /// The community somebody was met in, as links write it.
    static func seenIn(_ fields: inout Fields) -> String? {
        let number = fields.raw("seen_in")?.intValue.map(String.init)
        guard let text = number ?? fields.optionalString("seen_in", length: 0...300), !text.isEmpty else {
            return nil
        }
        guard let key = CommunityKey(text) else {
            fields.fail(
                "seen_in", "not_a_group",
                .init(
                    "Expected: a group's @name, link or id", "Ожидается @имя, ссылка или идентификатор группы"
                ))
            return nil
        }
        return key.address
    }
}

struct BulkTargetsForm: JSONDecodable {
    let targets: [NewTarget]

    init(from fields: inout Fields) {
        let forms: [TargetForm] = fields.array("targets", count: 1...10_000)
        targets = forms.compactMap(\.target)
    }
}

struct TargetChangeForm: JSONDecodable {
    private let json: [JSONMember]

    init(from fields: inout Fields) {
        // For its mistakes: what is no community would otherwise be taken for none.
        if fields.has("seen_in") { _ = TargetForm.seenIn(&fields) }
        json = [
            "username", "phone_number", "user_id_platform", "email", "full_name", "consent_basis", "seen_in",
        ]
        .compactMap { name in
            if let number = fields.raw(name)?.intValue {
                return JSONMember(name, .string(String(number)))
            }
            return fields.optionalString(name, length: 0...1000).map { JSONMember(name, .string($0)) }
        }
    }

    private func text(_ name: String, _ old: String?) -> String? {
        guard let new = json.first(where: { $0.name == name })?.value.stringValue else { return old }
        return new.isEmpty ? nil : new
    }

    func apply(to target: inout InviteTarget) throws {
        target.identity = try PersonIdentity(
            writtenUsername: text("username", target.identity.username),
            writtenPhone: text("phone_number", target.identity.phone),
            writtenID: text("user_id_platform", target.identity.platformID.map(String.init)))
        target.email = text("email", target.email)
        target.fullName = text("full_name", target.fullName)
        target.consentBasis = text("consent_basis", target.consentBasis)
        target.seenIn = text("seen_in", target.seenIn).flatMap { CommunityKey($0)?.address }
    }
}

struct TargetActionForm: JSONDecodable {
    let ids: [Int64]
    let action: InviteStore.BulkAction

    init(from fields: inout Fields) {
        ids = readIDs(&fields, "target_ids", most: 5000)
        action = fields.choice("action")
    }
}

// MARK: - Running

struct ExecuteForm: JSONDecodable {
    let isForced: Bool
    init(from fields: inout Fields) { isForced = fields.bool("force", default: false) }
}

struct RetryForm: JSONDecodable {
    let codes: [String]?
    init(from fields: inout Fields) {
        codes = fields.has("error_codes") ? fields.strings("error_codes", count: 1...50, length: 1...60) : nil
    }
}

struct TestInviteForm: JSONDecodable {
    let target: Int64
    let account: String?
    init(from fields: inout Fields) {
        target = fields.int("target_id", in: 1 ... .max)
        account = fields.optionalString("account_id", length: 1...64)
    }
}

struct DryRunForm: JSONDecodable {
    let accountsAdded: Int
    init(from fields: inout Fields) {
        accountsAdded = Int(fields.int("accounts_added", in: 0...10_000, default: 0))
    }
}

/// A whole campaign in one call.
struct CampaignForm: JSONDecodable {
    let task: NewTask?
    let targets: [NewTarget]

    init(from fields: inout Fields) {
        let name = readName(&fields, "name")
        readPlatform(&fields)
        targets = (fields.array("targets", of: TargetForm.self, count: 1...10_000)).compactMap(\.target)
        if !fields.has("invite_data") {
            fields.fail("invite_data", "missing", .init("This field is required", "Это поле обязательно"))
        }
        let data: InviteData? = fields.object("invite_data")
        task = data.map {
            NewTask(name: name, inviteMessage: $0.message, settings: $0.settings)
        }
    }

    struct InviteData: JSONDecodable {
        let settings: TaskSettings
        let message: String?

        init(from fields: inout Fields) {
            settings = TaskSettings(from: &fields)
            message = fields.optionalString("message", length: 0...4096)
            if needsMessage(settings, message) {
                fields.fail("message", missingMessage.code, missingMessage.message)
            }
        }
    }
}

extension Request {
    /// A body that may be left out.
    func decodeOptional<Value: JSONDecodable>(_ type: Value.Type) async throws -> Value {
        let bytes = try await body.collect(upTo: Request.typicalBodyLimit)
        guard !bytes.isEmpty else { return try Fields.decode(type, from: [:]) }
        return try Fields.decode(type, from: JSONValue(parsing: bytes))
    }

    /// The versions an edit may have been made on, where the client names some: one, as a rule.
    func expectedVersions() throws -> Set<Int64>? {
        guard let header = headers["if-match"], header != "*" else { return nil }
        var versions: Set<Int64> = []
        for var tag in header.split(separator: ",", omittingEmptySubsequences: false) {
            while tag.first == " " { tag.removeFirst() }
            while tag.last == " " { tag.removeLast() }
            // As a proxy that compresses weakens it.
            if tag.hasPrefix("W/") { tag = tag.dropFirst(2) }
            guard tag.count >= 2, tag.first == "\"", tag.last == "\"" else { throw Problem.malformedTag }
            let text = tag.dropFirst().dropLast()
            guard text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x22 }) else {
                throw Problem.malformedTag
            }
            // Another tag than ours is one that does not match.
            if let version = Int64(text) { versions.insert(version) }
        }
        return versions
    }
}

extension Problem {
    fileprivate static let malformedTag = Problem(
        400, "malformed_tag",
        .init(
            "If-Match has to hold the ETag of an answer, such as \"7\", or *",
            "If-Match должен содержать ETag из ответа, например \"7\", или *"))
}
