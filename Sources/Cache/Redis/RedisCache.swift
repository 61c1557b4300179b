public import Core

/// The cache in a Redis.
///
/// All handles share one connection on a thread of its own. What queues up while one batch is under way goes
/// out as the next one, in a single write, and its answers are read together: the busier, the cheaper a call.
/// A lost connection is opened again by itself; while there is none, calls fail at once.
public struct RedisCache: Cache {
    public let index: Int
    private let base: Int
    private let limit: Duration
    private let connection: RedisConnection

    /// Begins to connect. `limit` is how long a call may take.
    public init(
        _ location: RedisLocation, limit: Duration = .seconds(2), log: Log = .silent,
        metrics: Metrics = Metrics()
    ) {
        self.init(
            index: 0, base: location.base, limit: limit,
            connection: RedisConnection(location, limit: limit, log: log, metrics: CacheMetrics(metrics)))
    }

    private init(index: Int, base: Int, limit: Duration, connection: RedisConnection) {
        self.index = index
        self.base = base
        self.limit = limit
        self.connection = connection
    }

    public func database(_ index: Int) -> any Cache {
        RedisCache(index: index, base: base, limit: limit, connection: connection)
    }

    public func within(_ limit: Duration) -> any Cache {
        RedisCache(index: index, base: base, limit: limit, connection: connection)
    }

    public func run(_ command: CacheCommand) async throws -> CacheReply {
        try command.validate()
        do {
            return try await send(command.encoded)
        } catch let error as RedisErrorReply {
            throw CacheError(reply: error.text)
        }
    }

    public func run(_ script: CacheScript, keys: [CacheBytes], arguments: [CacheBytes]) async throws
        -> CacheReply
    {
        do {
            return try await send(script.encoded(byDigest: true, keys: keys, arguments: arguments))
        } catch let error as RedisErrorReply where error.text.hasPrefix("NOSCRIPT") {
            // A new server, or its scripts were flushed. It has not run, so it may be sent again; with its
            // whole text, which runs and keeps it in one step: between a load and a second call by digest
            // the scripts could be flushed again.
            connection.metrics.scriptsLoaded.increment()
            do {
                return try await send(script.encoded(byDigest: false, keys: keys, arguments: arguments))
            } catch let error as RedisErrorReply {
                throw CacheError(reply: error.text)
            }
        } catch let error as RedisErrorReply {
            throw CacheError(reply: error.text)
        }
    }

    public func close() async { await connection.close() }

    private func send(_ bytes: [UInt8]) async throws -> CacheReply {
        let call = RedisCall(bytes, database: base + index, deadline: SystemTime().uptime + limit)
        return try await withTaskCancellationHandler {
            try await withUnsafeThrowingContinuation { connection.submit(call, $0) }
        } onCancel: {
            call.finish(.failure(CancellationError()))
        }
    }
}
