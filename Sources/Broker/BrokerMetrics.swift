public import Core

/// The figures of one broker.
public struct BrokerMetrics: Sendable {
    let published: Labeled<Counter>
    let consumed: Labeled<Counter>
    let redelivered: Labeled<Counter>
    let dead: Labeled<Counter>
    let inFlight: Labeled<Gauge>
    let prefetched: Labeled<Gauge>
    let depth: Labeled<Gauge>
    let reconnects: Counter

    public init(_ metrics: Metrics) {
        published = metrics.counters(
            "broker_published_total", "Messages confirmed by the broker.", labels: ["queue"])
        consumed = metrics.counters(
            "broker_consumed_total", "Handlers that ended, by what they decided.",
            labels: ["queue", "verdict"])
        redelivered = metrics.counters(
            "broker_redelivered_total", "Deliveries after one that ended without a verdict.",
            labels: ["queue"])
        dead = metrics.counters("broker_dead_total", "Messages that became dead letters.", labels: ["queue"])
        inFlight = metrics.gauges("broker_in_flight", "Handlers that run now.", labels: ["queue"])
        prefetched = metrics.gauges(
            "broker_prefetched", "Messages that were taken and wait for a handler.", labels: ["queue"])
        depth = metrics.gauges("broker_queue_depth", "Messages that wait to be taken.", labels: ["queue"])
        reconnects = metrics.counter("broker_reconnects_total", "Connections made again after a loss.")
    }
}

/// Keeps the gauges of queue depths fresh.
public struct DepthWatch: Service {
    public let name = "broker-depth"
    private let broker: any Broker
    private let queues: [String]
    private let metrics: BrokerMetrics
    private let interval: Duration
    private let time: any TimeSource

    public init(
        _ broker: any Broker, queues: [Queue], metrics: BrokerMetrics,
        every interval: Duration = .seconds(15),
        time: any TimeSource
    ) {
        self.broker = broker
        self.queues = queues.flatMap { [$0.name, $0.deadLetters] }
        self.metrics = metrics
        self.interval = interval
        self.time = time
    }

    public func run() async throws {
        while !Task.isCancelled {
            await refresh()
            do { try await time.sleep(for: interval) } catch { return }
        }
    }

    func refresh() async {
        for queue in queues {
            // A broker that does not answer is said by whoever needs it; a gauge just keeps its last value.
            guard let depth = try? await broker.depth(of: queue) else { return }
            metrics.depth[queue].set(depth)
        }
    }
}
