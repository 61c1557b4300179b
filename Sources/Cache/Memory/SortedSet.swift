/// Members in the order of their scores: a list of chunks, so that an insertion moves one chunk's members
/// and a position is found by adding up chunk sizes. 100,000 members are about 400 chunks.
// Safe: reached through its database alone, which is reached under the store's lock alone.
final class SortedSet: @unchecked Sendable {
    typealias Element = CacheCommand.Scored

    private static let chunkSize = 512
    private(set) var scores: [CacheBytes: Double] = [:]
    /// None is empty.
    private var chunks: [[Element]] = []
    private(set) var bytes = 0

    var count: Int { scores.count }

    /// Returns whether the member is new.
    @discardableResult
    func set(_ member: CacheBytes, to score: Double) -> Bool {
        let old = scores.updateValue(score, forKey: member)
        if let old {
            guard old != score else { return false }
            removeFromChunks(Element(member, old))
        } else {
            bytes += Self.cost(of: member)
        }
        insert(Element(member, score))
        return old == nil
    }

    func remove(_ member: CacheBytes) -> Bool {
        guard let score = scores.removeValue(forKey: member) else { return false }
        bytes -= Self.cost(of: member)
        removeFromChunks(Element(member, score))
        return true
    }

    func rank(of member: CacheBytes) -> Int? {
        guard let score = scores[member] else { return nil }
        return position { Self.isBefore($0, Element(member, score)) }
    }

    /// How many members stand below the range, and below its end: their positions.
    func positions(_ range: ScoreRange) -> Range<Int> {
        let start = position { !range.isAtOrAboveLower($0.score) }
        let end = position { range.isAtOrBelowUpper($0.score) }
        return start..<max(start, end)
    }

    func elements(_ positions: Range<Int>) -> [Element] {
        guard !positions.isEmpty else { return [] }
        var result: [Element] = []
        result.reserveCapacity(positions.count)
        var start = 0
        for chunk in chunks {
            let end = start + chunk.count
            let overlap = positions.clamped(to: start..<end)
            if !overlap.isEmpty { result += chunk[overlap.lowerBound - start..<overlap.upperBound - start] }
            if end >= positions.upperBound { break }
            start = end
        }
        return result
    }

    private static func cost(of member: CacheBytes) -> Int { 2 * member.bytes.count + 96 }

    private static func isBefore(_ left: Element, _ right: Element) -> Bool {
        left.score != right.score ? left.score < right.score : left.member < right.member
    }

    /// The number of leading elements for which `isBelow` holds; it holds for no element after one for which
    /// it does not.
    private func position(_ isBelow: (Element) -> Bool) -> Int {
        let chunk = chunkIndex(isBelow)
        let before = chunks[..<chunk].reduce(0) { $0 + $1.count }
        return chunk == chunks.count ? before : before + Self.partition(chunks[chunk], isBelow)
    }

    /// The first chunk whose last element is not below.
    private func chunkIndex(_ isBelow: (Element) -> Bool) -> Int {
        Self.partition(chunks) { chunk in chunk.last.map(isBelow) ?? true }
    }

    private static func partition<Item>(_ items: [Item], _ isBelow: (Item) -> Bool) -> Int {
        var (low, high) = (0, items.count)
        while low < high {
            let middle = (low + high) / 2
            if isBelow(items[middle]) { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private func insert(_ element: Element) {
        guard !chunks.isEmpty else { return chunks.append([element]) }
        let index = min(chunkIndex { Self.isBefore($0, element) }, chunks.count - 1)
        let place = Self.partition(chunks[index]) { Self.isBefore($0, element) }
        chunks[index].insert(element, at: place)
        if chunks[index].count > Self.chunkSize {
            let half = chunks[index].count / 2
            let upper = Array(chunks[index][half...])
            chunks[index].removeSubrange(half...)
            chunks.insert(upper, at: index + 1)
        }
    }

    private func removeFromChunks(_ element: Element) {
        let index = chunkIndex { Self.isBefore($0, element) }
        guard index < chunks.count else { return }
        let place = Self.partition(chunks[index]) { Self.isBefore($0, element) }
        guard place < chunks[index].count, chunks[index][place].member == element.member else { return }
        chunks[index].remove(at: place)
        if chunks[index].isEmpty { chunks.remove(at: index) }
    }
}
