public import Core
internal import Storage

/// The one authority on who may use an account, and how much. Rules decide, SQL keeps, the cache makes quick;
/// here is the order in which they are asked, and what is counted and written down about each decision.
///
/// `owner` is whose account it has to be; nil for services that act for nobody in particular.
public struct AccountManager: Sendable {
    public let store: SQLAccountStore
    public let events: AccountEventLog
    let views: AccountViews
    let metrics: AccountMetrics
    let log: Log
    let random: any RandomSource

    public init(
        store: SQLAccountStore, views: AccountViews, metrics: AccountMetrics, log: Log = .silent,
        random: any RandomSource = SystemRandom()
    ) {
        self.store = store
        self.views = views
        self.metrics = metrics
        self.log = log
        self.random = random
        events = AccountEventLog(store.database)
    }

    // MARK: - Accounts

    public func connect(_ account: AccountID, user: Int64, phone: String, at now: Timestamp) async throws {
        let stored = try await store.connect(account, user: user, phone: phone, at: now)
        await views.drop([account])
        await views.recovers(account, at: stored.candidate.standing.nextRecovery)
        log.info("account.connected", ["account": .id(account), "user_id": .int(user)])
        events.note(AccountEvent(user: user, account: account, "account_connected", [:], at: now))
    }

    public func disconnect(_ account: AccountID, owner: Int64?, at now: Timestamp) async throws {
        let before = try await store.account(account, owner: owner, at: now)
        try await store.disconnect(account, owner: owner, at: now)
        await views.drop([account])
        await views.recovers(account, at: nil)
        if let lease = before.lease { await views.unleased(account, lease) }
        log.info("account.disconnected", ["account": .id(account)])
        events.note(AccountEvent(user: before.user, account: account, "account_disconnected", [:], at: now))
    }

    public func erase(user: Int64) async throws {
        try await events.flush()
        let accounts = try await store.erase(user: user)
        await views.drop(accounts)
        for account in accounts { await views.recovers(account, at: nil) }
    }

    // MARK: - Leases

    public func allocate(_ wish: Acquire, at now: Timestamp) async throws -> (
        account: StoredAccount, permit: Permit?
    ) {
        do {
            let (account, permit) = try await store.acquiring(wish, at: now)
            views.databaseAnswered()
            // Where its record looks for it.
            if permit != nil { await views.put(account, at: now) }
            metrics.allocations[wish.purpose.rawValue, "granted"].increment()
            metrics.leaseWait[wish.purpose.rawValue].observe(metrics.waits.granted(wish, at: now))
            if let lease = account.lease {
                await views.leased(account.id, lease, at: now)
                log.debug("lease.granted", ["account": .id(account.id), "service": .text(wish.service)])
                events.note(
                    AccountEvent(
                        user: wish.user, account: account.id, "account_allocated",
                        .object(present: [
                            "service": .string(wish.service), "purpose": .string(wish.purpose.rawValue),
                            "lease_id": .string(lease.id), "fencing_token": .int(lease.fencingToken),
                            "until": lease.expiresAt.json,
                            "channel": wish.channel.map { .string($0.description) },
                        ]), at: now))
            }
            return (account, permit)
        } catch let refusal as NoAccountAvailable {
            metrics.allocations[wish.purpose.rawValue, "refused"].increment()
            metrics.waits.refused(wish, at: now)
            for (reason, count) in refusal.counts {
                metrics.refusals[wish.purpose.rawValue, reason.rawValue].increment(by: count)
            }
            throw refusal
        }
    }

    public func extend(
        _ account: AccountID, owner: Int64?, lease: String, by service: String, for duration: Duration,
        at now: Timestamp
    ) async throws -> Lease {
        let lease = try await store.extend(
            account, owner: owner, lease: lease, by: service, for: duration, at: now)
        await views.leased(account, lease, at: now)
        log.info("lease.extended", ["account": .id(account), "until": .time(lease.expiresAt)])
        return lease
    }

    /// Whether there was a lease to give back.
    @discardableResult
    public func release(
        _ account: AccountID, owner: Int64?, lease: String?, by service: String, stats: UsageStats,
        error: AccountError? = nil, at now: Timestamp
    ) async throws -> Bool {
        let released: Lease
        let user: Int64
        if let lease,
            let quick = try await store.releaseAtOnce(
                account, owner: owner, lease: lease, by: service, stats: stats, at: now)
        {
            (released, user) = quick
        } else {
            let answer = try await store.releasing(
                account, owner: owner, lease: lease, by: service, stats: stats, at: now)
            guard case .released(let lease) = answer.release else { return false }
            (released, user) = (lease, answer.user)
            if answer.surplus > 0 { await views.drop([account]) }
        }
        views.databaseAnswered()
        await noteReleased(released, of: account, user: user, stats, at: now)
        if let error { _ = try await handle(error, of: account, owner: owner, by: service, at: now) }
        return true
    }

    private func noteReleased(
        _ lease: Lease, of account: AccountID, user: Int64, _ stats: UsageStats, at now: Timestamp
    ) async {
        await views.unleased(account, lease)
        log.debug("lease.released", ["account": .id(account), "service": .text(lease.service)])
        events.note(
            AccountEvent(
                user: user, account: account, "account_released",
                [
                    "service": .string(lease.service), "lease_id": .string(lease.id),
                    "invites_sent": JSONValue(stats.invitesSent),
                    "messages_sent": JSONValue(stats.messagesSent),
                    "contacts_added": JSONValue(stats.contactsAdded),
                ], at: now))
    }

    // MARK: - Check, reserve, record

    /// The account as the rules see it now: from the cache where that is sure, else from SQL.
    public func account(_ account: AccountID, owner: Int64?, at now: Timestamp) async throws -> StoredAccount
    {
        if let known = await views.read(account, at: now) {
            guard owner == nil || owner == known.user else { throw AccountStoreError.unknownAccount }
            return known
        }
        return try await fresh(account, owner: owner, at: now)
    }

    /// The account as SQL has it, whatever the cache says.
    public func fresh(_ account: AccountID, owner: Int64?, at now: Timestamp) async throws -> StoredAccount {
        let stored = try await store.account(account, owner: owner, at: now)
        views.databaseAnswered()
        await views.put(stored, showing: ActionType.allCases, at: now)
        return stored
    }

    public func check(
        _ account: AccountID, owner: Int64?, _ action: ActionType, into channel: ChannelKey?,
        at now: Timestamp
    ) async throws -> Verdict {
        let known = await views.read(account, at: now)
        let stored: StoredAccount
        if let known {
            guard owner == nil || owner == known.user else { throw AccountStoreError.unknownAccount }
            stored = known
        } else {
            stored = try await fresh(account, owner: owner, at: now)
        }
        let verdict = stored.candidate.verdict(action, into: channel, at: now)
        count(verdict, source: known == nil ? "sql" : "cache")
        return verdict
    }

    public func reserve(
        _ account: AccountID, owner: Int64?, _ action: ActionType, into channel: ChannelKey?,
        lease: String? = nil,
        by service: String, at now: Timestamp
    ) async throws -> (verdict: Verdict, permit: Permit?) {
        if let known = await views.take(account, at: now), owner == nil || owner == known.user {
            let verdict = known.candidate.verdict(action, into: channel, at: now)
            if verdict.allowed {
                let permit = Permit(
                    id: uuid(random), account: account, action: action, channel: verdict.channel,
                    reservedAt: now)
                if try await store.take(permit, from: known, lease: lease, by: service) {
                    var after = known
                    after.prune(at: now)
                    after.hold(permit)
                    await finished(after, action, at: now)
                    count(verdict, source: "cache")
                    return (verdict, permit)
                }
            }
            // What the view refuses, SQL is asked once more: a refusal may cost a campaign its hour.
        }
        let answer = try await store.reserving(
            account, owner: owner, action, into: channel, lease: lease, by: service, at: now)
        await finished(answer.account, action, at: now)
        count(answer.verdict, source: "sql")
        return (answer.verdict, answer.permit)
    }

    /// What stating an attempt has come to.
    public struct Recorded: Sendable {
        /// False when it was stated before.
        public let isNew: Bool
        public let account: StoredAccount
        /// Whether the account may do the same again now.
        public let verdict: Verdict
        /// Whether the lease of the report is over now.
        public let isReleased: Bool
    }

    /// States an attempt, and gives its lease back where that is wanted: never before it stands in the ledger.
    public func record(
        _ account: AccountID, owner: Int64?, _ report: Report, then lease: LeaseAfterRecord = .keep,
        at now: Timestamp
    ) async throws -> Recorded {
        if let known = await views.take(account, at: now), owner == nil || owner == known.user,
            let done = try await recordQuickly(report, known, then: lease, at: now)
        {
            count(report)
            return done
        }
        let answer = try await store.recording(account, owner: owner, report, at: now)
        await finished(answer.account, report.action, at: now)
        if answer.isNew { count(report) }
        let verdict = answer.account.candidate.verdict(report.action, into: report.channel, at: now)
        var isReleased = false
        if let id = report.lease, lease.isReleased(after: verdict) {
            do {
                try await release(
                    account, owner: owner, lease: id, by: report.service, stats: UsageStats(), at: now)
                isReleased = true
            } catch LeaseError.notHeld {
                // Somebody else has the account by now: there is nothing to give back.
                isReleased = true
            }
        }
        return Recorded(
            isNew: answer.isNew, account: answer.account, verdict: verdict, isReleased: isReleased)
    }

    private func recordQuickly(
        _ report: Report, _ known: StoredAccount, then lease: LeaseAfterRecord, at now: Timestamp
    ) async throws -> Recorded? {
        var after = known
        after.prune(at: now)
        var moment = now
        if let id = report.permit {
            // One that is not open here has run out, was settled or is another account's: SQL knows which.
            guard var permit = known.permits.first(where: { $0.id == id }), permit.action == report.action,
                let at = permit.record(at: now)
            else { return nil }
            moment = at
            after.settle(permit)
        }
        let record = after.count(report, at: moment, now: now)
        after.revision += 1
        let verdict = after.candidate.verdict(report.action, into: report.channel, at: now)
        let release = lease.isReleased(after: verdict) ? report.lease : nil
        let written = try await store.write(
            record, report, from: known, to: after, releasing: release, at: now)
        guard let written else { return nil }
        await finished(after, report.action, at: now)
        if let lease = written.released {
            await noteReleased(lease, of: known.id, user: known.user, UsageStats(), at: now)
        }
        return Recorded(
            isNew: true, account: after, verdict: verdict, isReleased: written.released != nil)
    }

    private func finished(_ account: StoredAccount, _ action: ActionType, at now: Timestamp) async {
        views.databaseAnswered()
        await views.put(account, showing: [action], at: now)
    }

    /// Gives a permit back unused.
    public func releasePermit(
        _ id: String, of account: AccountID, owner: Int64?, at now: Timestamp
    ) async throws -> Bool {
        _ = await views.take(account, at: now)
        guard let stored = try await store.releasingPermit(id, of: account, owner: owner, at: now) else {
            return false
        }
        views.databaseAnswered()
        await views.put(stored, at: now)
        return true
    }

    private func count(_ verdict: Verdict, source: String) {
        metrics.checks[verdict.action.rawValue, source].increment()
        if let reason = verdict.reason {
            metrics.refusals[verdict.action.rawValue, reason.rawValue].increment()
        }
    }

    private func count(_ report: Report) {
        metrics.records[report.action.rawValue, String(report.success)].increment()
    }

    // MARK: - Errors and recovery

    public func handle(
        _ error: AccountError, of account: AccountID, owner: Int64?, by service: String, at now: Timestamp
    ) async throws -> ErrorOutcome {
        _ = await views.take(account, at: now)
        let answer = try await store.handling(error, of: account, owner: owner, at: now)
        let (outcome, stored) = (answer.outcome, answer.account)
        await finished(stored, .invite, at: now)
        if let lease = answer.ended { await views.unleased(account, lease) }
        await views.recovers(account, at: stored.candidate.standing.nextRecovery)
        if case .floodWait(let wait) = error, let end = stored.candidate.standing.floodWaitUntil {
            await views.flooded(account, until: end, seconds: wait.components.seconds, at: now)
        }
        metrics.errors[error.code].increment()
        log.warning(
            "account.error",
            [
                "account": .id(account), "error_type": .id(error.code),
                "new_status": .id(outcome.newStatus.rawValue), "service": .text(service),
            ])
        events.note(
            AccountEvent(
                user: stored.user, account: account, "account_error",
                status: outcome.action == .counted ? "warning" : "error",
                .object(present: [
                    "error_type": .string(error.code), "action_taken": .string(outcome.action.rawValue),
                    "new_status": .string(outcome.newStatus.rawValue),
                    "recovery_at": outcome.recoveryAt?.json,
                    "service": .string(service),
                ]), at: now))
        return outcome
    }

    /// By hand: an operator says that the account is well again. Running waits and blocks stay.
    public func recover(
        _ account: AccountID, owner: Int64?, byHand: Bool, at now: Timestamp
    ) async throws -> (changed: Bool, account: StoredAccount) {
        _ = await views.take(account, at: now)
        let answer = try await store.recovering(account, owner: owner, byHand: byHand, at: now)
        await finished(answer.account, .invite, at: now)
        await views.recovers(account, at: answer.account.candidate.standing.nextRecovery)
        guard answer.changed else { return answer }
        metrics.recoveries[byHand ? "by_hand" : "by_itself"].increment()
        log.info("account.recovered", ["account": .id(account), "by_hand": .flag(byHand)])
        events.note(
            AccountEvent(
                user: answer.account.user, account: account, "account_recovered",
                [
                    "by_hand": .bool(byHand),
                    "status": .string(answer.account.candidate.standing.status(at: now).rawValue),
                ], at: now))
        return answer
    }

    /// Recovers whoever is due: those the queue names, and those SQL knows and the queue has forgotten.
    public func recoverDue(of user: Int64? = nil, limit: Int = 500, at now: Timestamp) async throws
        -> (looked: Int, recovered: [AccountID])
    {
        var due = try await store.due(limit: limit, of: user, at: now)
        views.databaseAnswered()
        if user == nil, let queued = await views.queued(through: now, limit: limit) {
            due += Set(queued).subtracting(due).sorted()
        }
        var recovered: [AccountID] = []
        for account in due {
            do {
                if try await recover(account, owner: user, byHand: false, at: now).changed {
                    recovered.append(account)
                }
            } catch AccountStoreError.unknownAccount {
                await views.recovers(account, at: nil)
            }
        }
        return (due.count, recovered)
    }

    /// Stops an account whose ledger shows a broken limit.
    public func stop(_ account: AccountID, because details: JSONValue, at now: Timestamp) async throws {
        _ = await views.take(account, at: now)
        let stored = try await store.stop(account, at: now)
        await finished(stored, .invite, at: now)
        log.error("account.stopped", ["account": .id(account), "reason": .id("limit_breach")])
        events.note(
            AccountEvent(
                user: stored.user, account: account, "account_stopped", status: "error", details, at: now))
    }

    // MARK: - Limits

    public func tighten(
        _ scope: LimitScope, to limits: LimitsOverride, by user: Int64, at now: Timestamp
    ) async throws {
        await views.limitsWillChange()
        try await store.tighten(scope, to: limits, at: now)
        await views.limitsChanged(to: try await store.limitsRevision())
        log.info("limits.tightened", ["scope": .id(scope.name), "settings": .int(limits.values.count)])
        var account: AccountID?
        if case .account(let id) = scope { account = id }
        let values = limits.values.sorted { $0.key < $1.key }.map {
            JSONMember($0.key.name, JSONValue($0.value))
        }
        events.note(
            AccountEvent(
                user: user, account: account, "limits_changed",
                ["scope": .string(scope.name), "limits": .object(values)], at: now))
    }

    // MARK: - The fast view

    /// Makes leases and the recovery queue in the cache anew from SQL.
    public func rebuildViews(at now: Timestamp) async throws {
        for (account, lease) in try await store.runningLeases(limit: 10_000, at: now) {
            await views.leased(account, lease, at: now)
        }
        await views.replaceQueue(try await store.recoveries(limit: 100_000, at: now))
    }

    /// Notices a cache that was emptied or came back, and makes it anew.
    public func watchCache(at now: Timestamp) async throws {
        guard await views.verify(), views.wasEmptied() else { return }
        log.info("cache.rebuilt", [:])
        try await rebuildViews(at: now)
    }
}

extension StoredAccount {
    /// The permit no longer counts: its attempt does.
    mutating func settle(_ permit: Permit) {
        permits.removeAll { $0.id == permit.id }
        candidate.usage[permit.action]?.settle(permit.hold)
    }
}

extension AccountManager {
    /// Looks how many accounts are in which state, for the gauges.
    public func refreshCounts(at now: Timestamp) async throws -> AccountCounts {
        let counts = try await store.counts(at: now)
        metrics.show(counts, at: now)
        return counts
    }

    public func counted(_ job: String, _ result: String) { metrics.jobs[job, result].increment() }
    public func breached(_ limit: String) { metrics.breaches[limit].increment() }
}
