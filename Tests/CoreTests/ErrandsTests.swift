import Core
import Synchronization
import Testing

@Suite struct `Errands that were taken on` {
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
        let wasDone = isDone.load(ordering: .sequentiallyConsistent)
        #expect(wasDone)
        try await errand
        await #expect(throws: Errands.Refused.self) { try await errands.run {} }
    }

    @Test func `take turns where they want the same`() async throws {
        let turns = Turns<String>()
        let inside = Inside()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask {
                    await turns.take("one") {
                        await inside.enter()
                        await Task.yield()
                        await inside.leave()
                    }
                }
            }
        }
        #expect(await inside.most == 1)
        #expect(await inside.total == 50)
    }

    private actor Inside {
        private var now = 0
        private(set) var most = 0
        private(set) var total = 0

        func enter() {
            now += 1
            most = max(most, now)
        }

        func leave() {
            now -= 1
            total += 1
        }
    }
}
