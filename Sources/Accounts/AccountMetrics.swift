public import Core
internal import Synchronization

/// The figures of the Account Manager, under their documented names.
public struct AccountMetrics: Sendable {
    let allocations: Labeled<Counter>
    let errors: Labeled<Counter>
    let refusals: Labeled<Counter>
    let checks: Labeled<Counter>
    let records: Labeled<Counter>
    let recoveries: Labeled<Counter>
    let breaches: Labeled<Counter>
    let leaseWait: Labeled<Histogram>
    let jobs: Labeled<Counter>
    private let total: Gauge
    private let healthy: Gauge
    private let floodWait: Gauge
    private let blocked: Gauge
    private let disabled: Gauge
    private let leased: Gauge
    private let queue: Gauge
    private let oldestLease: Gauge
    let waits = LeaseWaits()

    public init(_ metrics: Metrics) {
        allocations = metrics.counters(
            "account_manager_allocations_total", "Accounts handed out or refused",
            labels: ["purpose", "result"])
        errors = metrics.counters(
            "account_manager_errors_total", "Errors of Telegram's that were reported", labels: ["error_type"])
        refusals = metrics.counters(
            "account_manager_refusals_total", "Checks and allocations refused", labels: ["action", "reason"])
        checks = metrics.counters(
            "account_manager_checks_total", "Checks answered", labels: ["action", "source"])
        records = metrics.counters(
            "account_manager_records_total", "Actions recorded", labels: ["action", "success"])
        recoveries = metrics.counters(
            "account_manager_recoveries_total", "Accounts that came back", labels: ["how"])
        breaches = metrics.counters(
            "account_manager_limit_breaches_total", "Limits that the ledger shows broken", labels: ["limit"])
        leaseWait = metrics.histograms(
            "account_manager_lease_wait_seconds", "From the first refusal to the lease; 0 at once",
            labels: ["purpose"])
        jobs = metrics.counters(
            "account_manager_jobs_total", "Pieces of periodic work", labels: ["job", "result"])
        total = metrics.gauge("account_manager_total_accounts", "Accounts that are connected")
        healthy = metrics.gauge("account_manager_healthy_accounts", "Accounts that Telegram lets work")
        floodWait = metrics.gauge("account_manager_flood_wait_active", "Accounts told to wait")
        blocked = metrics.gauge("account_manager_blocked_active", "Accounts blocked for a while")
        disabled = metrics.gauge("account_manager_disabled_accounts", "Accounts that are off")
        leased = metrics.gauge("account_manager_leased_accounts", "Accounts that somebody holds")
        queue = metrics.gauge(
            "account_manager_recovery_queue_size", "Accounts that will come back by themselves")
        oldestLease = metrics.gauge(
            "account_manager_oldest_lease_age_seconds", "How long the oldest lease has lasted")
    }

    func show(_ counts: AccountCounts, at now: Timestamp) {
        total.set(counts.total)
        healthy.set(counts.healthy)
        floodWait.set(counts.floodWait)
        blocked.set(counts.blocked)
        disabled.set(counts.disabled)
        leased.set(counts.leased)
        queue.set(counts.recovering)
        oldestLease.set(counts.oldestLease.map { max(0, (now - $0).inSeconds) } ?? 0)
    }
}

/// Since when whoever was refused has been waiting, so that a lease tells how long it took.
final class LeaseWaits: Sendable {
    private struct Key: Hashable { let user: Int64, service: String, purpose: Purpose }
    private let since = Mutex<[Key: Timestamp]>([:])

    func refused(_ wish: Acquire, at now: Timestamp) {
        let key = Key(user: wish.user, service: wish.service, purpose: wish.purpose)
        since.withLock { since in
            // Whoever never comes back must not fill the memory.
            if since.count > 10_000 { since = since.filter { now - $0.value < .days(1) } }
            guard since.count <= 20_000, since[key] == nil else { return }
            since[key] = now
        }
    }

    func granted(_ wish: Acquire, at now: Timestamp) -> Duration {
        let key = Key(user: wish.user, service: wish.service, purpose: wish.purpose)
        return since.withLock { since in since.removeValue(forKey: key).map { max(.zero, now - $0) } ?? .zero
        }
    }
}
