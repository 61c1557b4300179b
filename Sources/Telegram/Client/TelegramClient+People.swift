import Core

// Finding people and groups.
extension TelegramClient {
    /// What a reference leads to.
    public enum Found: Equatable, Sendable {
        case person(Person)
        case community(Community)
        /// A private invite link: seen without joining.
        case invitation(InvitePreview, link: String)
    }

    /// Finds what a reference names. Telegram allows very few names a day and account: remember the answers.
    public func resolve(_ reference: TelegramReference) async throws -> Found {
        switch reference {
        case .username(let name): return try await found(try await ask(.searchPublicChat(name)))
        case .phone(let phone): return .person(keeping(try await ask(.searchUser(phone: phone))))
        case .person(let id): return .person(try await person(id))
        case .chat(let chat):
            if case .person(let id) = chat.kind { return .person(try await person(id)) }
            return .community(try await community(chat))
        case .inviteLink(let link): return .invitation(try await preview(link: link), link: link)
        case .message(let link):
            let info = try await ask(.getMessageLinkInfo(link))
            let chat = ChatID(rawValue: info.int("chat_id"))
            guard chat.rawValue != 0 else {
                throw TelegramFailure(
                    .unknownChat, code: 400, message: "Chat not found", method: "getMessageLinkInfo")
            }
            return try await found(try await askLocally(.getChat(chat)))
        }
    }

    private func found(_ chat: JSONValue) async throws -> Found {
        if case .person(let id) = ChatID(rawValue: chat.int("id")).kind {
            return .person(try await person(id))
        }
        return .community(try await community(chat))
    }

    /// Somebody this account has seen already.
    public func person(_ id: UserID) async throws -> Person {
        keeping(try await askLocally(.getUser(id)))
    }

    /// The chat with a person, which a message to them needs.
    public func privateChat(with id: UserID) async throws -> ChatID {
        ChatID(rawValue: try await ask(.createPrivateChat(id)).int("id"))
    }

    public func mayWrite(to id: UserID) async throws -> WritePermission {
        let answer = try await ask(.canSendMessage(to: id))
        switch answer.type {
        case "canSendMessageToUserResultOk": return .yes
        case "canSendMessageToUserResultUserHasPaidMessages":
            return .costsStars(answer.int("outgoing_paid_message_star_count"))
        case "canSendMessageToUserResultUserIsDeleted": return .deleted
        case "canSendMessageToUserResultUserRestrictsNewChats": return .restrictsNewChats
        default: return .unknown
        }
    }

    /// Puts people into the account's address book: for each the person, or nil where Telegram found nobody.
    public func importContacts(_ contacts: [NewContact]) async throws -> [UserID?] {
        try await ask(.importContacts(contacts)).ids("user_ids").map { $0 == 0 ? nil : $0 }
    }

    public func removeContacts(_ people: [UserID]) async throws { _ = try await ask(.removeContacts(people)) }

    /// The groups this account shares with a person.
    public func groupsInCommon(with id: UserID, after last: ChatID? = nil, limit: Int = 100) async throws
        -> [ChatID]
    {
        try await ask(.groupsInCommon(with: id, after: last, limit: limit)).chats("chat_ids")
    }

    /// How many sessions the account has, this one included.
    public func sessionCount() async throws -> Int {
        try await ask(.getActiveSessions).list("sessions").count
    }

    private func keeping(_ json: JSONValue) -> Person {
        let person = Person(json)
        keep(person)
        return person
    }
}

extension JSONValue {
    func chats(_ name: String) -> [ChatID] { ids(name).map { ChatID(rawValue: $0) } }
}
