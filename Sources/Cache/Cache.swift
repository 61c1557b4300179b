import Core

/// A store of short-lived values: Redis or the memory of this process, with the same semantics.
///
/// A handle stands for one database index; `database(_:)` gives that of a sibling. Handles are cheap and
/// share one connection. Each call has a deadline (`within(_:)`), and a cancelled caller stops waiting at
/// once; what it asked for may still happen if it was on its way.
///
/// What a cache holds can vanish at any moment. Nothing may depend on its being there.
public protocol Cache: Sendable {
    /// The index of this handle's database, counted from the location's base index.
    var index: Int { get }

    /// The database at `base + index`.
    func database(_ index: Int) -> any Cache

    /// The same database, with another limit for how long a call may take.
    func within(_ limit: Duration) -> any Cache

    func run(_ command: CacheCommand) async throws -> CacheReply

    /// Runs a script: atomically, nothing comes between its commands.
    func run(_ script: CacheScript, keys: [CacheBytes], arguments: [CacheBytes]) async throws -> CacheReply

    /// Ends the connection, for all handles. Calls fail afterwards.
    func close() async
}

extension Cache {
    /// Whether the cache answers, for health.
    public func ping() async throws { _ = try await run(.ping) }
}
