import Core
import HTTP
import Synchronization

/// One request and its answer: where the caller's task and the loop's thread meet.
///
/// Both sides only change the state under its lock and wake each other; libcurl is called by the loop alone.
final class Exchange: Sendable {
    /// Why and how it ended.
    enum End: Sendable {
        case complete
        case failed(any Error)
    }

    let request: ClientRequest
    let target: Target
    /// When it was asked for, and until when the head has to be there.
    let begun: Duration
    let due: Duration
    private let limits: HTTPClient.Limits
    /// Its place in the loop's list of transfers; the loop's thread alone uses it.
    let place = Atomic<Int>(-1)

    private struct State {
        /// Where it runs; `nil` while it waits for its turn.
        var loop: (any TransferLoop)?
        var caller: CheckedContinuation<ClientResponse, any Error>?
        /// What the caller is told before it has begun to wait.
        var early: (any Error)?
        var end: End?

        // The answer's body, on its way from the loop to the reader.
        var received = Bytes()
        var isReceivingPaused = false
        var reader: CheckedContinuation<Bytes?, any Error>?

        // The request's body, on its way from the producer to the loop.
        var outgoing = Bytes()
        var outgoingOffset = 0
        var outgoingTotal = 0
        var producerEnd: End?
        var isSendingPaused = false
        var producer: CheckedContinuation<Void, any Error>?
        var pump: Task<Void, Never>?
    }
    private let state = Mutex(State())

    init(_ request: ClientRequest, target: Target, begun: Duration, limits: HTTPClient.Limits) {
        self.request = request
        self.target = target
        self.begun = begun
        self.limits = limits
        due = begun + request.deadline
    }

    // MARK: - The caller

    func wait(_ caller: CheckedContinuation<ClientResponse, any Error>) {
        let early = state.withLock { state in
            if state.early == nil { state.caller = caller }
            return state.early
        }
        if let early { caller.resume(throwing: early) }
    }

    /// Marks it as running on `loop`; false when it has been given up meanwhile.
    func begin(on loop: any TransferLoop) -> Bool {
        state.withLock { state in
            guard state.end == nil else { return false }
            state.loop = loop
            return true
        }
    }

    /// Gives it up: the caller's task was cancelled, or nobody holds the body any longer.
    func abandon() {
        if let loop = finish(.failed(CancellationError())) { loop.post(.stop(self)) }
    }

    // MARK: - The answer

    /// Takes bytes of the answer's body; false when the reader has to catch up first.
    func receive(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        state.withLock { state in
            guard state.received.count < limits.readAhead else {
                state.isReceivingPaused = true
                return false
            }
            state.received.append(contentsOf: bytes)
            return true
        }
    }

    /// Gives the caller the head, and the body as far as it has come.
    func deliver(_ head: AnswerHead) {
        let caller = state.withLock { state in
            defer { state.caller = nil }
            return state.caller
        }
        guard let caller else { return }
        let reader = AnswerReader(self)
        let length = head.bodyLength(of: request.method)
        caller.resume(
            returning: ClientResponse(
                status: head.status, headers: head.headers,
                body: Body(length: length) { try await reader.next() }))
    }

    /// Wakes the reader, if it waits and there is something for it: once for all that one turn of the loop
    /// has brought.
    func wakeReader() {
        let (reader, bytes): (CheckedContinuation<Bytes?, any Error>?, Bytes) = state.withLock { state in
            guard let reader = state.reader, !state.received.isEmpty else { return (nil, []) }
            state.reader = nil
            return (reader, takeReceived(&state))
        }
        reader?.resume(returning: bytes)
    }

    private func takeReceived(_ state: inout State) -> Bytes {
        let bytes = state.received
        state.received = []
        if state.isReceivingPaused {
            state.isReceivingPaused = false
            state.loop?.post(.receive(self))
        }
        return bytes
    }

    /// Whether the other side is what is waited for, not our own reader or producer.
    var isOthersTurn: Bool { state.withLock { !$0.isReceivingPaused && !$0.isSendingPaused } }

    fileprivate func next() async throws -> Bytes? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { reader in
                let result: Result<Bytes?, any Error>? = state.withLock { state in
                    if !state.received.isEmpty { return .success(takeReceived(&state)) }
                    switch state.end {
                    case .complete: return .success(nil)
                    case .failed(let error): return .failure(error)
                    case nil: break
                    }
                    precondition(state.reader == nil, "a body has one reader")
                    state.reader = reader
                    return nil
                }
                if let result { reader.resume(with: result) }
            }
        } onCancel: {
            abandon()
        }
    }

    // MARK: - The end

    var hasEnded: Bool { state.withLock { $0.end != nil } }

    /// Ends it, once: whoever waits is told. Returns the loop that may still be at work on it.
    @discardableResult
    func finish(_ end: End, head: AnswerHead? = nil) -> (any TransferLoop)? {
        let (old, isFirst) = state.withLock { state in
            guard state.end == nil else { return (State(), false) }
            let old = state
            state.end = end
            state.caller = nil
            state.reader = nil
            state.producer = nil
            state.pump = nil
            state.outgoing = []
            if case .failed(let error) = end, old.caller == nil { state.early = error }
            // A reader that waits gets what there is; the end comes with its next call.
            if old.caller != nil || old.reader != nil { state.received = [] }
            return (old, true)
        }
        guard isFirst else { return nil }
        old.pump?.cancel()
        old.producer?.resume(throwing: CancellationError())
        switch end {
        case .complete:
            if let head {
                old.caller?.resume(
                    returning: ClientResponse(
                        status: head.status, headers: head.headers, body: Body(old.received)))
            }
            old.reader?.resume(returning: old.received.isEmpty ? nil : old.received)
        case .failed(let error):
            old.caller?.resume(throwing: error)
            old.reader?.resume(throwing: error)
        }
        return old.loop
    }

    // MARK: - The request's body

    /// Begins to pull the request's body. It outlives the call that sends: an answer may begin, and be
    /// read, while the request is still being written.
    func startPump() {
        if let bytes = request.body.bytesAtHand {
            state.withLock { state in
                state.outgoing = bytes
                state.outgoingTotal = bytes.count
                state.producerEnd = .complete
            }
            return
        }
        let body = request.body
        let pump = Task.detached { [self] in
            do {
                for try await chunk in body where !chunk.isEmpty { try await offer(chunk) }
                endProduction(.complete)
            } catch {
                endProduction(.failed(error))
            }
        }
        let isOver = state.withLock { state in
            state.pump = pump
            return state.end != nil
        }
        if isOver { pump.cancel() }
    }

    /// Returns when the loop has taken the chunk before this one, so that at most two are in memory.
    private func offer(_ chunk: Bytes) async throws {
        try await withCheckedThrowingContinuation { (producer: CheckedContinuation<Void, any Error>) in
            let isOver = state.withLock { state in
                guard state.end == nil else { return true }
                state.producer = producer
                state.outgoing = chunk
                state.outgoingOffset = 0
                state.outgoingTotal += chunk.count
                resumeSending(&state)
                return false
            }
            if isOver { producer.resume(throwing: CancellationError()) }
        }
    }

    private func endProduction(_ end: End) {
        state.withLock { state in
            guard state.end == nil else { return }
            state.producerEnd = end
            resumeSending(&state)
        }
    }

    private func resumeSending(_ state: inout State) {
        guard state.isSendingPaused else { return }
        state.isSendingPaused = false
        state.loop?.post(.send(self))
    }

    enum Outgoing {
        case bytes(Int)
        case pause
        case end
        case failed(any Error)
    }

    /// Fills `space` with the next bytes of the request's body.
    func take(into space: UnsafeMutableRawBufferPointer) -> Outgoing {
        let (result, producer): (Outgoing, CheckedContinuation<Void, any Error>?) = state.withLock { state in
            let left = state.outgoing.count - state.outgoingOffset
            if let length = request.body.length, state.outgoingTotal > length {
                return (
                    .failed(ClientError.inDoubt(reason: "the request's body is longer than it said")), nil
                )
            }
            if left > 0 {
                let count = min(left, space.count)
                let offset = state.outgoingOffset
                state.outgoing.withUnsafeBytes { bytes in
                    space.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]))
                }
                state.outgoingOffset += count
                guard state.outgoingOffset == state.outgoing.count else { return (.bytes(count), nil) }
                defer { state.producer = nil }
                return (.bytes(count), state.producer)
            }
            switch state.producerEnd {
            case .complete:
                if let length = request.body.length, state.outgoingTotal < length {
                    return (
                        .failed(ClientError.inDoubt(reason: "the request's body is shorter than it said")),
                        nil
                    )
                }
                return (.end, nil)
            case .failed(let error): return (.failed(error), nil)
            case nil:
                state.isSendingPaused = true
                return (.pause, nil)
            }
        }
        producer?.resume()
        return result
    }

    /// Goes back to the body's first byte; false when it is a stream that has been read from.
    func rewind() -> Bool {
        state.withLock { state in
            if request.body.bytesAtHand == nil { return state.outgoingTotal == 0 }
            state.outgoingOffset = 0
            return true
        }
    }
}

/// Holds the exchange for the body's reader: when the last one lets go, nobody wants the rest.
private final class AnswerReader: Sendable {
    private let exchange: Exchange
    init(_ exchange: Exchange) { self.exchange = exchange }
    deinit { exchange.abandon() }
    func next() async throws -> Bytes? { try await exchange.next() }
}
