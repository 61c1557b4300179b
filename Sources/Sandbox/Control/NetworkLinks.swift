import Core
public import HTTP
import Synchronization

/// The sandbox's end of a connection from another process.
public final class NetworkLinks: Sendable {
    private let world: SandboxWorld
    private struct Link {
        let number: Int
        let sink: BufferedSink
        var received: Int64 = 0
    }
    private let links = Mutex<[String: Link]>([:])

    public init(_ world: SandboxWorld) { self.world = world }

    public func register(on router: inout Router) {
        router.on("POST", "/td/{session}/requests", requests)
        router.on("GET", "/td/{session}/events", events)
        router.on("DELETE", "/td/{session}", end)
    }

    /// Known links, and new ones from their first number on; a link we forgot is not found.
    private func link(_ session: String, isFirst: Bool) throws -> Link {
        if isFirst { forgetTheDead() }
        return try links.withLock { links in
            if let link = links[session] { return link }
            guard isFirst, !session.isEmpty, session.utf8.count <= 64 else { throw Problem.notFound }
            let sink = BufferedSink()
            let link = Link(number: world.connect(sink), sink: sink)
            links[session] = link
            return link
        }
    }

    /// Connections whose reader has been gone for minutes are those of processes that ended.
    private func forgetTheDead() {
        let now = SystemTime().uptime
        let dead = links.withLock { links in
            let dead = links.filter { $0.value.sink.silentSince.map { $0 + .minutes(5) < now } ?? false }
            for session in dead.keys { links[session] = nil }
            return dead.values.map(\.number)
        }
        for link in dead { world.disconnect(link) }
    }

    private func requests(_ request: Request) async throws -> Response {
        let session = request.parameter("session")
        let lines = try await request.json(limit: 64 << 20)["requests"]?.arrayValue ?? []
        let link = try link(session, isFirst: lines.first?["n"]?.intValue == 1)
        for line in lines {
            guard let number = line["n"]?.intValue,
                let client = line["client"]?.intValue.flatMap({ Int32(exactly: $0) }),
                let body = line["request"]
            else { throw Problem.notFound }
            // What came twice because an answer was lost is done once.
            let isNew = links.withLock { links in
                guard let known = links[session], number > known.received else { return false }
                links[session]?.received = number
                return true
            }
            if isNew { world.accept(body, link: link.number, client: client) }
        }
        return .json(["accepted": JSONValue(lines.count)] as JSONValue)
    }

    private func events(_ request: Request) async throws -> Response {
        let session = request.parameter("session")
        // What cannot be read is no beginning: an endless stream from there would be nobody's.
        guard let after = request.query["after"].map({ Int64($0) }) ?? 0 else { throw Problem.notFound }
        let link = try link(session, isFirst: after == 0)
        guard link.sink.holds(after: after) else { throw Problem.notFound }
        let turn = link.sink.open()
        world.noteVoice(of: link.number)
        return .stream(type: "application/x-ndjson; end=never") { [world] writer in
            defer {
                // The last reader is gone. A network that stumbles comes again at once; a process that died
                // does not, and its clients are as dead as it is.
                if link.sink.close(turn) { world.noteSilence(of: link.number) }
            }
            var last = after
            // Something at once, so that the other end knows it is heard.
            try await writer.write("\n")
            while true {
                let batch = link.sink.take(after: last)
                if batch.isEmpty {
                    guard link.sink.isReader(turn) else { return }
                    let isThere = try await link.sink.wait(after: last, for: .seconds(15))
                    if !isThere { try await writer.write("\n") }
                    continue
                }
                var bytes: [UInt8] = []
                for (number, event) in batch {
                    bytes += event.line(number).bytes
                    bytes.append(0x0A)
                    last = number
                }
                try await writer.write(bytes)
            }
        }
    }

    private func end(_ request: Request) async throws -> Response {
        let link = links.withLock { $0.removeValue(forKey: request.parameter("session")) }
        guard let link else { throw Problem.notFound }
        world.disconnect(link.number)
        return .noContent
    }
}

extension SandboxEvent {
    fileprivate func line(_ number: Int64) -> JSONValue {
        switch self {
        case .message(let message): ["n": .int(number), "message": message]
        case .log(let line): ["n": .int(number), "log": .string(line)]
        case .reset: ["n": .int(number), "reset": true]
        }
    }
}

/// Keeps events until they are read, and a while longer for a reader whose connection broke.
final class BufferedSink: EventSink {
    private static let kept = 20_000
    private struct State {
        var events: [(number: Int64, event: SandboxEvent)] = []
        var last: Int64 = 0
        /// Up to here events have been read by somebody, so they may be dropped.
        var read: Int64 = 0
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter: UInt64 = 0
        var turn = 0
        /// Without a reader, since when; a new one has the time until its first reader comes.
        var silentSince: Duration? = SystemTime().uptime
    }
    private let state = Mutex(State())

    func put(_ event: SandboxEvent) {
        state.withLock { state in
            state.last += 1
            state.events.append((state.last, event))
            if state.events.count > 2 * Self.kept {
                let oldest = min(state.read, state.last - Int64(Self.kept))
                state.events.removeAll { $0.number <= oldest }
            }
        }
    }

    func flush() {
        let waiters = state.withLock { state in
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Whether nothing after this number has been dropped.
    func holds(after number: Int64) -> Bool {
        state.withLock { state in
            number <= state.last
                && (state.events.first.map { $0.number <= number + 1 } ?? (number == state.last))
        }
    }

    /// The newest reader is the only one.
    func open() -> Int {
        let turn = state.withLock { state in
            state.turn += 1
            state.silentSince = nil
            return state.turn
        }
        flush()
        return turn
    }

    func isReader(_ turn: Int) -> Bool { state.withLock { $0.turn == turn } }

    /// True where it was the last reader.
    func close(_ turn: Int) -> Bool {
        state.withLock { state in
            guard state.turn == turn else { return false }
            state.silentSince = SystemTime().uptime
            return true
        }
    }

    var silentSince: Duration? { state.withLock { $0.silentSince } }

    func take(after number: Int64) -> [(Int64, SandboxEvent)] {
        state.withLock { state in
            state.read = max(state.read, number)
            guard let first = state.events.first?.number else { return [] }
            let start = Int(max(0, number + 1 - first))
            guard start < state.events.count else { return [] }
            return state.events[start...].prefix(500).map { ($0.number, $0.event) }
        }
    }

    /// True when there is something to take, false when the time is over.
    func wait(after number: Int64, for limit: Duration) async throws -> Bool {
        do {
            try await withDeadline(limit, SystemTime()) { try await self.waitForEvent(after: number) }
            return true
        } catch is DeadlineExceeded {
            return false
        }
    }

    private func waitForEvent(after number: Int64) async throws {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { (waiter: CheckedContinuation<Void, Never>) in
                let isThere = state.withLock { state in
                    if Task.isCancelled || state.last > number { return true }
                    state.waiters[id] = waiter
                    return false
                }
                if isThere { waiter.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
        try Task.checkCancellation()
    }
}
