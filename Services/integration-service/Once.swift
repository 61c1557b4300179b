import Synchronization

/// Does something the first time it is asked to.
final class Once: Sendable {
    private let work: Mutex<(@Sendable () -> Void)?>

    init(_ work: @escaping @Sendable () -> Void) { self.work = Mutex(work) }

    func run() {
        let work = self.work.withLock { work in
            defer { work = nil }
            return work
        }
        work?()
    }
}
