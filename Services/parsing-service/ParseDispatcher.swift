import Broker
import Core
import Parsing
import ServiceKit
import Synchronization

/// Which tasks are worked on here, and how to stop one at once.
final class RunningParses: Sendable {
    private struct Entry {
        let user: Int64
        let stop: AsyncStream<Void>.Continuation
    }
    private let entries = Mutex<[Int64: Entry]>([:])

    var count: Int { entries.withLock { $0.count } }

    func add(_ task: ParseTask) -> AsyncStream<Void> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: Void.self, bufferingPolicy: .bufferingNewest(1))
        entries.withLock { $0[task.number] = Entry(user: task.user, stop: continuation) }
        return stream
    }

    func remove(_ task: ParseTask) {
        entries.withLock { $0.removeValue(forKey: task.number) }?.stop.finish()
    }

    func stop(_ task: ParseTask) { entries.withLock { _ = $0[task.number]?.stop.yield() } }

    func stopAll(of user: Int64) {
        entries.withLock { for entry in $0.values where entry.user == user { entry.stop.yield() } }
    }
}

/// Takes up tasks as long as there is room, in the order the store knows, and works on all at once.
final class ParseDispatcher: Service {
    static let queues = TaskPriority.allCases.reversed().map { Queue($0.queue) }
    /// A message that was lost does no harm for longer.
    static let interval: Duration = .seconds(5)
    static let signOfLife: Duration = .seconds(5)

    let name = "parsing-worker"
    private let engine: ParseEngine
    private let store: ParseStore
    private let running: RunningParses
    private let errands: Errands
    private let broker: any Broker
    private let settings: ParsingSettings
    private let metrics: ParsingMetrics
    private let readiness: Readiness
    private let time: any TimeSource
    private let random: any RandomSource
    private let log: Log
    private let bell: (stream: AsyncStream<Void>, continuation: AsyncStream<Void>.Continuation)

    init(
        engine: ParseEngine, store: ParseStore, running: RunningParses, errands: Errands, broker: any Broker,
        settings: ParsingSettings, metrics: ParsingMetrics, readiness: Readiness, time: any TimeSource,
        random: any RandomSource, log: Log
    ) {
        self.engine = engine
        self.store = store
        self.running = running
        self.errands = errands
        self.broker = broker
        self.settings = settings
        self.metrics = metrics
        self.readiness = readiness
        self.time = time
        self.random = random
        self.log = log
        bell = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    }

    /// Somebody has seen that there may be something to do.
    func ring() { bell.continuation.yield() }

    /// Tells the workers of all processes. The store knows already, so a failure only costs time.
    func announce(_ task: ParseTask) async {
        let body: JSONValue = ["task_id": .string(task.id)]
        do {
            try await broker.publish(
                Message(id: "\(task.id)-\(task.revision)", body: body.bytes), to: task.priority.queue)
        } catch {
            log.warning("parse.not-announced", ["task": .id(task.id), "error": .error(error)])
        }
        ring()
    }

    func run() async throws {
        try await readiness.wait(time)
        try await retry(attempts: 1000, time: time, random: random, isWorthwhile: { _ in true }) {
            try await self.store.forgetClaims(of: self.settings.worker)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.ringNowAndThen() }
            group.addTask { try await self.takeUp() }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private func ringNowAndThen() async {
        while !Task.isCancelled {
            ring()
            var pause = Self.interval
            if let due = try? await store.nextDue(after: time.now) {
                pause = min(pause, max(due - time.now, .milliseconds(20)))
            }
            try? await time.sleep(for: pause)
        }
    }

    private func takeUp() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for await _ in self.bell.stream {
                while self.running.count < self.settings.places {
                    let claimed: ParseTask?
                    do {
                        claimed = try await self.store.claim(
                            self.token(), by: self.settings.worker, at: self.time.now)
                    } catch  where !(error is CancellationError) {
                        self.log.warning("parse.not-claimed", ["error": .error(error)])
                        break
                    }
                    guard let task = claimed else { break }
                    let stop = self.running.add(task)
                    group.addTask {
                        await self.work(on: task, until: stop)
                        self.running.remove(task)
                        self.ring()
                    }
                }
            }
        }
        try Task.checkCancellation()
    }

    private func token() -> String { random.bytes(12).map { String($0, radix: 16) }.joined(separator: ".") }

    private func work(on task: ParseTask, until stop: AsyncStream<Void>) async {
        let begun = time.uptime
        log.info("parse.taken", ["task": .id(task.id), "user_id": .int(task.user)])
        var outcome: ParseEngine.Outcome?
        do {
            outcome = try await withThrowingTaskGroup(of: ParseEngine.Outcome?.self) { group in
                group.addTask { try await self.engine.work(on: task) }
                group.addTask {
                    for await _ in stop { return nil }
                    // Only the end of this task's work ends it.
                    try await self.time.sleep(for: .days(1))
                    return nil
                }
                group.addTask {
                    try await self.keepAlive(task)
                    return nil
                }
                defer { group.cancelAll() }
                var outcome = try await group.next() ?? nil
                group.cancelAll()
                // What was cut off may have come to its end at the same moment.
                while outcome == nil, let last = await group.nextResult() {
                    outcome = (try? last.get()) ?? nil
                }
                return outcome
            }
        } catch is CancellationError {
            outcome = nil
        } catch {
            log.error("parse.broke-off", ["task": .id(task.id), "error": .error(error)])
        }
        metrics.ended(outcome, after: time.uptime - begun)
        guard outcome == nil else { return }
        // Also when this process stops: whoever takes over need not wait for the claim to run out.
        do {
            let engine = engine
            try await errands.run { try await engine.abandon(task) }
        } catch {
            log.warning("parse.not-given-back", ["task": .id(task.id), "error": .error(error)])
        }
    }

    /// Returns when the claim has been lost for a while: a task that ends has none either, and whoever works on it
    /// is just about to say so.
    private func keepAlive(_ task: ParseTask) async throws {
        while true {
            try await time.sleep(for: Self.signOfLife)
            do {
                guard try await store.keepClaim(task, at: time.now) else {
                    return try await time.sleep(for: Self.signOfLife)
                }
            } catch  where !(error is CancellationError) {
                log.warning("parse.no-sign-of-life", ["task": .id(task.id), "error": .error(error)])
            }
        }
    }
}

/// Hears from the queues that there is something to do. No message is held while a task is worked on.
struct ParseQueueListener: Service {
    let name = "parsing-queues"
    let broker: any Broker
    let dispatcher: ParseDispatcher
    let readiness: Readiness
    let time: any TimeSource

    func run() async throws {
        try await readiness.wait(time)
        let dispatcher = dispatcher
        try await broker.consume(ParseDispatcher.queues.map(\.name), concurrency: 4) { _ in
            dispatcher.ring()
            return .ack
        }
    }
}
