import Core
import HTTP
import Parsing
import ServiceKit

/// The figures of the service, under the names the documents give.
struct ParsingMetrics: Sendable {
    let total: Gauge
    let running: Gauge
    let completed: Gauge
    let byStatus: Labeled<Gauge>
    let accountsTotal: Gauge
    let accountsAvailable: Gauge
    let up: Gauge
    private let items: Labeled<Counter>
    private let outcomes: Labeled<Counter>
    private let durations: Histogram
    let searches: Labeled<Counter>
    let created: Labeled<Counter>
    let listeners: Gauge

    init(_ metrics: Metrics) {
        total = metrics.gauge("parse_tasks_total", "Tasks there are")
        running = metrics.gauge("parse_tasks_running", "Tasks being read")
        completed = metrics.gauge("parse_tasks_completed", "Tasks read to their end")
        byStatus = metrics.gauges("parse_tasks", "Tasks by status", labels: ["status"])
        accountsTotal = metrics.gauge("telegram_accounts_total", "Accounts there are")
        accountsAvailable = metrics.gauge("telegram_accounts_available", "Accounts that are healthy")
        up = metrics.gauge("parsing_service_up", "1 while the service works")
        items = metrics.counters("parse_items_total", "What was read", labels: ["kind"])
        outcomes = metrics.counters("parse_attempts_total", "Attempts to work on a task", labels: ["outcome"])
        durations = metrics.histogram(
            "parse_attempt_seconds", "How long an attempt took", buckets: [0.1, 1, 10, 60, 600, 3600, 36_000])
        searches = metrics.counters("community_searches_total", "Searches for communities", labels: ["from"])
        created = metrics.counters(
            "parsing_tasks_created_total", "Tasks that were created", labels: ["platform", "task_type"])
        listeners = metrics.gauge("parse_progress_listeners", "Progress streams that are open")
    }

    func saved(_ counts: TaskCounts) {
        items["messages"].increment(by: Int(counts.messages))
        items["media"].increment(by: Int(counts.media))
        items["users"].increment(by: Int(counts.users))
        items["filtered"].increment(by: Int(counts.filtered))
    }

    func ended(_ outcome: ParseEngine.Outcome?, after duration: Duration) {
        outcomes[outcome?.rawValue ?? "cut_off"].increment()
        durations.observe(duration)
    }
}

/// Erases what must go.
struct ParsingUpkeep: Service {
    static let interval: Duration = .seconds(15)

    let name = "parsing-upkeep"
    let store: ParseStore
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: Self.interval, time, log, failure: "upkeep.failed") {
            while try await store.purge(at: time.now) > 0 { try Task.checkCancellation() }
        }
    }
}

/// Keeps the figures, in every process: one that only answers is up as well, and knows the tasks there are.
struct ParsingFigures: Service {
    static let interval: Duration = .seconds(15)

    let name = "parsing-figures"
    let store: ParseStore
    let peers: Peers
    let metrics: ParsingMetrics
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        metrics.up.set(1)
        while true {
            do {
                try await refresh()
            } catch  where !(error is CancellationError) {
                log.warning("figures.not-counted", ["error": .error(error)])
            }
            do { try await countAccounts() } catch  where !(error is CancellationError) {
                log.debug("accounts.not-counted", ["error": .error(error)])
            }
            try await time.sleep(for: Self.interval)
        }
    }

    private func refresh() async throws {
        let counts = try await store.statistics()
        for status in TaskStatus.allCases { metrics.byStatus[status.rawValue].set(counts[status] ?? 0) }
        metrics.total.set(counts.values.reduce(0, +))
        metrics.running.set(counts[.running] ?? 0)
        metrics.completed.set(counts[.completed] ?? 0)
    }

    private func countAccounts() async throws {
        let answer = try await peers.ask(
            "account-manager", .get, "/api/v1/health/detailed", deadline: .seconds(3))
        let stats = try await answer.json(limit: 256 << 10)["components"]?["account_manager"]?["stats"]
        guard let stats else { return }
        metrics.accountsTotal.set(stats["total_accounts"]?.intValue ?? 0)
        metrics.accountsAvailable.set(stats["healthy_accounts"]?.intValue ?? 0)
    }
}
