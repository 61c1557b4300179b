import Core
import Synchronization
import Testing

@Suite struct `Errands` {
    @Test func `go on to their end when whoever asked goes away`() async throws {
        let errands = Errands("test")
        let (gate, open) = AsyncStream<Void>.makeStream()
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let (done, finish) = AsyncStream<Bool>.makeStream()
        let asking = Task {
            try await errands.run {
                begin.yield()
                for await _ in gate { break }
                finish.yield(Task.isCancelled)
            }
        }
        for await _ in begun { break }
        asking.cancel()
        await #expect(throws: CancellationError.self) { try await asking.value }
        #expect(errands.count == 1)
        open.yield()
        for await wasCancelled in done {
            #expect(!wasCancelled)
            break
        }
    }

    @Test func `hand back what they came to`() async throws {
        struct Failed: Error {}
        let errands = Errands("test")
        #expect(try await errands.run { 5 } == 5)
        await #expect(throws: Failed.self) { try await errands.run { throw Failed() } }
    }

    @Test func `are waited for at the end, and refused after it`() async throws {
        let errands = Errands("test", capacity: 1)
        let (gate, open) = AsyncStream<Void>.makeStream()
        let (begun, begin) = AsyncStream<Void>.makeStream()
        let isDone = Atomic<Bool>(false)
        let service = Task { try await errands.run() }
        async let errand: Void = errands.run {
            begin.yield()
            for await _ in gate { break }
            isDone.store(true, ordering: .sequentiallyConsistent)
        }
        for await _ in begun { break }
        await #expect(throws: Errands.Refused.self) { try await errands.run {} }
        service.cancel()
        open.yield()
        _ = await service.result
        #expect(isDone.load(ordering: .sequentiallyConsistent))
        try await errand
        await #expect(throws: Errands.Refused.self) { try await errands.run {} }
    }

    @Test func `take turns where they want the same`() async throws {
        let turns = Turns<String>()
        let inside = Mutex((now: 0, most: 0, total: 0))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    await turns.take("one") {
                        inside.withLock { inside in
                            inside.now += 1
                            inside.most = max(inside.most, inside.now)
                        }
                        await Task.yield()
                        inside.withLock { inside in
                            inside.now -= 1
                            inside.total += 1
                        }
                    }
                }
            }
        }
        #expect(inside.withLock { $0.most } == 1)
        #expect(inside.withLock { $0.total } == 50)
    }
}
