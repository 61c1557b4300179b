public import Core
import Synchronization

/// The cache in this process's memory: the embedded default.
///
/// Time comes from `time.uptime`, which nobody can set back. Every call carries out at once under one lock,
/// so scripts are atomic by construction. Ended keys are gone for readers at the moment they end; their
/// memory is given back by later calls and by `sweeper`. Past `limit` bytes writes throw `CacheError.full`,
/// as Redis does with its default policy.
public struct MemoryCache: Cache {
    public let index: Int
    private let store: MemoryStore

    public init(time: any TimeSource = SystemTime(), limit: Int = 256 << 20) {
        self.init(index: 0, store: MemoryStore(time: time, limit: limit))
    }

    private init(index: Int, store: MemoryStore) {
        self.index = index
        self.store = store
    }

    public func database(_ index: Int) -> any Cache { MemoryCache(index: index, store: store) }

    /// Nothing here takes any time.
    public func within(_: Duration) -> any Cache { self }

    public func run(_ command: CacheCommand) async throws -> CacheReply {
        try Task.checkCancellation()
        try command.validate()
        return try store.withDatabase(index) { database in try database.call(command) }
    }

    public func run(_ script: CacheScript, keys: [CacheBytes], arguments: [CacheBytes]) async throws
        -> CacheReply
    {
        try Task.checkCancellation()
        return try store.withDatabase(index) { database in try script.twin(&database, keys, arguments) }
    }

    public func close() async { store.close() }

    /// Gives the memory of ended keys back also while nobody calls.
    public func sweeper(every interval: Duration = .seconds(10)) -> some Service {
        ClosureService("cache-sweeper") { [store] in
            while true {
                try await store.time.sleep(for: interval)
                store.sweep()
            }
        }
    }

    /// About how much memory the entries take.
    public var bytes: Int { store.bytes }
}

final class MemoryStore: Sendable {
    private struct State {
        var databases: [Int: MemoryDatabase] = [:]
        var bytes = 0
        var isClosed = false
    }
    let time: any TimeSource
    private let limit: Int
    private let state = Mutex(State())

    init(time: any TimeSource, limit: Int) {
        self.time = time
        self.limit = limit
    }

    var bytes: Int { state.withLock { $0.bytes } }

    func withDatabase(
        _ index: Int, _ body: (inout MemoryDatabase) throws -> CacheReply
    ) throws -> CacheReply {
        try state.withLock { state in
            guard !state.isClosed else { throw CacheError.unavailable(mayHaveRun: false) }
            return try Self.with(
                &state.databases[index, default: MemoryDatabase()], total: &state.bytes, limit: limit,
                now: time.uptime.milliseconds, body)
        }
    }

    private static func with(
        _ database: inout MemoryDatabase, total: inout Int, limit: Int, now: Int64,
        _ body: (inout MemoryDatabase) throws -> CacheReply
    ) throws -> CacheReply {
        let before = database.bytes
        defer { total += database.bytes - before }
        database.begin(now: now, room: limit - total)
        return try body(&database)
    }

    func sweep() {
        let now = time.uptime.milliseconds
        state.withLock { state in
            for index in state.databases.keys {
                guard var database = state.databases.removeValue(forKey: index) else { continue }
                let before = database.bytes
                database.begin(now: now, room: 0)
                database.sweep(atMost: .max)
                state.bytes += database.bytes - before
                state.databases[index] = database
            }
        }
    }

    func close() {
        state.withLock { state in
            state.isClosed = true
            state.databases = [:]
            state.bytes = 0
        }
    }
}
