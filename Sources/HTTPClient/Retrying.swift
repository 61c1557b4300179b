public import Core
public import HTTP

/// Sends again what is safe to send again: whatever was certainly not seen by the other side, and
/// idempotent requests also when that is not known, or when a proxy says that the server behind it is away
/// for the moment (502, 503, 504). A streamed request body is gone once read, so such requests go out once.
///
/// The request's deadline bounds all attempts together.
public struct Retrying: HTTPSending {
    private let next: any HTTPSending
    private let attempts: Int
    private let backoff: Backoff
    private let time: any TimeSource
    private let random: any RandomSource

    public init(
        _ next: any HTTPSending, attempts: Int = 3, backoff: Backoff = Backoff(),
        time: any TimeSource = SystemTime(), random: any RandomSource = SystemRandom()
    ) {
        precondition(attempts > 0, "a request is sent once at least")
        self.next = next
        self.attempts = attempts
        self.backoff = backoff
        self.time = time
        self.random = random
    }

    public func send(_ request: ClientRequest) async throws -> ClientResponse {
        let begun = time.uptime
        var current = request
        let attempts = request.body.bytesAtHand == nil ? 1 : attempts
        var attempt = 0
        while true {
            attempt += 1
            let result: Result<ClientResponse, any Error>
            do {
                result = .success(try await next.send(current))
            } catch {
                result = .failure(error)
            }
            guard attempt < attempts, isWorthwhile(result, request.method) else { return try result.get() }
            let pause = max(backoff.delay(after: attempt, random), wish(of: result))
            let left = request.deadline - (time.uptime - begun) - pause
            guard left > .zero else { return try result.get() }
            try await time.sleep(for: pause)
            current.deadline = left
        }
    }

    private func isWorthwhile(_ result: Result<ClientResponse, any Error>, _ method: Method) -> Bool {
        switch result {
        case .success(let answer): return method.isIdempotent && (502...504).contains(answer.status)
        case .failure(let error):
            guard let error = error as? ClientError else { return false }
            switch error {
            case .inDoubt, .timedOut: return error.isSafeToRepeat || method.isIdempotent
            case .notSent, .invalidURL, .invalidRequest, .badAnswer: return error.isSafeToRepeat
            }
        }
    }

    /// How long the other side asks to be left alone.
    private func wish(of result: Result<ClientResponse, any Error>) -> Duration {
        guard case .success(let answer) = result,
            let seconds = answer.headers["Retry-After"].flatMap(Int64.init),
            (0...86_400).contains(seconds)
        else { return .zero }
        return .seconds(seconds)
    }
}
