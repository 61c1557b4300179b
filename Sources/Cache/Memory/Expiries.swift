/// Which keys end when: a heap by time.
///
/// A key whose expiry changed leaves its old entry behind; whoever takes an entry out compares it with what
/// the key says. When most entries are such leftovers the heap is made anew, so it stays within a constant
/// factor of the keys it is about.
struct Expiries {
    struct Entry {
        let key: CacheBytes
        let end: Int64
    }
    private(set) var heap: [Entry] = []

    mutating func add(_ key: CacheBytes, end: Int64) {
        heap.append(Entry(key: key, end: end))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].end < heap[parent].end else { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// Takes out the earliest entry if it is due.
    mutating func next(due now: Int64) -> Entry? {
        guard let first = heap.first, first.end <= now else { return nil }
        let last = heap.removeLast()
        guard !heap.isEmpty else { return first }
        heap[0] = last
        sink(0)
        return first
    }

    mutating func rebuild(keeping isCurrent: (Entry) -> Bool) {
        var seen: Set<CacheBytes> = []
        heap.removeAll { !isCurrent($0) || !seen.insert($0.key).inserted }
        for index in stride(from: heap.count / 2 - 1, through: 0, by: -1) { sink(index) }
    }

    private mutating func sink(_ start: Int) {
        var parent = start
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < heap.count && heap[child].end < heap[least].end { least = child }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
