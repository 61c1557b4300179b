extension Cache {
    public func hashGet(_ key: CacheBytes, _ field: CacheBytes) async throws -> CacheBytes? {
        try await run(.hashGet(key, field)).asBytes
    }

    /// The values in the order of the fields.
    public func hashGet(_ key: CacheBytes, _ fields: [CacheBytes]) async throws -> [CacheBytes?] {
        guard !fields.isEmpty else { return [] }
        let replies = try await run(.hashGetMany(key, fields)).asArray
        guard replies.count == fields.count else { throw CacheError.unexpectedReply }
        return try replies.map { reply throws(CacheError) in try reply.asBytes }
    }

    /// The whole hash; empty when there is none.
    public func hashGetAll(_ key: CacheBytes) async throws -> [CacheBytes: CacheBytes] {
        let pairs = try await run(.hashGetAll(key)).pairs(
            { reply throws(CacheError) in try reply.present() },
            { reply throws(CacheError) in try reply.present() })
        return Dictionary(pairs) { _, last in last }
    }

    /// Returns how many of the fields are new.
    @discardableResult
    public func hashSet(_ key: CacheBytes, _ fields: KeyValuePairs<CacheBytes, CacheBytes>) async throws
        -> Int
    {
        Int(try await run(.hashSet(key, fields.map { CacheCommand.Field($0, $1) })).asInteger)
    }

    /// Returns how many there were; a hash without fields is no more.
    @discardableResult
    public func hashDelete(_ key: CacheBytes, _ fields: CacheBytes...) async throws -> Int {
        fields.isEmpty ? 0 : Int(try await run(.hashDelete(key, fields)).asInteger)
    }

    @discardableResult
    public func hashIncrement(_ key: CacheBytes, _ field: CacheBytes, by amount: Int64 = 1) async throws
        -> Int64
    {
        try await run(.hashIncrement(key, field, by: amount)).asInteger
    }

    public func hashCount(_ key: CacheBytes) async throws -> Int {
        Int(try await run(.hashCount(key)).asInteger)
    }
}
