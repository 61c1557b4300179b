import CMicroHTTPD
import Core
import HTTP
import Synchronization

/// One request that is answered by a task, and the answer while it is written: the place where the
/// connection's thread and the handler's task meet.
///
/// The thread suspends the connection where it has to wait for the handler; the handler's side resumes it.
/// Both happen under one lock, so that no wake-up is lost and a connection that is gone is never resumed.
final class Exchange: Sendable {
    /// How much of a body is kept here, in either direction.
    static let buffer = 64 << 10

    private struct Waiting: Sendable {
        let id: UInt64
        let bytes: Bytes
        let continuation: CheckedContinuation<Void, any Error>
    }
    private struct State: Sendable {
        // Safe: used under the lock alone, and not after `isGone`.
        let connection: Unchecked<OpaquePointer>
        let daemon: Daemon
        var isSuspended = false
        /// The daemon's thread was asked to resume it.
        var isToResume = false
        /// The client is gone or has everything: nobody works for it any more.
        var isOver = false
        /// libmicrohttpd has let go of it, too.
        var isGone = false
        var task: Task<Void, Never>?

        var received = Bytes()
        var isReceived = false
        var refusal: (any Error)?
        var puller: CheckedContinuation<Bytes?, any Error>?
        /// The client waits for `100 Continue` until the handler asks for the body.
        var isBodyWanted = false

        var response: Response?

        var outgoing = Bytes()
        var sent = 0
        var end: StreamEnd?
        /// The server stops: a stream that would go on for ever ends, and ends properly.
        var isEnding = false
        var writers: [Waiting] = []
        var nextID: UInt64 = 0

        /// On the daemon's own thread: 0.9.75 looks for what was resumed before it looks for what has come, and
        /// forgets a wake-up between the two unless it runs in a thread of its own.
        mutating func resume(_ exchange: Exchange) {
            guard isSuspended, !isGone else { return }
            guard daemon.loop.isCurrent else {
                guard !isToResume else { return }
                isToResume = true
                return daemon.loop.perform { exchange.resume() }
            }
            isSuspended = false
            MHD_resume_connection(connection.value)
            daemon.isStirred = true
        }
        mutating func suspend() {
            guard !isSuspended else { return }
            isSuspended = true
            MHD_suspend_connection(connection.value)
        }
        /// Has libmicrohttpd look at the connection once more after what it does now: 0.9.75 forgets, with
        /// epoll, a connection that ends because its answer's bytes do, and it would stay open for ever.
        func lookAgain() {
            MHD_suspend_connection(connection.value)
            MHD_resume_connection(connection.value)
            daemon.isStirred = true
        }
    }
    private enum StreamEnd { case finished, failed }

    private let state: Mutex<State>
    private let executor: EventLoop?

    init(_ connection: OpaquePointer, _ daemon: Daemon) {
        state = Mutex(State(connection: Unchecked(value: connection), daemon: daemon))
        executor = daemon.executor
    }

    private func resume() {
        state.withLock { state in
            state.isToResume = false
            state.resume(self)
        }
    }

    // MARK: - The handler's side

    func run(_ request: Request, _ responder: any Responder) {
        let task = Task.detached(executorPreference: executor) {
            let response = await responder.answer(request)
            self.answer(response)
            if case .stream(_, let write) = response.content, request.method != .head, response.mayHaveBody {
                await self.stream(write)
            }
        }
        let isOver = state.withLock { state in
            state.task = task
            return state.isOver
        }
        if isOver { task.cancel() }
    }

    private func answer(_ response: Response) {
        state.withLock { state in
            state.response = response
            state.resume(self)
        }
    }

    private func stream(_ write: @Sendable (any BodyWriter) async throws -> Void) async {
        var end = StreamEnd.finished
        do {
            try await write(Writer(exchange: self))
        } catch {
            end = .failed
        }
        state.withLock { state in
            state.end = state.isEnding ? .finished : end
            state.resume(self)
        }
    }

    /// The next piece of the request's body; `nil` at its end.
    func pull() async throws -> Bytes? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let outcome: Result<Bytes?, any Error>? = state.withLock { state in
                    if !state.received.isEmpty {
                        defer { state.received = Bytes() }
                        state.resume(self)
                        return .success(state.received)
                    }
                    if let refusal = state.refusal { return .failure(refusal) }
                    if state.isReceived { return .success(nil) }
                    if state.isOver || Task.isCancelled || state.puller != nil {
                        return .failure(CancellationError())
                    }
                    state.puller = continuation
                    state.isBodyWanted = true
                    state.resume(self)
                    return nil
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            let puller = state.withLock { state in
                defer { state.puller = nil }
                return state.puller
            }
            puller?.resume(throwing: CancellationError())
        }
    }

    fileprivate func write(_ bytes: Bytes) async throws {
        if bytes.isEmpty { return try Task.checkCancellation() }
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                let outcome: Result<Void, any Error>? = state.withLock { state in
                    if state.isOver || Task.isCancelled { return .failure(CancellationError()) }
                    guard state.writers.isEmpty, state.outgoing.count - state.sent < Self.buffer else {
                        state.writers.append(Waiting(id: id, bytes: bytes, continuation: continuation))
                        return nil
                    }
                    state.outgoing.append(contentsOf: bytes)
                    state.resume(self)
                    return .success(())
                }
                if let outcome { continuation.resume(with: outcome) }
            }
        } onCancel: {
            let waiting = state.withLock { state in
                let index = state.writers.firstIndex { $0.id == id }
                return index.map { state.writers.remove(at: $0) }
            }
            waiting?.continuation.resume(throwing: CancellationError())
        }
    }

    // MARK: - The connection's side

    enum Step {
        case goOn
        case answer(Response)
        case close
    }

    /// Before the body: waits for the answer, or for the handler to want the body.
    func waitBeforeBody() -> Step {
        state.withLock { state in
            if state.isOver { return .close }
            if let response = state.response { return .answer(response) }
            if !state.isBodyWanted { state.suspend() }
            return .goOn
        }
    }

    /// Takes a piece of the body, or suspends the connection because nobody has asked for the last one.
    func receive(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        var puller: CheckedContinuation<Bytes?, any Error>?
        let isTaken = state.withLock { state in
            if state.isOver || state.response != nil || state.refusal != nil { return true }
            if let waiting = state.puller {
                puller = waiting
                state.puller = nil
                return true
            }
            guard state.received.count < Self.buffer else {
                state.suspend()
                return false
            }
            state.received.append(contentsOf: bytes)
            return true
        }
        puller?.resume(returning: Bytes(bytes))
        return isTaken
    }

    /// The body is more than it may be: tells the handler, and waits for what it answers.
    func refuseBody(_ error: any Error) {
        let puller = state.withLock { state in
            state.refusal = error
            if state.response == nil, !state.isOver { state.suspend() }
            defer { state.puller = nil }
            return state.puller
        }
        puller?.resume(throwing: error)
    }

    /// After the body: waits for the answer.
    func waitForAnswer() -> Step {
        var puller: CheckedContinuation<Bytes?, any Error>?
        let step: Step = state.withLock { state in
            if state.isOver { return .close }
            state.isReceived = true
            puller = state.puller
            state.puller = nil
            if let response = state.response { return .answer(response) }
            state.suspend()
            return .goOn
        }
        puller?.resume(returning: nil)
        return step
    }

    /// Gives libmicrohttpd the next bytes of a streamed answer.
    func send(_ room: UnsafeMutableBufferPointer<UInt8>) -> Int {
        var released: [CheckedContinuation<Void, any Error>] = []
        let count: Int = state.withLock { state in
            if state.isOver {
                state.lookAgain()
                return convoke_end_with_error
            }
            let count = min(room.count, state.outgoing.count - state.sent)
            guard count > 0 else {
                guard let end = state.end else {
                    state.suspend()
                    return 0
                }
                state.lookAgain()
                return end == .finished ? convoke_end_of_stream : convoke_end_with_error
            }
            state.outgoing.withUnsafeBufferPointer { bytes in
                _ = room.update(
                    fromContentsOf: UnsafeBufferPointer(rebasing: bytes[state.sent..<(state.sent + count)]))
            }
            state.sent += count
            if state.sent == state.outgoing.count {
                state.outgoing.removeAll(keepingCapacity: state.outgoing.capacity <= 2 * Self.buffer)
                state.sent = 0
            }
            while let next = state.writers.first, state.outgoing.count - state.sent < Self.buffer {
                state.writers.removeFirst()
                state.outgoing.append(contentsOf: next.bytes)
                released.append(next.continuation)
            }
            return count
        }
        for continuation in released { continuation.resume() }
        return count
    }

    /// Ends a stream of events: its client comes back by itself, and it would never end otherwise.
    func endEvents() {
        let task = state.withLock { state -> Task<Void, Never>? in
            guard let response = state.response, !state.isEnding, case .stream = response.content,
                response.headers["content-type"].map({ MediaType($0).hasNoEnd }) ?? false
            else { return nil }
            state.isEnding = true
            return state.task
        }
        task?.cancel()
    }

    /// The client is gone: the connection, where it is suspended, is woken so that it closes.
    func abandon() { end(wake: true) }

    /// libmicrohttpd has done with this request; the connection may be another's from now on.
    func close() { end(wake: false) }

    private func end(wake: Bool) {
        let (task, puller, writers) = state.withLock { state in
            if wake { state.resume(self) } else { state.isGone = true }
            state.isOver = true
            defer {
                state.puller = nil
                state.writers = []
                state.task = nil
            }
            return (state.task, state.puller, state.writers)
        }
        task?.cancel()
        puller?.resume(throwing: CancellationError())
        for writer in writers { writer.continuation.resume(throwing: CancellationError()) }
    }

    /// An answer that was given before the body's end.
    var earlyAnswer: Response? { state.withLock { $0.response } }

    /// Whether a handler writes the answer's body, in its own time.
    var isStreaming: Bool {
        state.withLock { if case .stream? = $0.response?.content { true } else { false } }
    }

    /// Whether libmicrohttpd looks away from the connection's socket at the moment.
    var isSuspended: Bool { state.withLock { $0.isSuspended } }
}

private struct Writer: BodyWriter {
    let exchange: Exchange
    func write(_ bytes: Bytes) async throws { try await exchange.write(bytes) }
}

/// Carries what the compiler cannot see to be safe past its checks; each use says why it is.
// Safe to the extent that each use says so.
struct Unchecked<Value>: @unchecked Sendable { let value: Value }

extension Response {
    /// Whether HTTP allows the answer a body.
    var mayHaveBody: Bool { status >= 200 && status != 204 && status != 304 }
}
