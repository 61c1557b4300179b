/// A script that runs atomically in the cache: Lua for Redis, and a twin in Swift for the memory. The
/// contract suite holds the two together.
public struct CacheScript: Sendable {
    /// Carries the script out in memory, while nothing else touches the cache. As in Redis, what was
    /// written before an error stays.
    public typealias Twin =
        @Sendable (
            _ store: inout MemoryDatabase, _ keys: [CacheBytes], _ arguments: [CacheBytes]
        ) throws -> CacheReply

    public let name: StaticString
    public let lua: CacheBytes
    /// What the server knows the script by, in hexadecimal.
    public let digest: CacheBytes
    let twin: Twin

    public init(_ name: StaticString, lua: String, twin: @escaping Twin) {
        self.name = name
        self.lua = CacheBytes(lua)
        digest = CacheBytes(sha1(self.lua.bytes))
        self.twin = twin
    }
}
