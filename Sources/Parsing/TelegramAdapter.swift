public import Contracts
import Core

/// Telegram, read through integration-service.
public struct TelegramAdapter: PlatformAdapter {
    public let platform = Platform.telegram
    private let client: ReadingClient

    public init(_ client: ReadingClient) { self.client = client }

    public func community(_ written: String) -> CommunityLink? { CommunityLink(written) }

    /// The thread of a post is looked up before it is read.
    public func cost(of request: ReadingRequest) -> Int {
        if case .comments = request.what { request.pages + 1 } else { request.pages }
    }

    public func read(
        _ request: ReadingRequest, with lease: AccountLease, for user: Int64
    ) async throws -> ReadingPage {
        let place = ReadingClient.Place(
            user: user, account: lease.account, community: request.community.address,
            fencingToken: lease.fencingToken)
        let amount = ReadingClient.Amount(
            pageSize: request.size, pages: request.pages, since: request.since, until: request.until)
        do {
            switch request.what {
            case .look:
                let page = try await client.messages(at: place, from: nil, .init(pageSize: 1))
                return ReadingPage(page) { result, items in result.messages = items.map(MessageRecord.init) }
            case .members:
                let page = try await client.members(at: place, from: request.cursor, amount)
                return ReadingPage(page) { result, items in
                    for member in items {
                        if let person = PersonRecord(member) {
                            result.people.append(person)
                        } else {
                            result.others += 1
                        }
                    }
                }
            case .messages:
                let page = try await client.messages(at: place, from: request.cursor, amount)
                return ReadingPage(page) { result, items in result.messages = items.map(MessageRecord.init) }
            case .comments(let post):
                guard let number = Int64(post) else { throw ReadingFailure.nothingThere }
                let page = try await client.comments(on: number, at: place, from: request.cursor, amount)
                return ReadingPage(page) { result, items in
                    result.messages = items.map {
                        var message = MessageRecord($0)
                        message.post = post
                        return message
                    }
                }
            }
        } catch let failure as ReadFailure {
            throw ReadingFailure(failure)
        }
    }
}

extension ReadingFailure {
    /// integration-service's words, in ours. A word that is not known is the account's trouble: it stops, and
    /// says so, rather than to try blindly.
    init(_ failure: ReadFailure) {
        switch failure.code {
        case "flood_wait": self = .mustWait(failure.retryAfter ?? .seconds(60))
        case "lease_lost": self = .leaseLost
        case "peer_flood": self = .accountTrouble(type: "peer_flood", message: failure.original)
        case "account_frozen": self = .accountTrouble(type: "frozen", message: failure.original)
        case "account_disabled", "account_not_connected":
            self = .accountTrouble(type: "auth_key_error", message: failure.original)
        case "not_found": self = .accountTrouble(type: "account_not_found", message: failure.message)
        case "group_restriction" where failure.original.contains("has no comments"),
            "group_restriction" where failure.original.contains("Message not found"),
            "group_restriction" where failure.original.contains("has no thread"):
            self = .nothingThere
        case "group_restriction"
        where ["not in the group", "CHANNEL_PRIVATE", "access the chat"].contains {
            failure.original.contains($0)
        }:
            self = .noAccess(message: failure.message)
        case "group_restriction", "admin_required", "user_not_found", "person_unseen", "invalid_username":
            self = .refused(
                code: failure.code,
                message: failure.original.isEmpty ? failure.message : failure.original)
        case "validation_failed": self = .refused(code: "wrong_link", message: failure.message)
        case "telegram_unreachable", "in_doubt", "unavailable", "stopping", "too_slow":
            self = .unreachable(message: failure.message)
        default:
            self =
                failure.status >= 500 || failure.status == 401
                ? .unreachable(message: "\(failure.status) \(failure.code)")
                : .accountTrouble(type: failure.code, message: failure.original)
        }
    }
}

extension ReadingPage {
    init<Item>(_ page: ReadPage<Item>, _ take: (inout ReadingPage, [Item]) -> Void) {
        self.init()
        community = page.community.map(CommunityRecord.init)
        total = page.total
        cursor = page.cursor
        isEnd = page.isComplete
        others = page.unreadable
        if let failed = page.failure {
            failure = ReadingFailure(failed)
        } else if !page.isWhole {
            failure = .unreachable(message: "the stream broke off")
        }
        take(&self, page.items)
    }
}

extension CommunityRecord {
    init(_ read: ReadCommunity) {
        self.init(
            platformID: String(read.chatID), kind: read.kind == "channel" ? .channel : .group)
        platformKind = read.kind
        title = ForeignText.name(read.title)
        username = ForeignText.name(read.username)
        about = ForeignText.content(read.about)
        memberCount = read.memberCount
        canListMembers = read.canListMembers
        hidesMembers = read.hidesMembers
        memberListCap = read.memberListCap
        hasDiscussion = read.kind == "channel" && read.linkedChatID != nil
        isAdmin = read.isAdmin
    }
}

extension PersonRecord {
    init?(_ member: ReadMember) {
        if let person = member.person {
            self.init(person)
        } else if let id = member.userID {
            self.init(platformID: String(id))
        } else {
            return nil
        }
        isAdmin = member.isAdmin
        joinedAt = member.joinedAt
    }

    init(_ person: ReadPerson) {
        self.init(platformID: String(person.id))
        username = ForeignText.name(person.username)
        firstName = ForeignText.name(person.firstName)
        lastName = ForeignText.name(person.lastName)
        phone = ForeignText.name(person.phone)
        isBot = person.isBot
        isDeleted = person.kind == "deleted"
        isPremium = person.isPremium
        isContact = person.isContact
        isScam = person.isScam
        languageCode = ForeignText.name(person.languageCode)
        presence = ForeignText.name(person.seen)
        lastSeen = person.lastSeen
    }
}

extension MessageRecord {
    private static let written: Set<String> = ["text", "media", "other"]

    init(_ message: ReadMessage) {
        self.init(platformID: String(message.id), order: message.id, sentAt: message.date)
        // A basic group counts its messages together with those of all other chats of the account.
        ordinal = message.chatID < -1_000_000_000_000 ? message.number : nil
        chatID = String(message.chatID)
        editedAt = message.editedAt
        author =
            message.author.map(PersonRecord.init)
            ?? message.senderID.map {
                PersonRecord(platformID: String($0))
            }
        authorChatID = message.senderChatID.map { String($0) }
        signature = ForeignText.name(message.signature)
        isEvent = !Self.written.contains(message.kind)
        content = ForeignText.content(message.text)
        media = ForeignText.name(message.media)
        fileID = ForeignText.name(message.fileID)
        views = message.views
        forwards = message.forwards
        reactions = message.reactions
        replies = message.comments
        replyTo = message.replyTo.map { String($0) }
        forwardedFrom = message.forwardedFrom.map { String($0) }
    }
}
