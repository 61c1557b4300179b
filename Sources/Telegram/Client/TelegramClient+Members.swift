import Core

// Who is in a group, and adding to it.
extension TelegramClient {
    /// Adds one person to a group. A yes of Telegram's is not membership yet: look with `membership` afterwards.
    public func add(_ person: UserID, to chat: ChatID) async throws -> AddOutcome {
        do {
            let answer = try await ask(.addMember(chat, person))
            let refusals = answer.list("failed_to_add_members")
            guard let refusal = refusals.first(where: { $0.int("user_id") == person }) ?? refusals.first
            else {
                return .accepted
            }
            if refusal.flag("premium_required_to_send_messages") { return .refused(.premiumRequired) }
            return .refused(refusal.flag("premium_would_allow_invite") ? .premiumWouldAllow : .privacy)
        } catch let failure as TelegramFailure {
            switch failure.reason {
            case .alreadyParticipant: return .alreadyMember
            case .privacy, .notMutualContact, .targetInTooManyGroups, .targetKicked, .botNotAddable,
                .targetDeleted, .premiumRequired:
                return .refused(failure.reason)
            // Who has blocked the account has said more than no to this group: Telegram's words go along.
            default: throw failure
            }
        }
    }

    /// A person's standing in a group; who is not in it has `left`. In a channel whose members only
    /// administrators see this fails with `membersInaccessible`.
    public func membership(of person: UserID, in chat: ChatID) async throws -> Membership {
        Membership(try await ask(.getChatMember(chat, person))["status"] ?? .null)
    }

    /// A page of the members, from the place the page before named.
    public func members(
        of chat: ChatID, _ filter: MemberFilter = .recent, from offset: Int = 0, limit: Int = 200
    ) async throws -> MemberPage {
        switch chat.kind {
        case .supergroup(let number):
            let answer = try await ask(
                .getSupergroupMembers(number, filter, offset: offset, limit: min(limit, 200)))
            let entries = answer.list("members")
            let total = Int(answer.int("total_count"))
            let next = offset + entries.count
            return MemberPage(
                members: try await read(members: entries), total: total,
                next: entries.isEmpty || next >= total ? nil : next)
        case .basicGroup(let number):
            // They come all at once; there are 200 at most.
            let entries = try await ask(.getBasicGroupFullInfo(number)).list("members")
            let page = Array(entries.dropFirst(offset).prefix(limit))
            let next = offset + page.count
            return MemberPage(
                members: try await read(members: page), total: entries.count,
                next: next >= entries.count ? nil : next)
        case .person:
            throw TelegramFailure(
                .wrongKindOfChat, code: 400, message: "Chat is not a supergroup or a channel",
                method: "getSupergroupMembers")
        }
    }

    /// All members Telegram shows, page after page as they are asked for.
    public func allMembers(of chat: ChatID, _ filter: MemberFilter = .recent, from offset: Int = 0) -> Pages<
        Member
    > {
        Pages(from: offset) { [self] (place: Int?) in
            let page = try await members(of: chat, filter, from: place ?? 0)
            return (page.members, page.next)
        }
    }

    public func administrators(of chat: ChatID) async throws -> [UserID] {
        try await ask(.getAdministrators(chat)).list("administrators").map { $0.int("user_id") }
    }

    private func read(members entries: [JSONValue]) async throws -> [Member] {
        var members: [Member] = []
        members.reserveCapacity(entries.count)
        for entry in entries {
            guard let sender = MessageSender(entry["member_id"]) else { continue }
            var person: Person?
            if case .person(let id) = sender { person = try await knownPerson(id) }
            let joined = entry.int("joined_chat_date")
            let inviter = entry.int("inviter_user_id")
            members.append(
                Member(
                    sender: sender, person: person, standing: Membership(entry["status"] ?? .null),
                    joinedAt: joined > 0 ? Timestamp(seconds: joined) : nil,
                    inviter: inviter > 0 ? inviter : nil))
        }
        return members
    }

    /// Somebody of an answer: told of just before it, or known to TDLib for longer.
    func knownPerson(_ id: UserID) async throws -> Person? {
        if let person = recentPerson(id) { return person }
        do {
            return try await person(id)
        } catch let failure as TelegramFailure where failure.blame == .ourData {
            return nil
        }
    }
}
