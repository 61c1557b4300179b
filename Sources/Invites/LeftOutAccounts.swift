public import Core
import Synchronization

/// Which accounts of a user may not invite into a community, for now.
public struct LeftOut: Sendable {
    public let accounts: [String]
    /// When the first of them is looked at anew.
    public let first: Timestamp?
    public let reasons: Set<String>
}

/// Who may not invite, as SQL said a moment ago, and who may, as it said before: so that not every lease asks it
/// for both. Whoever loses the right is found among those who may not before their next turn, or by Telegram.
final class LeftOutAccounts: Sendable {
    private struct Key: Hashable {
        let user: Int64
        let community: String

        init(_ task: InviteTask) {
            user = task.userID
            community = task.community
        }
    }
    private static let lifetime = Duration.seconds(2)
    private static let most = 1_000
    private let known = Mutex<[Key: (value: LeftOut, at: Timestamp)]>([:])
    private let able = Mutex<[Key: [String: Timestamp]]>([:])

    func recent(_ task: InviteTask, at now: Timestamp) -> LeftOut? {
        known.withLock { known in
            guard let found = known[Key(task)], now >= found.at, now - found.at < Self.lifetime else {
                return nil
            }
            return found.value
        }
    }

    func note(_ value: LeftOut, _ task: InviteTask, at now: Timestamp) {
        known.withLock { known in
            if known.count >= Self.most { known = [:] }
            known[Key(task)] = (value, now)
        }
    }

    func mayInvite(_ account: String, _ task: InviteTask, at now: Timestamp) -> Bool {
        able.withLock { able in able[Key(task)]?[account].map { now < $0 } ?? false }
    }

    func note(_ account: String, mayInviteUntil moment: Timestamp, _ task: InviteTask) {
        able.withLock { able in
            if able.count >= Self.most { able = [:] }
            able[Key(task), default: [:]][account] = moment
        }
    }

    func forget(_ task: InviteTask) {
        known.withLock { _ = $0.removeValue(forKey: Key(task)) }
        able.withLock { _ = $0.removeValue(forKey: Key(task)) }
    }
}
