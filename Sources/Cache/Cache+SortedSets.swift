/// Sorted sets: members in the order of their scores, those of one score in the order of their bytes.
extension Cache {
    /// Returns how many members are new.
    @discardableResult
    public func sortedAdd(
        _ key: CacheBytes, _ member: CacheBytes, score: Double,
        if condition: CacheCommand.ScoreCondition = .always
    ) async throws -> Int {
        try await sortedAdd(key, [.init(member, score)], if: condition)
    }

    @discardableResult
    public func sortedAdd(
        _ key: CacheBytes, _ members: [CacheCommand.Scored],
        if condition: CacheCommand.ScoreCondition = .always
    ) async throws -> Int {
        members.isEmpty ? 0 : Int(try await run(.sortedAdd(key, members, condition: condition)).asInteger)
    }

    @discardableResult
    public func sortedRemove(_ key: CacheBytes, _ members: CacheBytes...) async throws -> Int {
        members.isEmpty ? 0 : Int(try await run(.sortedRemove(key, members)).asInteger)
    }

    public func sortedScore(_ key: CacheBytes, _ member: CacheBytes) async throws -> Double? {
        try await run(.sortedScore(key, member)).asScore
    }

    /// Adds to a member's score, which starts from 0, and returns the new one.
    @discardableResult
    public func sortedIncrement(_ key: CacheBytes, _ member: CacheBytes, by amount: Double) async throws
        -> Double
    {
        try await run(.sortedIncrement(key, member, by: amount)).presentScore()
    }

    public func sortedCount(_ key: CacheBytes) async throws -> Int {
        Int(try await run(.sortedCount(key)).asInteger)
    }

    public func sortedCount(_ key: CacheBytes, _ range: ScoreRange) async throws -> Int {
        Int(try await run(.sortedCountByScore(key, range)).asInteger)
    }

    /// How many members stand before this one.
    public func sortedRank(_ key: CacheBytes, _ member: CacheBytes) async throws -> Int? {
        let reply = try await run(.sortedRank(key, member))
        return reply == .null ? nil : Int(try reply.asInteger)
    }

    /// By position, counted from 0; negative positions count from the end.
    public func sortedRange(
        _ key: CacheBytes, from: Int64 = 0, through: Int64 = -1, descending: Bool = false
    ) async throws -> [CacheCommand.Scored] {
        try await scored(.sortedRange(key, from: from, through: through, descending: descending))
    }

    public func sortedRange(
        _ key: CacheBytes, _ range: ScoreRange, limit: Int? = nil
    ) async throws -> [CacheCommand.Scored] {
        try await scored(.sortedRangeByScore(key, range, limit: limit))
    }

    @discardableResult
    public func sortedRemove(_ key: CacheBytes, _ range: ScoreRange) async throws -> Int {
        Int(try await run(.sortedRemoveByScore(key, range)).asInteger)
    }

    @discardableResult
    public func sortedRemove(_ key: CacheBytes, from: Int64, through: Int64) async throws -> Int {
        Int(try await run(.sortedRemoveByRank(key, from: from, through: through)).asInteger)
    }

    /// Takes out the members with the lowest scores, so that each goes to one caller only.
    public func sortedPopLowest(_ key: CacheBytes, count: Int = 1) async throws -> [CacheCommand.Scored] {
        try await scored(.sortedPopLowest(key, count: count))
    }

    private func scored(_ command: CacheCommand) async throws -> [CacheCommand.Scored] {
        try await run(command).pairs(
            { reply throws(CacheError) in try reply.present() },
            { reply throws(CacheError) in try reply.presentScore() }
        ).map { CacheCommand.Scored($0, $1) }
    }
}
