import Core
import Synchronization
import Telegram

/// A Telegram for tests that does what it is told at once: a few people and groups, a ledger of effects, and
/// answers that can be withheld or replaced by errors. What a session's folder holds outlives its clients, as
/// the real library's does.
final class ScriptedTelegram: TelegramTransport {
    struct Effect: Equatable {
        let kind: String
        let account: Int64
        let target: Int64
        let chat: Int64
    }
    struct Member {
        var phone: String
        var name: String
        var password: String?
    }
    struct Group {
        var id: Int64
        var name: String
        var title = "Group"
        var isChannel = false
        var members: [Int64] = []
        var admins: Set<Int64> = []
        var posts = 0
        /// Comments of each post.
        var comments = 0

        var chat: Int64 { -1_000_000_000_000 - id }
    }
    fileprivate struct Client {
        var directory: String?
        var state: JSONValue = .object([JSONMember("@type", "authorizationStateWaitTdlibParameters")])
        var phone: String?
        var link: String?
        var user: Int64?
        var isStarted = false
        /// Who hears of it: the run of the service that made it, also after the next has begun.
        var receive: (@Sendable (TransportEvent) -> Void)?
    }
    fileprivate struct State {
        var receive: (@Sendable (TransportEvent) -> Void)?
        var clients: [ClientID: Client] = [:]
        /// Which account each folder is signed in to, and the QR logins that had been scanned there.
        var folders: [String: Int64] = [:]
        var awaitingPassword: [String: Int64] = [:]
        var people: [Int64: Member] = [:]
        var groups: [Group] = []
        var ledger: [Effect] = []
        /// Nil lets one through.
        var errors: [String: [(Int64, String)?]] = [:]
        var withheld: Set<String> = []
        var held: [(ClientID, [JSONValue])] = []
        var requests: [String: Int] = [:]
        var histories: [Int64: [(id: Int64, sender: Int64, text: String)]] = [:]
        var links = 0
        var messages: Int64 = 0
    }
    private let state = Mutex(State())
    static let code = "12345"

    // MARK: - The world

    func add(person id: Int64, _ name: String, phone: String = "", password: String? = nil) {
        state.withLock { $0.people[id] = Member(phone: phone, name: name, password: password) }
    }

    func add(_ group: Group) { state.withLock { $0.groups.append(group) } }

    var ledger: [Effect] { state.withLock { $0.ledger } }
    func count(of method: String) -> Int { state.withLock { $0.requests[method] ?? 0 } }
    func members(of name: String) -> [Int64] {
        state.withLock { $0.groups.first { $0.name == name }?.members ?? [] }
    }

    /// The next requests of this kind get these errors.
    func refuse(_ method: String, _ errors: (Int64, String)...) {
        state.withLock { $0.errors[method] = errors }
    }

    /// So many get through first.
    func refuseLater(_ method: String, after count: Int, _ error: (Int64, String)) {
        state.withLock { $0.errors[method] = Array(repeating: nil, count: count) + [error] }
    }

    /// Requests of this kind have their effect, and their answer does not come.
    func withhold(_ methods: String...) { state.withLock { $0.withheld.formUnion(methods) } }

    func release() {
        let held = state.withLock { state in
            state.withheld = []
            defer { state.held = [] }
            return state.held
        }
        for (client, events) in held { deliver(events, to: client) }
    }

    /// Answers that wait to be released.
    var heldCount: Int { state.withLock { $0.held.count } }

    // MARK: - What a person does

    /// Somebody scans the code with the account's own app.
    func scan(_ link: String, as user: Int64) -> Bool {
        let found = state.withLock { state -> (ClientID, [JSONValue])? in
            guard let id = state.clients.first(where: { $0.value.link == link })?.key,
                let person = state.people[user],
                let folder = state.clients[id]?.directory
            else { return nil }
            state.clients[id]?.link = nil
            state.clients[id]?.user = user
            if person.password != nil {
                state.awaitingPassword[folder] = user
                return (id, [state.move(id, Self.waitPassword)])
            }
            state.folders[folder] = user
            return (id, [state.move(id, ["@type": "authorizationStateReady"])])
        }
        guard let found else { return false }
        deliver(found.1, to: found.0)
        return true
    }

    /// Telegram replaces every link that is shown.
    func renewLinks() {
        let changes = state.withLock { state in
            state.clients.keys.filter { state.clients[$0]?.link != nil }.map { ($0, [state.newLink($0)]) }
        }
        for (id, events) in changes { deliver(events, to: id) }
    }

    /// Telegram ends the session of an account, wherever it is open.
    func revoke(_ user: Int64) {
        let clients = state.withLock { state -> [ClientID] in
            state.folders = state.folders.filter { $0.value != user }
            return state.clients.filter { $0.value.user == user && $0.value.directory != nil }.map(\.key)
        }
        for id in clients {
            state.withLock { $0.clients[id]?.receive }?(
                .log(
                    "[ 2][t 8][0][AuthManager.cpp:943][#\(id)][!AuthManager]\tLost authorization because of SESSION_REVOKED"
                ))
            for name in ["authorizationStateLoggingOut", "authorizationStateClosed"] {
                let event = state.withLock { $0.move(id, ["@type": .string(name)]) }
                deliver([event], to: id)
            }
        }
    }

    func freeze(_ user: Int64, until: Timestamp) {
        let clients = state.withLock { state in state.clients.filter { $0.value.user == user }.map(\.key) }
        for id in clients {
            deliver(
                [
                    [
                        "@type": "updateFreezeState", "is_frozen": true, "freezing_date": 1,
                        "deletion_date": .int(until.seconds), "appeal_link": "https://t.me/spambot",
                    ]
                ], to: id)
        }
    }

    var openClients: Int {
        state.withLock { state in
            state.clients.values.filter { $0.state.kind != "authorizationStateClosed" }.count
        }
    }

    // MARK: - The transport

    func makeClient() -> ClientID {
        state.withLock { state in
            let id = ClientID(state.clients.count + 1)
            state.clients[id] = Client(receive: state.receive)
            return id
        }
    }

    /// Each start is a process of its own, as it were; the last one hears.
    func start(_ receive: @escaping @Sendable (TransportEvent) -> Void) {
        state.withLock { $0.receive = receive }
    }

    func run() async throws {
        let (stream, continuation) = AsyncStream<Never>.makeStream()
        for await _ in stream {}
        continuation.finish()
    }

    func send(_ request: JSONValue, to client: ClientID) {
        let events = state.withLock { state -> [JSONValue] in
            let method = request.kind
            state.requests[method, default: 0] += 1
            var events: [JSONValue] = []
            if state.clients[client]?.isStarted == false {
                state.clients[client]?.isStarted = true
                events.append(state.move(client, ["@type": "authorizationStateWaitTdlibParameters"]))
            }
            var answers: [JSONValue]
            let planned = state.errors[method]?.first.flatMap { $0 }
            if state.errors[method]?.isEmpty == false { state.errors[method]?.removeFirst() }
            if let planned {
                answers = [.failure(planned.0, planned.1)]
            } else {
                answers = state.answer(method, request, client)
            }
            // The last is the answer itself; what goes before it are updates.
            if let extra = request["@extra"], let answer = answers.popLast() {
                answers.append(answer.adding("@extra", extra))
            } else if request["@extra"] == nil {
                _ = answers.popLast()
            }
            if state.withheld.contains(method) {
                state.held.append((client, answers))
                return events
            }
            return events + answers
        }
        deliver(events, to: client)
    }

    private func deliver(_ events: [JSONValue], to client: ClientID) {
        let receive = state.withLock { $0.clients[client]?.receive }
        for event in events { receive?(.message(event.adding("@client_id", .int(Int64(client))))) }
    }

    static let waitPassword: JSONValue = [
        "@type": "authorizationStateWaitPassword", "password_hint": "my hint",
        "has_recovery_email_address": false,
    ]
}

extension ScriptedTelegram.State {
    mutating func move(_ id: ClientID, _ new: JSONValue) -> JSONValue {
        clients[id]?.state = new
        return ["@type": "updateAuthorizationState", "authorization_state": new]
    }

    mutating func newLink(_ id: ClientID) -> JSONValue {
        links += 1
        let link = "tg://login?token=link\(links)"
        clients[id]?.link = link
        return move(id, ["@type": "authorizationStateWaitOtherDeviceConfirmation", "link": .string(link)])
    }

    /// Updates, and the answer as the last.
    mutating func answer(_ method: String, _ request: JSONValue, _ id: ClientID) -> [JSONValue] {
        let ok: JSONValue = ["@type": "ok"]
        let me = clients[id]?.user ?? 0
        switch method {
        case "getAuthorizationState": return [clients[id]?.state ?? .null]
        case "setOption": return [ok]
        case "setTdlibParameters":
            let folder = request["database_directory"]?.stringValue ?? ""
            clients[id]?.directory = folder
            if let user = folders[folder] {
                clients[id]?.user = user
                return [move(id, ["@type": "authorizationStateReady"]), ok]
            }
            if let user = awaitingPassword[folder] {
                clients[id]?.user = user
                return [move(id, ScriptedTelegram.waitPassword), ok]
            }
            return [move(id, ["@type": "authorizationStateWaitPhoneNumber"]), ok]
        case "requestQrCodeAuthentication": return [newLink(id), ok]
        case "setAuthenticationPhoneNumber":
            let phone = request["phone_number"]?.stringValue ?? ""
            guard
                let user = people.first(where: { !$0.value.phone.isEmpty && "+\($0.value.phone)" == phone })?
                    .key
            else {
                return [.failure(400, "PHONE_NUMBER_INVALID")]
            }
            clients[id]?.user = user
            return [move(id, Self.waitCode(phone)), ok]
        case "resendAuthenticationCode": return [move(id, Self.waitCode("+1")), ok]
        case "checkAuthenticationCode":
            guard request["code"]?.stringValue == ScriptedTelegram.code else {
                return [.failure(400, "PHONE_CODE_INVALID")]
            }
            if people[me]?.password != nil {
                awaitingPassword[clients[id]?.directory ?? ""] = me
                return [move(id, ScriptedTelegram.waitPassword), ok]
            }
            folders[clients[id]?.directory ?? ""] = me
            return [move(id, ["@type": "authorizationStateReady"]), ok]
        case "checkAuthenticationPassword":
            guard request["password"]?.stringValue == people[me]?.password else {
                return [.failure(400, "PASSWORD_HASH_INVALID")]
            }
            let folder = clients[id]?.directory ?? ""
            awaitingPassword[folder] = nil
            folders[folder] = me
            return [move(id, ["@type": "authorizationStateReady"]), ok]
        case "logOut", "destroy":
            let folder = clients[id]?.directory ?? ""
            folders[folder] = nil
            awaitingPassword[folder] = nil
            clients[id]?.link = nil
            return [
                move(id, ["@type": "authorizationStateLoggingOut"]),
                move(id, ["@type": "authorizationStateClosed"]), ok,
            ]
        case "close":
            clients[id]?.link = nil
            return [
                move(id, ["@type": "authorizationStateClosing"]),
                move(id, ["@type": "authorizationStateClosed"]), ok,
            ]
        default: return act(method, request, me)
        }
    }

    private static func waitCode(_ phone: String) -> JSONValue {
        [
            "@type": "authorizationStateWaitCode",
            "code_info": [
                "@type": "authenticationCodeInfo", "phone_number": .string(phone),
                "type": ["@type": "authenticationCodeTypeTelegramMessage", "length": 5],
                "next_type": ["@type": "authenticationCodeTypeSms", "length": 5], "timeout": 60,
            ],
        ]
    }

    private mutating func act(_ method: String, _ request: JSONValue, _ me: Int64) -> [JSONValue] {
        guard people[me] != nil else { return [.failure(401, "Unauthorized")] }
        let chat = request["chat_id"]?.intValue ?? 0
        let target = request["user_id"]?.intValue ?? 0
        let number = request["supergroup_id"]?.intValue
        let place = groups.firstIndex { $0.chat == chat || $0.id == number }
        switch method {
        case "getMe": return [user(me)]
        case "getUser":
            let isKnown = people[target] != nil || groups.contains { $0.members.contains(target) }
            return [isKnown ? user(target) : .failure(400, "User not found")]
        case "searchUserByPhoneNumber":
            let phone = request["phone_number"]?.stringValue ?? ""
            guard let found = people.first(where: { "+\($0.value.phone)" == phone })?.key else {
                return [.failure(404, "Not Found")]
            }
            return [user(found)]
        case "searchPublicChat":
            let name = request["username"]?.stringValue ?? ""
            if let group = groups.first(where: { $0.name == name }) { return [self.chat(group)] }
            guard let person = people.first(where: { $0.value.name == name })?.key else {
                return [.failure(400, "USERNAME_NOT_OCCUPIED")]
            }
            return [
                [
                    "@type": "chat", "id": .int(person),
                    "type": ["@type": "chatTypePrivate", "user_id": .int(person)],
                ]
            ]
        case "getChat": return [place.map { self.chat(groups[$0]) } ?? .failure(400, "Chat not found")]
        case "getSupergroup":
            guard let place else { return [.failure(400, "Supergroup not found")] }
            return [supergroup(groups[place], me)]
        case "getSupergroupFullInfo":
            guard let place else { return [.failure(400, "Supergroup not found")] }
            return [
                [
                    "@type": "supergroupFullInfo", "description": "about",
                    "can_get_members": .bool(!groups[place].isChannel),
                    "member_count": .int(Int64(groups[place].members.count)),
                ]
            ]
        case "getChatMember":
            guard let place else { return [.failure(400, "Chat not found")] }
            let person = request["member_id"]?["user_id"]?.intValue ?? 0
            return [
                [
                    "@type": "chatMember",
                    "member_id": ["@type": "messageSenderUser", "user_id": .int(person)],
                    "status": status(person, groups[place]),
                ]
            ]
        case "addChatMember", "addChatMembers":
            guard let place else { return [.failure(400, "Chat not found")] }
            let person = target != 0 ? target : request["user_ids"]?[0]?.intValue ?? 0
            ledger.append(.init(kind: "add", account: me, target: person, chat: chat))
            groups[place].members.append(person)
            return [["@type": "failedToAddMembers", "failed_to_add_members": []]]
        case "canSendMessageToUser": return [["@type": "canSendMessageToUserResultOk"]]
        case "createPrivateChat":
            return [["@type": "chat", "id": .int(target), "type": ["@type": "chatTypePrivate"]]]
        case "sendMessage": return sendMessage(request, me, chat)
        case "getChatHistory": return [history(request, chat, place)]
        case "getMessageThread":
            guard let place, groups[place].comments > 0 else {
                return [.failure(400, "Message has no comments")]
            }
            return [
                [
                    "@type": "messageThreadInfo", "chat_id": .int(chat),
                    "message_thread_id": request["message_id"] ?? 1,
                    "reply_info": ["reply_count": .int(Int64(groups[place].comments))],
                ]
            ]
        case "getMessageThreadHistory":
            return [page(of: place.map { groups[$0].comments } ?? 0, chat, request)]
        case "getSupergroupMembers":
            guard let place else { return [.failure(400, "Supergroup not found")] }
            let offset = Int(request["offset"]?.intValue ?? 0)
            let limit = Int(request["limit"]?.intValue ?? 0)
            let page = groups[place].members.dropFirst(offset).prefix(limit)
            return page.map { ["@type": "updateUser", "user": user($0)] } + [
                [
                    "@type": "chatMembers", "total_count": .int(Int64(groups[place].members.count)),
                    "members": .array(
                        page.map {
                            [
                                "@type": "chatMember",
                                "member_id": ["@type": "messageSenderUser", "user_id": .int($0)],
                                "status": ["@type": "chatMemberStatusMember"],
                            ]
                        }),
                ]
            ]
        case "searchPublicChats":
            let query = request["query"]?.stringValue ?? ""
            let found = groups.filter { $0.title.contains(query) }.map { JSONValue.int($0.chat) }
            return [["@type": "chats", "total_count": .int(Int64(found.count)), "chat_ids": .array(found)]]
        // It is in none of them yet.
        case "loadChats": return [.failure(404, "Not Found")]
        case "searchChats": return [["@type": "chats", "total_count": 0, "chat_ids": []]]
        case "joinChat", "joinChatByInviteLink":
            return [["@type": "chatJoinResultSuccess", "chat_id": .int(chat)]]
        case "createChatInviteLink", "getChatInviteLink":
            return [
                [
                    "@type": "chatInviteLink",
                    "invite_link": request["invite_link"] ?? "https://t.me/+abcdefgh",
                    "name": request["name"] ?? "", "member_count": 3, "pending_join_request_count": 2,
                    "creates_join_request": request["creates_join_request"] ?? true,
                ]
            ]
        case "importContacts":
            let phone = request["contacts"]?[0]?["phone_number"]?.stringValue ?? ""
            let found = people.first { "+\($0.value.phone)" == phone || $0.value.phone == phone }?.key ?? 0
            ledger.append(.init(kind: "contact", account: me, target: found, chat: 0))
            return [["@type": "importedContacts", "user_ids": [.int(found)], "importer_count": [0]]]
        default: return [.failure(400, "the script knows no \(method)")]
        }
    }

    private mutating func sendMessage(_ request: JSONValue, _ me: Int64, _ chat: Int64) -> [JSONValue] {
        messages += 1
        let text = request["input_message_content"]?["text"]?["text"]?.stringValue ?? ""
        let id = messages << 20
        ledger.append(.init(kind: "message", account: me, target: chat, chat: chat))
        histories[chat, default: []].insert((id, me, text), at: 0)
        let sending = request["options"]?["sending_id"] ?? 0
        let temporary: JSONValue = [
            "@type": "message", "id": .int(id + 1), "chat_id": .int(chat), "date": .int(now),
            "is_outgoing": true,
            "sending_state": ["@type": "messageSendingStatePending", "sending_id": sending],
        ]
        let sent: JSONValue = [
            "@type": "updateMessageSendSucceeded", "old_message_id": .int(id + 1),
            "message": [
                "@type": "message", "id": .int(id), "chat_id": .int(chat), "date": .int(now),
                "is_outgoing": true,
            ],
        ]
        return [["@type": "updateNewMessage", "message": temporary], sent, temporary]
    }

    private var now: Int64 { SystemTime().now.seconds }

    private func history(_ request: JSONValue, _ chat: Int64, _ place: Int?) -> JSONValue {
        if let place { return page(of: groups[place].posts, chat, request) }
        let messages = (histories[chat] ?? []).map { entry -> JSONValue in
            [
                "@type": "message", "id": .int(entry.id), "chat_id": .int(chat), "is_outgoing": true,
                "date": .int(now),
                "sender_id": ["@type": "messageSenderUser", "user_id": .int(entry.sender)],
                "content": ["@type": "messageText", "text": ["text": .string(entry.text)]],
            ]
        }
        return [
            "@type": "messages", "total_count": .int(Int64(messages.count)), "messages": .array(messages),
        ]
    }

    /// Messages `count` down to 1, a minute apart, in pages shorter than asked for.
    private func page(of count: Int, _ chat: Int64, _ request: JSONValue) -> JSONValue {
        let before = request["from_message_id"]?.intValue ?? 0
        let newest = before == 0 ? Int64(count) : (before >> 20) - 1
        let size = min(Int64(request["limit"]?.intValue ?? 0), 37)
        let numbers: [Int64] =
            newest < 1 ? [] : Array(stride(from: newest, to: max(newest - size, 0), by: -1))
        return [
            "@type": "messages", "total_count": .int(Int64(count)),
            "messages": .array(
                numbers.map { number in
                    [
                        "@type": "message", "id": .int(number << 20), "chat_id": .int(chat),
                        "date": .int(Int64(1_700_000_000) + number * 60),
                        "sender_id": ["@type": "messageSenderUser", "user_id": .int(people.keys.min() ?? 1)],
                        "interaction_info": ["reply_info": ["reply_count": 2]],
                        "content": ["@type": "messageText", "text": ["text": .string("message \(number)")]],
                    ]
                }),
        ]
    }

    private func user(_ id: Int64) -> JSONValue {
        let person = people[id]
        return [
            "@type": "user", "id": .int(id), "first_name": .string(person?.name ?? "Somebody"),
            "last_name": "",
            "usernames": [
                "active_usernames": [.string(person?.name ?? "u\(id)")],
                "editable_username": .string(person?.name ?? "u\(id)"),
            ],
            "phone_number": .string(person?.phone ?? ""), "type": ["@type": "userTypeRegular"],
            "have_access": true,
        ]
    }

    private func chat(_ group: ScriptedTelegram.Group) -> JSONValue {
        [
            "@type": "chat", "id": .int(group.chat), "title": .string(group.title),
            "type": [
                "@type": "chatTypeSupergroup", "supergroup_id": .int(group.id),
                "is_channel": .bool(group.isChannel),
            ],
            "permissions": ["can_send_basic_messages": true, "can_invite_users": false],
        ]
    }

    private func supergroup(_ group: ScriptedTelegram.Group, _ me: Int64) -> JSONValue {
        [
            "@type": "supergroup", "id": .int(group.id), "is_channel": .bool(group.isChannel),
            "status": status(me, group),
            "member_count": .int(Int64(group.members.count)),
            "usernames": [
                "active_usernames": [.string(group.name)], "editable_username": .string(group.name),
            ],
        ]
    }

    private func status(_ person: Int64, _ group: ScriptedTelegram.Group) -> JSONValue {
        if group.admins.contains(person) {
            return [
                "@type": "chatMemberStatusAdministrator",
                "rights": ["can_invite_users": true, "can_restrict_members": true, "can_manage_chat": true],
            ]
        }
        return ["@type": group.members.contains(person) ? "chatMemberStatusMember" : "chatMemberStatusLeft"]
    }
}

extension JSONValue {
    fileprivate var kind: String { self["@type"]?.stringValue ?? "" }

    fileprivate func adding(_ name: String, _ value: JSONValue) -> JSONValue {
        .object((objectValue ?? []) + [JSONMember(name, value)])
    }

    static func failure(_ code: Int64, _ message: String) -> JSONValue {
        ["@type": "error", "code": .int(code), "message": .string(message)]
    }
}
