import Core

extension World {
    func sendMessage(_ a: Arguments, _ client: Client, fault: Fault?) throws -> JSONValue {
        let chat = try seenChat(a, client)
        guard let content = try a.object("input_message_content") else {
            throw Refusal(400, "Can't send message without content")
        }
        let text = try content.object("text")?.text("text") ?? ""
        guard !text.isEmpty else { throw Refusal(400, "Text must be non-empty") }
        let number = try number(client)
        let me = accounts[number].id
        if let group = group(ofChat: chat) {
            let standing = group.standing(of: me)
            if group.kind == .channel, !standing.isAdministrator {
                throw Refusal(400, "Need administrator rights in the channel chat")
            }
            guard standing.isMember, group.membersMayWrite || standing.isAdministrator,
                standing.kind != .restricted
            else {
                throw Refusal(400, "Have no write access to the chat")
            }
        }
        let sendingID = try a.object("options")?.int("sending_id") ?? 0
        let pending: JSONValue = ["@type": "messageSendingStatePending", "sending_id": .int(sendingID)]
        client.temporary += 1
        // Not a multiple of 2^20, as every temporary id.
        let temporaryID = (1 << 40) + client.temporary
        let queued = shape(
            Written(number: 0, sender: me, date: now, content: textContent(text)), in: chat, mine: me,
            sendingState: pending, id: temporaryID)
        emit(client, ["@type": "updateNewMessage", "message": queued])
        emit(client, ["@type": "updateChatLastMessage", "chat_id": .int(chat), "positions": []])

        let update: Refusal?
        if let fault, fault.inUpdate, fault.moment == .before {
            update = Refusal(fault.code, fault.message)
            record(
                client, chat > 0 ? .message : .groupMessage, target: max(chat, 0), group: group(ofChat: chat),
                outcome: fault.message, accepted: false, words: text)
        } else {
            update = deliver(text, to: chat, client, number)
        }
        answer(client, queued, to: a.json)
        if fault?.moment == .after, fault?.isSilent == true { return nil }
        settle(client, chat, temporaryID, text, update)
        return nil
    }

    /// Hands a text to the person or group; why not, where it is refused.
    private func deliver(_ text: String, to chat: Int64, _ client: Client, _ number: Int) -> Refusal? {
        if let group = group(ofChat: chat) {
            make(
                .groupMessage(group: group.id, sender: accounts[number].id, text: text, thread: nil, at: now))
            record(
                client, .groupMessage, target: 0, group: group, outcome: "sent", accepted: true, words: text)
            return nil
        }
        let refusal = refusalOfMessage(text, to: chat, number)
        record(
            client, .message, target: chat, group: nil, outcome: refusal?.message ?? "sent",
            accepted: refusal == nil,
            words: text)
        guard refusal == nil else { return refusal }
        make(.privateMessage(account: number, user: chat, text: text, at: now))
        if let human = human(chat) {
            if human.temper == .blocks { blocks.insert(Pair(account: number, user: chat)) }
            if options.peopleReact, let mark = text.firstRange(of: "https://t.me/+") {
                let hash = String(
                    text[mark.upperBound...].prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == "-" })
                let draw = luck(seed, 30, chat)
                if draw.perMille(350) {
                    later(.seconds(60 + draw.below(3000)), .react(user: chat, hash: hash))
                }
            }
        }
        return nil
    }

    private func refusalOfMessage(_ text: String, to user: Int64, _ number: Int) -> Refusal? {
        if text.count > 4096 { return Refusal(400, "Message is too long") }
        guard let human = human(user) else { return nil }
        if blocks.contains(Pair(account: number, user: user)) { return Refusal(403, "USER_IS_BLOCKED") }
        let isPremium = accounts[number].isPremium
        switch human.temper {
        case .deleted: return Refusal(403, "User is deactivated")
        case .premiumOnly where !isPremium: return Refusal(400, "PRIVACY_PREMIUM_REQUIRED")
        case .paid: return Refusal(400, "ALLOW_PAYMENT_REQUIRED_\(human.stars)")
        default: break
        }
        let isStranger = !accounts[number].contacts.contains(user)
        let isFirst = privateMessages[Pair(account: number, user: user)] == nil
        if isStranger, isFirst {
            if accounts[number].isLimited { return Refusal(400, "PEER_FLOOD") }
            if options.strictness == .telegram {
                accounts[number].patience.firstContacts.removeAll { $0 + .days(1) <= now }
                let most =
                    (accounts[number].kind == .fresh ? 15 : 70) + luck(seed, 22, Int64(number)).below(20)
                if accounts[number].patience.firstContacts.count >= most {
                    make(
                        .account(
                            number: number, isFrozen: accounts[number].isFrozen,
                            isBanned: accounts[number].isBanned,
                            isLimited: true))
                    return Refusal(400, "PEER_FLOOD")
                }
                accounts[number].patience.firstContacts.append(now)
            }
        }
        return nil
    }

    /// Tells what became of a message. The final id is the newest of the chat at this moment.
    private func settle(
        _ client: Client, _ chat: Int64, _ temporaryID: Int64, _ text: String, _ refusal: Refusal?
    ) {
        guard let number = client.account else { return }
        let me = accounts[number].id
        let content = textContent(text)
        if let refusal {
            let failed: JSONValue = [
                "@type": "messageSendingStateFailed", "error": refusal.json,
                "can_retry": .bool(refusal.code == 429),
                "need_another_sender": false, "need_another_reply_quote": false, "need_drop_reply": false,
                "required_paid_message_star_count": 0, "retry_after": 0.0,
            ]
            let message = shape(
                Written(number: 0, sender: me, date: now, content: content), in: chat, mine: me,
                sendingState: failed,
                id: temporaryID)
            emit(
                client,
                [
                    "@type": "updateMessageSendFailed", "message": message,
                    "old_message_id": .int(temporaryID),
                    "error": refusal.json,
                ])
        } else {
            let last: Int64
            if let group = group(ofChat: chat) {
                last = group.historyCount + Int64(group.messages.count)
            } else {
                last = Int64(privateMessages[Pair(account: number, user: chat)]?.count ?? 1)
            }
            let message = shape(
                Written(number: last, sender: me, date: now, content: content), in: chat, mine: me)
            emit(
                client,
                [
                    "@type": "updateMessageSendSucceeded", "message": message,
                    "old_message_id": .int(temporaryID),
                ])
        }
    }

    func deleteMessages(_ a: Arguments, _ client: Client) throws -> JSONValue {
        _ = try seenChat(a, client)
        return .ok
    }

    // MARK: - Reading

    private func checkPaging(_ a: Arguments) throws -> (from: Int64, limit: Int) {
        let limit = Int(clamping: try a.int("limit"))
        let offset = try a.int("offset")
        guard limit > 0 else { throw Refusal(400, "Parameter limit must be positive") }
        guard offset <= 0 else { throw Refusal(400, "Parameter offset must be non-positive") }
        guard offset > -100 else { throw Refusal(400, "Parameter offset must be greater than -100") }
        guard offset >= -Int64(limit) else {
            throw Refusal(400, "Parameter offset must be greater than or equal to -limit")
        }
        return (try a.int("from_message_id") >> 20, min(limit, 100))
    }

    /// Telegram may give fewer than asked for, often just one at first; never none before the end.
    private func given(_ limit: Int, _ chat: Int64, _ from: Int64) -> Int {
        let draw = luck(seed, 40, chat, from)
        if from == 0 { return draw.perMille(500) ? 1 : limit }
        return draw.perMille(200) ? max(1, limit / 2) : limit
    }

    func getHistory(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let chat = try seenChat(a, client)
        let (from, limit) = try checkPaging(a)
        let number = try number(client)
        let me = accounts[number].id
        guard chat < 0 else {
            let all = privateMessages[Pair(account: number, user: chat)] ?? []
            let page = all.reversed().filter { from == 0 || $0.number < from }.prefix(limit)
            return messages(
                page.map {
                    shape(
                        Written(
                            number: $0.number, sender: $0.sender, date: $0.date, content: textContent($0.text)
                        ), in: chat,
                        mine: me)
                }, total: all.count)
        }
        let group = try openGroup(a, client)
        let last = group.historyCount + Int64(group.messages.count)
        return page(group, below: from == 0 ? last + 1 : from, wanted: given(limit, chat, from), client, me) {
            _ in true
        }
    }

    private func page(
        _ group: Group, below: Int64, wanted: Int, _ client: Client, _ me: Int64,
        where isWanted: (Written) -> Bool
    ) -> JSONValue {
        var page: [JSONValue] = []
        var number = min(below - 1, group.historyCount + Int64(group.messages.count))
        while number > 0, page.count < wanted {
            if let written = message(number, in: group), isWanted(written) {
                if written.sender > 0 { introduce(user: written.sender, to: client) }
                page.append(shape(written, in: group.chatID, mine: me))
            }
            number -= 1
        }
        return messages(page, total: Int(group.historyCount) + group.messages.count)
    }

    private func messages(_ page: [JSONValue], total: Int) -> JSONValue {
        ["@type": "messages", "total_count": JSONValue(total), "messages": .array(page)]
    }

    private func found(_ a: Arguments, _ client: Client) throws -> (Group, Written) {
        let group = try openGroup(a, client)
        guard let message = message(try a.int("message_id") >> 20, in: group) else {
            throw Refusal(400, "Message not found")
        }
        return (group, message)
    }

    func getMessage(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let group = try openGroup(a, client)
        guard let written = message(try a.int("message_id") >> 20, in: group) else {
            throw Refusal(404, "Not Found")
        }
        if written.sender > 0 { introduce(user: written.sender, to: client) }
        return shape(written, in: group.chatID, mine: accounts[try number(client)].id)
    }

    private func discussion(_ a: Arguments, _ client: Client) throws -> (Group, post: Int64) {
        let (group, written) = try found(a, client)
        guard group.kind == .channel else {
            guard group.kind == .supergroup else {
                throw Refusal(400, "Chat is not a supergroup or a channel")
            }
            throw Refusal(400, "Message has no thread")
        }
        guard let discussion = group.linked.flatMap({ groups[$0] }), written.comments != nil else {
            throw Refusal(400, "Message has no comments")
        }
        introduce(chat: discussion.chatID, to: client)
        return (discussion, written.number)
    }

    func getThread(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (discussion, post) = try discussion(a, client)
        return [
            "@type": "messageThreadInfo", "chat_id": .int(discussion.chatID),
            "message_thread_id": .int((post * Self.threadSpan) << 20),
            "reply_info": [
                "@type": "messageReplyInfo", "reply_count": JSONValue(commentCount(post, in: discussion)),
                "recent_replier_ids": [], "last_read_inbox_message_id": 0, "last_read_outbox_message_id": 0,
                "last_message_id": 0,
            ], "unread_message_count": 0, "messages": [],
        ]
    }

    func getThreadHistory(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (from, limit) = try checkPaging(a)
        let (discussion, post) = try discussion(a, client)
        let first = post * Self.threadSpan
        let below = from == 0 ? first + Self.threadSpan : min(from, first + Self.threadSpan)
        var page: [JSONValue] = []
        var number = below - 1
        let wanted = given(limit, discussion.chatID, from)
        let me = accounts[try self.number(client)].id
        // The post's copy itself is no comment.
        while number > first, page.count < wanted {
            if let written = message(number, in: discussion) {
                introduce(user: written.sender, to: client)
                page.append(shape(written, in: discussion.chatID, mine: me))
            }
            number -= 1
        }
        return messages(page, total: commentCount(post, in: discussion))
    }

    func getProperties(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (group, written) = try found(a, client)
        return [
            "@type": "messageProperties",
            "can_get_message_thread": .bool(written.comments != nil && group.linked != nil),
            "can_get_link": .bool(group.kind != .basicGroup),
        ]
    }

    func searchMessages(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (from, limit) = try checkPaging(a)
        let group = try openGroup(a, client)
        let query = try a.text("query").lowercased()
        let sender = try a.object("sender_id")?.int("user_id") ?? 0
        let last = group.historyCount + Int64(group.messages.count)
        let me = accounts[try number(client)].id
        let found = page(group, below: from == 0 ? last + 1 : from, wanted: limit, client, me) { written in
            (sender == 0 || written.sender == sender)
                && (query.isEmpty
                    || ((written.content["text"] ?? written.content["caption"])?["text"]?.stringValue ?? "")
                        .lowercased()
                        .contains(query))
        }
        let page = found["messages"]?.arrayValue ?? []
        return [
            "@type": "foundChatMessages", "total_count": JSONValue(page.count), "messages": .array(page),
            "next_from_message_id": page.count < limit ? 0 : page.last?["id"] ?? 0,
        ]
    }

    func getMessageLink(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let (group, written) = try found(a, client)
        let place = group.username ?? "c/\(group.id)"
        return [
            "@type": "messageLink", "link": .string("https://t.me/\(place)/\(written.number)"),
            "is_public": .bool(group.isPublic),
        ]
    }
}
