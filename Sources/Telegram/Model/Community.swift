public import Core

/// A group or channel, as this account sees it.
public struct Community: Equatable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case basicGroup = "basic_group"
        case supergroup
        case channel
    }

    public let chat: ChatID
    public let kind: Kind
    public let title: String
    public let usernames: [String]
    /// Nil where Telegram does not say.
    public let memberCount: Int?
    public let description: String
    /// Our own standing in it.
    public let standing: Membership
    /// What ordinary members may do.
    public let permissions: ChatPermissions
    /// Of a channel its discussion group, of a discussion group its channel.
    public let linkedChat: ChatID?
    public let canListMembers: Bool
    /// Then who is no administrator sees administrators and bots alone.
    public let hidesMembers: Bool
    public let needsApproval: Bool
    public let isForum: Bool
    public let slowMode: Duration
    public let isScam: Bool
    /// Where a basic group went when it was upgraded.
    public let upgradedTo: ChatID?
    /// False: the group is dead.
    public let isActive: Bool

    public var username: String? { usernames.first }
    public var isPublic: Bool { !usernames.isEmpty }
    /// Direct adding ends at 200 members; an invite link is the only way then.
    public var refusesDirectAdds: Bool { kind == .channel && (memberCount ?? 0) > 200 }
    /// How many members Telegram shows to this account at most.
    public var memberListCap: Int {
        switch kind {
        case .basicGroup: .max
        case .supergroup: 10_000
        case .channel: 200
        }
    }
    public var mayInvite: Bool { standing.mayInvite }
}

/// What an ordinary member may do.
public struct ChatPermissions: Equatable, Sendable {
    public let mayWrite: Bool
    public let mayInvite: Bool

    init(_ json: JSONValue?) {
        mayWrite = json?.flag("can_send_basic_messages") ?? false
        mayInvite = json?.flag("can_invite_users") ?? false
    }
}

/// Somebody's standing in a group.
public enum Membership: Equatable, Sendable {
    case creator(isMember: Bool)
    case administrator(AdminRights)
    case member
    case restricted(isMember: Bool, until: Timestamp?)
    case left
    case banned(until: Timestamp?)

    public var isMember: Bool {
        switch self {
        case .creator(let isMember), .restricted(let isMember, _): isMember
        case .administrator, .member: true
        case .left, .banned: false
        }
    }

    public var isAdministrator: Bool {
        switch self {
        case .creator, .administrator: true
        default: false
        }
    }

    /// The right by which Convoke invites: an administrator's, not an ordinary member's.
    public var mayInvite: Bool { rights.contains("can_invite_users") }

    /// TDLib's names of the rights held.
    public var rights: Set<String> {
        switch self {
        case .creator: AdminRights.all
        case .administrator(let rights): rights.names
        default: []
        }
    }
}

/// The rights of an administrator, by TDLib's own names.
public struct AdminRights: Equatable, Sendable {
    public let names: Set<String>

    public static let all: Set<String> = [
        "can_manage_chat", "can_change_info", "can_post_messages", "can_edit_messages", "can_delete_messages",
        "can_invite_users", "can_restrict_members", "can_pin_messages", "can_manage_topics",
        "can_promote_members", "can_manage_video_chats", "can_post_stories", "can_edit_stories",
        "can_delete_stories", "can_manage_direct_messages", "can_manage_tags", "can_send_welcome_messages",
    ]

    public init(_ names: Set<String>) { self.names = names }

    init(_ json: JSONValue?) {
        names = Set(
            (json?.objectValue ?? []).filter { $0.value == true && $0.name.hasPrefix("can_") }.map(\.name))
    }
}

extension Membership {
    init(_ json: JSONValue) {
        func moment(_ name: String) -> Timestamp? {
            let seconds = json.int(name)
            return seconds > 0 ? Timestamp(seconds: seconds) : nil
        }
        self =
            switch json.type {
            case "chatMemberStatusCreator": .creator(isMember: json.flag("is_member"))
            case "chatMemberStatusAdministrator": .administrator(AdminRights(json["rights"]))
            case "chatMemberStatusMember": .member
            case "chatMemberStatusRestricted":
                .restricted(isMember: json.flag("is_member"), until: moment("restricted_until_date"))
            case "chatMemberStatusBanned": .banned(until: moment("banned_until_date"))
            default: .left
            }
    }
}

/// One entry of a member list.
public struct Member: Equatable, Sendable {
    public let sender: MessageSender
    /// What was told of the person in the same breath; nil for a chat that is a member.
    public let person: Person?
    public let standing: Membership
    public let joinedAt: Timestamp?
    public let inviter: UserID?
}

/// A page of a member list, and where the next one begins; nil at the end.
public struct MemberPage: Equatable, Sendable {
    public let members: [Member]
    /// How many Telegram says there are; often more than it shows.
    public let total: Int
    public let next: Int?
}

/// Which members of a supergroup are listed.
public enum MemberFilter: Equatable, Sendable {
    case recent, administrators, bots
    case search(String)

    var json: JSONValue {
        switch self {
        case .recent: .typed("supergroupMembersFilterRecent")
        case .administrators: .typed("supergroupMembersFilterAdministrators")
        case .bots: .typed("supergroupMembersFilterBots")
        case .search(let query): ["@type": "supergroupMembersFilterSearch", "query": .string(query)]
        }
    }
}

public enum PublicChatFilter: Sendable { case all, channels }

public enum MessageFilter: String, Sendable {
    case photos = "searchMessagesFilterPhoto"
    case videos = "searchMessagesFilterVideo"
    case documents = "searchMessagesFilterDocument"
    case photosAndVideos = "searchMessagesFilterPhotoAndVideo"
    case links = "searchMessagesFilterUrl"
}

/// What adding a person to a group came to. Telegram's yes is not yet membership: that is looked up afterwards.
public enum AddOutcome: Equatable, Sendable {
    /// Telegram took the request. Whether the person is in has to be seen with `membership`.
    case accepted
    /// Telegram says they were in already.
    case alreadyMember
    /// The person does not let themselves be added by this account; an invite link is the way.
    case refused(FailureReason)
}

/// What joining came to.
public enum JoinOutcome: Equatable, Sendable {
    case joined(ChatID)
    /// An administrator has to let us in.
    case requested
    case declined
    /// A bot wants something first, which only a person can do.
    case needsBotApproval
}

/// What an invite link leads to, seen without joining.
public struct InvitePreview: Equatable, Sendable {
    /// Nil where the account has no access yet.
    public let chat: ChatID?
    public let kind: Community.Kind
    public let title: String
    public let description: String
    public let memberCount: Int
    public let needsApproval: Bool
    public let isPublic: Bool
}

/// An invite link to be made.
public struct NewInviteLink: Equatable, Sendable {
    /// At most 32 characters; seen by administrators only.
    public var name: String
    public var expires: Timestamp?
    /// 0 is no limit; cannot be had together with `createsJoinRequest`.
    public var memberLimit: Int
    /// Then an administrator decides on each who wants to come in.
    public var createsJoinRequest: Bool

    public init(
        name: String = "", expires: Timestamp? = nil, memberLimit: Int = 0, createsJoinRequest: Bool = true
    ) {
        self.name = name
        self.expires = expires
        self.memberLimit = memberLimit
        self.createsJoinRequest = createsJoinRequest
    }
}

public struct InviteLink: Equatable, Sendable {
    public let link: String
    public let name: String
    public let joined: Int
    public let pendingRequests: Int
    public let createsJoinRequest: Bool
    public let isRevoked: Bool
    public let expires: Timestamp?
}

/// Somebody who came in through a link.
public struct LinkMember: Equatable, Sendable {
    public let person: UserID
    public let joinedAt: Timestamp
    public let approvedBy: UserID?
}

/// Somebody who asks to be let in.
public struct JoinRequest: Equatable, Sendable {
    public let person: UserID
    public let askedAt: Timestamp
    public let bio: String
}

extension InviteLink {
    init(_ json: JSONValue) {
        link = json.text("invite_link")
        name = json.text("name")
        joined = Int(json.int("member_count"))
        pendingRequests = Int(json.int("pending_join_request_count"))
        createsJoinRequest = json.flag("creates_join_request")
        isRevoked = json.flag("is_revoked")
        let expiry = json.int("expiration_date")
        expires = expiry > 0 ? Timestamp(seconds: expiry) : nil
    }
}
