import Foundation

/// Holds threads until it is opened: for closures that run on a connection's own thread.
final class Gate: Sendable {
    private let semaphore = DispatchSemaphore(value: 0)
    func wait() {
        semaphore.wait()
        semaphore.signal()
    }
    func open() { semaphore.signal() }
}

/// Lets threads go on once all have arrived.
final class Meeting: Sendable {
    private let arrivals = Count()
    private let gate = Gate()
    private let size: Int
    init(_ size: Int) { self.size = size }
    func arrive() {
        if arrivals.up() == size { gate.open() }
        gate.wait()
    }
}
