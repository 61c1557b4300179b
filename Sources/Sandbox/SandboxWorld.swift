public import Core
import Synchronization

/// Where a world's changes are kept, so that it can go on after a restart.
public protocol SandboxJournal: Sendable {
    /// The options and every change since, in order; nil where nothing was kept.
    func load() async throws -> [JSONValue]?
    /// Begins anew with these options.
    func restart(_ options: JSONValue) async throws
    func append(_ changes: [JSONValue]) async throws
}

/// A simulated Telegram. It speaks TDLib's JSON with whoever is connected, keeps its own ledger of all that is
/// done in it, and can be told what shall go wrong.
public final class SandboxWorld: Service {
    public let name = "sandbox-world"
    let time: any TimeSource
    private let journal: (any SandboxJournal)?
    private let log: Log

    private struct State {
        var world: World
        var links: [Int: any EventSink] = [:]
        var nextLink = 1
        var toKeep: [JSONValue] = []
        /// A world made anew: what was to be kept of the old one is void.
        var restart: JSONValue?
    }
    private let state: Mutex<State>
    private let jobs: AsyncStream<TimedJob>
    private let jobSource: AsyncStream<TimedJob>.Continuation

    struct TimedJob: Sendable {
        let delay: Duration
        let job: World.Job
        let generation: Int
    }
    private let generation = Mutex(0)

    public init(
        _ options: WorldOptions, time: any TimeSource, journal: (any SandboxJournal)? = nil,
        log: Log = .silent
    ) {
        self.time = time
        self.journal = journal
        self.log = log
        state = Mutex(State(world: World(options)))
        (jobs, jobSource) = AsyncStream.makeStream()
    }

    // MARK: - Running

    /// Brings back what the journal kept, before anybody connects. Another seed is another world: it begins anew.
    public func restore() async throws {
        guard let journal else { return }
        guard let kept = try await journal.load(), let first = kept.first,
            let options = try? Fields.decode(WorldOptions.self, from: first),
            options.seed == self.options.seed
        else { return try await journal.restart(options.json) }
        state.withLock { state in
            let world = World(options)
            for change in kept.dropFirst() {
                if let effect = Effect(change) { world.apply(effect) }
            }
            state.world = world
        }
        log.info("sandbox.restored", ["changes": .int(kept.count - 1)])
    }

    /// Lets happen what is to happen later, and keeps the journal, until cancelled.
    public func run() async throws {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.keepJournal() }
            for await timed in self.jobs {
                group.addTask {
                    do { try await self.time.sleep(for: timed.delay) } catch { return }
                    self.perform(timed)
                }
            }
        }
        // This task is cancelled, and what happened last has to be kept all the same.
        let last = Task.detached { try await self.flushJournal() }  // rule: no-bare-task
        try await last.value
    }

    private func keepJournal() async {
        guard journal != nil else { return }
        while !Task.isCancelled {
            do {
                try await flushJournal()
                try await SystemTime().sleep(for: .milliseconds(100))
            } catch is CancellationError {
                return
            } catch {
                log.error("sandbox.journal-failed", ["error": .error(error)])
                try? await SystemTime().sleep(for: .seconds(1))
            }
        }
    }

    /// Writes what happened since.
    public func flushJournal() async throws {
        guard let journal else { return }
        let (restart, changes) = state.withLock { state in
            defer {
                state.restart = nil
                state.toKeep = []
            }
            return (state.restart, state.toKeep)
        }
        if let restart { try await journal.restart(restart) }
        if !changes.isEmpty { try await journal.append(changes) }
    }

    private func perform(_ timed: TimedJob) {
        guard timed.generation == generation.withLock({ $0 }) else { return }
        change { world in
            switch timed.job {
            case .request(let key, let request, let fault): world.arrive(key, request, fault: fault)
            case .renewQR(let key, let token): world.renewQR(key, token)
            case .react(let user, let hash): world.react(user, hash)
            }
        }
    }

    // MARK: - Connections

    /// A new connection; what comes out of the world for it goes to `sink`.
    func connect(_ sink: any EventSink) -> Int {
        state.withLock { state in
            defer { state.nextLink += 1 }
            state.links[state.nextLink] = sink
            return state.nextLink
        }
    }

    /// The other end is gone: its clients end as when a process is killed. Their sessions stay.
    func disconnect(_ link: Int) {
        state.withLock { state in
            state.links[link] = nil
            for client in state.world.clients.values where client.key.link == link {
                state.world.keepUnfinished(client)
            }
            state.world.clients = state.world.clients.filter { $0.key.link != link }
        }
    }

    /// Nobody listens any more at a connection's other end.
    func noteSilence(of link: Int) { change { _ = $0.silentLinks.insert(link) } }

    func noteVoice(of link: Int) { change { _ = $0.silentLinks.remove(link) } }

    func accept(_ request: JSONValue, link: Int, client: Int32) {
        change { $0.accept(request, for: ClientKey(link: link, number: client)) }
    }

    /// Does something to the world and hands out what comes of it.
    @discardableResult
    func change<Result: Sendable>(_ body: (World) throws -> Result) rethrows -> Result {
        let moment = time.now
        let (result, touched, timed) = try state.withLock {
            state -> (Result, [any EventSink], [(Duration, World.Job)]) in
            let world = state.world
            world.now = max(world.now, moment)
            let result = try body(world)
            // In the world's order, so that nobody sees an answer before the update it follows.
            var touched: [Int: any EventSink] = [:]
            for (client, line) in world.logLines {
                guard let sink = state.links[client.link] else { continue }
                sink.put(.log(line))
                touched[client.link] = sink
            }
            for (client, event) in world.outbox {
                guard let sink = state.links[client.link] else { continue }
                sink.put(.message(event))
                touched[client.link] = sink
            }
            world.logLines = []
            world.outbox = []
            if journal != nil { state.toKeep += world.journal.map(\.json) }
            world.journal = []
            defer { world.jobs = [] }
            return (result, Array(touched.values), world.jobs.map { ($0.delay, $0.job) })
        }
        let generation = generation.withLock { $0 }
        for (delay, job) in timed {
            jobSource.yield(TimedJob(delay: delay, job: job, generation: generation))
        }
        for sink in touched { sink.flush() }
        return result
    }

    // MARK: - Control

    public var options: WorldOptions { state.withLock { $0.world.options } }

    /// A new world from these options. Whoever is connected is told that its clients are gone.
    public func reset(_ options: WorldOptions) {
        var options = options
        if options.start == .epoch { options.start = time.now }
        let wanted = options
        generation.withLock { $0 += 1 }
        let sinks = state.withLock { state -> [any EventSink] in
            state.world = World(wanted)
            state.toKeep = []
            state.restart = wanted.json
            return Array(state.links.values)
        }
        for sink in sinks {
            sink.put(.reset)
            sink.flush()
        }
    }

    public var ledger: [LedgerEntry] { state.withLock { $0.world.ledger } }

    /// The ledger from an entry's number on, a part at a time.
    public func ledger(after number: Int, limit: Int) -> [LedgerEntry] {
        state.withLock { Array($0.world.ledger.dropFirst(max(0, number)).prefix(limit)) }
    }

    public func violations(tolerance: Duration = .seconds(5)) -> [Violation] {
        Judge.judge(ledger, tolerance: tolerance)
    }

    @discardableResult
    public func add(_ fault: Fault) -> Fault { change { $0.faults.add(fault) } }
    public var faults: [Fault] { state.withLock { $0.world.faults.all } }
    /// All of them where `id` is nil.
    @discardableResult
    public func removeFaults(_ id: Int? = nil) -> Bool { change { $0.faults.remove(id) } }
}

/// Where a connection's events go. `put` is called in order under the world's lock and only remembers; `flush`
/// hands out, outside of it.
protocol EventSink: Sendable {
    func put(_ event: SandboxEvent)
    func flush()
}

enum SandboxEvent: Sendable, Equatable {
    case message(JSONValue)
    case log(String)
    case reset
}
