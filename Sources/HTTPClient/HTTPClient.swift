import CCurl
public import Core
public import HTTP
import Synchronization

/// Sends requests over HTTP/1.1 and keeps the connections for the next ones.
///
/// Follows no redirects, repeats nothing but what libcurl may repeat on a pooled connection that was closed
/// meanwhile (idempotent methods only), reads no proxy, cookie or password from anywhere. `Retrying` and
/// `FollowingRedirects` add what a caller wants of these.
public final class HTTPClient: HTTPSending {
    public struct Limits: Sendable {
        /// Exchanges at once with one origin; each takes a connection.
        public var perHost = 64
        /// Exchanges that wait for their turn, all origins together; more are refused.
        public var waiting = 10_000
        /// The head of an answer, in bytes.
        public var head = 64 << 10
        /// Bytes of an answer's body in memory before the other side has to wait for the reader.
        public var readAhead = 128 << 10
        /// Connections kept for later, for each loop.
        public var idleConnections = 256

        public init() {}
    }

    public struct Settings: Sendable {
        public var limits = Limits()
        /// Threads that run transfers. One is enough for most; each has its own connections.
        public var loops = 1
        /// To look up the name, connect and agree on TLS.
        public var connectTimeout: Duration = .seconds(5)
        /// How long an unused connection is kept. Shorter than the other side does, or requests meet
        /// connections that are being closed.
        public var keepAlive: Duration = .seconds(50)
        /// A PEM file of the authorities to trust instead of the system's.
        public var certificateAuthorities: String?

        public init() {}
    }

    private let core: ClientCore
    private let loops: [TransferLoop]

    public init(_ settings: Settings = Settings(), metrics: Metrics = Metrics(), log: Log = .silent) {
        precondition(settings.loops > 0, "somebody has to do it")
        _ = libcurl
        let core = ClientCore(settings, metrics: metrics, log: log)
        self.core = core
        loops = (0..<settings.loops).map { TransferLoop(number: $0, core: core) }
    }

    deinit {
        core.isClosed.store(true, ordering: .relaxed)
        for exchange in core.queue.withLock({ $0.withdrawAll() }) {
            exchange.finish(.failed(core.closedError(wasSent: false)))
        }
        for loop in loops { loop.post(.shutDown {}) }
    }

    /// Returns with the head of the answer. Throws `ClientError`, `CancellationError`, or what the request's
    /// body throws.
    public func send(_ request: ClientRequest) async throws -> ClientResponse {
        let target: Target
        do {
            target = try Target(request.url)
            try check(request)
        } catch {
            core.countRefused()
            throw error
        }
        let exchange = Exchange(
            request, target: target, begun: SystemTime().uptime, limits: core.settings.limits)
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { caller in
                exchange.wait(caller)
                enter(exchange)
            }
        } onCancel: {
            core.giveUp(exchange)
        }
    }

    private func enter(_ exchange: Exchange) {
        let verdict = core.queue.withLock {
            core.isClosed.load(ordering: .relaxed)
                ? nil : $0.enter(exchange, origin: exchange.target.origin, due: exchange.due)
        }
        switch verdict {
        case .go:
            let loop = quietest
            loop.load.wrappingAdd(1, ordering: .relaxed)
            core.running.wrappingAdd(1, ordering: .relaxed)
            loop.post(.start(exchange))
        case .wait:
            if exchange.hasEnded { core.withdraw(exchange) } else { core.watch(exchange.due, on: loops[0]) }
        case .refuse: core.refuse(exchange, ClientError.notSent(reason: "too many requests wait already"))
        case nil: core.refuse(exchange, core.closedError(wasSent: false))
        }
    }

    /// The first of the least busy: a lone caller always meets the same connections.
    private var quietest: TransferLoop {
        guard loops.count > 1 else { return loops[0] }
        return loops.min { $0.load.load(ordering: .relaxed) < $1.load.load(ordering: .relaxed) } ?? loops[0]
    }

    /// Refuses new requests, waits up to `grace` for those under way, then ends them. When it returns, no
    /// connection and no thread is left.
    public func shutdown(grace: Duration = .zero) async {
        core.isClosed.store(true, ordering: .relaxed)
        for exchange in core.queue.withLock({ $0.withdrawAll() }) {
            core.refuse(exchange, core.closedError(wasSent: false))
        }
        await core.waitUntilIdle(grace: grace)
        for loop in loops {
            await withCheckedContinuation { done in loop.post(.shutDown { done.resume() }) }
        }
    }
}

/// libcurl's own state of the process, made before the first client.
private let libcurl: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
