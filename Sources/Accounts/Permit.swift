public import Core

/// The right to do one action soon. It counts as used until it is recorded, released, or runs out, so that two
/// parties who check at the same moment cannot both get the last place.
public struct Permit: Equatable, Sendable {
    public static let lifetime = Duration.seconds(120)

    public enum State: String, Equatable, Sendable {
        case open
        case recorded
        case released
    }

    public let id: String
    public let account: AccountID
    public let action: ActionType
    public let channel: ChannelKey?
    public let reservedAt: Timestamp
    public private(set) var state: State

    public init(
        id: String, account: AccountID, action: ActionType, channel: ChannelKey?, reservedAt: Timestamp,
        state: State = .open
    ) {
        self.id = id
        self.account = account
        self.action = action
        self.channel = channel
        self.reservedAt = reservedAt
        self.state = state
    }

    public var expiresAt: Timestamp { reservedAt + Self.lifetime }

    public func isOpen(at now: Timestamp) -> Bool { state == .open && now < expiresAt }

    public var hold: PermitHold { PermitHold(channel: channel, expiresAt: expiresAt) }

    /// The attempt that this permit was for is stated. Nil when it was stated before: it counts once.
    ///
    /// A report that comes after the permit's time is dated to the permit's end, the latest moment at which
    /// its holder may have acted: it then stands in the ledger where it happened, not where it was heard of.
    public mutating func record(at now: Timestamp) -> Timestamp? {
        guard state != .recorded else { return nil }
        // A report after a release is a fact all the same.
        state = .recorded
        return min(now, max(expiresAt, reservedAt))
    }

    /// Gives the place back unused. True when there was something to give back.
    public mutating func release(at now: Timestamp) -> Bool {
        guard isOpen(at: now) else { return false }
        state = .released
        return true
    }
}
