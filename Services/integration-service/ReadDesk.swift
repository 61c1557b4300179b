import Core
import HTTP
import Integration
import Storage
import Telegram

/// Reads communities for other services as lines of JSON, page by page, as fast as they are taken. Every line
/// names the place behind it: whoever shows that place gets what follows, and nothing twice.
struct ReadDesk: Sendable {
    let sessions: Sessions
    let resolver: Resolver
    let journal: Journal
    let time: any TimeSource

    /// Lines of one page, and where the next begins; nil at the end.
    private struct Piece: Sendable {
        var lines: [JSONValue]
        var next: ReadCursor?
    }

    struct Bounds: Sendable {
        var limit: Int64?
        /// Nothing older, nothing newer.
        var since: Timestamp?
        var until: Timestamp?
        /// How many items one request to Telegram asks for.
        var pageSize: Int?
        /// How many requests to Telegram there are at most: whoever keeps a pace asks for one at a time.
        var pages: Int?
    }

    // MARK: - The streams

    func members(
        of group: String, from cursor: ReadCursor?, _ filter: MemberFilter, _ bounds: Bounds,
        for account: LinkedAccount,
        _ subject: Journal.Subject, _ language: Language
    ) async throws -> Response {
        guard
            let start = try place(
                cursor, default: .members(0), { if case .members(let at) = $0 { at } else { nil } })
        else { throw wrongCursor }
        return try await stream(.readMembers, account, subject, language, from: .members(start), bounds) {
            client in
            let community = try await client.community(resolver.chat(group, for: client))
            return (
                head(community),
                { cursor in
                    guard case .members(let offset) = cursor else { return Piece(lines: [], next: nil) }
                    let page = try await client.members(
                        of: community.chat, filter, from: Int(offset), limit: bounds.pageSize ?? 200)
                    let lines = page.members.enumerated().map { index, member in
                        member.json(cursor: .members(offset + Int64(index) + 1))
                    }
                    return Piece(lines: lines, next: page.next.map { .members(Int64($0)) })
                }
            )
        }
    }

    func messages(
        of group: String, from cursor: ReadCursor?, _ bounds: Bounds, for account: LinkedAccount,
        _ subject: Journal.Subject, _ language: Language
    ) async throws -> Response {
        guard
            let start = try place(
                cursor, default: .messages(before: 0),
                {
                    if case .messages(let before) = $0 { before } else { nil }
                })
        else { throw wrongCursor }
        return try await stream(
            .readMessages, account, subject, language, from: .messages(before: start), bounds
        ) {
            client in
            let community = try await client.community(resolver.chat(group, for: client))
            return (
                head(community),
                { cursor in
                    guard case .messages(let before) = cursor else { return Piece(lines: [], next: nil) }
                    let page = try await client.history(
                        of: community.chat, before: before, limit: bounds.pageSize ?? 100)
                    return piece(page, bounds) { .messages(before: $0) }
                }
            )
        }
    }

    func comments(
        of group: String, post: MessageID, from cursor: ReadCursor?, _ bounds: Bounds,
        for account: LinkedAccount,
        _ subject: Journal.Subject, _ language: Language
    ) async throws -> Response {
        guard
            let start = try place(
                cursor, default: .comments(before: 0),
                {
                    if case .comments(let before) = $0 { before } else { nil }
                })
        else { throw wrongCursor }
        return try await stream(
            .readComments, account, subject, language, from: .comments(before: start), bounds
        ) {
            client in
            let chat = try await resolver.chat(group, for: client)
            let thread = try await client.thread(of: post, in: chat)
            return (
                [
                    "type": "start", "chat_id": .int(thread.chat.rawValue), "post_id": .int(post),
                    "total": .int(Int64(thread.count)),
                ],
                { cursor in
                    guard case .comments(let before) = cursor else { return Piece(lines: [], next: nil) }
                    let page = try await client.comments(
                        on: post, in: chat, before: before, limit: bounds.pageSize ?? 100)
                    return piece(page, bounds) { .comments(before: $0) }
                }
            )
        }
    }

    /// Communities by words. Few by Telegram's design, so they come in one piece; each with what it takes to
    /// judge whether it can be worked with, and which of the owner's accounts, `family`, administers it.
    func search(
        _ query: String, limit: Int, for account: LinkedAccount, of family: [LinkedAccount],
        _ subject: Journal.Subject, _ language: Language
    ) async throws -> Response {
        let names = Dictionary(family.map { ($0.profile.telegramUserID, $0.id) }) { first, _ in first }
        return try await stream(
            .search, account, subject, language, from: .members(0), Bounds(limit: Int64(limit))
        ) { client in
            // Telegram leaves out of a search what the account is in already, its own groups among them.
            let own = try await client.searchOwnCommunities(query, limit: limit)
            let others = try await client.searchCommunities(query).filter { !own.contains($0) }
            let found = Array((own + others).prefix(limit))
            return (
                ["type": "start", "total": .int(Int64(found.count))],
                { cursor in
                    guard case .members(let index) = cursor, index < found.count else {
                        return Piece(lines: [], next: nil)
                    }
                    let at = index + 1
                    guard let community = try await usable(found[Int(index)], client, account, names) else {
                        return Piece(lines: [], next: .members(at))
                    }
                    return Piece(
                        lines: [
                            .object(
                                [
                                    JSONMember("type", "community"),
                                    JSONMember("cursor", .string(ReadCursor.members(at).text)),
                                ]
                                    + (community.objectValue ?? []))
                        ], next: .members(at))
                }
            )
        }
    }

    /// With how alive it is, by its last posts, and for a channel whether one of them has a comment.
    private func usable(
        _ chat: ChatID, _ client: TelegramClient, _ account: LinkedAccount, _ family: [UserID: UniqueID]
    ) async throws -> JSONValue? {
        do {
            let community = try await client.community(chat)
            let isChannel = community.kind == .channel
            var posts: [ChatMessage] = []
            do {
                posts = try await lastMessages(15, of: chat, client)
            } catch let failure as TelegramFailure where !isChannel && failure.blame != .passing {
                // A group whose history is closed to strangers is a group all the same.
            }
            let administrator = try await administrator(of: community, client, account, family)
            let json = community.json(
                hasComments: isChannel ? posts.contains { ($0.comments ?? 0) > 0 } : nil, last: posts)
            guard let administrator else { return json }
            return .object(
                (json.objectValue ?? []) + [JSONMember("admin_account_id", administrator.json)])
        } catch let failure as TelegramFailure where failure.blame == .group || failure.blame == .ourData {
            return nil
        }
    }

    /// A channel tells only its administrators who they are, so of others this account does not know.
    private func administrator(
        of community: Community, _ client: TelegramClient, _ account: LinkedAccount,
        _ family: [UserID: UniqueID]
    ) async throws -> UniqueID? {
        if community.standing.isAdministrator { return account.id }
        guard community.kind != .channel, family.count > 1 else { return nil }
        do {
            return try await client.administrators(of: community.chat).lazy.compactMap { family[$0] }.first
        } catch let failure as TelegramFailure where failure.blame == .group || failure.blame == .ourData {
            return nil
        }
    }

    /// Telegram may give fewer than asked for, so it is asked until there are enough or no more.
    private func lastMessages(
        _ count: Int, of chat: ChatID, _ client: TelegramClient
    ) async throws -> [ChatMessage] {
        var messages: [ChatMessage] = []
        var place: MessageID? = 0
        while let before = place, messages.count < count {
            let page = try await client.history(of: chat, before: before, limit: count - messages.count)
            if page.messages.isEmpty { break }
            messages += page.messages
            place = page.next
        }
        return Array(messages.prefix(count))
    }

    // MARK: - How a stream runs

    /// The first page is read before the answer begins, so that what fails at once is a problem and not a
    /// stream. What fails later is the stream's last line, with the place to go on from.
    private func stream(
        _ action: Action, _ account: LinkedAccount, _ subject: Journal.Subject, _ language: Language,
        from start: ReadCursor, _ bounds: Bounds,
        _ prepare: (TelegramClient) async throws -> (
            head: JSONValue, page: @Sendable (ReadCursor) async throws -> Piece
        )
    ) async throws -> Response {
        let begun = time.uptime
        let limit = bounds.limit
        let (session, client) = try await sessions.borrow(account)
        let head: JSONValue
        let page: @Sendable (ReadCursor) async throws -> Piece
        let first: Piece
        do {
            (head, page) = try await prepare(client)
            first = try await page(start)
        } catch {
            sessions.giveBack(session)
            let code = Problem.describing(error)?.code ?? "internal"
            if !(error is CancellationError) {
                await journal.write(action, .error, subject, code: code, [:], time.uptime - begun)
            }
            throw error
        }
        // Given back also when the answer is never written.
        let loan = Loan { sessions.giveBack(session) }
        var response = Response.stream(type: "application/x-ndjson") { writer in
            defer { loan.end() }
            var count: Int64 = 0
            var pages = 1
            var cursor = start
            var current = first
            try await writer.write(head.text + "\n")
            do {
                while true {
                    let lines = limit.map { Array(current.lines.prefix(Int($0 - count))) } ?? current.lines
                    if !lines.isEmpty { try await writer.write(lines.map { $0.text + "\n" }.joined()) }
                    count += Int64(lines.count)
                    let isCut = limit.map { count >= $0 } ?? false
                    if let last = lines.last?["cursor"]?.stringValue.flatMap({ ReadCursor($0) }) {
                        cursor = last
                    }
                    if let next = current.next, !isCut, let most = bounds.pages, pages >= most {
                        // What the pages held may have been left out, so the place is behind all of them.
                        cursor = next
                    }
                    guard let next = current.next, !isCut, pages < bounds.pages ?? .max else {
                        let isWhole = current.next == nil && lines.count == current.lines.count
                        let end: JSONValue = [
                            "type": "end", "cursor": .string(cursor.text), "count": .int(count),
                            "complete": .bool(isWhole),
                        ]
                        try await writer.write(end.text + "\n")
                        break
                    }
                    cursor = next
                    pages += 1
                    current = try await page(next)
                }
                await journal.write(action, .success, subject, ["count": .int(count)], time.uptime - begun)
            } catch let error as TelegramFailure {
                let failure = SendFailure(error)
                await journal.write(
                    action, .error, subject, code: failure.code.rawValue, ["count": .int(count)],
                    time.uptime - begun)
                let line: JSONValue = .object(present: [
                    "type": "error", "error": .string(failure.code.rawValue),
                    "message": .string(failure.explanation(language)),
                    "original_error": .string(failure.original),
                    "retry_after": failure.retryAfter.map { .int($0) },
                    "can_retry": .bool(failure.code.canRetry),
                    "cursor": .string(cursor.text), "count": .int(count),
                ])
                try await writer.write(line.text + "\n")
            }
        }
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response
    }

    private func piece(_ page: MessagePage, _ bounds: Bounds, _ cursor: (MessageID) -> ReadCursor) -> Piece {
        var piece = Piece(lines: [], next: page.next.map(cursor))
        for message in page.messages {
            if let until = bounds.until, message.date > until { continue }
            if let since = bounds.since, message.date < since {
                // The newest come first: all that follows is older still.
                piece.next = nil
                break
            }
            piece.lines.append(message.json(cursor: cursor(message.id)))
        }
        return piece
    }

    private func place(
        _ cursor: ReadCursor?, default fallback: ReadCursor, _ number: (ReadCursor) -> Int64?
    ) throws -> Int64? {
        number(cursor ?? fallback)
    }

    private var wrongCursor: ValidationError {
        ValidationError([
            FieldError(
                "cursor", "wrong_cursor",
                .init("This cursor is of another stream", "Этот курсор от другого потока"))
        ])
    }

    private func head(_ community: Community) -> JSONValue {
        .object([JSONMember("type", "start")] + (community.json(hasComments: nil).objectValue ?? []))
    }
}

/// Something lent, given back once: by whoever ends it, or when nobody holds it any more.
final class Loan: Sendable {
    private let giveBack: Once

    init(_ giveBack: @escaping @Sendable () -> Void) { self.giveBack = Once(giveBack) }
    deinit { giveBack.run() }
    func end() { giveBack.run() }
}

extension Community {
    func json(hasComments: Bool?, last messages: [ChatMessage] = []) -> JSONValue {
        var perDay: Double?
        if let newest = messages.first, let oldest = messages.last, messages.count > 1 {
            perDay = Double(messages.count - 1) / max((newest.date - oldest.date).inSeconds / 86_400, 0.01)
        }
        return .object(present: [
            "chat_id": .int(chat.rawValue), "kind": .string(kind.rawValue), "title": .string(title),
            "username": JSONValue(username), "description": .string(description),
            "member_count": JSONValue(memberCount),
            "can_list_members": .bool(canListMembers), "hides_members": .bool(hidesMembers),
            "member_list_cap": memberListCap == .max ? .null : .int(Int64(memberListCap)),
            "linked_chat_id": linkedChat.map { .int($0.rawValue) } ?? .null,
            "is_member": .bool(standing.isMember),
            "is_admin": .bool(standing.isAdministrator), "may_invite": .bool(mayInvite),
            "refuses_direct_adds": .bool(refusesDirectAdds), "needs_approval": .bool(needsApproval),
            "is_public": .bool(isPublic), "is_scam": .bool(isScam),
            "has_comments": hasComments.map { .bool($0) },
            "last_message_at": messages.first.map { $0.date.json },
            "messages_per_day": perDay.map { .double($0) },
        ])
    }
}

extension Person {
    var json: JSONValue {
        let (seen, lastSeen): (String, Timestamp?) =
            switch self.lastSeen {
            case .online: ("online", nil)
            case .at(let moment): ("at", moment)
            case .recently: ("recently", nil)
            case .lastWeek: ("last_week", nil)
            case .lastMonth: ("last_month", nil)
            case .hidden: ("hidden", nil)
            }
        return [
            "user_id": .int(id), "username": JSONValue(username), "first_name": .string(firstName),
            "last_name": .string(lastName), "phone": phone.isEmpty ? .null : .string("+\(phone)"),
            "kind": .string(kind.rawValue), "is_bot": .bool(kind == .bot), "is_premium": .bool(isPremium),
            "is_contact": .bool(isContact), "is_scam": .bool(isScam), "language_code": .string(languageCode),
            "seen": .string(seen), "last_seen": JSONValue(lastSeen),
        ]
    }
}

extension Member {
    func json(cursor: ReadCursor) -> JSONValue {
        var (userID, sentAs): (Int64?, Int64?) = (nil, nil)
        switch sender {
        case .person(let id): userID = id
        case .chat(let chat): sentAs = chat.rawValue
        }
        return .object(present: [
            "type": "member", "cursor": .string(cursor.text), "user_id": userID.map { .int($0) },
            "user": person?.json ?? .null, "chat_id": sentAs.map { .int($0) },
            "is_admin": .bool(standing.isAdministrator),
            "joined_at": JSONValue(joinedAt), "inviter_id": inviter.map { .int($0) },
        ])
    }
}

extension ChatMessage {
    func json(cursor: ReadCursor) -> JSONValue {
        var senderID: Int64?
        var senderChat: Int64?
        switch sender {
        case .person(let id)?: senderID = id
        case .chat(let chat)?: senderChat = chat.rawValue
        case nil: break
        }
        var forwardedFromID: Int64?
        switch forwardedFrom {
        case .person(let id)?: forwardedFromID = id
        case .chat(let chat)?: forwardedFromID = chat.rawValue
        case nil: break
        }
        let (word, media): (String, String?) =
            switch kind {
            case .text: ("text", nil)
            case .media(let media): ("media", media.rawValue)
            case .membersAdded: ("members_added", nil)
            case .joinedByLink, .joinedByRequest: ("joined", nil)
            case .memberRemoved: ("member_removed", nil)
            case .service: ("service", nil)
            case .other: ("other", nil)
            }
        return .object(present: [
            "type": "message", "cursor": .string(cursor.text), "id": .int(id), "number": .int(linkNumber),
            "chat_id": .int(chat.rawValue), "date": date.json, "edited_at": editedAt?.json,
            "sender_id": senderID.map { .int($0) }, "sender_chat_id": senderChat.map { .int($0) },
            "author": author?.json, "signature": authorSignature.isEmpty ? nil : .string(authorSignature),
            "kind": .string(word), "media": media.map { .string($0) }, "file_id": fileID.map { .string($0) },
            "album_id": albumID == 0 ? nil : .int(albumID), "text": .string(text),
            "views": .int(Int64(views)),
            "forwards": .int(Int64(forwards)), "comments": comments.map { .int(Int64($0)) },
            "reactions": .int(Int64(reactions)), "reply_to": replyTo.map { .int($0) },
            "forwarded_from": forwardedFromID.map { .int($0) }, "is_channel_post": .bool(isChannelPost),
        ])
    }
}
