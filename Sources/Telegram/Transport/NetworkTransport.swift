public import Core
public import HTTP
import Synchronization

/// A sandbox in another process: requests go as POSTs, everything that comes arrives on one long stream.
///
/// Both directions are numbered, so that a broken connection loses nothing and doubles nothing.
public final class NetworkTransport: TelegramTransport {
    private let address: String
    private let client: any HTTPSending
    private let headers: @Sendable () -> Headers
    private let time: any TimeSource
    private let random: any RandomSource
    private let log: Log

    private struct State {
        /// This run of ours at the sandbox. A new one after the sandbox forgot the old.
        var session: String
        var lastClient: ClientID = 0
        var nextNumber: Int64 = 1
        /// Sent, or to be sent, and not confirmed.
        var waiting: [(number: Int64, line: JSONValue)] = []
        var received: Int64 = 0
        var receive: (@Sendable (TransportEvent) -> Void)?
    }
    private let state: Mutex<State>
    private let bell: AsyncStream<Void>
    private let ring: AsyncStream<Void>.Continuation

    /// `headers` are asked for with every request: a token in them may be short-lived.
    public init(
        _ address: String, client: any HTTPSending, headers: @escaping @Sendable () -> Headers = { [:] },
        time: any TimeSource = SystemTime(), random: any RandomSource = SystemRandom(), log: Log = .silent
    ) {
        self.address = address
        self.client = client
        self.headers = headers
        self.time = time
        self.random = random
        self.log = log
        state = Mutex(State(session: Self.newSession(random)))
        (bell, ring) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    private static func newSession(_ random: any RandomSource) -> String {
        String(random.next(), radix: 36) + String(random.next(), radix: 36)
    }

    public func makeClient() -> ClientID {
        state.withLock { state in
            state.lastClient += 1
            return state.lastClient
        }
    }

    public func start(_ receive: @escaping @Sendable (TransportEvent) -> Void) {
        state.withLock { $0.receive = receive }
    }

    public func send(_ request: JSONValue, to client: ClientID) {
        state.withLock { state in
            state.waiting.append(
                (
                    state.nextNumber,
                    ["n": .int(state.nextNumber), "client": .int(Int64(client)), "request": request]
                ))
            state.nextNumber += 1
        }
        ring.yield()
    }

    public func run() async throws {
        defer { ring.finish() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await self.sendAll() }
            group.addTask { try await self.receiveAll() }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    // MARK: - Out

    private func sendAll() async throws {
        var failures = 0
        for await _ in bell {
            while let (session, batch) = nextBatch() {
                do {
                    let answer = try await client.send(
                        request(
                            .post, "/td/\(session)/requests", body: ["requests": .array(batch.map(\.line))]))
                    _ = try await answer.body.collect(upTo: 1 << 20)
                    switch answer.status {
                    case 200:
                        failures = 0
                        confirm(session, upTo: batch.last?.number ?? 0)
                    case 404: startAnew(session)
                    default: throw ClientError.badAnswer(reason: "status \(answer.status)")
                    }
                } catch let error as ClientError {
                    failures += 1
                    log.warning("sandbox.send-failed", ["error": .error(error)])
                    try await time.sleep(
                        for: Backoff(ceiling: .seconds(5)).delay(after: failures, SystemRandom()))
                }
            }
        }
        try Task.checkCancellation()
    }

    private func nextBatch() -> (session: String, batch: [(number: Int64, line: JSONValue)])? {
        state.withLock { state in
            state.waiting.isEmpty ? nil : (state.session, Array(state.waiting.prefix(500)))
        }
    }

    private func confirm(_ session: String, upTo number: Int64) {
        state.withLock { state in
            guard state.session == session else { return }
            state.waiting.removeAll { $0.number <= number }
        }
    }

    // MARK: - In

    private func receiveAll() async throws {
        var failures = 0
        while true {
            let (session, received) = state.withLock { ($0.session, $0.received) }
            do {
                let answer = try await client.send(
                    request(.get, "/td/\(session)/events?after=\(received)"))
                guard answer.status == 200 else {
                    _ = try await answer.body.collect(upTo: 1 << 20)
                    if answer.status == 404 {
                        startAnew(session)
                        continue
                    }
                    throw ClientError.badAnswer(reason: "status \(answer.status)")
                }
                failures = 0
                var lines = LineReader()
                for try await chunk in answer.body {
                    for line in lines.add(chunk) { take(line, session) }
                    // Begun anew meanwhile: the old stream would go on for ever, and say nothing.
                    if state.withLock({ $0.session }) != session { break }
                }
            } catch let error as ClientError {
                failures += 1
                log.warning("sandbox.receive-failed", ["error": .error(error)])
                try await time.sleep(
                    for: Backoff(ceiling: .seconds(5)).delay(after: failures, SystemRandom()))
            }
            try Task.checkCancellation()
        }
    }

    private func take(_ line: [UInt8], _ session: String) {
        guard !line.isEmpty, let event = try? JSONValue(parsing: line), let number = event["n"]?.intValue
        else { return }
        let receive = state.withLock { state -> (@Sendable (TransportEvent) -> Void)? in
            guard state.session == session, number > state.received else { return nil }
            state.received = number
            return state.receive
        }
        if let message = event["message"] {
            receive?(.message(message))
        } else if let line = event["log"]?.stringValue {
            receive?(.log(line))
        } else if event["reset"] != nil, receive != nil {
            startAnew(session)
        }
    }

    /// The sandbox does not know us any more: all our clients are gone, and nothing of theirs is worth sending.
    private func startAnew(_ session: String) {
        let receive = state.withLock { state -> (@Sendable (TransportEvent) -> Void)? in
            guard state.session == session else { return nil }
            state.session = Self.newSession(random)
            state.waiting = []
            state.nextNumber = 1
            state.received = 0
            return state.receive
        }
        receive?(.connectionReset)
    }

    private func request(_ method: Method, _ path: String, body: JSONValue? = nil) -> ClientRequest {
        var headers = headers()
        if body != nil { headers["Content-Type"] = "application/json" }
        return ClientRequest(
            method, address + path, headers: headers, body: body.map { Body($0.bytes) } ?? .empty,
            deadline: .seconds(20), idle: .seconds(60))
    }
}

/// Cuts chunks into lines.
struct LineReader {
    private var rest: [UInt8] = []

    mutating func add(_ chunk: [UInt8]) -> [[UInt8]] {
        var lines: [[UInt8]] = []
        var start = chunk.startIndex
        while let end = chunk[start...].firstIndex(of: 0x0A) {
            lines.append(rest + chunk[start..<end])
            rest = []
            start = end + 1
        }
        rest += chunk[start...]
        return lines
    }
}
