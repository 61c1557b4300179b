import Core
import HTTP
import Synchronization

/// What a client and its loops share: who may go, and the figures.
final class ClientCore: Sendable {
    let settings: HTTPClient.Settings
    let queue: Mutex<HostQueue<Exchange>>
    let isClosed = Atomic(false)
    let connections = Atomic<Int>(0)
    let running = Atomic<Int>(0)
    /// The earliest moment at which somebody's waiting is over, as far as a loop was told.
    private let watched = Mutex<Duration?>(nil)
    private let log: Log
    private let answered: [Counter]
    private let cancelled: Counter
    private let notSent: Counter
    private let inDoubt: Counter
    private let timedOut: Counter
    private let badAnswer: Counter
    private let durations: Histogram

    init(_ settings: HTTPClient.Settings, metrics: Metrics, log: Log) {
        self.settings = settings
        self.log = log
        queue = Mutex(HostQueue(limit: settings.limits.perHost, queueLimit: settings.limits.waiting))
        let requests = metrics.counters(
            "http_client_requests_total", "Requests to other servers, by what became of them",
            labels: ["outcome"])
        answered = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"].map { requests[$0] }
        cancelled = requests["cancelled"]
        notSent = requests["not_sent"]
        inDoubt = requests["in_doubt"]
        timedOut = requests["timed_out"]
        badAnswer = requests["bad_answer"]
        durations = metrics.histogram(
            "http_client_duration_seconds", "From the call to the end of the answer, waiting included")
        let inFlight = metrics.gauge("http_client_in_flight", "Requests under way")
        let waiting = metrics.gauge("http_client_waiting", "Requests that wait for their turn at a host")
        let open = metrics.gauge("http_client_connections", "Open connections, idle ones included")
        metrics.beforeReading { [weak self] in
            guard let self else { return }
            inFlight.set(running.load(ordering: .relaxed))
            waiting.set(queue.withLock { $0.waitingCount })
            open.set(connections.load(ordering: .relaxed))
        }
    }

    func closedError(wasSent: Bool) -> ClientError {
        let reason = "the client was shut down"
        return wasSent ? .inDoubt(reason: reason) : .notSent(reason: reason)
    }

    // MARK: - Turns

    /// One exchange has left `loop`; whoever is returned takes its turn there, where its connection is.
    func leave(_ exchange: Exchange, loop: any TransferLoop) -> Exchange? {
        let next = queue.withLock { $0.leave(origin: exchange.target.origin) }
        if next == nil {
            loop.load.count.wrappingSubtract(1, ordering: .relaxed)
            running.wrappingSubtract(1, ordering: .relaxed)
        }
        return next
    }

    /// Ends an exchange that has never begun.
    func refuse(_ exchange: Exchange, _ error: any Error) {
        exchange.finish(.failed(error))
        count(exchange, .failed(error), status: 0, now: SystemTime().uptime)
    }

    /// The caller's task was cancelled.
    func giveUp(_ exchange: Exchange) {
        // In this order: whoever puts it into the queue later sees that it has ended.
        exchange.abandon()
        withdraw(exchange)
    }

    func withdraw(_ exchange: Exchange) {
        if queue.withLock({ $0.withdraw(exchange, origin: exchange.target.origin) }) {
            count(exchange, .failed(CancellationError()), status: 0, now: SystemTime().uptime)
        }
    }

    /// Sees to it that `loop` wakes up when the first wait is over.
    func watch(_ due: Duration, on loop: any TransferLoop) {
        let isNew = watched.withLock { watched in
            if let known = watched, known <= due { return false }
            watched = due
            return true
        }
        if isNew { loop.post(.watch(due)) }
    }

    func expireWaiting(now: Duration) -> Duration? {
        // Forgotten first: a wait that begins meanwhile is announced anew.
        watched.withLock { $0 = nil }
        let (expired, next) = queue.withLock { $0.expire(now: now) }
        for exchange in expired { refuse(exchange, ClientError.timedOut(mayHaveArrived: false)) }
        if let next {
            watched.withLock { $0 = min($0 ?? next, next) }
        }
        return next
    }

    func waitUntilIdle(grace: Duration) async {
        let time = SystemTime()
        let end = time.uptime + grace
        while running.load(ordering: .relaxed) > 0, time.uptime < end, !Task.isCancelled {
            try? await time.sleep(for: min(.milliseconds(5), end - time.uptime))
        }
    }

    // MARK: - Figures

    /// A request that cannot be sent as it is.
    func countRefused() { notSent.increment() }

    func count(_ exchange: Exchange, _ end: Exchange.End, status: Int, now: Duration) {
        durations.observe(now - exchange.begun)
        switch end {
        case .complete: answered[min(max(status / 100, 1), 6) - 1].increment()
        case .failed(let error):
            counter(for: error).increment()
            if !(error is CancellationError) {
                log.debug(
                    "http-client.failed",
                    [
                        "host": .text(exchange.target.host), "after": .duration(now - exchange.begun),
                        "error": .error(error),
                    ])
            }
        }
    }

    private func counter(for error: any Error) -> Counter {
        switch error as? ClientError {
        case .notSent, .invalidURL, .invalidRequest: notSent
        case .inDoubt: inDoubt
        case .timedOut: timedOut
        case .badAnswer: badAnswer
        case nil: cancelled
        }
    }
}
