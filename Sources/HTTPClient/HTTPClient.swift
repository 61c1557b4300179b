import CCurl
public import Core
public import HTTP
import Synchronization

/// Sends requests over HTTP/1.1 and keeps the connections for the next ones.
///
/// What goes without TLS goes out on event loops: a task that runs on one is served there, without a change of
/// threads. libcurl carries what goes over TLS.
///
/// Follows no redirects, repeats nothing but what went out on a pooled connection that was closed
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
        /// Whether libcurl carries also what goes without TLS: for tests, which ask the same of both.
        public var isLibcurlForAll = false

        public init() {}
    }

    private let core: ClientCore
    private struct Loops {
        var secure: [CurlLoop] = []
        /// Those of our own, and then those on loops of others.
        var plain: [PlainLoop] = []
        var isClosed = false

        var all: [any TransferLoop] { secure + plain }
    }
    private let loops = Mutex(Loops())

    public init(_ settings: Settings = Settings(), metrics: Metrics = Metrics(), log: Log = .silent) {
        precondition(settings.loops > 0, "somebody has to do it")
        core = ClientCore(settings, metrics: metrics, log: log)
    }

    deinit {
        core.isClosed.store(true, ordering: .relaxed)
        for exchange in core.queue.withLock({ $0.withdrawAll() }) {
            exchange.finish(.failed(core.closedError(wasSent: false)))
        }
        for loop in loops.withLock({ $0.all }) { loop.post(.shutDown {}) }
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
        guard let loop = loop(for: exchange.target) else {
            return core.refuse(exchange, core.closedError(wasSent: false))
        }
        let verdict = core.queue.withLock {
            core.isClosed.load(ordering: .relaxed)
                ? nil : $0.enter(exchange, origin: exchange.target.origin, due: exchange.due)
        }
        switch verdict {
        case .go:
            loop.load.count.wrappingAdd(1, ordering: .relaxed)
            core.running.wrappingAdd(1, ordering: .relaxed)
            loop.post(.start(exchange))
        case .wait:
            if exchange.hasEnded { core.withdraw(exchange) } else { core.watch(exchange.due, on: loop) }
        case .refuse: core.refuse(exchange, ClientError.notSent(reason: "too many requests wait already"))
        case nil: core.refuse(exchange, core.closedError(wasSent: false))
        }
    }

    /// The loop of the calling task, if it runs on one; else the first of the least busy of our own, so that a
    /// lone caller always meets the same connections. They are made when they are first needed; `nil` after
    /// the end.
    private func loop(for target: Target) -> (any TransferLoop)? {
        let settings = core.settings
        let isPlain = !target.isSecure && !settings.isLibcurlForAll
        let current = isPlain ? EventLoop.current : nil
        return loops.withLock { loops in
            guard !loops.isClosed else { return nil }
            if let current {
                if let known = loops.plain.first(where: { $0.events === current }) { return known }
                let made = PlainLoop(on: current, core: core)
                loops.plain.append(made)
                return made
            }
            if isPlain {
                let own = loops.plain.filter(\.isOwn)
                if own.count == settings.loops { return Self.quietest(of: own) }
                let made = (0..<settings.loops).map {
                    PlainLoop(on: EventLoop(name: "http-client-\($0)"), core: core, isOwn: true)
                }
                loops.plain += made
                return made[0]
            }
            if loops.secure.isEmpty {
                _ = libcurl
                loops.secure = (0..<settings.loops).map { CurlLoop(number: $0, core: core) }
            }
            return Self.quietest(of: loops.secure)
        }
    }

    private static func quietest<Loop: TransferLoop>(of loops: [Loop]) -> Loop? {
        guard loops.count > 1 else { return loops.first }
        return loops.min { $0.load.count.load(ordering: .relaxed) < $1.load.count.load(ordering: .relaxed) }
    }

    /// Refuses new requests, waits up to `grace` for those under way, then ends them. When it returns, no
    /// connection and no thread is left.
    public func shutdown(grace: Duration = .zero) async {
        core.isClosed.store(true, ordering: .relaxed)
        for exchange in core.queue.withLock({ $0.withdrawAll() }) {
            core.refuse(exchange, core.closedError(wasSent: false))
        }
        await core.waitUntilIdle(grace: grace)
        let ending = loops.withLock { loops in
            loops.isClosed = true
            defer { (loops.secure, loops.plain) = ([], []) }
            return loops.all
        }
        for loop in ending {
            await withCheckedContinuation { done in loop.post(.shutDown { done.resume() }) }
        }
    }
}

/// libcurl's own state of the process, made before the first client.
private let libcurl: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK
