/// What was published and awaits its confirm, by the tag the server counts for it: from 1, without gaps.
struct ConfirmWindow<Item> {
    private(set) var base: UInt64 = 1
    private var items: ArraySlice<Item?> = []

    var isEmpty: Bool { items.isEmpty }
    var count: Int { items.count }
    /// Those without an answer, oldest first.
    var open: [Item] { items.compactMap { $0 } }

    mutating func add(_ item: Item) { items.append(item) }

    /// Removes what an answer is about.
    mutating func take(_ tag: UInt64, isMultiple: Bool) -> [Item] {
        guard tag >= base, tag - base < UInt64(items.count) else { return [] }
        let index = items.startIndex + Int(tag - base)
        var taken: [Item] = []
        for position in (isMultiple ? items.startIndex : index)...index {
            guard let item = items[position] else { continue }
            taken.append(item)
            items[position] = nil
        }
        while let first = items.first, first == nil {
            items.removeFirst()
            base += 1
        }
        return taken
    }

    /// Changes the first open item that fits.
    mutating func withFirst(where fits: (Item) -> Bool, _ change: (inout Item) -> Void) {
        for position in items.indices {
            guard var item = items[position], fits(item) else { continue }
            change(&item)
            items[position] = item
            return
        }
    }
}
