import Cache
import Core
import Foundation
import Synchronization
import TestServers
import Testing

/// The caches we ship, for the suites that hold them to one contract.
enum Engine: String, CaseIterable, CustomStringConvertible {
    case memory, redis

    static var available: [Engine] {
        ProcessInfo.processInfo.environment["CONVOKE_FAST"] == "1" ? [.memory] : allCases
    }

    var description: String { rawValue }

    /// An empty cache that nobody else uses.
    func cache() async throws -> any Cache {
        switch self {
        case .memory: return MemoryCache()
        case .redis: return RedisCache(try await Self.redis())
        }
    }

    static func redis() async throws -> RedisLocation {
        var location = try #require(RedisLocation("redis://127.0.0.1:7391"))
        location.base = nextBase.withLock { base in
            defer { base += 8 }
            return base
        }
        return location
    }
    private static let nextBase = Mutex(0)
}
