import Cache
import Core
import Synchronization
import TestServers
import Testing

/// The caches we ship, for the suites that hold them to one contract.
enum Engine: String, CaseIterable, CustomStringConvertible {
    case memory, redis

    static var available: [Engine] { TestServers.areAvailable ? allCases : [.memory] }

    var description: String { rawValue }

    /// An empty cache that nobody else uses.
    func cache() async throws -> any Cache {
        switch self {
        case .memory: MemoryCache()
        // A busy machine may stop a test for seconds, which is not what these suites are about.
        case .redis:
            RedisCache(try #require(RedisLocation(try await TestServers.redis().url)), limit: .seconds(60))
        }
    }
}

/// Waits for a condition that something else is about to make true; false after a generous time.
func eventually(_ isTrue: () async throws -> Bool) async rethrows -> Bool {
    let time = SystemTime()
    let end = time.uptime + .minutes(5)
    while time.uptime < end {
        if try await isTrue() { return true }
        try? await time.sleep(for: .milliseconds(5))
    }
    return false
}

/// The kind of an error without its words, which differ between engines.
func kind(of error: any Error) -> String {
    if case CacheError.command = error { "command" } else { "\(error)" }
}
