public import Core

/// The exclusive use of an account for a while.
public struct Lease: Equatable, Sendable {
    /// 1 to 240 minutes, 30 when nothing is said.
    public static let duration = Duration.minutes(30)
    public static let durations = Duration.minutes(1)...Duration.minutes(240)

    public let id: String
    public let service: String
    /// Grows with every lease of the account. Whatever acts for a lease carries it, so that a holder who slept
    /// through its lease is told apart from the one that came after it.
    public let fencingToken: Int64
    public let grantedAt: Timestamp
    public var expiresAt: Timestamp

    public init(id: String, service: String, fencingToken: Int64, grantedAt: Timestamp, expiresAt: Timestamp)
    {
        self.id = id
        self.service = service
        self.fencingToken = fencingToken
        self.grantedAt = grantedAt
        self.expiresAt = expiresAt
    }

    public func isHeld(at now: Timestamp) -> Bool { now < expiresAt }
}

public enum LeaseError: Error, Equatable, Sendable {
    /// Somebody else has it, or it has run out.
    case notHeld
    /// It cannot be granted: it is held until then.
    case leased(until: Timestamp)
    case durationOutOfRange

    public var text: LocalizedText {
        switch self {
        case .notHeld:
            LocalizedText(
                "This account is not leased to you any more",
                "Аренда этого аккаунта вам больше не принадлежит")
        case .leased(let until):
            LocalizedText("The account is leased until \(until)", "Аккаунт занят до \(until)")
        case .durationOutOfRange:
            LocalizedText("A lease lasts from 1 to 240 minutes", "Аренда длится от 1 до 240 минут")
        }
    }
}

/// The leases of one account, one at a time.
public struct LeaseBook: Equatable, Sendable {
    public private(set) var current: Lease?
    /// The last that was given back, so that giving it back again is no error.
    public private(set) var releasedID: String?
    public private(set) var fencingToken: Int64

    public init(current: Lease? = nil, releasedID: String? = nil, fencingToken: Int64 = 0) {
        self.current = current
        self.releasedID = releasedID
        self.fencingToken = fencingToken
    }

    public func holder(at now: Timestamp) -> Lease? {
        guard let current, current.isHeld(at: now) else { return nil }
        return current
    }

    public mutating func grant(
        id: String, to service: String, for duration: Duration = Lease.duration, at now: Timestamp
    ) throws(LeaseError) -> Lease {
        guard Lease.durations.contains(duration) else { throw .durationOutOfRange }
        if let holder = holder(at: now) { throw .leased(until: holder.expiresAt) }
        fencingToken += 1
        let lease = Lease(
            id: id, service: service, fencingToken: fencingToken, grantedAt: now, expiresAt: now + duration)
        current = lease
        return lease
    }

    /// Prolongs from `now`; never shortens. Only while it is held: what ran out may be somebody else's.
    public mutating func extend(
        id: String, by service: String, for duration: Duration, at now: Timestamp
    ) throws(LeaseError) -> Lease {
        guard Lease.durations.contains(duration) else { throw .durationOutOfRange }
        guard var lease = holder(at: now), lease.id == id, lease.service == service else { throw .notHeld }
        lease.expiresAt = max(lease.expiresAt, now + duration)
        current = lease
        return lease
    }

    public enum Release: Equatable, Sendable {
        case released(Lease)
        /// It was over already; nothing changed.
        case alreadyFree
    }

    /// Gives the account back. Twice is no error, also when somebody else has it by now.
    public mutating func release(
        id: String?, by service: String, at now: Timestamp
    ) throws(LeaseError) -> Release {
        if let id, id == releasedID { return .alreadyFree }
        guard let lease = current else { return .alreadyFree }
        let isOwn = lease.service == service && (id == nil || id == lease.id)
        guard lease.isHeld(at: now) || isOwn else { return .alreadyFree }
        guard isOwn else { throw .notHeld }
        current = nil
        releasedID = lease.id
        return .released(lease)
    }

    /// Ends whatever lease there is: the account was taken out of service.
    public mutating func end() -> Lease? {
        defer { current = nil }
        if let current { releasedID = current.id }
        return current
    }

    /// Forgets a lease that ran out. Correctness never waits for it.
    public mutating func expire(at now: Timestamp) -> Lease? {
        guard let lease = current, !lease.isHeld(at: now) else { return nil }
        current = nil
        return lease
    }
}

/// What whoever acts for leases has to remember: the newest token it has seen of an account. Older ones have
/// lost their lease.
public struct Fence: Equatable, Sendable {
    public private(set) var newest: Int64 = 0
    public init() {}

    public mutating func admits(_ token: Int64) -> Bool {
        guard token >= newest else { return false }
        newest = token
        return true
    }
}
