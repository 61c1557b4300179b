import Core

/// How long a key still has.
public enum TimeToLive: Hashable, Sendable {
    case missing
    case forever
    case remaining(Duration)
}

extension Cache {
    public func get(_ key: CacheBytes) async throws -> CacheBytes? { try await run(.get(key)).asBytes }

    /// The values in the order of the keys; what is missing or no plain value is `nil`.
    public func get(_ keys: [CacheBytes]) async throws -> [CacheBytes?] {
        guard !keys.isEmpty else { return [] }
        let replies = try await run(.getMany(keys)).asArray
        guard replies.count == keys.count else { throw CacheError.unexpectedReply }
        return try replies.map { reply throws(CacheError) in try reply.asBytes }
    }

    /// Returns whether the value was set, which only a condition can prevent.
    @discardableResult
    public func set(
        _ key: CacheBytes, to value: CacheBytes, expiry: CacheCommand.Expiry,
        if condition: CacheCommand.Presence = .any
    ) async throws -> Bool {
        try await run(.set(key, value, expiry: expiry, condition: condition)) == .ok
    }

    /// Sets a value that ends after `duration`.
    @discardableResult
    public func set(
        _ key: CacheBytes, to value: CacheBytes, for duration: Duration,
        if condition: CacheCommand.Presence = .any
    ) async throws -> Bool {
        try await set(key, to: value, expiry: .after(duration), if: condition)
    }

    /// Reads a value and removes it, so that only one caller gets it.
    public func getAndDelete(_ key: CacheBytes) async throws -> CacheBytes? {
        try await run(.getAndDelete(key)).asBytes
    }

    /// Returns how many there were.
    @discardableResult
    public func delete(_ keys: CacheBytes...) async throws -> Int { try await delete(keys) }

    @discardableResult
    public func delete(_ keys: [CacheBytes]) async throws -> Int {
        keys.isEmpty ? 0 : Int(try await run(.delete(keys)).asInteger)
    }

    public func exists(_ key: CacheBytes) async throws -> Bool { try await run(.exists([key])).asFlag }

    /// Adds to a number, which starts from 0; its time to live stays as it is.
    @discardableResult
    public func increment(_ key: CacheBytes, by amount: Int64 = 1) async throws -> Int64 {
        try await run(.increment(key, by: amount)).asInteger
    }

    /// Gives a key a new time to live; one of zero or less removes it. False when there is no such key, or
    /// the condition is not met.
    @discardableResult
    public func expire(
        _ key: CacheBytes, after duration: Duration, if condition: CacheCommand.ExpiryCondition = .always
    ) async throws -> Bool {
        try await run(.expire(key, after: duration, condition: condition)).asFlag
    }

    /// Takes the time to live away. False when there was none.
    @discardableResult
    public func persist(_ key: CacheBytes) async throws -> Bool { try await run(.persist(key)).asFlag }

    public func timeToLive(_ key: CacheBytes) async throws -> TimeToLive {
        switch try await run(.timeToLive(key)).asInteger {
        case -2: .missing
        case -1: .forever
        case let left: .remaining(.milliseconds(left))
        }
    }

    /// Hands out the keys that match a pattern (`*`, `?`, `[a-z]`, `\` before what is meant literally), a
    /// chunk at a time. Keys that are there all the while come at least once; one may come twice.
    public func scan(
        matching pattern: CacheBytes, _ body: ([CacheBytes]) async throws -> Void
    ) async throws {
        var cursor: UInt64 = 0
        repeat {
            let reply = try await run(.scan(cursor: cursor, matching: pattern)).asArray
            guard reply.count == 2, let next = UInt64(try reply[0].present().text) else {
                throw CacheError.unexpectedReply
            }
            cursor = next
            let keys = try reply[1].asArray.map { key throws(CacheError) in try key.present() }
            if !keys.isEmpty { try await body(keys) }
        } while cursor != 0
    }

    /// All keys that match, each once, sorted.
    public func keys(matching pattern: CacheBytes) async throws -> [CacheBytes] {
        var found: Set<CacheBytes> = []
        try await scan(matching: pattern) { found.formUnion($0) }
        return found.sorted()
    }

    /// The number of keys in this database. Ended ones may still be counted until they are swept.
    public var count: Int {
        get async throws { Int(try await run(.count).asInteger) }
    }

    /// Removes everything from this database: for tests.
    public func flush() async throws { _ = try await run(.flush) }
}
