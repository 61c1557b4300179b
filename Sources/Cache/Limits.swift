public import Core

/// What a limiter says.
public struct LimitVerdict: Hashable, Sendable {
    public let isAllowed: Bool
    /// How much is left after this.
    public let remaining: Int64
    /// When to ask again; zero when it is allowed.
    public let retryAfter: Duration

    public init(isAllowed: Bool, remaining: Int64, retryAfter: Duration) {
        self.isAllowed = isAllowed
        self.remaining = remaining
        self.retryAfter = retryAfter
    }

    init(_ reply: CacheReply) throws(CacheError) {
        let parts = try reply.asArray
        guard parts.count == 3 else { throw .unexpectedReply }
        isAllowed = try parts[0].asFlag
        remaining = try parts[1].asInteger
        retryAfter = .milliseconds(try parts[2].asInteger)
    }
}

extension Cache {
    /// Takes `amount` from a budget of `limit` that begins with its first use and is whole again after
    /// `window`. Exact, however many ask at once; what is refused takes nothing. `amount` is at least 1.
    public func takeFromFixedWindow(
        _ key: CacheBytes, limit: Int64, window: Duration, amount: Int64 = 1
    ) async throws -> LimitVerdict {
        guard amount > 0, amount <= exactInLua else {
            throw CacheError.command(reason: "an amount is positive")
        }
        let reply = try await run(
            .fixedWindow, keys: [key],
            arguments: [
                CacheBytes(min(max(limit, 0), exactInLua)), CacheBytes(CacheCommand.milliseconds(window)),
                CacheBytes(amount),
            ])
        return try LimitVerdict(reply)
    }

    /// The same, unless something stands at `blocker`, and whether something stands at `mark`: what a door asks
    /// of everybody, in one round trip. `nil` for the verdict where it is blocked; then nothing is taken.
    public func takeFromFixedWindow(
        _ key: CacheBytes, unless blocker: CacheBytes, noting mark: CacheBytes, limit: Int64, window: Duration
    ) async throws -> (verdict: LimitVerdict?, isMarked: Bool) {
        let reply = try await run(
            .guardedWindow, keys: [key, blocker, mark],
            arguments: [
                CacheBytes(min(max(limit, 0), exactInLua)), CacheBytes(CacheCommand.milliseconds(window)),
                CacheBytes(Int64(1)),
            ])
        let parts = try reply.asArray
        guard let isMarked = try parts.last?.asFlag, parts.count == 2 || parts.count == 4 else {
            throw CacheError.unexpectedReply
        }
        if parts.count == 2 { return (nil, isMarked) }
        return (try LimitVerdict(.array(Array(parts.dropLast()))), isMarked)
    }

    /// Enters `member` among the at most `limit` of the last `window` before `now`. One that is there already
    /// is allowed and does not count again, so that a call can be repeated.
    public func takeFromSlidingWindow(
        _ key: CacheBytes, member: CacheBytes, limit: Int64, window: Duration, now: Timestamp
    ) async throws -> LimitVerdict {
        let reply = try await run(
            .slidingWindow, keys: [key],
            arguments: [
                CacheBytes(min(max(limit, 0), exactInLua)), CacheBytes(CacheCommand.milliseconds(window)),
                CacheBytes(now.milliseconds), member,
            ])
        return try LimitVerdict(reply)
    }
}

private let fixedWindowInLua = """
    local limit, window, amount = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local held = redis.call('GET', KEYS[1]) or '0'
    local used = tonumber(held)
    if held ~= '0' and not string.match(held, '^-?[1-9]%d*$') or math.abs(used) > 9007199254740991 then
        return redis.error_reply('ERR the counter holds no number')
    end
    if used + amount <= limit then
        used = redis.call('INCRBY', KEYS[1], ARGV[3])
        if used == amount then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
        return {1, limit - used, 0}
    end
    local left = redis.call('PTTL', KEYS[1])
    if left == -1 then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
        left = window
    end
    if left < 0 then left = window end
    return {0, math.max(limit - used, 0), left}
    """

extension CacheScript {
    /// Keys: the counter, the blocker, the mark. Arguments as `fixedWindow`. Answers what it does, and the mark;
    /// or a zero and the mark.
    public static let guardedWindow = CacheScript(
        "guarded-window",
        lua: """
            local marked = redis.call('EXISTS', KEYS[3])
            if redis.call('EXISTS', KEYS[2]) == 1 then return {0, marked} end
            local function take()
            \(fixedWindowInLua)
            end
            local answer = take()
            answer[4] = marked
            return answer
            """
    ) { store, keys, arguments in
        guard keys.count == 3 else { throw CacheError.command(reason: "a key is missing") }
        let mark: CacheReply = .integer(try store.call(.get(keys[2])).asBytes == nil ? 0 : 1)
        guard try store.call(.get(keys[1])).asBytes == nil else { return .array([.integer(0), mark]) }
        let taken = try CacheScript.fixedWindow.twin(&store, [keys[0]], arguments).asArray
        return .array(taken + [mark])
    }

    /// Keys: the counter. Arguments: limit, window in ms, amount. Answers allowed, remaining, retry after ms.
    public static let fixedWindow = CacheScript(
        "fixed-window",
        lua: fixedWindowInLua
    ) { store, keys, arguments in
        let (limit, window, amount) = try (
            integer(arguments, 0), Duration.milliseconds(integer(arguments, 1)), integer(arguments, 2)
        )
        let key = try first(keys)
        var used: Int64 = 0
        if let held = try store.call(.get(key)).asBytes { used = try integer(held) }
        if used + amount <= limit {
            used = try store.call(.increment(key, by: amount)).asInteger
            if used == amount { _ = try store.call(.expire(key, after: window, condition: .always)) }
            return .array([.integer(1), .integer(limit - used), .integer(0)])
        }
        var left = try store.call(.timeToLive(key)).asInteger
        if left == -1 {
            _ = try store.call(.expire(key, after: window, condition: .always))
            left = window.milliseconds
        }
        if left < 0 { left = window.milliseconds }
        return .array([.integer(0), .integer(max(limit - used, 0)), .integer(left)])
    }

    /// Keys: the sorted set. Arguments: limit, window in ms, now in ms, member. Answers as `fixedWindow`.
    public static let slidingWindow = CacheScript(
        "sliding-window",
        lua: """
            local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
            redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
            local count = redis.call('ZCARD', KEYS[1])
            if redis.call('ZSCORE', KEYS[1], ARGV[4]) then return {1, math.max(limit - count, 0), 0} end
            if count < limit then
                redis.call('ZADD', KEYS[1], ARGV[3], ARGV[4])
                redis.call('PEXPIRE', KEYS[1], ARGV[2])
                return {1, limit - count - 1, 0}
            end
            if limit <= 0 then return {0, 0, window} end
            -- The one after whose end there is a place again; not the oldest when the limit was lowered.
            local entry = redis.call('ZRANGE', KEYS[1], count - limit, count - limit, 'WITHSCORES')
            local left = tonumber(entry[2]) + window - now
            if left > 9007199254740991 then left = window end
            return {0, 0, math.ceil(left)}
            """
    ) { store, keys, arguments in
        let (limit, window, now) = try (integer(arguments, 0), integer(arguments, 1), integer(arguments, 2))
        guard arguments.count > 3 else { throw CacheError.command(reason: "an argument is missing") }
        let (key, member) = (try first(keys), arguments[3])
        _ = try store.call(.sortedRemoveByScore(key, .through(Double(now - window))))
        let count = try store.call(.sortedCount(key)).asInteger
        if try store.call(.sortedScore(key, member)) != .null {
            return .array([.integer(1), .integer(max(limit - count, 0)), .integer(0)])
        }
        if count < limit {
            _ = try store.call(.sortedAdd(key, [.init(member, Double(now))], condition: .always))
            _ = try store.call(.expire(key, after: .milliseconds(window), condition: .always))
            return .array([.integer(1), .integer(limit - count - 1), .integer(0)])
        }
        if limit <= 0 { return .array([.integer(0), .integer(0), .integer(window)]) }
        let place = count - limit
        let entry = try store.call(.sortedRange(key, from: place, through: place, descending: false)).asArray
        guard entry.count == 2, let oldest = try entry[1].asScore else { throw CacheError.unexpectedReply }
        let left = oldest + Double(window) - Double(now)
        let whole = left > Double(exactInLua) ? window : Int64(left.rounded(.up))
        return .array([.integer(0), .integer(0), .integer(whole)])
    }
}

func first(_ keys: [CacheBytes]) throws(CacheError) -> CacheBytes {
    guard let key = keys.first else { throw .command(reason: "a key is missing") }
    return key
}

func integer(_ arguments: [CacheBytes], _ index: Int) throws(CacheError) -> Int64 {
    guard index < arguments.count else { throw .command(reason: "an argument is missing") }
    return try integer(arguments[index])
}

/// Lua counts in doubles: beyond this it would no longer be exact.
let exactInLua: Int64 = 9_007_199_254_740_991

private func integer(_ text: CacheBytes) throws(CacheError) -> Int64 {
    guard let value = text.integer, value.magnitude <= exactInLua else {
        throw .command(reason: "no number in a script")
    }
    return value
}
