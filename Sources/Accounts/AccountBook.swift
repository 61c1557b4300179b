public import Core

/// Everything about one account as one value: its ledger, permits, lease and standing, and what may happen to
/// them. The stores keep the same in SQL; this is what they have to agree with.
public struct AccountBook: Sendable {
    /// One row of the ledger.
    public struct Entry: Equatable, Sendable {
        public let action: ActionType
        public let record: ActionRecord
        public let lease: String?
        public let permit: String?
    }

    public private(set) var candidate: Candidate
    public private(set) var entries: [Entry] = []
    public private(set) var permits: [String: Permit] = [:]

    public init(_ candidate: Candidate) { self.candidate = candidate }

    public var account: AccountID { candidate.account }

    public func check(_ action: ActionType, into channel: ChannelKey? = nil, at now: Timestamp) -> Verdict {
        candidate.verdict(action, into: channel, at: now)
    }

    /// Checks and, when it is allowed, holds the place.
    public mutating func reserve(
        _ action: ActionType, into channel: ChannelKey? = nil, id: String, at now: Timestamp
    ) -> (verdict: Verdict, permit: Permit?) {
        let verdict = check(action, into: channel, at: now)
        guard verdict.allowed else { return (verdict, nil) }
        let permit = Permit(
            id: id, account: account, action: action, channel: verdict.channel, reservedAt: now)
        permits[id] = permit
        candidate.usage[action, default: .none].hold(permit.hold)
        return (verdict, permit)
    }

    /// States a fact; never refused for being over a limit. False when it was stated before.
    @discardableResult
    public mutating func record(
        _ action: ActionType, into channel: ChannelKey? = nil, success: Bool, permit id: String? = nil,
        lease: String? = nil, at now: Timestamp
    ) -> Bool {
        var moment = now
        if let id, var permit = permits[id] {
            guard let at = permit.record(at: now) else { return false }
            moment = at
            permits[id] = permit
            candidate.usage[permit.action]?.settle(permit.hold)
        }
        write(
            action, ActionRecord(at: moment, channel: action == .invite ? channel : nil, success: success),
            lease: lease, permit: id)
        if success { candidate.standing.succeeded() }
        return true
    }

    @discardableResult
    public mutating func releasePermit(_ id: String, at now: Timestamp) -> Bool {
        guard var permit = permits[id], permit.release(at: now) else { return false }
        permits[id] = permit
        candidate.usage[permit.action]?.settle(permit.hold)
        return true
    }

    public mutating func grant(
        id: String, to service: String, for duration: Duration = Lease.duration, at now: Timestamp
    ) throws(LeaseError) -> Lease {
        try candidate.leases.grant(id: id, to: service, for: duration, at: now)
    }

    public mutating func extend(
        id: String, by service: String, for duration: Duration, at now: Timestamp
    ) throws(LeaseError) -> Lease {
        try candidate.leases.extend(id: id, by: service, for: duration, at: now)
    }

    /// Gives the lease back and writes what it did but did not record.
    @discardableResult
    public mutating func release(
        id: String?, by service: String, stats: UsageStats = UsageStats(), at now: Timestamp
    ) throws(LeaseError) -> LeaseBook.Release {
        let release = try candidate.leases.release(id: id, by: service, at: now)
        guard case .released(let lease) = release else { return release }
        candidate.lastUsed = max(candidate.lastUsed ?? now, now)
        var recorded: [ActionType: Int] = [:]
        // Whoever records without naming its lease did it in the lease all the same.
        for entry in entries
        where entry.lease == lease.id || (entry.lease == nil && entry.record.at >= lease.grantedAt) {
            recorded[entry.action, default: 0] += 1
        }
        for (action, records) in surplus(of: stats, over: recorded, at: now) {
            for record in records { write(action, record, lease: lease.id, permit: nil) }
        }
        return release
    }

    public mutating func failed(with error: AccountError, at now: Timestamp) -> ErrorOutcome {
        let outcome = candidate.standing.failed(with: error, at: now)
        if outcome.endsLease { _ = candidate.leases.end() }
        return outcome
    }

    @discardableResult
    public mutating func recover(at now: Timestamp) -> Bool { candidate.standing.recover(at: now) }

    private mutating func write(_ action: ActionType, _ record: ActionRecord, lease: String?, permit: String?)
    {
        entries.append(Entry(action: action, record: record, lease: lease, permit: permit))
        candidate.usage[action, default: .none].record(record)
        candidate.lastUsed = max(candidate.lastUsed ?? record.at, record.at)
    }
}
