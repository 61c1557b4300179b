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

    private func resultQuery(_ reader: inout QueryReader) -> ResultQuery {
        var query = ResultQuery()
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
