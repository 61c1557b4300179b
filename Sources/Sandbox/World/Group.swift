import Core

/// A group or channel of the sandbox. One of each, changed in place: a copy would take thousands of standings along.
final class Group {
    enum Kind: String, Sendable {
        case basicGroup = "basic_group"
        case supergroup, channel
    }
    let id: Int64
    let kind: Kind
    var title: String
    var username: String?
    var about: String
    var hidesMembers = false
    var joinByRequest = false
    var linked: Int64?
    /// The share of posts with comments on; channels with a discussion only.
    var isPaid = false
    var isFull = false
    /// Where a basic group went.
    var upgradedTo: Int64?
    var membersMayWrite = true
    /// Those it was made with, sorted.
    let founders: [Int64]
    /// Everybody whose standing has changed since, and the accounts.
    var standings: [Int64: Standing] = [:]
    var memberCount: Int
    /// How many messages it was made with.
    let historyCount: Int64
    var messages: [StoredMessage] = []
    var links: [String: Link] = [:]
    var joinRequests: [JoinAsk] = []

    struct Link {
        let hash: String
        let creator: Int64
        var name: String
        var expires: Int64
        var memberLimit: Int
        var asksFirst: Bool
        var isRevoked = false
        let created: Timestamp
        var joined: [(user: Int64, at: Timestamp, approver: Int64)] = []
        var address: String { "https://t.me/+\(hash)" }
    }
    struct JoinAsk {
        let user: Int64
        let link: String
        let at: Timestamp
    }

    init(
        _ kind: Kind, id: Int64, title: String, username: String?, about: String = "", founders: [Int64],
        historyCount: Int64
    ) {
        self.kind = kind
        self.id = id
        self.title = title
        self.username = username
        self.about = about
        self.founders = founders
        self.historyCount = historyCount
        memberCount = founders.count
    }

    var chatID: Int64 { kind == .basicGroup ? -id : -1_000_000_000_000 - id }
    var isPublic: Bool { username != nil }

    func standing(of user: Int64) -> Standing {
        if let changed = standings[user] { return changed }
        return isFounder(user) ? Standing(.member) : Standing(.left)
    }

    func isFounder(_ user: Int64) -> Bool {
        var low = 0
        var high = founders.count
        while low < high {
            let middle = (low + high) / 2
            if founders[middle] < user { low = middle + 1 } else { high = middle }
        }
        return low < founders.count && founders[low] == user
    }

    func set(_ standing: Standing, for user: Int64) {
        memberCount += (standing.isMember ? 1 : 0) - (self.standing(of: user).isMember ? 1 : 0)
        standings[user] = standing
    }

    /// All members, those who came last first.
    var members: [Int64] {
        var late: [(Int64, Timestamp)] = []
        for (user, standing) in standings where standing.isMember { late.append((user, standing.since)) }
        late.sort { ($0.1, $0.0) > ($1.1, $1.0) }
        return late.map(\.0) + founders.filter { standings[$0] == nil }
    }

    var administrators: [Int64] { standings.filter { $0.value.isAdministrator }.map(\.key).sorted() }
}

/// Somebody's standing in a group.
struct Standing {
    enum Kind: String, Sendable { case creator, administrator, member, restricted, left, banned }
    var kind: Kind
    var mayInvite = false
    var inviter: Int64 = 0
    var since: Timestamp = .epoch

    init(_ kind: Kind, mayInvite: Bool = false, inviter: Int64 = 0, since: Timestamp = .epoch) {
        self.kind = kind
        self.mayInvite = mayInvite || kind == .creator
        self.inviter = inviter
        self.since = since
    }

    var isMember: Bool { kind != .left && kind != .banned }
    var isAdministrator: Bool { kind == .creator || kind == .administrator }
}

/// A message written since the world was made.
struct StoredMessage {
    let number: Int64
    let sender: Int64
    let text: String
    let date: Timestamp
    /// The post it is a comment on.
    var thread: Int64?
    var id: Int64 { number << 20 }
}
