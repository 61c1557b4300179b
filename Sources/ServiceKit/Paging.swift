public import Core
public import HTTP

/// `?page=1&page_size=20`
public struct PageRequest: Sendable, Equatable {
    public let page: Int
    public let size: Int
    public var offset: Int { (page - 1) * size }

    public init(page: Int = 1, size: Int = 20) {
        self.page = page
        self.size = size
    }

    public init(_ query: Query) throws(ValidationError) {
        var errors: [FieldError] = []
        func number(_ name: String, _ fallback: Int, _ range: ClosedRange<Int>) -> Int {
            guard let text = query[name] else { return fallback }
            guard let value = Int(text), range.contains(value) else {
                errors.append(
                    FieldError(
                        name, "out_of_range",
                        .init(
                            "From \(range.lowerBound) to \(range.upperBound) is expected",
                            "Ожидается от \(range.lowerBound) до \(range.upperBound)")))
                return fallback
            }
            return value
        }
        page = number("page", 1, 1...1_000_000)
        size = number("page_size", 20, 1...100)
        guard errors.isEmpty else { throw ValidationError(errors) }
    }
}

/// One page of a list, as every list of the platform answers.
public struct Page<Item: JSONEncodable>: JSONEncodable {
    public let items: [Item]
    public let total: Int
    public let request: PageRequest

    public init(_ items: [Item], total: Int, _ request: PageRequest) {
        self.items = items
        self.total = total
        self.request = request
    }

    public var json: JSONValue {
        let pages = (total + request.size - 1) / request.size
        return [
            "items": JSONValue(items), "total": JSONValue(total), "page": JSONValue(request.page),
            "page_size": JSONValue(request.size), "total_pages": JSONValue(pages),
            "has_next": .bool(request.page < pages), "has_prev": .bool(request.page > 1),
        ]
    }
}
