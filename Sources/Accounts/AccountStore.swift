public import Core

/// An account as the store knows it, with what it may do.
public struct StoredAccount: Equatable, Sendable {
    public let user: Int64
    public let phone: String
    public let isActive: Bool
    public var candidate: Candidate
    /// Attempts today, by the counters.
    public var usedToday: [ActionType: Int]
    /// The day that the counters belong to.
    var usageDay = UTCDay(number: 0)
    /// Nil where the view is missing and has to be made from the ledger.
    var channels: ChannelCounters?
    /// Grows with everything that bears on a verdict: whoever decides from an older state finds out.
    var revision: Int64 = 0
    /// The same for the tightened limits of all accounts together.
    var limitsRevision: Int64 = 0
    /// The open permits behind the holds in the usage.
    var permits: [Permit] = []
    /// The ledger is known from here on, and was read at that moment.
    var knownFrom = Timestamp.epoch
    var readAt = Timestamp.epoch

    public var id: AccountID { candidate.account }
    public var lease: Lease? { candidate.leases.current }
}

/// A wish for an account.
public struct Acquire: Sendable {
    public var user: Int64
    public var purpose: Purpose
    public var service: String
    public var channel: ChannelKey?
    public var preferred: AccountID?
    public var excluded: Set<AccountID>
    public var duration: Duration
    /// Whether a permit for the first action is taken with the lease.
    public var reserves: Bool

    public init(
        user: Int64, purpose: Purpose, service: String, channel: ChannelKey? = nil,
        preferred: AccountID? = nil,
        excluded: Set<AccountID> = [], duration: Duration = Lease.duration, reserves: Bool = false
    ) {
        self.user = user
        self.purpose = purpose
        self.service = service
        self.channel = channel
        self.preferred = preferred
        self.excluded = excluded
        self.duration = duration
        self.reserves = reserves
    }

    /// The permit that goes with the lease, where one is wanted and the purpose has something to count.
    func permit(_ id: String, for account: AccountID, at now: Timestamp) -> Permit? {
        guard reserves, let action = purpose.action else { return nil }
        return Permit(
            id: id, account: account, action: action, channel: action == .invite ? channel : nil,
            reservedAt: now)
    }
}

/// What becomes of the lease when an attempt is stated.
public enum LeaseAfterRecord: String, Sendable, CaseIterable {
    case keep
    /// Given back, unless the account may do the same again now.
    case releaseWhenResting = "release_when_resting"
    case release

    func isReleased(after verdict: Verdict) -> Bool {
        switch self {
        case .keep: false
        case .releaseWhenResting: !verdict.allowed
        case .release: true
        }
    }
}

/// An attempt that somebody reports.
public struct Report: Sendable {
    public var action: ActionType
    public var channel: ChannelKey?
    public var success: Bool
    public var error: String?
    public var permit: String?
    public var lease: String?
    public var service: String

    public init(
        _ action: ActionType, into channel: ChannelKey? = nil, success: Bool, error: String? = nil,
        permit: String? = nil, lease: String? = nil, service: String
    ) {
        self.action = action
        self.channel = channel
        self.success = success
        self.error = error
        self.permit = permit
        self.lease = lease
        self.service = service
    }
}

public enum AccountStoreError: Error, Equatable, Sendable {
    case unknownAccount
}

public enum LimitScope: Equatable, Sendable {
    /// What the service's settings say, for everybody.
    case configuration
    /// What an operator says through the API, for everybody.
    case everybody
    case user(Int64)
    case account(AccountID)
}

/// Leases of accounts: at most one holder each, whoever asks at the same moment.
public protocol LeaseStore: Sendable {
    /// Throws `NoAccountAvailable`.
    func acquire(_ wish: Acquire, at now: Timestamp) async throws -> StoredAccount
    func extend(
        _ account: AccountID, lease: String, by service: String, for duration: Duration, at now: Timestamp
    ) async throws -> Lease
    func release(
        _ account: AccountID, lease: String?, by service: String, stats: UsageStats, at now: Timestamp
    ) async throws -> LeaseBook.Release
}

/// Who did what, and whether one more is allowed.
public protocol LedgerStore: Sendable {
    func check(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey?, at now: Timestamp
    ) async throws -> Verdict
    func reserve(
        _ account: AccountID, _ action: ActionType, into channel: ChannelKey?, lease: String?,
        by service: String,
        at now: Timestamp
    ) async throws -> (verdict: Verdict, permit: Permit?)
    /// False when this permit was recorded before.
    func record(_ account: AccountID, _ report: Report, at now: Timestamp) async throws -> Bool
    func releasePermit(_ id: String, of account: AccountID, at now: Timestamp) async throws -> Bool
}
