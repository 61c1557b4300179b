public import Core
public import HTTP
public import ServiceKit

/// A person as a caller knows them; at least one of the three.
public struct PersonReference: Equatable, Sendable {
    public let username: String?
    public let phone: String?
    public let userID: Int64?
    /// In which community they were met, and what they are called there: an account that knows nobody by that id
    /// may find them so.
    public let seenIn: String?
    public let name: String?

    public init(
        username: String? = nil, phone: String? = nil, userID: Int64? = nil, seenIn: String? = nil,
        name: String? = nil
    ) {
        self.username = username
        self.phone = phone
        self.userID = userID
        self.seenIn = seenIn
        self.name = name
    }

    var members: [JSONMember] {
        var members: [JSONMember] = []
        if let username { members.append(JSONMember("target_username", .string(username))) }
        if let phone { members.append(JSONMember("target_phone", .string(phone))) }
        if let userID { members.append(JSONMember("target_user_id", .int(userID))) }
        if userID != nil, let seenIn {
            members.append(JSONMember("target_seen_in", .string(seenIn)))
            if let name { members.append(JSONMember("target_name", .string(name))) }
        }
        return members
    }
}

/// One wish to send. The same attempt is carried out once, however often it is asked for.
public struct SendOrder: Equatable, Sendable {
    public enum Content: Equatable, Sendable {
        case invite(group: String)
        case message(String)
        case addContact(name: String)
    }
    public let attemptID: String
    public let content: Content
    public let person: PersonReference

    public init(attemptID: String, _ content: Content, to person: PersonReference) {
        self.attemptID = attemptID
        self.content = content
        self.person = person
    }
}

/// Why a send did not succeed, in the one word integration-service uses.
public enum SendRefusal: String, Sendable, CaseIterable {
    case floodWait = "flood_wait"
    case peerFlood = "peer_flood"
    case userNotFound = "user_not_found"
    /// The account has never met the person, who is known by an id alone; with `retryAfter` it is still looking for
    /// them where they were met.
    case personUnseen = "person_unseen"
    case invalidUsername = "invalid_username"
    case privacyRestricted = "privacy_restricted"
    case notMutualContact = "not_mutual_contact"
    case alreadyParticipant = "already_participant"
    case notInMembersAfterInvite = "not_in_members_after_invite"
    case tooManyChannels = "too_many_channels"
    case groupRestriction = "group_restriction"
    case adminRequired = "admin_required"
    case userBannedInGroup = "user_banned_in_group"
    case accountDisabled = "account_disabled"
    case accountFrozen = "account_frozen"
    case inviteFailed = "invite_failed"
    /// Nothing was sent; Telegram cannot be reached.
    case unreachable = "telegram_unreachable"
    /// Sent or not, nobody knows: to be looked up before anything is sent again.
    case inDoubt = "in_doubt"
}

public struct SentMessage: Equatable, Sendable {
    public let targetUserID: Int64?
    public let messageID: Int64?
    public let at: Timestamp
    /// Whether the person was found among the members afterwards; nil where nobody could look.
    public let isMember: Bool?
    /// The answer was kept from an earlier request: nothing was sent now.
    public let isRepeated: Bool

    public init(
        targetUserID: Int64?, messageID: Int64?, at: Timestamp, isMember: Bool?, isRepeated: Bool = false
    ) {
        self.targetUserID = targetUserID
        self.messageID = messageID
        self.at = at
        self.isMember = isMember
        self.isRepeated = isRepeated
    }
}

/// What a send came to.
public enum SendResult: Equatable, Sendable {
    case sent(SentMessage)
    /// Telegram's no; `original` are its words, `telegramType` their constant.
    case refused(SendRefusal, original: String, telegramType: String, retryAfter: Int64?)
    /// A newer lease of this account is known: nothing was sent now.
    case leaseLost
    /// The account has no session: nothing was sent now.
    case notConnected
    /// No answer that says what happened. The same attempt may be asked for again.
    case unknown(reason: String)
    /// Nothing was sent: integration-service cannot be reached, or would not take it.
    case notSent(reason: String)
}

/// What an account may do in a group.
public struct AdminVerdict: Equatable, Sendable {
    public let isAdmin: Bool
    public let mayInvite: Bool
    public let chatID: Int64?
    public let kind: String?
    public let title: String?
    public let memberCount: Int64?
    /// A channel of more than 200 members: only a link helps.
    public let refusesDirectAdds: Bool
    /// Why the group could not be looked at.
    public let error: String?
    public let message: String
}

/// What Telegram says of a group or channel.
public struct CommunityView: Equatable, Sendable {
    public let chatID: Int64
    public let kind: String
    public let title: String
    public let username: String?
    public let memberCount: Int64?
    public let mayInvite: Bool
    public let refusesDirectAdds: Bool
}

/// A link that people join by.
public struct InviteLinkView: Equatable, Sendable {
    public let link: String
    public let joined: Int
    public let pendingRequests: Int
}

public struct ConnectedAccount: Equatable, Sendable {
    public let id: String
    public let phone: String
    public let username: String?
    public let isActive: Bool
    public let status: String
}

/// A look at Telegram that did not succeed.
public enum LookFailure: Error, Equatable, Sendable {
    /// The account cannot look: it is not connected, waits, or is no more.
    case account(SendRefusal?)
    /// The person or group cannot be seen.
    case unseen(SendRefusal)
    case unreachable
}

/// integration-service, the one way to Telegram.
public struct IntegrationClient: Sendable {
    private let peer: PeerService
    private static let base = "/api/v1/telegram"

    public init(_ peers: Peers) { peer = PeerService(peers: peers, name: "integration-service") }

    // MARK: - Sending

    /// Sends in the name of the lease, and begins nothing after `deadline`. Never throws for what Telegram or the
    /// network does: the caller has to decide about every one of the results.
    public func send(_ order: SendOrder, from lease: LeasedAccount, notAfter deadline: Timestamp) async throws
        -> SendResult
    {
        let members = [
            JSONMember("lease_id", .string(lease.leaseID)),
            JSONMember("fencing_token", .int(lease.fencingToken)), JSONMember("not_after", deadline.json),
        ]
        let answer: PeerAnswer
        do {
            // TDLib itself waits and sends again for about a minute.
            answer = try await ask(order, lease.accountID, lease.userID, members, deadline: .seconds(90))
        } catch PeerError.unavailable(_, let mayHaveActed) {
            return mayHaveActed
                ? .unknown(reason: "integration-service does not answer")
                : .notSent(reason: "integration-service cannot be reached")
        }
        return Self.result(answer)
    }

    /// What became of an order; nil for one that was never carried out, and from now on never is, whoever still
    /// asks for it.
    public func withdraw(_ order: SendOrder, from account: String, user: Int64) async throws -> SendResult? {
        let answer = try await ask(
            order, account, user, [JSONMember("withdraw", true)], deadline: .seconds(30))
        if answer.status == 200, answer.text("status") == "withdrawn" { return nil }
        return Self.result(answer)
    }

    private func ask(
        _ order: SendOrder, _ account: String, _ user: Int64, _ more: [JSONMember], deadline: Duration
    ) async throws -> PeerAnswer {
        var members = order.person.members
        switch order.content {
        case .invite(let group):
            members += [
                JSONMember("invite_type", "group_invite"), JSONMember("group_id", .string(group)),
            ]
        case .message(let text):
            members += [JSONMember("invite_type", "direct_message"), JSONMember("message", .string(text))]
        case .addContact(let name):
            members += [JSONMember("invite_type", "add_contact"), JSONMember("name", .string(name))]
        }
        members.append(JSONMember("attempt_id", .string(order.attemptID)))
        return try await peer.ask(
            .post, "\(Self.base)/invites/accounts/\(account)/invite", for: user, .object(members + more),
            deadline: deadline)
    }

    static func result(_ answer: PeerAnswer) -> SendResult {
        if answer.status == 200 {
            return .sent(
                SentMessage(
                    targetUserID: answer.json["target_user_id"]?.intValue,
                    messageID: answer.json["message_id"]?.intValue,
                    at: answer.moment("sent_at") ?? .epoch, isMember: answer.json["is_member"]?.boolValue,
                    isRepeated: answer.json["repeated"]?.boolValue ?? false))
        }
        if let word = answer.text("error") {
            // A word that nobody knows is a refusal that nobody foresaw: never repeated blindly.
            return .refused(
                SendRefusal(rawValue: word) ?? .inviteFailed, original: answer.text("original_error") ?? word,
                telegramType: answer.text("telegram_error_type") ?? "",
                retryAfter: answer.json["retry_after"]?.intValue)
        }
        switch answer.code {
        case "lease_lost": return .leaseLost
        case "account_not_connected", "not_found": return .notConnected
        case "attempt_reused", "validation_failed":
            return .refused(
                .inviteFailed, original: "\(answer.code): \(answer.text("detail") ?? "")",
                telegramType: answer.code, retryAfter: nil)
        default: return .notSent(reason: "\(answer.status) \(answer.code)")
        }
    }

    // MARK: - Looking

    /// Whether a person is in a group; nil where this account cannot tell.
    public func isMember(_ person: PersonReference, of group: String, seenBy account: String, user: Int64)
        async throws -> Bool?
    {
        let answer = try await look(
            .post, "\(Self.base)/invites/accounts/\(account)/membership", user,
            .object(person.members + [JSONMember("group_id", .string(group))]))
        return answer.json["is_member"]?.boolValue
    }

    public func checkAdmin(_ account: String, in group: String, user: Int64) async throws -> AdminVerdict {
        let answer = try await look(
            .post, "\(Self.base)/accounts/\(account)/check-admin", user,
            ["group_id": .string(group), "required_permissions": ["can_invite_users"]])
        let json = answer.json
        return AdminVerdict(
            isAdmin: json["is_admin"]?.boolValue ?? false,
            mayInvite: json["has_required_permissions"]?.boolValue ?? false,
            chatID: json["chat_id"]?.intValue, kind: json["kind"]?.stringValue,
            title: json["group_title"]?.stringValue, memberCount: json["member_count"]?.intValue,
            refusesDirectAdds: json["refuses_direct_adds"]?.boolValue ?? false,
            error: json["error"]?.stringValue, message: json["message"]?.stringValue ?? "")
    }

    public func community(_ group: String, seenBy account: String, user: Int64) async throws -> CommunityView
    {
        let answer = try await look(
            .get, "\(Self.base)/accounts/\(account)/community?group_id=\(percentEncoded(group))", user)
        guard let chat = answer.json["chat_id"]?.intValue else { throw peer.unreadable() }
        return CommunityView(
            chatID: chat, kind: answer.text("kind") ?? "", title: answer.text("title") ?? "",
            username: answer.text("username"), memberCount: answer.json["member_count"]?.intValue,
            mayInvite: answer.json["may_invite"]?.boolValue ?? false,
            refusesDirectAdds: answer.json["refuses_direct_adds"]?.boolValue ?? false)
    }

    public func createInviteLink(
        to group: String, named name: String, by account: String, user: Int64
    ) async throws -> InviteLinkView {
        let answer = try await look(
            .post, "\(Self.base)/accounts/\(account)/invite-links", user,
            [
                "group_id": .string(group), "name": .string(String(name.prefix(32))),
                "creates_join_request": true,
            ])
        return try link(answer)
    }

    /// The link with its counts.
    public func inviteLink(_ link: String, of group: String, by account: String, user: Int64) async throws
        -> InviteLinkView
    {
        let path = "\(Self.base)/accounts/\(account)/invite-links"
        let query = "group_id=\(percentEncoded(group))&link=\(percentEncoded(link))"
        return try self.link(try await look(.get, "\(path)?\(query)", user))
    }

    private func link(_ answer: PeerAnswer) throws -> InviteLinkView {
        guard let link = answer.text("link") else { throw peer.unreadable() }
        return InviteLinkView(
            link: link, joined: Int(answer.json["joined"]?.intValue ?? 0),
            pendingRequests: Int(answer.json["pending_requests"]?.intValue ?? 0))
    }

    /// The user's accounts, the connected ones and the others.
    public func accounts(of user: Int64, page: Int = 1, pageSize: Int = 100) async throws
        -> (accounts: [ConnectedAccount], total: Int)
    {
        let answer = try await look(
            .get, "\(Self.base)/accounts?page=\(page)&page_size=\(pageSize)", user)
        let items = answer.json["items"]?.arrayValue ?? []
        return (
            items.compactMap { item in
                guard let id = item["id"]?.stringValue else { return nil }
                return ConnectedAccount(
                    id: id, phone: item["phone"]?.stringValue ?? "", username: item["username"]?.stringValue,
                    isActive: item["is_active"]?.boolValue ?? false, status: item["status"]?.stringValue ?? ""
                )
            }, Int(answer.json["total"]?.intValue ?? 0)
        )
    }

    private func look(_ method: Method, _ path: String, _ user: Int64, _ body: JSONValue? = nil) async throws
        -> PeerAnswer
    {
        let answer: PeerAnswer
        do {
            answer = try await peer.ask(method, path, for: user, body, deadline: .seconds(30))
        } catch PeerError.unavailable {
            throw LookFailure.unreachable
        }
        if (200..<300).contains(answer.status) { return answer }
        let refusal = answer.text("error").map { SendRefusal(rawValue: $0) ?? .inviteFailed }
        switch refusal {
        case .floodWait, .peerFlood, .accountDisabled, .accountFrozen: throw LookFailure.account(refusal)
        case .unreachable: throw LookFailure.unreachable
        case let refusal?: throw LookFailure.unseen(refusal)
        case nil: break
        }
        if answer.code == "account_not_connected" || answer.code == "not_found" {
            throw LookFailure.account(nil)
        }
        throw peer.refusal(answer)
    }
}

extension LookFailure: ProblemConvertible {
    public var problem: Problem {
        switch self {
        case .account:
            Problem(
                409, "account_cannot_look",
                .init(
                    "This account cannot look into Telegram just now",
                    "Этот аккаунт сейчас не может обратиться к Telegram"))
        case .unseen(let refusal):
            Problem(
                409, "not_seen",
                .init(
                    "Telegram does not show it to this account: \(refusal.rawValue)",
                    "Telegram не показывает это этому аккаунту: \(refusal.rawValue)"))
        case .unreachable:
            Problem(
                503, "service_down",
                .init(
                    "Telegram cannot be reached just now; try again shortly",
                    "Telegram сейчас недоступен; повторите чуть позже")
            ).with(header: "Retry-After", "2")
        }
    }
}
