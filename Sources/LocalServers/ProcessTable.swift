#if canImport(Glibc)
    import Glibc
#endif

/// The number by which the system knows a process.
public typealias ProcessID = Int32

/// What `/proc` says about who runs.
public enum ProcessTable {
    /// The children of `id`, theirs, and so on.
    public static func descendants(of id: ProcessID) -> [ProcessID] {
        let children = Dictionary(grouping: all(), by: \.parent)
        var found: [ProcessID] = []
        var open = [id]
        while let next = open.popLast() {
            let ids = (children[next] ?? []).map(\.id)
            found += ids
            open += ids
        }
        return found
    }

    /// Whether `id` still runs. A process that has ended and waits to be collected does not.
    public static func isRunning(_ id: ProcessID) -> Bool {
        guard let entry = entry(id) else { return false }
        return entry.state != "Z" && entry.state != "X"
    }

    private struct Entry {
        let id: ProcessID
        let parent: ProcessID
        let state: Character
    }

    private static func all() -> [Entry] {
        guard let directory = opendir("/proc") else { return [] }
        defer { closedir(directory) }
        var entries: [Entry] = []
        while let item = readdir(directory) {
            let name = withUnsafeBytes(of: &item.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if let id = ProcessID(name), let entry = entry(id) { entries.append(entry) }
        }
        return entries
    }

    /// `12 (name) S 1 …`; the name may hold anything, so the fields are counted from its last bracket.
    private static func entry(_ id: ProcessID) -> Entry? {
        guard let text = readFile("/proc/\(id)/stat"), let bracket = text.lastIndex(of: ")") else {
            return nil
        }
        let fields = text[text.index(after: bracket)...].split(separator: " ")
        guard fields.count > 1, let state = fields[0].first, let parent = ProcessID(fields[1]) else {
            return nil
        }
        return Entry(id: id, parent: parent, state: state)
    }
}
