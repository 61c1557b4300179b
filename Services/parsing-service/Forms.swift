import Core
import HTTP
import Parsing

/// A task as a client asks for it: one for each link.
struct NewTaskForm: JSONDecodable {
    let platform: Platform
    let links: [CommunityLink]
    let title: String?
    let type: TaskType
    let priority: TaskPriority
    let config: ParseConfig

    init(from fields: inout Fields) {
        platform = fields.choice("platform")
        links = readLinks(&fields)
        title = fields.optionalString("title", length: 1...200)
        type = fields.choice("task_type", default: .parse)
        priority = fields.choice("priority", default: .normal)
        config =
            fields.object("config", StrictConfigForm.self)?.config
            ?? fields.object("settings", ConfigForm.self)?.config ?? ParseConfig()
    }
}

/// All that are written, under whichever name, each community once.
private func readLinks(_ fields: inout Fields) -> [CommunityLink] {
    var written: [(field: String, text: String)] = []
    for name in ["links", "targets"] where fields.has(name) {
        let texts = Set(fields.strings(name, count: 1...100, length: 1...300))
        for (index, value) in (fields.raw(name)?.arrayValue ?? []).enumerated() {
            if let text = value.stringValue, texts.contains(text) {
                written.append(("\(name)[\(index)]", text))
            }
        }
    }
    if let text = fields.optionalString("link", length: 1...300) { written.append(("link", text)) }
    if !["links", "targets", "link"].contains(where: { fields.has($0) }) {
        _ = fields.strings("links", count: 1...100)
    }
    var links: [CommunityLink] = []
    for (field, text) in written {
        guard let link = CommunityLink(text) else {
            fields.fail(
                field, "not_a_community",
                .init(
                    "A community's @name, t.me link, invite link or id is expected",
                    "Ожидается @имя, ссылка t.me, приглашение или идентификатор сообщества"))
            continue
        }
        if !links.contains(link) { links.append(link) }
    }
    return links
}

private struct ConfigForm: JSONDecodable {
    let config: ParseConfig

    init(from fields: inout Fields) {
        var config = ParseConfig()
        config.messageLimit = fields.optionalInt("message_limit", in: 1...10_000_000)
        config.memberLimit = fields.optionalInt("member_limit", in: 1...10_000_000)
        config.speed = readSpeed(&fields)
        config.includesMedia = fields.bool("include_media", default: true)
        config.since = fields.optionalTimestamp("since")
        config.until = fields.optionalTimestamp("until")
        if let since = config.since, let until = config.until, until < since {
            fields.fail(
                "until", "before_since",
                .init("The end lies before the beginning", "Конец раньше начала"))
        }
        config.isIncremental = fields.bool("incremental", default: false)
        config.filters = fields.object("filters", FiltersForm.self)?.filters ?? ParseFilters()
        self.config = config
    }
}

/// A limit that is misspelled would be none. Pages that call it `settings` keep things of their own there.
private struct StrictConfigForm: JSONDecodable {
    let config: ParseConfig

    init(from fields: inout Fields) {
        fields.refuse(otherThan: [
            "message_limit", "member_limit", "speed_config", "parsing_speed", "include_media", "since",
            "until",
            "incremental", "filters",
        ])
        config = ConfigForm(from: &fields).config
    }
}

/// `"safe"`, or an object that names it, as tasks show it.
private func readSpeed(_ fields: inout Fields) -> Speed {
    let name = fields.has("speed_config") ? "speed_config" : "parsing_speed"
    if fields.raw(name)?.objectValue != nil { return fields.object(name, SpeedForm.self)?.speed ?? .medium }
    return fields.choice(name, default: .medium)
}

private struct SpeedForm: JSONDecodable {
    let speed: Speed
    init(from fields: inout Fields) { speed = fields.choice("speed") }
}

private struct FiltersForm: JSONDecodable {
    let filters: ParseFilters

    init(from fields: inout Fields) {
        fields.refuse(otherThan: [
            "has_username", "has_phone", "exclude_bots", "exclude_deleted", "exclude_admins", "premium_only",
            "active_since", "keywords", "media_only",
        ])
        var filters = ParseFilters()
        filters.hasUsername = fields.bool("has_username", default: false)
        filters.hasPhone = fields.bool("has_phone", default: false)
        filters.excludesBots = fields.bool("exclude_bots", default: false)
        filters.excludesDeleted = fields.bool("exclude_deleted", default: false)
        filters.excludesAdmins = fields.bool("exclude_admins", default: false)
        filters.premiumOnly = fields.bool("premium_only", default: false)
        filters.activeSince = fields.optionalTimestamp("active_since")
        filters.keywords = fields.strings("keywords", count: 0...50, length: 1...100).map { $0.lowercased() }
        filters.mediaOnly = fields.bool("media_only", default: false)
        self.filters = filters
    }
}

enum SortOrder: String, CaseIterable { case ascending = "asc", descending = "desc" }

/// Results are numbered as they were found, and given in no other order.
enum ResultSort: String, CaseIterable { case position }
enum ResultOrder: String, CaseIterable { case ascending = "asc" }

/// Reads a query's values and gathers all mistakes, as `Fields` does for bodies.
struct QueryReader {
    let query: Query
    private(set) var errors: [FieldError] = []

    init(_ query: Query) { self.query = query }

    mutating func parsed<Value>(
        _ name: String, _ expected: LocalizedText, _ parse: (String) -> Value?
    ) -> Value? {
        guard let text = query[name], !text.isEmpty else { return nil }
        if let value = parse(text) { return value }
        errors.append(FieldError(name, "wrong_value", expected))
        return nil
    }

    mutating func flag(_ name: String) -> Bool? {
        parsed(name, .init("Expected: true or false", "Ожидается: true или false")) { text in
            switch text.lowercased() {
            case "true", "1", "yes": true
            case "false", "0", "no": false
            default: nil
            }
        }
    }

    mutating func number(_ name: String, in range: ClosedRange<Int64>) -> Int64? {
        parsed(
            name,
            .init(
                "From \(range.lowerBound) to \(range.upperBound) is expected",
                "Ожидается от \(range.lowerBound) до \(range.upperBound)")
        ) { Int64($0).flatMap { range.contains($0) ? $0 : nil } }
    }

    mutating func moment(_ name: String) -> Timestamp? {
        parsed(
            name,
            .init(
                "Expected: a time such as 2025-08-24T10:00:00Z", "Ожидается: время вида 2025-08-24T10:00:00Z")
        ) { Timestamp($0) }
    }

    mutating func choice<Choice: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ type: Choice.Type = Choice.self
    ) -> Choice? {
        let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return parsed(name, .init("One of these is expected: \(known)", "Ожидается одно из: \(known)")) {
            Choice(rawValue: $0.lowercased())
        }
    }

    mutating func text(_ name: String, upTo most: Int) -> String? {
        parsed(name, .init("1 to \(most) characters are expected", "Ожидается от 1 до \(most) символов")) {
            $0.unicodeScalars.count <= most ? $0 : nil
        }
    }

    consuming func finish() throws(ValidationError) {
        guard errors.isEmpty else { throw ValidationError(errors) }
    }
}
