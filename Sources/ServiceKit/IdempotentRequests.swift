import Core
import HTTP
import Security
import Storage
import Synchronization

/// Makes it safe to send a POST again: with the same `Idempotency-Key` the first answer is repeated for 24
/// hours. The same key with another request is 422, and one that comes while the first is worked on is 409.
///
/// The work goes on when the client that asked for it goes away, for it will ask again. An answer that means
/// "not now" (sign in first, too fast, out of order) is not kept, so that the key is still good later.
struct IdempotentRequests: Middleware {
    private let answers: KeptAnswers
    private let unrepeated: Set<String>
    private let subject: @Sendable (Response) -> Int64?
    /// The fingerprint is keyed, because a body may hold a password and a bare digest would be a way to try
    /// them. More than one while the key is being changed.
    private let hashes: [KeyedHash]
    private let time: any TimeSource
    private let random: any RandomSource
    let work = DetachedWork()

    init(
        _ answers: KeptAnswers, unrepeated: Set<String>,
        subject: @escaping @Sendable (Response) -> Int64? = { _ in nil }, keys: [Secret<[UInt8]>],
        time: any TimeSource, random: any RandomSource
    ) {
        self.answers = answers
        self.unrepeated = unrepeated
        self.subject = subject
        hashes = keys.map { KeyedHash(key: $0) }
        self.time = time
        self.random = random
    }

    func handle(
        _ request: Request, next: @escaping @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        let keys = request.headers.all("idempotency-key")
        guard request.method == .post, let key = keys.first, !unrepeated.contains(request.route) else {
            return try await next(request)
        }
        guard keys.count == 1, (1...255).contains(key.utf8.count),
            key.utf8.allSatisfy({ (0x20...0x7E).contains($0) })
        else { throw Problem.wrongIdempotencyKey }
        let owner = KeptAnswers.Owner(request.identity, key: key)
        let claim = UniqueID(random).description
        switch try await answers.claim(owner, as: claim, at: time.now) {
        case .first:
            return try await work.perform { try await answer(request, owner, claim, next) }
        case .underWay: throw Problem.requestUnderWay
        case .answered(let kept):
            let body = FingerprintedBody(request, hashes)
            try await body.readRest()
            guard body.fingerprints.contains(kept.fingerprint) else { throw Problem.idempotencyKeyReused }
            var response = kept.response
            response.headers["Idempotency-Replayed"] = "true"
            return response
        }
    }

    private func answer(
        _ request: Request, _ owner: KeptAnswers.Owner, _ claim: String,
        _ next: @Sendable (Request) async throws -> Response
    ) async throws -> Response {
        var request = request
        let body = FingerprintedBody(request, hashes)
        request.body = body.body
        let response: Response
        do {
            response = try await next(request)
        } catch {
            try await answers.release(owner, claim)
            throw error
        }
        guard Self.isFinal(response.status), case .bytes(let bytes) = response.content,
            bytes.count <= KeptAnswers.largest
        else {
            try await answers.release(owner, claim)
            return response
        }
        do {
            // What was refused before it was read is not worth reading for the sake of its fingerprint.
            if response.status < 400 { try await body.readRest() }
            guard body.isComplete else {
                try await answers.release(owner, claim)
                return response
            }
            try await answers.complete(
                owner, claim, about: owner.user ?? subject(response), fingerprint: body.fingerprints[0],
                response,
                bytes, at: time.now)
        } catch {
            // It has been done: the one who asked has to hear so, even if no other will.
            request.log.error("answer.not-kept", ["error": .error(error)])
        }
        return response
    }

    private static func isFinal(_ status: Int) -> Bool {
        status < 500 && ![401, 403, 408, 413, 415, 425, 429].contains(status)
    }
}

extension Problem {
    static let wrongIdempotencyKey: Problem = {
        let message = LocalizedText(
            "An Idempotency-Key is one text of 1 to 255 printable ASCII characters",
            "Idempotency-Key — один текст из 1–255 печатных символов ASCII")
        var problem = Problem(422, "wrong_idempotency_key", message)
        problem.errors = [FieldError("Idempotency-Key", "wrong_idempotency_key", message)]
        return problem
    }()

    static let idempotencyKeyReused: Problem = {
        let message = LocalizedText(
            "This Idempotency-Key was used for another request",
            "Этот Idempotency-Key уже использован для другого запроса")
        var problem = Problem(422, "idempotency_key_reused", message)
        problem.errors = [FieldError("Idempotency-Key", "idempotency_key_reused", message)]
        return problem
    }()

    static let requestUnderWay = Problem(
        409, "request_under_way",
        .init(
            "The first request with this Idempotency-Key is still being worked on",
            "Первый запрос с этим Idempotency-Key ещё выполняется")
    ).with(header: "Retry-After", "1")
}

/// A body whose fingerprint is taken while it is read, in constant memory: a chain of keyed hashes over blocks
/// of one size, however the bytes arrive.
private final class FingerprintedBody: Sendable {
    private static let block = 64 << 10

    private struct State {
        var chains: [Bytes]
        var buffer = Bytes()
        var isBegun = false
        var isComplete = false
    }
    private let hashes: [KeyedHash]
    private let source: Body
    private let state: Mutex<State>

    init(_ request: Request, _ hashes: [KeyedHash]) {
        self.hashes = hashes
        source = request.body
        // Lengths stand between the parts, or two requests could have one text.
        let path = request.path.split(separator: "/").joined(separator: "/")
        let head = [path, request.query.raw, MediaType(request.headers["content-type"] ?? "").essence]
            .map { "\($0.utf8.count):\($0)" }.joined()
        state = Mutex(State(chains: hashes.map { $0.digest(Bytes(head.utf8)) }))
    }

    var isComplete: Bool { state.withLock { $0.isComplete } }

    /// One for each key, the current one first.
    var fingerprints: [String] {
        state.withLock { state in
            zip(hashes, state.chains).map { Hex.encode($0.digest($1 + state.buffer)) }
        }
    }

    var body: Body { Body(length: source.length) { try await self.next() } }

    func readRest() async throws { while try await next() != nil {} }

    private func next() async throws -> Bytes? {
        let isBegun = state.withLock { state in
            defer { state.isBegun = true }
            return state.isBegun
        }
        // What is all there is one chunk; a stream keeps its place itself.
        var iterator = source.makeAsyncIterator()
        let chunk = isBegun && source.bytesAtHand != nil ? nil : try await iterator.next()
        state.withLock { state in
            guard let chunk else { return state.isComplete = true }
            state.buffer += chunk
            var start = 0
            while state.buffer.count - start >= Self.block {
                let block = state.buffer[start..<start + Self.block]
                for index in state.chains.indices {
                    state.chains[index] = hashes[index].digest(state.chains[index] + block)
                }
                start += Self.block
            }
            state.buffer.removeFirst(start)
        }
        return chunk
    }
}

/// Work that goes on when whoever asked for it stops waiting.
final class DetachedWork: Sendable {
    private typealias Job = @Sendable () async -> Void
    private let jobs: AsyncStream<Job>
    private let entrance: AsyncStream<Job>.Continuation
    private let isOpen = Mutex(false)

    init() { (jobs, entrance) = AsyncStream.makeStream(of: Job.self) }

    /// Works until it is cancelled; listeners stop before it, so nobody waits any more then.
    func run() async {
        isOpen.withLock { $0 = true }
        await withDiscardingTaskGroup { group in
            for await job in jobs { group.addTask { await job() } }
        }
        isOpen.withLock { $0 = false }
    }

    func perform<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws
        -> Result
    {
        guard isOpen.withLock({ $0 }) else { return try await body() }
        let outcome = Outcome<Result>()
        let context = CallContext.current
        let accepted = entrance.yield {
            let result: Swift.Result<Result, any Error>
            do {
                result = .success(try await CallContext.$current.withValue(context) { try await body() })
            } catch {
                result = .failure(error)
            }
            outcome.settle(result)
        }
        if case .terminated = accepted { return try await body() }
        return try await outcome.value()
    }
}

/// What one task finds out and another waits for, as long as it likes.
private final class Outcome<Value: Sendable>: Sendable {
    private enum State {
        case open
        case awaited(CheckedContinuation<Value, any Error>)
        case settled(Result<Value, any Error>)
    }
    private let state = Mutex(State.open)

    func settle(_ result: Result<Value, any Error>) {
        let waiter: CheckedContinuation<Value, any Error>? = state.withLock { state in
            defer { state = .settled(result) }
            if case .awaited(let waiter) = state { return waiter }
            return nil
        }
        waiter?.resume(with: result)
    }

    func value() async throws -> Value {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiter in
                let settled: Result<Value, any Error>? = state.withLock { state in
                    if case .settled(let result) = state { return result }
                    if Task.isCancelled { return .failure(CancellationError()) }
                    state = .awaited(waiter)
                    return nil
                }
                if let settled { waiter.resume(with: settled) }
            }
        } onCancel: {
            let waiter: CheckedContinuation<Value, any Error>? = state.withLock { state in
                guard case .awaited(let waiter) = state else { return nil }
                state = .open
                return waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }
}

/// Does the work of repeated requests and forgets what is older than a day.
struct AnswerKeeper: Service {
    static let interval: Duration = .minutes(30)

    let name: String
    private let answers: KeptAnswers
    private let requests: IdempotentRequests
    private let readiness: Readiness
    private let time: any TimeSource
    private let log: Log

    init(
        _ answers: KeptAnswers, _ requests: IdempotentRequests, _ readiness: Readiness,
        _ time: any TimeSource,
        _ log: Log
    ) {
        name = "answer-keeper"
        self.answers = answers
        self.requests = requests
        self.readiness = readiness
        self.time = time
        self.log = log
    }

    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await requests.work.run() }
            group.addTask {
                try await readiness.wait(time)
                while true {
                    do {
                        try await answers.tidy(at: time.now)
                    } catch  where !(error is CancellationError) {
                        log.warning("answers.not-tidied", ["error": .error(error)])
                    }
                    try await time.sleep(for: Self.interval)
                }
            }
            defer { group.cancelAll() }
            while try await group.next() != nil {}
        }
    }
}
