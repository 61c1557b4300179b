import Core
import HTTP
import Synchronization

/// The replicas of one service: asked in turn, those that fail left alone for a while. What has a shard is
/// always asked of the same one.
final class Upstream: Sendable {
    /// One process of the service.
    final class Replica: Sendable {
        let address: String
        private let breaker = Mutex(CircuitBreaker())

        init(address: String) { self.address = address }

        func permits(at now: Duration) -> Bool { breaker.withLock { $0.permits(at: now) } }
        func succeeded() { breaker.withLock { $0.succeeded() } }
        func failed(at now: Duration) { breaker.withLock { $0.failed(at: now) } }
        func remaining(at now: Duration) -> Duration { breaker.withLock { $0.remaining(at: now) } }
        var isClosed: Bool { breaker.withLock { if case .closed = $0.state { true } else { false } } }
    }

    /// No replica may be asked just now.
    struct AllOpen: Error {
        let remaining: Duration
    }

    let service: String
    let replicas: [Replica]
    private let turn = Atomic<UInt64>(0)

    init(service: String, addresses: [String]) {
        precondition(!addresses.isEmpty, "\(service) has at least one replica")
        self.service = service
        replicas = addresses.map(Replica.init)
    }

    /// A replica for the next request, leaving out one that was just tried.
    func next(shard: String?, excluding tried: [String] = [], at now: Duration) throws -> Replica {
        if let shard {
            let owner = owner(of: shard)
            guard owner.permits(at: now) else { throw AllOpen(remaining: owner.remaining(at: now)) }
            return owner
        }
        let start = Int(turn.wrappingAdd(1, ordering: .relaxed).oldValue % UInt64(replicas.count))
        for offset in 0..<replicas.count {
            let replica = replicas[(start + offset) % replicas.count]
            if !tried.contains(replica.address), replica.permits(at: now) { return replica }
        }
        throw AllOpen(remaining: replicas.map { $0.remaining(at: now) }.min() ?? .zero)
    }

    /// Rendezvous hashing: each replica draws a number for the shard and the highest has it. When a replica is
    /// added or lost, only its own shards move. All gateways agree, because the hash is fixed.
    func owner(of shard: String) -> Replica {
        var best = replicas[0]
        var highest: UInt64 = 0
        for replica in replicas {
            let drawn = fixedHash(shard + "\u{1F}" + replica.address)
            if drawn >= highest { (best, highest) = (replica, drawn) }
        }
        return best
    }
}

/// FNV-1a, mixed at the end: the same on every machine and in every process, unlike `Hasher`.
private func fixedHash(_ text: String) -> UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in text.utf8 {
        hash ^= UInt64(byte)
        hash = hash &* 0x0000_0100_0000_01B3
    }
    hash ^= hash >> 33
    hash = hash &* 0xFF51_AFD7_ED55_8CCD
    return hash ^ (hash >> 33)
}
