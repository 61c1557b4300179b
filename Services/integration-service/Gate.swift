import Core
import Integration
import Synchronization

/// Closed until something has been done; who comes earlier waits a little.
final class Gate: Sendable {
    private static let patience: Duration = .seconds(20)
    private let flag = Mutex(false)

    var isOpen: Bool { flag.withLock { $0 } }
    func open() { flag.withLock { $0 = true } }

    func pass(_ time: any TimeSource) async throws {
        let start = time.uptime
        while !isOpen {
            guard time.uptime - start < Self.patience else { throw IntegrationError.busy }
            try await time.sleep(for: .milliseconds(20))
        }
    }
}
