public import Core
import HTTP
public import ServiceKit

/// Reads communities through integration-service, a page at a time: members, messages, comments, and a search.
///
/// What arrives is foreign: a line that cannot be understood is counted and left out, never a reason to fail.
public struct ReadingClient: Sendable {
    /// One account reading one community on behalf of a user.
    public struct Place: Sendable {
        public var user: Int64
        public var account: String
        public var community: String
        /// Of the account's lease, so that nobody reads who has lost it.
        public var fencingToken: Int64?

        public init(user: Int64, account: String, community: String, fencingToken: Int64? = nil) {
            self.user = user
            self.account = account
            self.community = community
            self.fencingToken = fencingToken
        }
    }

    /// How much one call brings.
    public struct Amount: Sendable {
        /// Items one request to Telegram asks for.
        public var pageSize: Int
        /// Requests to Telegram at most.
        public var pages: Int
        public var since: Timestamp?
        public var until: Timestamp?

        public init(pageSize: Int, pages: Int = 1, since: Timestamp? = nil, until: Timestamp? = nil) {
            self.pageSize = pageSize
            self.pages = pages
            self.since = since
            self.until = until
        }
    }

    private let peers: Peers
    /// The first page is read before the answer begins, and a session may have to be opened for it.
    private static let deadline: Duration = .seconds(90)

    public init(_ peers: Peers) { self.peers = peers }

    public func members(
        at place: Place, from cursor: String?, _ amount: Amount
    ) async throws -> ReadPage<ReadMember> {
        try await read("members", place, [("cursor", cursor)], amount) { ReadMember($0) }
    }

    public func messages(
        at place: Place, from cursor: String?, _ amount: Amount
    ) async throws -> ReadPage<ReadMessage> {
        try await read("messages", place, [("cursor", cursor)], amount) { ReadMessage($0) }
    }

    public func comments(
        on post: Int64, at place: Place, from cursor: String?, _ amount: Amount
    ) async throws -> ReadPage<ReadMessage> {
        try await read("comments", place, [("cursor", cursor), ("post_id", String(post))], amount) {
            ReadMessage($0)
        }
    }

    /// Communities by words, through one of the user's accounts.
    public func search(
        _ words: String, user: Int64, account: String, limit: Int
    ) async throws -> ReadPage<ReadCommunity> {
        try await stream(
            "search", user: user, account: account, [("q", words), ("limit", String(limit))]
        ) { ReadCommunity($0) }
    }

    private func read<Item: Sendable>(
        _ what: String, _ place: Place, _ query: [(String, String?)], _ amount: Amount,
        _ item: (JSONValue) -> Item?
    ) async throws -> ReadPage<Item> {
        try await stream(
            what, user: place.user, account: place.account,
            [
                ("group_id", place.community), ("page_size", String(amount.pageSize)),
                ("pages", String(amount.pages)), ("since", amount.since?.description),
                ("until", amount.until?.description),
                ("fencing_token", place.fencingToken.map { String($0) }),
            ] + query, item)
    }

    private func stream<Item: Sendable>(
        _ what: String, user: Int64, account: String, _ query: [(String, String?)],
        _ item: (JSONValue) -> Item?
    ) async throws -> ReadPage<Item> {
        let query = query.compactMap { name, value in value.map { "\(name)=\(percentEncoded($0))" } }
            .joined(separator: "&")
        // Only the number of the user counts there; a service that acts for somebody has to name an address.
        let owner = UserIdentity(id: user, email: "user-\(user)@localhost", tokenID: "")
        let response = try await peers.ask(
            "integration-service", .get,
            "/internal/telegram/accounts/\(percentEncoded(account))/\(what)?\(query)", onBehalfOf: owner,
            deadline: Self.deadline)
        guard response.status == 200 else {
            let problem = (try? await response.json(limit: 1 << 20)) ?? .null
            throw ReadFailure(status: response.status, problem)
        }
        var page = ReadPage<Item>()
        var lines = LineSplitter()
        for try await chunk in response.body {
            lines.append(chunk)
            while let line = lines.next() { page.take(line, item) }
        }
        if let line = lines.last() { page.take(line, item) }
        return page
    }
}

/// What one call brought.
public struct ReadPage<Item: Sendable>: Sendable {
    /// The community as Telegram told of it at the start.
    public var community: ReadCommunity?
    /// Telegram's own count, where the stream is of something counted.
    public var total: Int64?
    public var items: [Item] = []
    /// Lines that were not understood.
    public var unreadable = 0
    /// Where to go on.
    public var cursor: String?
    /// Everything has been read.
    public var isComplete = false
    /// Why the reading broke off; what was read before counts.
    public var failure: ReadFailure?
    /// The last line was seen. Without it the connection was lost on the way.
    public var isWhole = false

    public init() {}

    fileprivate mutating func take(_ line: ArraySlice<UInt8>, _ item: (JSONValue) -> Item?) {
        guard line.contains(where: { $0 > 0x20 }) else { return }
        guard let json = try? JSONValue(parsing: line), let type = json["type"]?.stringValue else {
            unreadable += 1
            return
        }
        switch type {
        case "start":
            community = ReadCommunity(json)
            total = json["total"]?.intValue
        case "end":
            cursor = json["cursor"]?.stringValue ?? cursor
            isComplete = json["complete"]?.boolValue ?? false
            isWhole = true
        case "error":
            cursor = json["cursor"]?.stringValue ?? cursor
            failure = ReadFailure(status: 0, json)
            isWhole = true
        default:
            // The cursor of a line that says nothing to us still leads past it.
            if let behind = json["cursor"]?.stringValue { cursor = behind }
            if let item = item(json) { items.append(item) } else { unreadable += 1 }
        }
    }
}

/// Why a community could not be read.
public struct ReadFailure: Error, Equatable, Sendable {
    /// Of the HTTP answer; 0 where the stream had begun.
    public var status: Int
    /// integration-service's word, such as `flood_wait` or `group_restriction`.
    public var code: String
    public var message: String
    /// Telegram's own words.
    public var original: String
    public var retryAfter: Duration?

    public init(
        status: Int, code: String, message: String = "", original: String = "", retryAfter: Duration? = nil
    ) {
        self.status = status
        self.code = code
        self.message = message
        self.original = original
        self.retryAfter = retryAfter
    }

    init(status: Int, _ json: JSONValue) {
        let seconds = json["retry_after"]?.intValue.map { min(max($0, 0), 86_400 * 30) }
        self.init(
            status: status,
            code: json["error"]?.stringValue ?? json["code"]?.stringValue ?? "unknown",
            message: json["message"]?.stringValue ?? json["detail"]?.stringValue ?? "",
            original: json["original_error"]?.stringValue ?? "",
            retryAfter: seconds.map { .seconds($0) })
    }
}

/// A community as it was told of.
public struct ReadCommunity: Equatable, Sendable {
    public var chatID: Int64 = 0
    /// `basic_group`, `supergroup` or `channel`.
    public var kind = ""
    public var title = ""
    public var username: String?
    public var about = ""
    public var memberCount: Int64?
    public var canListMembers = false
    public var hidesMembers = false
    /// How many members Telegram shows to this account at most; nil for no end.
    public var memberListCap: Int64?
    public var linkedChatID: Int64?
    public var isMember = false
    public var isAdmin = false
    /// Of what was searched for: the account of the same user that administers it, where that was seen.
    public var adminAccount: String?
    public var mayInvite = false
    public var refusesDirectAdds = false
    public var needsApproval = false
    public var isPublic = false
    public var isScam = false
    /// Whether one of the last posts has a comment; nil where nobody looked.
    public var hasComments: Bool?
    public var lastMessageAt: Timestamp?
    public var messagesPerDay: Double?

    public init() {}

    init?(_ json: JSONValue) {
        guard let members = json.objectValue, json["chat_id"] != nil, json["kind"] != nil else { return nil }
        for member in members {
            let value = member.value
            switch member.name {
            case "chat_id": chatID = value.intValue ?? 0
            case "kind": kind = value.stringValue ?? ""
            case "title": title = value.stringValue ?? ""
            case "username": username = value.stringValue
            case "description": about = value.stringValue ?? ""
            case "member_count": memberCount = value.intValue
            case "can_list_members": canListMembers = value.boolValue ?? false
            case "hides_members": hidesMembers = value.boolValue ?? false
            case "member_list_cap": memberListCap = value.intValue
            case "linked_chat_id": linkedChatID = value.intValue
            case "is_member": isMember = value.boolValue ?? false
            case "is_admin": isAdmin = value.boolValue ?? false
            case "admin_account_id": adminAccount = value.stringValue
            case "may_invite": mayInvite = value.boolValue ?? false
            case "refuses_direct_adds": refusesDirectAdds = value.boolValue ?? false
            case "needs_approval": needsApproval = value.boolValue ?? false
            case "is_public": isPublic = value.boolValue ?? false
            case "is_scam": isScam = value.boolValue ?? false
            case "has_comments": hasComments = value.boolValue
            case "last_message_at": lastMessageAt = value.stringValue.flatMap { Timestamp($0) }
            case "messages_per_day": messagesPerDay = value.doubleValue
            default: break
            }
        }
    }
}

/// Somebody who was read about.
public struct ReadPerson: Equatable, Sendable {
    public var id: Int64 = 0
    public var username: String?
    public var firstName = ""
    public var lastName = ""
    public var phone: String?
    /// `person`, `bot`, `deleted` or `unknown`.
    public var kind = "unknown"
    public var isBot = false
    public var isPremium = false
    public var isContact = false
    public var isScam = false
    public var languageCode = ""
    /// `online`, `at`, `recently`, `last_week`, `last_month` or `hidden`.
    public var seen = "hidden"
    public var lastSeen: Timestamp?

    public init(id: Int64) { self.id = id }

    init?(_ json: JSONValue?) {
        guard let members = json?.objectValue else { return nil }
        for member in members {
            let value = member.value
            switch member.name {
            case "user_id": id = value.intValue ?? 0
            case "username": username = value.stringValue
            case "first_name": firstName = value.stringValue ?? ""
            case "last_name": lastName = value.stringValue ?? ""
            case "phone": phone = value.stringValue
            case "kind": kind = value.stringValue ?? "unknown"
            case "is_bot": isBot = value.boolValue ?? false
            case "is_premium": isPremium = value.boolValue ?? false
            case "is_contact": isContact = value.boolValue ?? false
            case "is_scam": isScam = value.boolValue ?? false
            case "language_code": languageCode = value.stringValue ?? ""
            case "seen": seen = value.stringValue ?? "hidden"
            case "last_seen": lastSeen = value.stringValue.flatMap { Timestamp($0) }
            default: break
            }
        }
        guard id != 0 else { return nil }
    }
}

public struct ReadMember: Equatable, Sendable {
    /// Nil for a chat that is a member, or for somebody of whom only the id is known.
    public var person: ReadPerson?
    public var userID: Int64?
    /// A chat that is a member.
    public var chatID: Int64?
    public var isAdmin = false
    public var joinedAt: Timestamp?
    public var inviterID: Int64?

    init?(_ json: JSONValue) {
        guard let members = json.objectValue else { return nil }
        for member in members {
            let value = member.value
            switch member.name {
            case "user": person = ReadPerson(value)
            case "user_id": userID = value.intValue
            case "chat_id": chatID = value.intValue
            case "is_admin": isAdmin = value.boolValue ?? false
            case "joined_at": joinedAt = value.stringValue.flatMap { Timestamp($0) }
            case "inviter_id": inviterID = value.intValue
            default: break
            }
        }
        userID = userID ?? person?.id
        guard userID != nil || chatID != nil else { return nil }
    }
}

public struct ReadMessage: Equatable, Sendable {
    public var id: Int64 = 0
    /// The number in t.me links.
    public var number: Int64 = 0
    public var chatID: Int64 = 0
    public var date = Timestamp.epoch
    public var editedAt: Timestamp?
    public var senderID: Int64?
    public var senderChatID: Int64?
    public var author: ReadPerson?
    public var signature: String?
    /// `text`, `media`, or an event of the chat's life.
    public var kind = ""
    public var media: String?
    public var fileID: String?
    public var albumID: Int64?
    public var text = ""
    public var views: Int64 = 0
    public var forwards: Int64 = 0
    /// Nil: comments are off.
    public var comments: Int64?
    public var reactions: Int64 = 0
    public var replyTo: Int64?
    public var forwardedFrom: Int64?
    public var isChannelPost = false

    init?(_ json: JSONValue) {
        guard let members = json.objectValue else { return nil }
        var dated = false
        for member in members {
            let value = member.value
            switch member.name {
            case "id": id = value.intValue ?? 0
            case "number": number = value.intValue ?? 0
            case "chat_id": chatID = value.intValue ?? 0
            case "date":
                guard let moment = value.stringValue.flatMap({ Timestamp($0) }) else { return nil }
                date = moment
                dated = true
            case "edited_at": editedAt = value.stringValue.flatMap { Timestamp($0) }
            case "sender_id": senderID = value.intValue
            case "sender_chat_id": senderChatID = value.intValue
            case "author": author = ReadPerson(value)
            case "signature": signature = value.stringValue
            case "kind": kind = value.stringValue ?? ""
            case "media": media = value.stringValue
            case "file_id": fileID = value.stringValue
            case "album_id": albumID = value.intValue
            case "text": text = value.stringValue ?? ""
            case "views": views = value.intValue ?? 0
            case "forwards": forwards = value.intValue ?? 0
            case "comments": comments = value.intValue
            case "reactions": reactions = value.intValue ?? 0
            case "reply_to": replyTo = value.intValue
            case "forwarded_from": forwardedFrom = value.intValue
            case "is_channel_post": isChannelPost = value.boolValue ?? false
            default: break
            }
        }
        guard id != 0, dated else { return nil }
    }
}

/// Cuts a stream of bytes into lines. What was cut is dropped in one go, not line by line.
struct LineSplitter {
    private var buffer: [UInt8] = []
    private var start = 0
    private var searched = 0

    mutating func append(_ chunk: [UInt8]) {
        if start > 0 {
            buffer.removeSubrange(..<start)
            searched -= start
            start = 0
        }
        buffer += chunk
    }

    mutating func next() -> ArraySlice<UInt8>? {
        guard let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
            searched = buffer.count
            return nil
        }
        defer {
            start = end + 1
            searched = start
        }
        return buffer[start..<end]
    }

    /// What stands behind the last line break.
    mutating func last() -> ArraySlice<UInt8>? { start < buffer.count ? buffer[start...] : nil }
}
