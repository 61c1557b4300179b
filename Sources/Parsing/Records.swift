public import Core

/// Somebody as a platform told of them, in the terms of no platform.
public struct PersonRecord: Equatable, Sendable {
    public var platformID: String
    public var username: String?
    public var firstName = ""
    public var lastName = ""
    public var phone: String?
    public var isBot = false
    public var isDeleted = false
    public var isPremium = false
    public var isContact = false
    public var isScam = false
    public var isAdmin = false
    public var languageCode = ""
    /// In the platform's words, such as `recently`.
    public var presence = ""
    /// When they were last there, where the platform says so.
    public var lastSeen: Timestamp?
    public var joinedAt: Timestamp?

    public init(platformID: String) { self.platformID = platformID }

    /// Who joined was there at that moment, whatever the platform shows of them.
    var lastThere: Timestamp? {
        guard let joinedAt, let lastSeen else { return lastSeen ?? joinedAt }
        return max(joinedAt, lastSeen)
    }

    var displayName: String {
        let name = lastName.isEmpty ? firstName : firstName.isEmpty ? lastName : "\(firstName) \(lastName)"
        return ForeignText.name(name.isEmpty ? username ?? "" : name)
    }
}

/// A message as a platform told of it.
public struct MessageRecord: Equatable, Sendable {
    public var platformID: String
    /// In the platform's own order: a later one is larger.
    public var order: Int64
    /// How many messages the community has had up to this one, where its numbers tell.
    public var ordinal: Int64?
    public var chatID = ""
    public var sentAt: Timestamp
    public var editedAt: Timestamp?
    public var author: PersonRecord?
    /// A community in whose name it was written.
    public var authorChatID: String?
    public var signature: String?
    /// An event of the community's life, which nobody wrote.
    public var isEvent = false
    public var content = ""
    public var media: String?
    public var fileID: String?
    public var views: Int64 = 0
    public var forwards: Int64 = 0
    public var reactions: Int64 = 0
    /// Nil: they are off.
    public var replies: Int64?
    public var replyTo: String?
    public var forwardedFrom: String?
    /// The post it comments on.
    public var post: String?

    public init(platformID: String, order: Int64, sentAt: Timestamp) {
        self.platformID = platformID
        self.order = order
        self.sentAt = sentAt
    }
}

/// A community as a platform told of it.
public struct CommunityRecord: Equatable, Sendable {
    public enum Kind: String, Sendable { case group, channel }

    public var platformID: String
    public var kind: Kind
    /// In the platform's own words, such as `supergroup`.
    public var platformKind = ""
    public var title = ""
    public var username: String?
    public var about = ""
    public var memberCount: Int64?
    public var canListMembers = false
    public var hidesMembers = false
    /// How many members the platform shows at most; nil for no end.
    public var memberListCap: Int64?
    public var hasDiscussion = false
    public var isAdmin = false

    public init(platformID: String, kind: Kind) {
        self.platformID = platformID
        self.kind = kind
    }

    public var json: JSONValue {
        .object(present: [
            "platform_id": .string(platformID), "kind": .string(kind.rawValue),
            "platform_kind": .string(platformKind), "title": .string(title),
            "username": username.map { .string($0) }, "member_count": memberCount.map { .int($0) },
            "can_list_members": .bool(canListMembers), "hides_members": .bool(hidesMembers),
            "member_list_cap": memberListCap.map { .int($0) }, "has_discussion": .bool(hasDiscussion),
            "is_admin": .bool(isAdmin),
        ])
    }

    init?(_ json: JSONValue) {
        guard let id = json["platform_id"]?.stringValue,
            let kind = json["kind"]?.stringValue.flatMap({ Kind(rawValue: $0) })
        else { return nil }
        self.init(platformID: id, kind: kind)
        platformKind = json["platform_kind"]?.stringValue ?? ""
        title = json["title"]?.stringValue ?? ""
        username = json["username"]?.stringValue
        memberCount = json["member_count"]?.intValue
        canListMembers = json["can_list_members"]?.boolValue ?? false
        hidesMembers = json["hides_members"]?.boolValue ?? false
        memberListCap = json["member_list_cap"]?.intValue
        hasDiscussion = json["has_discussion"]?.boolValue ?? false
        isAdmin = json["is_admin"]?.boolValue ?? false
    }
}
