public import Contracts
public import Core

/// A community that was found, and what it is good for.
public struct FoundCommunity: Equatable, Sendable {
    public internal(set) var community: ReadCommunity

    public init(_ community: ReadCommunity) { self.community = community }

    /// Whether one of the user's accounts administers it.
    public var isAdministered: Bool { community.isAdmin || community.adminAccount != nil }

    /// A group always; a channel only where people comment. Where nobody could look, it is left out.
    public var canBeWorkedWith: Bool { community.kind != "channel" || community.hasComments == true }

    /// People who can be reached there matter most, then whether it is alive, then its size.
    public var usefulness: Double {
        var score = 0.0
        var size = Double(community.memberCount ?? 0)
        while size >= 10 {
            size /= 10
            score += 1
        }
        if community.canListMembers && !community.hidesMembers { score += 3 }
        if isAdministered { score += 2 }
        if community.hasComments == true { score += 1 }
        switch community.messagesPerDay ?? 0 {
        case 10...: score += 2
        case 1...: score += 1
        default: break
        }
        if community.isScam { score -= 10 }
        return score + size / 10
    }

    /// `ru` or `en` by the letters of its title and description; nil where they do not tell.
    public var language: String? {
        var (cyrillic, latin) = (0, 0)
        for scalar in (community.title + " " + community.about).unicodeScalars {
            switch scalar.value {
            case 0x0400...0x04FF: cyrillic += 1
            case 0x41...0x5A, 0x61...0x7A: latin += 1
            default: break
            }
        }
        if cyrillic + latin == 0 { return nil }
        return cyrillic * 2 >= latin ? (cyrillic > 0 ? "ru" : "en") : "en"
    }

    public var json: JSONValue {
        let name = ForeignText.name(community.username)
        return [
            "platform": "telegram", "platform_id": .string(String(community.chatID)),
            "title": .string(ForeignText.name(community.title)), "username": JSONValue(name),
            "link": name.map { .string("https://t.me/\($0)") } ?? .null, "kind": .string(community.kind),
            "description": .string(ForeignText.content(community.about)),
            "members_count": JSONValue(community.memberCount), "language": JSONValue(language),
            "can_list_members": .bool(community.canListMembers && !community.hidesMembers),
            "is_admin": .bool(isAdministered), "admin_account_id": JSONValue(community.adminAccount),
            "usefulness": .double((usefulness * 100).rounded() / 100),
            "activity": [
                "last_message_at": JSONValue(community.lastMessageAt),
                "messages_per_day": community.messagesPerDay.map { .double(($0 * 10).rounded() / 10) }
                    ?? .null,
            ],
            "platform_specific_data": [
                "has_comments": .bool(community.kind != "channel" || community.hasComments == true),
                "hides_members": .bool(community.hidesMembers),
                "member_list_cap": JSONValue(community.memberListCap),
                "linked_chat_id": JSONValue(community.linkedChatID), "is_member": .bool(community.isMember),
                "may_invite": .bool(community.mayInvite),
                "refuses_direct_adds": .bool(community.refusesDirectAdds),
                "needs_approval": .bool(community.needsApproval), "is_public": .bool(community.isPublic),
                "is_scam": .bool(community.isScam),
            ],
        ]
    }
}

/// Searches with one of the user's accounts.
public struct CommunityFinder: Sendable {
    public struct Finding: Sendable {
        public let communities: [FoundCommunity]
        /// The search broke off; there may be more.
        public let isPartial: Bool
    }
    /// A channel tells only its administrators who they are, so the user's other accounts are asked: not more
    /// often than a search may last.
    static let mostQuestions = 20

    private let reading: ReadingClient
    private let looking: IntegrationClient
    private let lender: any AccountLending
    private let store: ParseStore
    private let time: any TimeSource
    private let log: Log

    public init(
        reading: ReadingClient, looking: IntegrationClient, lender: any AccountLending, store: ParseStore,
        time: any TimeSource, log: Log
    ) {
        self.reading = reading
        self.looking = looking
        self.lender = lender
        self.store = store
        self.time = time
        self.log = log
    }

    public func find(_ words: String, for user: Int64) async throws -> Finding {
        let lease: AccountLease?
        let account: String
        do {
            let lent = try await lender.lease(user: user, excluding: [], for: .minutes(2))
            (lease, account) = (lent, lent.account)
        } catch let none as NoAccount {
            // An account that reads for us may be asked between two of its pages.
            guard let ours = try await store.accountInUse(of: user, at: time.now) else { throw none }
            (lease, account) = (nil, ours)
        }
        let page: ReadPage<ReadCommunity>
        do {
            page = try await reading.search(words, user: user, account: account, limit: 50)
        } catch {
            if let lease { try? await lender.giveBack(lease, user: user) }
            guard let failure = error as? ReadFailure else { throw error }
            throw ReadingFailure(failure)
        }
        if let failure = page.failure { log.info("search.broke-off", ["code": .id(failure.code)]) }
        if let lease {
            if page.failure?.code == "flood_wait" {
                try? await lender.report(
                    "flood_wait", message: "", seconds: page.failure?.retryAfter?.wholeSecondsUp, of: lease,
                    user: user)
            }
            try? await lender.giveBack(lease, user: user)
        }
        var found = page.items.map(FoundCommunity.init).filter(\.canBeWorkedWith)
        await findAdministrators(of: &found, for: user, besides: account)
        found.sort { ($0.usefulness, $1.community.chatID) > ($1.usefulness, $0.community.chatID) }
        return Finding(communities: found, isPartial: page.failure != nil || !page.isWhole)
    }

    /// Groups have told already. What cannot be found out is not worth the search itself.
    private func findAdministrators(
        of found: inout [FoundCommunity], for user: Int64, besides searcher: String
    ) async {
        let channels = found.indices.filter {
            found[$0].community.kind == "channel" && !found[$0].isAdministered
        }.sorted { (found[$0].community.memberCount ?? 0) > (found[$1].community.memberCount ?? 0) }
        guard !channels.isEmpty else { return }
        do {
            let others = try await looking.accounts(of: user).accounts.filter {
                $0.isActive && $0.id != searcher
            }
            var questions = 0
            for place in channels {
                let community = found[place].community
                let name = ForeignText.name(community.username) ?? String(community.chatID)
                for other in others where questions < Self.mostQuestions {
                    questions += 1
                    guard try await isAdministrator(other.id, of: name, user) else { continue }
                    found[place].community.adminAccount = other.id
                    break
                }
            }
        } catch {
            log.info("search.administrators-not-found", ["error": .error(error)])
        }
    }

    /// An account that cannot look there administers nothing that we know of.
    private func isAdministrator(_ account: String, of name: String, _ user: Int64) async throws -> Bool {
        do {
            return try await looking.checkAdmin(account, in: name, user: user).isAdmin
        } catch let failure as LookFailure where failure != .unreachable {
            return false
        }
    }
}
