import Synchronization

/// Keeps what is written.
final class GatheringWriter: BodyWriter {
    private let gathered = Mutex<Bytes>([])
    var bytes: Bytes { gathered.withLock { $0 } }
    func write(_ bytes: Bytes) async throws { gathered.withLock { $0.append(contentsOf: bytes) } }
}
