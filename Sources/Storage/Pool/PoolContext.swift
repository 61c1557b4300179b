import Core

/// What the parts of one database share.
struct PoolContext: Sendable {
    let name: String
    let settings: PoolSettings
    let time: any TimeSource
    let random: any RandomSource
    let log: Log
    let metrics: PoolMetrics
}

/// The figures of one database.
struct PoolMetrics: Sendable {
    let inUse: Gauge
    let open: Gauge
    let waiting: Gauge
    let statementSeconds: Histogram
    let reconnects: Counter
    let conflicts: Counter

    init(_ metrics: Metrics, database: String) {
        let labels = ["database"]
        inUse = metrics.gauges("storage_connections_in_use", "Connections at work", labels: labels)[database]
        open =
            metrics.gauges("storage_connections_open", "Connections that are open", labels: labels)[database]
        waiting =
            metrics.gauges("storage_waiting_calls", "Calls that wait for a connection", labels: labels)[
                database]
        statementSeconds =
            metrics.histograms(
                "storage_statement_seconds",
                "Time of a statement, or of a whole transaction, on its connection",
                labels: labels)[database]
        reconnects =
            metrics.counters("storage_reconnects_total", "Connections that broke", labels: labels)[database]
        conflicts =
            metrics.counters(
                "storage_conflicts_total", "Serialisation failures and deadlocks that were tried again",
                labels: labels)[database]
    }
}
