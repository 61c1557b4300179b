public import Core

/// What Prometheus sees of the campaigns.
public struct CampaignMetrics: Sendable {
    let attempts: Labeled<Counter>
    let refusals: Labeled<Counter>
    let ended: Labeled<Counter>
    let steps: Labeled<Histogram>

    public init(_ metrics: Metrics) {
        attempts = metrics.counters(
            "invite_attempts_total", "Attempts that came out, by result", labels: ["action", "result"])
        refusals = metrics.counters(
            "invite_waits_total", "Times a campaign found no account", labels: ["reason"])
        ended = metrics.counters("invite_campaigns_ended_total", "Campaigns that ended", labels: ["status"])
        steps = metrics.histograms(
            "invite_step_seconds", "How long each step of an invitation takes", labels: ["step"])
    }

    /// Measures one step of the way.
    func step<Result: Sendable>(
        _ name: String, _ time: any TimeSource, _ work: () async throws -> Result
    ) async throws -> Result {
        let start = time.uptime
        let result = try await work()
        steps[name].observe(time.uptime - start)
        return result
    }
}
