/// A long list that Telegram gives page by page. The next page is asked for when the one before is used up, so
/// a slow reader slows the reading and nothing piles up.
public struct Pages<Element: Sendable>: AsyncSequence, Sendable {
    private let makePull: @Sendable () -> @Sendable () async throws -> [Element]?

    /// `page` gets the place the page before named, and names the next; nil is the end.
    init<Place: Sendable>(
        from start: Place? = nil,
        _ page: @escaping @Sendable (Place?) async throws -> (elements: [Element], next: Place?)
    ) {
        makePull = {
            let place = PagePlace(start)
            return {
                guard let current = await place.begin() else { return nil }
                let (elements, next) = try await page(current)
                await place.end(next)
                return elements
            }
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(pull: makePull()) }

    public struct Iterator: AsyncIteratorProtocol {
        let pull: @Sendable () async throws -> [Element]?
        private var page: [Element] = []
        private var index = 0

        init(pull: @escaping @Sendable () async throws -> [Element]?) { self.pull = pull }

        public mutating func next() async throws -> Element? {
            while index >= page.count {
                guard let next = try await nextPage() else { return nil }
                page = next
                index = 0
            }
            defer { index += 1 }
            return page[index]
        }

        /// What is left of the current page is skipped.
        public mutating func nextPage() async throws -> [Element]? {
            try Task.checkCancellation()
            return try await pull()
        }
    }
}

private actor PagePlace<Place: Sendable> {
    private var place: Place?
    private var isOver = false

    init(_ place: Place?) { self.place = place }

    /// Nil once the end was reached; the outer optional, because the first place may be none.
    func begin() -> Place?? { isOver ? nil : .some(place) }

    func end(_ next: Place?) {
        place = next
        isOver = next == nil
    }
}
