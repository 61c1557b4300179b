import Core

// Writing and reading. Nothing here marks a message as read or counts a view.
extension TelegramClient {
    /// Sends a text and returns once Telegram has it. A failure that is in doubt may have arrived.
    public func send(_ text: String, to chat: ChatID, silently: Bool = false) async throws -> SentMessage {
        let message = try await send { .sendMessage(chat, text: text, silent: silently, sendingID: $0) }
        return SentMessage(
            chat: ChatID(rawValue: message.int("chat_id")), id: message.int("id"),
            date: Timestamp(seconds: message.int("date")))
    }

    public func delete(_ messages: [MessageID], in chat: ChatID, forAll: Bool = true) async throws {
        _ = try await ask(.deleteMessages(chat, messages, forAll: forAll))
    }

    /// A page of a chat's history, from the newest back. Telegram may give fewer than asked for no reason, so
    /// only an empty page is the end.
    public func history(of chat: ChatID, before: MessageID = 0, limit: Int = 100) async throws -> MessagePage
    {
        try await page(
            try await ask(.getHistory(chat, before: before, limit: min(limit, 100))), before: before)
    }

    /// The whole history, newest first, read as it is asked for.
    public func messages(of chat: ChatID, before: MessageID = 0) -> Pages<ChatMessage> {
        Pages(from: before) { [self] (place: MessageID?) in
            let page = try await history(of: chat, before: place ?? 0)
            return (page.messages, page.next)
        }
    }

    public func message(_ id: MessageID, in chat: ChatID) async throws -> ChatMessage {
        read(try await ask(.getMessage(chat, id)))
    }

    /// Where the comments of a channel's post are; fails with `nothingToRead` where there are none.
    public func thread(of post: MessageID, in channel: ChatID) async throws -> CommentThread {
        let answer = try await ask(.getThread(channel, post))
        return CommentThread(
            chat: ChatID(rawValue: answer.int("chat_id")), threadID: answer.int("message_thread_id"),
            count: Int(answer["reply_info"]?.int("reply_count") ?? 0))
    }

    /// A page of a post's comments, newest first.
    public func comments(
        on post: MessageID, in channel: ChatID, before: MessageID = 0, limit: Int = 100
    ) async throws -> MessagePage {
        try await page(
            try await ask(.getThreadHistory(channel, post, before: before, limit: min(limit, 100))),
            before: before)
    }

    public func allComments(on post: MessageID, in channel: ChatID, before: MessageID = 0) -> Pages<
        ChatMessage
    > {
        Pages(from: before) { [self] (place: MessageID?) in
            let page = try await comments(on: post, in: channel, before: place ?? 0)
            return (page.messages, page.next)
        }
    }

    /// A page of the messages that hold `query`, or that one person wrote, newest first.
    public func search(
        _ query: String, in chat: ChatID, by sender: UserID? = nil, before: MessageID = 0, limit: Int = 100
    ) async throws -> MessagePage {
        let answer = try await ask(
            .searchMessages(chat, query: query, sender: sender, from: before, limit: min(limit, 100)))
        let next = answer.int("next_from_message_id")
        return MessagePage(
            messages: try await read(messages: answer.list("messages")), next: next == 0 ? nil : next)
    }

    /// How many messages of a kind a chat holds.
    public func count(_ filter: MessageFilter, in chat: ChatID) async throws -> Int {
        Int(try await ask(.getChatMessageCount(chat, filter)).int("count"))
    }

    public func link(to message: MessageID, in chat: ChatID) async throws -> String {
        try await askLocally(.getMessageLink(chat, message)).text("link")
    }

    private func page(_ answer: JSONValue, before: MessageID) async throws -> MessagePage {
        let entries = answer.list("messages").filter { !$0.isNull }
        return MessagePage(messages: try await read(messages: entries), next: entries.last?.int("id"))
    }

    private func read(messages entries: [JSONValue]) async throws -> [ChatMessage] {
        for entry in entries {
            if case .person(let id)? = MessageSender(entry["sender_id"]) { _ = try await knownPerson(id) }
        }
        return entries.map { read($0) }
    }
}
