import Core

#if canImport(Glibc)
    import Glibc
#endif

/// One database of the memory, for the time of one command or script: time stands still meanwhile.
public struct MemoryDatabase: Sendable {
    // Safe: reached through the database alone, which is reached under the store's lock alone.
    final class Hash: @unchecked Sendable {
        var fields: [CacheBytes: CacheBytes] = [:]
        var bytes = 0
    }
    enum Value: Sendable {
        case plain(CacheBytes)
        case hash(Hash)
        case sorted(SortedSet)

        var bytes: Int {
            switch self {
            case .plain(let value): value.bytes.count
            case .hash(let hash): hash.bytes
            case .sorted(let set): set.bytes
            }
        }
    }
    struct Entry: Sendable {
        var value: Value
        /// In milliseconds of `uptime`.
        var end: Int64?
    }

    private var entries: [CacheBytes: Entry] = [:]
    private var expiries = Expiries()
    private var expiring = 0
    private var now: Int64 = 0
    private var room = Int.max
    /// About what the entries take, with what the tables need for each.
    private(set) var bytes = 0

    init() {}

    mutating func begin(now: Int64, room: Int) {
        self.now = now
        self.room = room
        // A little with every call, so that no call pays for all that ended since the last.
        sweep(atMost: 4)
    }

    mutating func sweep(atMost limit: Int) {
        var left = limit
        while left > 0, let due = expiries.next(due: now) {
            if let entry = entries[due.key], entry.end == due.end { remove(due.key) }
            left -= 1
        }
        if expiries.heap.count > 2 * expiring + 64 {
            expiries.rebuild { entries[$0.key]?.end == $0.end }
        }
    }
}

// MARK: - Entries

extension MemoryDatabase {
    private func cost(_ key: CacheBytes, _ value: Value) -> Int { 2 * key.bytes.count + value.bytes + 128 }

    /// The entry, unless it has ended.
    private func entry(_ key: CacheBytes) -> Entry? {
        guard let entry = entries[key] else { return nil }
        if let end = entry.end, end <= now { return nil }
        return entry
    }

    @discardableResult
    private mutating func remove(_ key: CacheBytes) -> Bool {
        guard let entry = entries.removeValue(forKey: key) else { return false }
        bytes -= cost(key, entry.value)
        if entry.end != nil { expiring -= 1 }
        return entry.end.map { $0 > now } ?? true
    }

    private mutating func store(_ key: CacheBytes, _ value: Value, end: Int64?) {
        remove(key)
        entries[key] = Entry(value: value, end: end)
        bytes += cost(key, value)
        if let end {
            expiring += 1
            expiries.add(key, end: end)
        }
    }

    private func checkRoom() throws(CacheError) {
        guard room > 0 else { throw .full }
    }

    private func plain(_ key: CacheBytes) throws(CacheError) -> CacheBytes? {
        switch entry(key)?.value {
        case nil: return nil
        case .plain(let value): return value
        default: throw .wrongType
        }
    }

    private func hash(_ key: CacheBytes) throws(CacheError) -> Hash? {
        switch entry(key)?.value {
        case nil: return nil
        case .hash(let hash): return hash
        default: throw .wrongType
        }
    }

    private func sorted(_ key: CacheBytes) throws(CacheError) -> SortedSet? {
        switch entry(key)?.value {
        case nil: return nil
        case .sorted(let set): return set
        default: throw .wrongType
        }
    }

    /// Changes a hash, making it when it is missing and removing it when it is empty afterwards.
    private mutating func changeHash(
        _ key: CacheBytes, _ change: (Hash) throws(CacheError) -> CacheReply
    ) throws(CacheError) -> CacheReply {
        let found = try hash(key)
        let hash = found ?? Hash()
        let before = hash.bytes
        let reply = try change(hash)
        settle(
            key, .hash(hash), isNew: found == nil, isEmpty: hash.fields.isEmpty, grownBy: hash.bytes - before)
        return reply
    }

    private mutating func changeSorted(
        _ key: CacheBytes, _ change: (SortedSet) throws(CacheError) -> CacheReply
    ) throws(CacheError) -> CacheReply {
        let found = try sorted(key)
        let set = found ?? SortedSet()
        let before = set.bytes
        let reply = try change(set)
        settle(key, .sorted(set), isNew: found == nil, isEmpty: set.count == 0, grownBy: set.bytes - before)
        return reply
    }

    private mutating func settle(_ key: CacheBytes, _ value: Value, isNew: Bool, isEmpty: Bool, grownBy: Int)
    {
        if isNew {
            if !isEmpty { store(key, value, end: nil) }
        } else {
            bytes += grownBy
            if isEmpty { remove(key) }
        }
    }
}

// MARK: - Commands

extension MemoryDatabase {
    /// Carries a command out, as `redis.call` does in a script.
    public mutating func call(_ command: CacheCommand) throws(CacheError) -> CacheReply {
        switch command {
        case .get(let key): return try plain(key).map { .bytes($0) } ?? .null
        case .getMany(let keys):
            return .array(
                keys.map { key in
                    guard case .plain(let value) = entry(key)?.value else { return .null }
                    return .bytes(value)
                })
        case .set(let key, let value, let expiry, let condition):
            return try set(key, value, expiry, condition)
        case .getAndDelete(let key):
            guard let value = try plain(key) else { return .null }
            remove(key)
            return .bytes(value)
        case .delete(let keys):
            var count: Int64 = 0
            for key in keys where remove(key) { count += 1 }
            return .integer(count)
        case .exists(let keys): return .integer(Int64(keys.count { entry($0) != nil }))
        case .increment(let key, let amount): return try increment(key, by: amount)
        case .expire(let key, let duration, let condition): return expire(key, duration, condition)
        case .persist(let key):
            guard let entry = entry(key), entry.end != nil else { return .flag(false) }
            store(key, entry.value, end: nil)
            return .flag(true)
        case .timeToLive(let key):
            guard let entry = entry(key) else { return .integer(-2) }
            return .integer(entry.end.map { $0 - now } ?? -1)

        case .hashGet(let key, let field): return try hash(key)?.fields[field].map { .bytes($0) } ?? .null
        case .hashGetMany(let key, let fields):
            let hash = try hash(key)
            return .array(fields.map { field in hash?.fields[field].map { .bytes($0) } ?? .null })
        case .hashGetAll(let key):
            return .array(try hash(key)?.fields.flatMap { [.bytes($0.key), .bytes($0.value)] } ?? [])
        case .hashSet(let key, let fields): return try hashSet(key, fields)
        case .hashDelete(let key, let fields): return try hashDelete(key, fields)
        case .hashIncrement(let key, let field, let amount): return try hashIncrement(key, field, by: amount)
        case .hashCount(let key): return .integer(Int64(try hash(key)?.fields.count ?? 0))

        case .sortedAdd(let key, let members, let condition): return try sortedAdd(key, members, condition)
        case .sortedRemove(let key, let members):
            return try changeSorted(key) { set in
                .integer(Int64(members.count { set.remove($0) }))
            }
        case .sortedScore(let key, let member):
            return try sorted(key)?.scores[member].map { .bytes(scoreText($0)) } ?? .null
        case .sortedIncrement(let key, let member, let amount):
            return try sortedIncrement(key, member, by: amount)
        case .sortedCount(let key): return .integer(Int64(try sorted(key)?.count ?? 0))
        case .sortedCountByScore(let key, let range):
            return .integer(Int64(try sorted(key)?.positions(range).count ?? 0))
        case .sortedRank(let key, let member):
            return try sorted(key)?.rank(of: member).map { .integer(Int64($0)) } ?? .null
        case .sortedRange(let key, let from, let through, let descending):
            return try sortedRange(key, from, through, descending)
        case .sortedRangeByScore(let key, let range, let limit):
            guard let set = try sorted(key) else { return .array([]) }
            let positions = set.positions(range)
            let end = positions.lowerBound + min(positions.count, max(limit ?? .max, 0))
            return scored(set.elements(positions.lowerBound..<end))
        case .sortedRemoveByScore(let key, let range):
            return try sortedRemove(key) { $0.positions(range) }
        case .sortedRemoveByRank(let key, let from, let through):
            return try sortedRemove(key) { Self.positions(from, through, of: $0.count) }
        case .sortedPopLowest(let key, let count):
            return try changeSorted(key) { set in
                let popped = set.elements(0..<min(count, set.count))
                for element in popped { _ = set.remove(element.member) }
                return scored(popped)
            }

        case .scan(_, let pattern):
            let found = entries.keys.filter { matches($0.bytes, pattern: pattern.bytes) && entry($0) != nil }
            return .array([.text("0"), .array(found.map { .bytes($0) })])
        case .count: return .integer(Int64(entries.count))
        case .flush:
            entries = [:]
            expiries = Expiries()
            (expiring, bytes) = (0, 0)
            return .ok
        case .ping: return .ok
        }
    }

    private mutating func set(
        _ key: CacheBytes, _ value: CacheBytes, _ expiry: CacheCommand.Expiry,
        _ condition: CacheCommand.Presence
    ) throws(CacheError) -> CacheReply {
        try checkRoom()
        let old = entry(key)
        switch condition {
        case .any: break
        case .absent: if old != nil { return .null }
        case .present: if old == nil { return .null }
        }
        let end: Int64? =
            switch expiry {
            case .never: nil
            case .after(let duration): now + CacheCommand.milliseconds(duration)
            case .kept: old?.end
            }
        store(key, .plain(value), end: end)
        return .ok
    }

    private mutating func increment(_ key: CacheBytes, by amount: Int64) throws(CacheError) -> CacheReply {
        try checkRoom()
        let sum = try Self.sum(try plain(key), amount)
        store(key, .plain(CacheBytes(sum)), end: entry(key)?.end)
        return .integer(sum)
    }

    private static func sum(_ value: CacheBytes?, _ amount: Int64) throws(CacheError) -> Int64 {
        var number: Int64 = 0
        if let value {
            guard let read = value.integer else { throw .notAnInteger }
            number = read
        }
        let (sum, overflows) = number.addingReportingOverflow(amount)
        guard !overflows else { throw .notAnInteger }
        return sum
    }

    private mutating func expire(
        _ key: CacheBytes, _ duration: Duration, _ condition: CacheCommand.ExpiryCondition
    ) -> CacheReply {
        guard let entry = entry(key) else { return .flag(false) }
        let end = now + CacheCommand.milliseconds(duration)
        // A key without an end counts as ending after all others.
        let isMet =
            switch condition {
            case .always: true
            case .none: entry.end == nil
            case .some: entry.end != nil
            case .later: entry.end.map { end > $0 } ?? false
            case .earlier: entry.end.map { end < $0 } ?? true
            }
        guard isMet else { return .flag(false) }
        if end <= now { remove(key) } else { store(key, entry.value, end: end) }
        return .flag(true)
    }

    private mutating func hashSet(_ key: CacheBytes, _ fields: [CacheCommand.Field]) throws(CacheError)
        -> CacheReply
    {
        try checkRoom()
        return try changeHash(key) { hash in
            var added: Int64 = 0
            for field in fields {
                if hash.put(field.name, field.value) { added += 1 }
            }
            return .integer(added)
        }
    }

    private mutating func hashDelete(_ key: CacheBytes, _ fields: [CacheBytes]) throws(CacheError)
        -> CacheReply
    {
        try changeHash(key) { hash in .integer(Int64(fields.count { hash.drop($0) })) }
    }

    private mutating func hashIncrement(
        _ key: CacheBytes, _ field: CacheBytes, by amount: Int64
    ) throws(CacheError) -> CacheReply {
        try checkRoom()
        return try changeHash(key) { hash throws(CacheError) in
            let sum = try Self.sum(hash.fields[field], amount)
            _ = hash.put(field, CacheBytes(sum))
            return .integer(sum)
        }
    }

    private mutating func sortedAdd(
        _ key: CacheBytes, _ members: [CacheCommand.Scored], _ condition: CacheCommand.ScoreCondition
    ) throws(CacheError) -> CacheReply {
        try checkRoom()
        return try changeSorted(key) { set in
            var added: Int64 = 0
            for element in members {
                let old = set.scores[element.member]
                let isMet =
                    switch condition {
                    case .always: true
                    case .absent: old == nil
                    case .present: old != nil
                    case .higher: old.map { element.score > $0 } ?? true
                    case .lower: old.map { element.score < $0 } ?? true
                    }
                if isMet, set.set(element.member, to: element.score) { added += 1 }
            }
            return .integer(added)
        }
    }

    private mutating func sortedIncrement(
        _ key: CacheBytes, _ member: CacheBytes, by amount: Double
    ) throws(CacheError) -> CacheReply {
        try checkRoom()
        return try changeSorted(key) { set throws(CacheError) in
            let score = (set.scores[member] ?? 0) + amount
            guard !score.isNaN else { throw .command(reason: "the score is no number any more") }
            set.set(member, to: score)
            return .bytes(scoreText(score))
        }
    }

    private func sortedRange(
        _ key: CacheBytes, _ from: Int64, _ through: Int64, _ descending: Bool
    ) throws(CacheError) -> CacheReply {
        guard let set = try sorted(key) else { return .array([]) }
        let positions = Self.positions(from, through, of: set.count)
        guard descending else { return scored(set.elements(positions)) }
        let mirrored = set.count - positions.upperBound..<set.count - positions.lowerBound
        return scored(set.elements(mirrored).reversed())
    }

    private mutating func sortedRemove(
        _ key: CacheBytes, _ positions: (SortedSet) -> Range<Int>
    ) throws(CacheError) -> CacheReply {
        try changeSorted(key) { set in
            let removed = set.elements(positions(set))
            for element in removed { _ = set.remove(element.member) }
            return .integer(Int64(removed.count))
        }
    }

    /// Positions as they are asked for, counted from the end where negative, brought into `0 ..< count`.
    private static func positions(_ from: Int64, _ through: Int64, of count: Int) -> Range<Int> {
        let length = Int64(count)
        let start = max(from < 0 ? from &+ length : from, 0)
        let end = min(through < 0 ? through &+ length : through, length - 1)
        return start <= end ? Int(start)..<Int(end) + 1 : 0..<0
    }
}

extension MemoryDatabase.Hash {
    func put(_ field: CacheBytes, _ value: CacheBytes) -> Bool {
        let old = fields.updateValue(value, forKey: field)
        bytes += value.bytes.count - (old?.bytes.count ?? 0)
        if old == nil { bytes += field.bytes.count + 96 }
        return old == nil
    }

    func drop(_ field: CacheBytes) -> Bool {
        guard let old = fields.removeValue(forKey: field) else { return false }
        bytes -= old.bytes.count + field.bytes.count + 96
        return true
    }
}

private func scored(_ elements: [CacheCommand.Scored]) -> CacheReply {
    .array(elements.flatMap { [.bytes($0.member), .bytes(scoreText($0.score))] })
}

/// A score as Redis 7 writes it, so that a script sees the same text in both.
func scoreText(_ score: Double) -> CacheBytes {
    if score.isInfinite { return score > 0 ? "inf" : "-inf" }
    if let whole = Int64(exactly: score), whole.magnitude < 1 << 53, score.sign == .plus || whole != 0 {
        return CacheBytes(whole)
    }
    var buffer = [CChar](repeating: 0, count: 40)
    let length = withVaList([score]) { vsnprintf(&buffer, buffer.count, "%.17g", $0) }
    return CacheBytes(buffer.prefix(Int(length)).map { UInt8(bitPattern: $0) })
}
