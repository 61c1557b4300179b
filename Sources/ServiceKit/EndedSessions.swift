public import Cache
public import Core

/// Sessions that were ended, known everywhere at once: an access token that names one does not count, however
/// long it would still have run.
///
/// The cache makes it quick and shared by replicas. SQL, which user-service owns, is the truth: as long as
/// the cache does not say of itself that it is complete, as after a flush, the owner is asked.
public struct EndedSessions: Sendable {
    private let cache: any Cache
    private let askOwner: @Sendable (String) async throws -> Bool

    public init(_ cache: any Cache, askOwner: @escaping @Sendable (_ session: String) async throws -> Bool) {
        self.cache = cache
        self.askOwner = askOwner
    }

    private static let complete: CacheBytes = "ended_sessions:complete"
    private static let filling: CacheBytes = "ended_sessions:filling"
    private static func key(_ session: String) -> CacheBytes { CacheBytes("ended_session:\(session)") }

    public func contains(_ session: String) async throws -> Bool {
        do {
            let found = try await cache.get([Self.key(session), Self.complete])
            if found.first.flatMap({ $0 }) != nil { return true }
            if found.last.flatMap({ $0 }) != nil { return false }
        } catch is CacheError {
            // A cache that is away makes sign-ins slower to check, not impossible and never unchecked.
        }
        return try await askOwner(session)
    }

    /// What becomes of somebody at the door.
    public enum Admission: Sendable {
        case ended
        case tooOften(retryAfter: Duration)
        case admitted
    }

    /// Both questions of a door in one round trip: has the session ended, and is there a place left for it among
    /// the `limit` of a `window`. Throws where the cache is away: without its count nobody could be held to
    /// a limit.
    public func admit(
        _ session: String, counting counter: CacheBytes, limit: Int64, window: Duration
    ) async throws -> Admission {
        let (verdict, isComplete) = try await cache.takeFromFixedWindow(
            counter, unless: Self.key(session), noting: Self.complete, limit: limit, window: window)
        guard let verdict else { return .ended }
        if !isComplete, try await askOwner(session) { return .ended }
        return verdict.isAllowed ? .admitted : .tooOften(retryAfter: verdict.retryAfter)
    }

    /// The same list for the one who owns the truth and need not ask anybody over the network.
    func owned(by owner: @escaping @Sendable (_ session: String) async throws -> Bool) -> EndedSessions {
        EndedSessions(cache, askOwner: owner)
    }

    public func block(_ session: String, until moment: Timestamp, now: Timestamp) async throws {
        guard moment > now else { return }
        try await cache.set(Self.key(session), to: "1", expiry: .after(moment - now))
    }

    /// Writes all of `sessions` and then says that the cache is complete, unless it was flushed in between.
    public func fill(_ sessions: [(id: String, until: Timestamp)], now: Timestamp, round: String) async throws
    {
        try await cache.set(Self.filling, to: CacheBytes(round), expiry: .after(.minutes(5)))
        for session in sessions { try await block(session.id, until: session.until, now: now) }
        _ = try await cache.run(
            Self.markComplete, keys: [Self.filling, Self.complete], arguments: [CacheBytes(round)])
    }

    private static let markComplete = CacheScript(
        "mark-complete",
        lua: """
            if redis.call('GET', KEYS[1]) == ARGV[1] then
                redis.call('SET', KEYS[2], '1', 'PX', 3600000)
                return 1
            end
            return 0
            """
    ) { database, keys, arguments in
        guard try database.call(.get(keys[0])).asBytes == arguments[0] else { return .integer(0) }
        _ = try database.call(.set(keys[1], "1", expiry: .after(.hours(1)), condition: .any))
        return .integer(1)
    }
}
