import Core
import Synchronization
import Testing

@Suite struct `A thread executor` {
    actor Pinned {
        private let thread: ThreadExecutor
        private var order: [Int] = []
        nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
        init(_ thread: ThreadExecutor) { self.thread = thread }
        func add(_ number: Int) { order.append(number) }
        var count: Int { order.count }
    }

    @Test func `runs an actor's work one after another on its own thread`() async {
        let pinned = Pinned(ThreadExecutor(name: "pinned"))
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<1000 { group.addTask { await pinned.add(number) } }
        }
        #expect(await pinned.count == 1000)
    }

    @Test func `runs plain work in its order`() async {
        let thread = ThreadExecutor(name: "plain")
        let seen = Mutex<[Int]>([])
        await withCheckedContinuation { done in
            for number in 0..<100 { thread.perform { seen.withLock { $0.append(number) } } }
            thread.perform { done.resume() }
        }
        #expect(seen.withLock { $0 } == Array(0..<100))
    }
}

@Suite struct `Running services` {
    private final class Events: Sendable {
        private let list = Mutex<[String]>([])
        func add(_ event: String) { list.withLock { $0.append(event) } }
        var all: [String] { list.withLock { $0 } }
    }

    private func untilCancelled(_ name: String, _ events: Events, _ time: ManualTime) -> ClosureService {
        ClosureService(name) {
            do {
                try await time.sleep(for: .days(1))
            } catch {
                events.add("\(name) stopped")
                throw error
            }
        }
    }

    @Test func `stops them one by one, the last one first`() async throws {
        let events = Events()
        let time = ManualTime(.epoch)
        let services = ["database", "worker", "listener"].map { untilCancelled($0, events, time) }
        let run = Task { try await runAll(services, log: .silent) }
        await time.waitForSleepers(3)
        run.cancel()
        try await run.value
        #expect(events.all == ["listener stopped", "worker stopped", "database stopped"])
    }

    @Test func `ends all when one fails, and says why`() async throws {
        struct Broken: Error {}
        let events = Events()
        let time = ManualTime(.epoch)
        let services = [
            untilCancelled("database", events, time),
            ClosureService("worker") {
                await time.waitForSleepers(1)
                throw Broken()
            },
        ]
        await #expect(throws: Broken.self) { try await runAll(services, log: .silent) }
        #expect(events.all == ["database stopped"])
    }

    @Test func `ends all when one returns although nobody asked it to`() async throws {
        let events = Events()
        let time = ManualTime(.epoch)
        let services = [
            untilCancelled("database", events, time),
            ClosureService("worker") { await time.waitForSleepers(1) },
        ]
        await #expect(throws: ServiceEnded.self) { try await runAll(services, log: .silent) }
        #expect(events.all == ["database stopped"])
    }
}
