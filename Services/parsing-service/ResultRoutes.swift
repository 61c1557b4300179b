import Core
import HTTP
import Parsing
import ServiceKit
import Sheets

/// What tasks found.
struct ResultRoutes: Sendable {
    enum Kind: String, CaseIterable, Sendable { case people, messages }

    let store: ParseStore
    let settings: ParsingSettings
    private static let chunk = 2000

    func register(on router: inout PrefixedRouter) {
        router.on("GET", "/results/{task_id}", page)
        router.on("GET", "/results/{task_id}/export", export)
    }

    func page(_ request: Request) async throws -> Response {
        let task = try await task(request)
        let page = try PageRequest(request.query)
        var reader = QueryReader(request.query)
        let after = reader.number("after", in: 0 ... .max)
        let kind = reader.choice("kind", Kind.self) ?? .people
        let query = resultQuery(&reader)
        try reader.finish()
        let place: ResultPlace = after.map { .after($0) } ?? .page(page.page)
        let items: [JSONValue]
        let total: Int
        switch kind {
        case .people:
            items = try await store.people(of: task, query, at: place, limit: page.size).map(\.json)
            total = try await store.countPeople(of: task, query)
        case .messages:
            items = try await store.messages(of: task, query, at: place, limit: page.size).map(\.json)
            total = try await store.countMessages(of: task, query)
        }
        let members = Page(items, total: total, page).json.objectValue ?? []
        return .json(
            JSONValue.object(
                members + [
                    // To go on by place rather than by page; the same however deep.
                    JSONMember("next_after", items.last?["position"] ?? .null),
                    JSONMember("task_id", .string(task.id)),
                    JSONMember("status", .string(task.status.rawValue)),
                    JSONMember("coverage", task.course.coverageJSON),
                ]))
    }

    /// The whole result as a file, written while it is read: the next rows are fetched while these go out.
    func export(_ request: Request) async throws -> Response {
        let task = try await task(request)
        var reader = QueryReader(request.query)
        let format = reader.choice("format", SheetFormat.self) ?? .csv
        let kind = reader.choice("kind", Kind.self) ?? .people
        let query = resultQuery(&reader)
        try reader.finish()
        let store = store
        var response = Response.stream(type: format.contentType) { body in
            switch kind {
            case .people:
                try await write(
                    format, PersonResult.columns, to: body,
                    next: { try await store.people(of: task, query, at: .after($0), limit: Self.chunk) })
            case .messages:
                try await write(
                    format, MessageResult.columns, to: body,
                    next: { try await store.messages(of: task, query, at: .after($0), limit: Self.chunk) })
            }
        }
        response.headers["Content-Disposition"] =
            "attachment; filename=\"\(task.id)-\(kind.rawValue).\(format.fileExtension)\""
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response
    }

    private func resultQuery(_ reader: inout QueryReader) -> ResultQuery {
        var query = ResultQuery()
        _ = reader.choice("sort_by", ResultSort.self)
        _ = reader.choice("sort_order", ResultOrder.self)
        query.text = reader.text("q", upTo: 200)
        query.hasUsername = reader.flag("has_username")
        query.hasPhone = reader.flag("has_phone")
        query.activeSince = reader.moment("active_since")
        query.minimumMessages = reader.number("min_messages", in: 0...1_000_000_000)
        return query
    }

    private func task(_ request: Request) async throws -> ParseTask {
        try await store.task(request.parameter("task_id"), of: try request.requireUser())
    }
}

/// A row of a result, as files show it.
protocol ExportedRow: Sendable {
    var position: Int64 { get }
    var json: JSONValue { get }
    var cells: [SheetValue] { get }
}

private func write<Item: ExportedRow>(
    _ format: SheetFormat, _ columns: [String], to body: any BodyWriter,
    next: @escaping @Sendable (Int64) async throws -> [Item]
) async throws {
    let sheet = format == .csv || format == .xlsx ? try SheetWriter(format, columns: columns) : nil
    var items = try await next(0)
    if format == .json { try await body.write("[") }
    // Something at once, so that a browser sees that the file comes.
    if let sheet { try await sheet.write([]) { try await body.write($0) } }
    var isFirst = true
    while let last = items.last?.position {
        async let following = next(last)
        if let sheet {
            try await sheet.write(items.map(\.cells)) { try await body.write($0) }
        } else {
            var text = ""
            text.reserveCapacity(items.count * 512)
            for item in items {
                if format == .json { text += isFirst ? "\n" : ",\n" }
                isFirst = false
                text += item.json.text
                if format == .ndjson { text += "\n" }
            }
            try await body.write(text)
        }
        items = try await following
    }
    if format == .json { try await body.write("\n]\n") }
    if let sheet { try await sheet.finish { try await body.write($0) } }
}

extension PersonResult: ExportedRow {
    static let columns = [
        "platform_id", "username", "display_name", "first_name", "last_name", "phone", "first_seen",
        "last_seen",
        "message_count", "is_bot", "is_premium", "is_deleted", "is_contact", "is_admin", "language_code",
        "presence", "seen_in",
    ]

    var cells: [SheetValue] {
        [
            .text(platformID), SheetValue(username), .text(displayName), .text(firstName), .text(lastName),
            SheetValue(phone), SheetValue(firstSeen), SheetValue(lastSeen), .number(messageCount),
            .bool(isBot), .bool(isPremium), .bool(isDeleted), .bool(isContact), .bool(isAdmin),
            .text(languageCode), .text(presence), .text(seenIn),
        ]
    }
}

extension MessageResult: ExportedRow {
    static let columns = [
        "platform_id", "sent_at", "author_id", "author_username", "author_name", "content", "media", "views",
        "forwards", "reactions", "replies", "reply_to", "forwarded_from", "post_id", "chat_id", "edited_at",
    ]

    var cells: [SheetValue] {
        [
            .text(platformID), SheetValue(sentAt), SheetValue(authorID), SheetValue(authorUsername),
            .text(authorName), .text(content), SheetValue(media), .number(views), .number(forwards),
            .number(reactions), SheetValue(replies), SheetValue(replyTo), SheetValue(forwardedFrom),
            SheetValue(postID), .text(chatID), SheetValue(editedAt),
        ]
    }
}
