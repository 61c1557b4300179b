import Cache
import Core
import HTTP
import Parsing
import ServiceKit

/// Communities one can work with, by words.
struct SearchRoutes: Sendable {
    let finder: CommunityFinder
    let cache: any Cache
    let metrics: ParsingMetrics
    let settings: ParsingSettings

    func register(on router: inout PrefixedRouter) { router.on("GET", "/search", search) }

    func search(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        var reader = QueryReader(request.query)
        let words = reader.text("q", upTo: 200)?.trimmingBlanks
        let platform = reader.choice("platform", Platform.self) ?? .telegram
        let limit = Int(reader.number("limit", in: 1...100) ?? 20)
        try reader.finish()
        guard let words, words.count >= 2 else {
            throw ValidationError([
                FieldError(
                    "q", "missing",
                    .init("2 to 200 characters are expected", "Ожидается от 2 до 200 символов"))
            ])
        }
        // Whether an account of theirs administers it differs from user to user.
        let key = CacheBytes("community_search:\(user):\(platform.rawValue):\(words.lowercased())")
        if let kept = try? await cache.get(key), let json = try? JSONValue(parsing: kept.bytes),
            let items = json.arrayValue
        {
            metrics.searches["memory"].increment()
            return answer(items, limit, isCached: true, isPartial: false)
        }
        let found = try await finder.find(words, for: user)
        metrics.searches["telegram"].increment()
        let items = found.communities.map { $0.json }
        if !found.isPartial, settings.searchMemory > .zero {
            _ = try? await cache.set(
                key, to: CacheBytes(JSONValue.array(items).bytes), for: settings.searchMemory)
        }
        return answer(items, limit, isCached: false, isPartial: found.isPartial)
    }

    private func answer(_ items: [JSONValue], _ limit: Int, isCached: Bool, isPartial: Bool) -> Response {
        .json(
            [
                "items": .array(Array(items.prefix(limit))), "total": JSONValue(items.count),
                "cached": .bool(isCached), "partial": .bool(isPartial),
            ] as JSONValue)
    }
}

extension String {
    var trimmingBlanks: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
