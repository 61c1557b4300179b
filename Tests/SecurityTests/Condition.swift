import Foundation

/// A thread waits here until what it waits for is true.
final class Condition: Sendable {
    private let condition = NSCondition()

    func wait(until isTrue: () -> Bool) {
        condition.lock()
        while !isTrue() { condition.wait() }
        condition.unlock()
    }

    func wake() {
        condition.lock()
        condition.broadcast()
        condition.unlock()
    }
}
