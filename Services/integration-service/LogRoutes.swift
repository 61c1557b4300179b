import Core
import HTTP
import Integration
import ServiceKit

/// The integration log, and its errors counted.
struct LogRoutes: Sendable {
    let store: LogStore

    func register(on router: inout Router) {
        router.on("GET", "/api/v1/telegram/logs", logs)
        router.on("GET", "/api/v1/telegram/stats/errors", errors)
    }

    func logs(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let page = try PageRequest(request.query)
        let filter = try filter(request.query)
        let (entries, total) = try await store.entries(
            of: user, filter, offset: page.offset, limit: page.size)
        return .json(Page(entries.map { $0.json(in: request.language) }, total: total, page))
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
