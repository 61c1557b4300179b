public import Core

/// What a holder says, when it gives a lease back, that it did during the lease.
public struct UsageStats: Equatable, Sendable {
    /// More than any lease of four hours can do; a larger number is a mistake, or malice.
    public static let most = 1_000

    public var invitesSent: Int
    public var messagesSent: Int
    public var contactsAdded: Int
    public var channelsUsed: [ChannelKey]

    public init(
        invitesSent: Int = 0, messagesSent: Int = 0, contactsAdded: Int = 0, channelsUsed: [ChannelKey] = []
    ) {
        self.invitesSent = invitesSent
        self.messagesSent = messagesSent
        self.contactsAdded = contactsAdded
        self.channelsUsed = channelsUsed
    }

    func count(of action: ActionType) -> Int {
        let said =
            switch action {
            case .invite: invitesSent
            case .message: messagesSent
            case .addContact: contactsAdded
            }
        return min(max(0, said), Self.most)
    }
}

/// Makes the ledger agree with what a holder says: what it recorded one by one counts once, only the surplus
/// is written. So releasing twice, or recording and reporting, never counts anything twice.
public func surplus(
    of stats: UsageStats, over recorded: [ActionType: Int], at now: Timestamp
) -> [ActionType: [ActionRecord]] {
    var result: [ActionType: [ActionRecord]] = [:]
    for action in ActionType.allCases {
        let missing = stats.count(of: action) - recorded[action, default: 0]
        guard missing > 0 else { continue }
        let channels = action == .invite ? stats.channelsUsed : []
        result[action] = (0..<missing).map { index in
            // Nobody says how many went where: evenly, which no single channel's count can fall far behind.
            let channel = channels.isEmpty ? nil : channels[index % channels.count]
            return ActionRecord(at: now, channel: channel, success: true)
        }
    }
    return result
}
