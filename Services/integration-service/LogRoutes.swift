import Core
import HTTP
import Integration
import ServiceKit

/// The integration log, and its errors counted.
struct LogRoutes: Sendable {
    let store: LogStore
    let book: LogBook

    func register(on router: inout Router) {
        router.on("GET", "/api/v1/telegram/logs", logs)
        router.on("GET", "/api/v1/telegram/stats/errors", errors)
    }

    func logs(_ request: Request) async throws -> Response {
        _ = try request.requireUser()
        let page = try PageRequest(request.query)
        var reader = QueryReader(request.query)
        let action = reader.parsed("action", "a known action", "известное действие") { LogBook.Action($0) }
        let status = reader.choice("status", LogBook.Status.self)
        let source = reader.choice("source", LogBook.Source.self)
        let wish = LogBook.Wish(
            action: action, status: status, source: source, accountID: reader.id("account_id"),
            from: reader.moment("from"), to: reader.moment("to"))
        try reader.finish()
        guard let user = request.identity.user else { throw Problem.unauthorized }
        let found = try await book.page(
            of: user, wish, offset: page.offset, size: page.size, request.language)
        var answer = Page(found.items, total: found.total, page).json.objectValue ?? []
        answer.append(JSONMember("missing_sources", JSONValue(found.missing)))
        return .json(JSONValue.object(answer))
    }

    func errors(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let filter = try filter(request.query)
        let counts = try await store.errors(of: user, filter)
        let operations = try await store.count(of: user, filter)
        let failed = counts.reduce(0) { $0 + $1.count }
        return .json(
            [
                "operations": JSONValue(operations), "errors": JSONValue(failed),
                "error_rate": .double(operations == 0 ? 0 : Double(failed) / Double(operations)),
                "by_code": .array(
                    counts.map { count in
                        [
                            "action": .string(count.action.rawValue), "error_code": .string(count.code),
                            "message": JSONValue(explanation(count.code)?(request.language)),
                            "count": JSONValue(count.count), "last_at": count.last.json,
                        ]
                    }),
            ] as JSONValue)
    }

    private func explanation(_ code: String) -> LocalizedText? { FailureCode(rawValue: code)?.explanation }

    private func filter(_ query: Query) throws -> LogFilter {
        var reader = QueryReader(query)
        let filter = LogFilter(
            action: reader.choice("action", Action.self),
            status: reader.choice("status", LogEntry.Status.self),
            accountID: reader.id("account_id"), from: reader.moment("from"), to: reader.moment("to"))
        try reader.finish()
        return filter
    }
}
