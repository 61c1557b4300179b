import Accounts
import Broker
import Cache
import Core
import LimitAudit
import ServiceKit
import Storage

/// The periodic work: what, how often, through which queue. A message says only "look": whether there is
/// something to do, and that one worker does it, is decided in SQL.
struct Upkeep: Sendable {
    enum Job: String, CaseIterable, Sendable {
        case recover, reset, lookAfter = "look_after", tidy, report, verify

        var interval: Duration {
            switch self {
            case .recover, .verify: .minutes(5)
            case .lookAfter: .minutes(15)
            case .tidy: .minutes(30)
            case .report: .hours(6)
            case .reset: .days(1)
            }
        }

        var queue: Queue {
            switch self {
            case .recover: Upkeep.high
            case .reset, .lookAfter, .verify: Upkeep.normal
            case .tidy, .report: Upkeep.low
            }
        }

        /// Counted from 1970, so that all workers agree, and a day's work falls on midnight UTC.
        func period(at now: Timestamp) -> Int64 { now.milliseconds / interval.milliseconds }
    }

    static let high = Queue("account_manager_high")
    static let normal = Queue("account_manager_normal")
    static let low = Queue("account_manager_low")
    static let queues = [high, normal, low]

    let manager: AccountManager
    let audit: LimitAudit
    let jobs: JobBook
    let broker: any Broker
    let cache: any Cache
    let settings: AccountManagerSettings
    let worker: String
    let log: Log

    init(
        manager: AccountManager, audit: LimitAudit, database: any Database, broker: any Broker,
        cache: any Cache,
        settings: AccountManagerSettings, random: any RandomSource, log: Log
    ) {
        self.manager = manager
        self.audit = audit
        jobs = JobBook(database)
        self.broker = broker
        self.cache = cache
        self.settings = settings
        worker = UniqueID(random).description
        self.log = log
    }

    // MARK: - Finding out what is due

    /// Announces every piece of the present periods that nobody has taken. What was missed while no worker ran
    /// is not done twice over: one look catches up with all of it.
    func announceDue(at now: Timestamp) async throws {
        for job in Job.allCases {
            let period = job.period(at: now)
            guard try await jobs.enter(job.rawValue, period: period, at: now) else { continue }
            let body: JSONValue = ["job": .string(job.rawValue), "period": .int(period)]
            try await broker.publish(
                Message(
                    id: "account-manager-\(job.rawValue)-\(period)-\(now.milliseconds)", body: body.bytes),
                to: job.queue.name)
        }
    }

    /// False for a message that names no work of ours.
    func handle(_ delivery: Delivery, at now: Timestamp) async throws -> Bool {
        guard let body = try? JSONValue(parsing: delivery.message.body),
            let job = body["job"]?.stringValue.flatMap(Job.init), let period = body["period"]?.intValue
        else { return false }
        try await perform(job, period: period, at: now)
        return true
    }

    /// Does a piece of work unless somebody else has it; true when it was done here.
    @discardableResult
    func perform(_ job: Job, period: Int64, at now: Timestamp) async throws -> Bool {
        guard try await jobs.begin(job.rawValue, period: period, worker: worker, at: now) else {
            return false
        }
        do {
            let result = try await work(job, period: period, at: now)
            try await jobs.finish(job.rawValue, period: period, worker: worker, result: result, at: now)
            // For people who look; what counts is in SQL.
            _ = try? await cache.set(
                CacheBytes("job:\(job.rawValue)"), to: CacheBytes(result.text), for: .days(2))
            manager.counted(job.rawValue, "done")
            log.info("job.done", ["job": .id(job.rawValue), "period": .int(period)])
            return true
        } catch {
            manager.counted(job.rawValue, "failed")
            try await jobs.fail(job.rawValue, period: period, worker: worker, at: now)
            throw error
        }
    }

    // MARK: - The work

    private func work(_ job: Job, period: Int64, at now: Timestamp) async throws -> JSONValue {
        switch job {
        case .recover:
            let done = try await manager.recoverDue(at: now)
            return ["looked": JSONValue(done.looked), "recovered": JSONValue(done.recovered.count)]
        case .reset: return ["reset_accounts": JSONValue(try await manager.resetDay(at: now))]
        case .lookAfter:
            // Troubled accounts that the queue has forgotten are in it again afterwards.
            try await manager.rebuildViews(at: now)
            let counts = try await manager.refreshCounts(at: now)
            return counts.json
        case .tidy:
            let tidied = try await manager.store.tidy(at: now)
            let jobs = try await jobs.tidy(at: now)
            return [
                "leases": JSONValue(tidied.leases), "permits": JSONValue(tidied.permits),
                "jobs": JSONValue(jobs),
            ]
        case .report: return try await report(period: period, at: now)
        case .verify: return try await verify(at: now)
        }
    }

    private func report(period: Int64, at now: Timestamp) async throws -> JSONValue {
        let counts = try await manager.refreshCounts(at: now)
        let (alerts, total) = try await audit.alerts(of: nil, offset: 0, limit: 20)
        var warnings: [JSONValue] = []
        if counts.total > 0, counts.healthPercentage < 70 {
            warnings.append(
                ["code": "few_healthy_accounts", "health_percentage": .double(counts.healthPercentage)])
            log.error("accounts.unhealthy", ["percentage": .number(counts.healthPercentage)])
        }
        if let oldest = counts.oldestLease, now - oldest > .hours(5) {
            warnings.append(["code": "old_lease", "since": oldest.json])
        }
        if total > 0 { warnings.append(["code": "limit_breaches", "count": JSONValue(total)]) }
        let report: JSONValue = [
            "at": now.json, "period": .int(period), "stats": counts.json, "frozen": JSONValue(counts.frozen),
            "disabled": JSONValue(counts.disabled), "leased": JSONValue(counts.leased),
            "next_recovery_at": JSONValue(counts.nextRecovery),
            "used_today": [
                "invite": JSONValue(counts.usedToday[.invite]),
                "message": JSONValue(counts.usedToday[.message]),
                "add_contact": JSONValue(counts.usedToday[.addContact]),
            ], "warnings": .array(warnings), "latest_breaches": .array(alerts),
        ]
        try await jobs.store(report: report, period: period, at: now)
        log.info("accounts.report", ["total": .int(counts.total), "warnings": .int(warnings.count)])
        return report
    }

    func reports(offset: Int, limit: Int) async throws -> (reports: [JSONValue], total: Int) {
        try await jobs.reports(offset: offset, limit: limit)
    }

    /// The second opinion: every limit, counted in the ledger. What breaks one is stopped until somebody has
    /// looked at it.
    @discardableResult
    func verify(at now: Timestamp, only user: Int64? = nil) async throws -> JSONValue {
        let found = try await audit.run(from: now - settings.auditReach, user: user)
        let new = try await audit.note(found.breaches, at: now)
        var stopped: Set<AccountID> = []
        for breach in new {
            manager.breached(breach.limit)
            log.error(
                "limit.broken",
                [
                    "account": .id(breach.account), "limit": .id(breach.limit), "found": .int(breach.found),
                    "allowed": .int(breach.allowed), "entry": .int(breach.entry),
                ])
            guard let account = AccountID(breach.account), stopped.insert(account).inserted else { continue }
            try await manager.stop(account, because: breach.json, at: now)
        }
        return [
            "accounts": JSONValue(found.accounts), "entries": JSONValue(found.entries),
            "breaches": JSONValue(found.breaches.count), "new_breaches": JSONValue(new.count),
            "stopped_accounts": .array(stopped.sorted().map { .string($0.description) }),
            "details": .array(found.breaches.prefix(100).map(\.json)),
        ]
    }

    /// Brings the settings' limits into force for all, and for all replicas.
    func applySettings(at now: Timestamp) async throws {
        try await manager.store.noteRampUp(at: now)
        guard try await manager.store.tightening(.configuration) != settings.limits else { return }
        try await manager.tighten(.configuration, to: settings.limits, by: 0, at: now)
    }
}

/// Announces what is due, several times a minute.
struct UpkeepScheduler: Service {
    let name = "account-manager-scheduler"
    let upkeep: Upkeep
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: .seconds(10), time, log, failure: "scheduler.failed") {
            try await upkeep.announceDue(at: time.now)
        }
    }
}

/// Does what was announced: what is urgent first.
struct UpkeepWorker: Service {
    let name = "account-manager-worker"
    let upkeep: Upkeep
    let readiness: Readiness
    let time: any TimeSource

    func run() async throws {
        try await readiness.wait(time)
        let (upkeep, time) = (upkeep, time)
        try await upkeep.broker.consume(Upkeep.queues.map(\.name), concurrency: 2) { delivery in
            try await upkeep.handle(delivery, at: time.now) ? .ack : .reject(reason: "no such job")
        }
    }
}

/// Brings the settings into force once, then looks whether the cache was emptied, and keeps the gauges.
struct CacheKeeper: Service {
    let name = "account-manager-cache-keeper"
    let manager: AccountManager
    var upkeep: Upkeep?
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.wait(time)
        var round = 0
        var isConfigured = false
        while true {
            do {
                if !isConfigured {
                    try await upkeep?.applySettings(at: time.now)
                    isConfigured = true
                }
                try await manager.watchCache(at: time.now)
                if round % 12 == 0 { _ = try await manager.refreshCounts(at: time.now) }
                round += 1
            } catch  where !(error is CancellationError) {
                log.warning("cache-keeper.failed", ["error": .error(error)])
            }
            try await time.sleep(for: .seconds(5))
        }
    }
}

/// Writes the integration log in bulk.
struct EventWriter: Service {
    let name = "account-manager-events"
    let events: AccountEventLog
    let readiness: Readiness
    let time: any TimeSource
    let log: Log

    func run() async throws {
        try await readiness.repeating(every: .seconds(1), time, log, failure: "events.not-written") {
            try await events.flush()
        }
    }
}
