public import Contracts
public import Core
import Storage

/// Carries campaigns out. It is told to look at a task, or to work on it for a while; what it finds stands in
/// SQL, so it may be told twice, late, or not at all, and be killed at any point.
public struct CampaignRunner: Sendable {
    public struct Settings: Equatable, Sendable {
        /// How many work on one task at once.
        public var lanes: Int
        /// How many people one takes at a time.
        public var chunk: Int
        /// How many accounts one uses before it makes room for other tasks.
        public var leases: Int
        /// How long the right to invite is believed.
        public var rightsLast: Duration
        /// How often a task that waits for accounts looks whether there are new ones.
        public var lookAgain: Duration

        public init(
            lanes: Int = 4, chunk: Int = 5, leases: Int = 25, rightsLast: Duration = .hours(1),
            lookAgain: Duration = .minutes(10)
        ) {
            self.lanes = lanes
            self.chunk = chunk
            self.leases = leases
            self.rightsLast = rightsLast
            self.lookAgain = lookAgain
        }
    }

    let store: InviteStore
    let manager: AccountManagerClient
    let integration: IntegrationClient
    let settings: Settings
    let metrics: CampaignMetrics
    let time: any TimeSource
    let random: any RandomSource
    let log: Log
    let leftOut = LeftOutAccounts()

    public init(
        store: InviteStore, manager: AccountManagerClient, integration: IntegrationClient,
        settings: Settings = Settings(), metrics: CampaignMetrics, time: any TimeSource,
        random: any RandomSource, log: Log
    ) {
        self.store = store
        self.manager = manager
        self.integration = integration
        self.settings = settings
        self.metrics = metrics
        self.time = time
        self.random = random
        self.log = log
    }

    // MARK: - Looking

    /// What a look at a task has found to do.
    public struct Orders: Equatable, Sendable {
        public var lanes = 0
        public var doubts = false
        public init() {}
    }

    /// Ends a task, notes what it waits for, or says how many should work on it.
    public func look(at id: Int64) async throws -> Orders {
        var orders = Orders()
        let now = time.now
        _ = try await store.releaseHeld(at: now)
        guard let outlook = try await store.outlook(id, at: now), outlook.task.status == .inProgress else {
            return orders
        }
        let task = outlook.task
        let counts = try await store.counts(of: id)
        try await store.noteProgress(id, counts)
        if let rule = task.settings.autoPause {
            let (tried, failed) = try await store.sample(of: task)
            if rule.stops(tried: tried, failed: failed) {
                try await store.apply(.autoPaused, to: id, of: task.userID, at: now, reason: .autoPaused)
                log.warning(
                    "campaign.auto-paused", ["task": .int(id), "tried": .int(tried), "failed": .int(failed)])
                return orders
            }
        }
        orders.doubts = outlook.doubtsDue > 0
        guard outlook.due > 0 else {
            let next = [outlook.nextDue, outlook.nextExpiry.map { $0 + .milliseconds(1) }].compactMap { $0 }
                .min()
            if let next {
                let waiting: Waiting? =
                    outlook.held > 0 ? nil : Waiting(outlook.inDoubt > 0 ? .inDoubt : .retry, until: next)
                try await store.wait(task, waiting, wakeAt: next, at: now)
            } else if outlook.doubtsDue == 0 {
                try await end(task, counts, at: now)
            }
            return orders
        }
        let pace = task.settings.pace(try await store.paceState(of: task, at: now), at: now)
        if case .wait(let until, let reason) = pace {
            try await store.wait(task, Waiting(reason, until: until), wakeAt: until, at: now)
            return orders
        }
        // With a pause between any two, one after the other is all there can be.
        let most = task.settings.delay > .zero ? 1 : settings.lanes
        let useful = (outlook.due + settings.chunk - 1) / settings.chunk
        orders.lanes = max(0, min(most, useful) - outlook.holders)
        try await store.noteWork(on: task)
        return orders
    }

    private func end(_ task: InviteTask, _ counts: TargetCounts, at now: Timestamp) async throws {
        do {
            try await store.apply(
                .ended, to: task.id, of: task.userID, at: now,
                endedReason: counts.invited > 0 || counts.total == 0 ? "done" : "nobody_invited")
            metrics.ended["completed"].increment()
            log.info("campaign.ended", ["task": .int(task.id), "invited": .int(counts.invited)])
        } catch InviteError.transition {
            // Somebody has paused or cancelled it meanwhile.
        }
    }

    func wait(_ task: InviteTask, _ reason: WaitReason, until: Timestamp) async throws {
        try await store.wait(task, Waiting(reason, until: until), wakeAt: until, at: time.now)
    }
}
