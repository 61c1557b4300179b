import Core
import HTTP
import HTTPClient
import HTTPServer
import Sandbox
import Testing

@testable import Telegram

/// A refusal as Telegram words it, and what we make of it.
struct Word: Sendable, CustomTestStringConvertible {
    let code: Int32
    let message: String
    let reason: FailureReason
    let blame: Blame
    var wait: Duration?

    init(_ code: Int32, _ message: String, _ reason: FailureReason, _ blame: Blame, wait: Duration? = nil) {
        self.code = code
        self.message = message
        self.reason = reason
        self.blame = blame
        self.wait = wait
    }

    var testDescription: String { "\(code) \(message)" }

    /// Every refusal the fact sheet lists for what is asked once signed in.
    static let all: [Word] =
        [
            Word(429, "Too Many Requests: retry after 35", .floodWait, .account, wait: .seconds(35)),
            Word(429, "Too Many Requests: retry after 75600", .floodWait, .account, wait: .hours(21)),
            Word(429, "Too Many Requests", .floodWait, .account, wait: .seconds(60)),
            Word(400, "FLOOD_WAIT_17 (caused by something)", .floodWait, .account, wait: .seconds(17)),
            Word(400, "SLOWMODE_WAIT_30", .floodWait, .account, wait: .seconds(30)),
            Word(400, "PEER_FLOOD", .peerFlood, .account, wait: .hours(24)),
            Word(406, "FROZEN_METHOD_INVALID", .frozen, .account),
            Word(400, "FROZEN_PARTICIPANT_MISSING", .frozenForGroup, .accountInGroup),
            Word(400, "CHANNELS_TOO_MUCH", .inTooManyGroups, .account),
            Word(400, "USER_KICKED", .targetKicked, .target),
            Word(400, "USER_BLOCKED", .targetBlocked, .target),
            Word(400, "USER_BANNED_IN_CHANNEL", .bannedFromGroups, .account, wait: .hours(24)),
            Word(403, "CHAT_ADMIN_REQUIRED", .adminRequired, .accountInGroup),
            Word(400, "CHAT_ADMIN_REQUIRED", .adminRequired, .accountInGroup),
            Word(
                400, "Not enough rights to invite members to the supergroup chat", .adminRequired,
                .accountInGroup
            ),
            Word(
                400, "Not enough rights to invite members to the group chat", .adminRequired, .accountInGroup),
            Word(403, "CHAT_WRITE_FORBIDDEN", .writeForbidden, .accountInGroup),
            Word(400, "Have no write access to the chat", .writeForbidden, .accountInGroup),
            Word(400, "CHAT_RESTRICTED", .restrictedInGroup, .accountInGroup),
            Word(403, "CHAT_SEND_PLAIN_FORBIDDEN", .restrictedInGroup, .accountInGroup),
            Word(403, "CHAT_GUEST_SEND_FORBIDDEN", .restrictedInGroup, .accountInGroup),
            Word(406, "CHANNEL_PRIVATE", .groupInaccessible, .group),
            Word(400, "CHANNEL_PRIVATE", .groupInaccessible, .group),
            Word(400, "CHANNEL_PUBLIC_GROUP_NA", .groupInaccessible, .group),
            Word(400, "CHANNEL_INVALID", .staleChat, .ourData),
            Word(400, "CHAT_INVALID", .staleChat, .ourData),
            Word(400, "CHAT_ID_INVALID", .staleChat, .ourData),
            Word(403, "PEER_ID_INVALID", .staleChat, .ourData),
            Word(404, "PEER_ID_INVALID", .staleChat, .ourData),
            Word(400, "USERS_TOO_MUCH", .groupFull, .group),
            Word(400, "CHAT_MEMBER_ADD_FAILED", .couldNotAdd, .passing),
            Word(400, "BOTS_TOO_MUCH", .botNotAddable, .target),
            Word(400, "BOT_GROUPS_BLOCKED", .botNotAddable, .target),
            Word(400, "USER_BOT", .botNotAddable, .target),
            Word(400, "USERNAME_NOT_OCCUPIED", .noSuchName, .target),
            Word(400, "USERNAME_INVALID", .invalidName, .target),
            Word(200, "Username is invalid", .invalidName, .target),
            Word(400, "USER_ID_INVALID", .unknownPerson, .ourData),
            Word(400, "User not found", .unknownPerson, .ourData),
            Word(400, "Have no access to the user", .unknownPerson, .ourData),
            Word(400, "Chat info not found", .unknownPerson, .ourData),
            Word(400, "INPUT_USER_DEACTIVATED", .targetDeleted, .target),
            Word(403, "User is deactivated", .targetDeleted, .target),
            Word(403, "USER_DELETED", .targetDeleted, .target),
            Word(403, "USER_IS_BLOCKED", .blockedUs, .target),
            Word(400, "YOU_BLOCKED_USER", .blockedByUs, .account),
            Word(403, "USER_PRIVACY_RESTRICTED", .privacy, .target),
            Word(400, "USER_PRIVACY_RESTRICTED", .privacy, .target),
            Word(403, "USER_NOT_MUTUAL_CONTACT", .notMutualContact, .target),
            Word(403, "USER_CHANNELS_TOO_MUCH", .targetInTooManyGroups, .target),
            Word(406, "PRIVACY_PREMIUM_REQUIRED", .premiumRequired, .target),
            Word(400, "ALLOW_PAYMENT_REQUIRED_10", .paidMessages, .target),
            Word(400, "BALANCE_TOO_LOW", .noStars, .account),
            Word(400, "Chat not found", .unknownChat, .ourData),
            Word(400, "Supergroup not found", .unknownChat, .ourData),
            Word(400, "Message not found", .noSuchMessage, .ourData),
            Word(404, "Not Found", .unknownChat, .ourData),
            Word(200, "Phone number is invalid", .invalidPhone, .target),
            Word(400, "Member list is inaccessible", .membersInaccessible, .group),
            Word(400, "Can't access the chat", .groupInaccessible, .group),
            Word(400, "Can't access message comments", .nothingToRead, .group),
            Word(400, "Message has no comments", .nothingToRead, .group),
            Word(400, "Message has no thread", .nothingToRead, .group),
            Word(400, "INVITE_HASH_EXPIRED", .deadInviteLink, .ourData),
            Word(406, "INVITE_HASH_EXPIRED", .deadInviteLink, .ourData),
            Word(400, "INVITE_HASH_INVALID", .deadInviteLink, .ourData),
            Word(400, "Wrong invite link", .deadInviteLink, .ourData),
            Word(400, "INVITE_REQUEST_SENT", .joinRequestSent, .passing),
            Word(400, "STARS_PAYMENT_REQUIRED", .paidGroup, .group),
            Word(400, "User is banned from the chat", .bannedInGroup, .accountInGroup),
            Word(400, "Can't return to kicked from chat", .bannedInGroup, .accountInGroup),
            Word(400, "Chat is deactivated", .groupDeactivated, .group),
            Word(400, "Can't add many members at once to a basic group chat", .wrongKindOfChat, .ours),
            Word(400, "Members can't be added to the chat explicitly", .wrongKindOfChat, .ours),
            Word(400, "Can't add members to a private chat", .wrongKindOfChat, .ours),
            Word(400, "MESSAGE_TOO_LONG", .badText, .ourData),
            Word(400, "Message is too long", .badText, .ourData),
            Word(400, "MESSAGE_EMPTY", .badText, .ourData),
            Word(400, "Text must be non-empty", .badText, .ourData),
            Word(400, "ENTITY_BOUNDS_INVALID", .badText, .ourData),
            Word(400, "ENTITIES_TOO_LONG", .badText, .ourData),
            Word(500, "RANDOM_ID_DUPLICATE", .repeatedSend, .passing),
            Word(500, "MSG_WAIT_FAILED", .repeatedSend, .passing),
            Word(406, "AUTH_KEY_DUPLICATED", .duplicatedKey, .account),
            Word(401, "Unauthorized", .unauthorized, .account),
            Word(500, "Request aborted", .aborted, .passing),
            Word(500, "Requested data is inaccessible", .dataInaccessible, .passing),
            Word(500, "INTERNAL", .serverTrouble, .passing),
            Word(500, "CHAT_UPDATE_TIMEOUT", .serverTrouble, .passing),
            Word(400, "API_ID_INVALID", .wrongAPIKey, .ours),
            Word(400, "API_ID_PUBLISHED_FLOOD", .wrongAPIKey, .ours),
            Word(
                400, "Initialization parameters are needed: call setTdlibParameters first", .notConfigured,
                .ours),
            Word(
                400, "Failed to parse JSON object as TDLib request: Unknown class \"x\"", .badRequest, .ours),
            Word(400, "Call to x unexpected", .unexpectedStep, .ours),
            Word(400, "SOMETHING_NEVER_SEEN", .unknown, .unknown),
            Word(418, "i am new here", .unknown, .unknown),
        ] + rare

    /// Words of TDLib's own that no request of ours should ever meet, and relatives of those above.
    private static let rare: [Word] = [
        Word(400, "AUTH_KEY_PERM_EMPTY", .sessionLost, .account),
        Word(400, "Not enough rights to manage chat invite link", .adminRequired, .accountInGroup),
        Word(400, "Need administrator rights in the channel chat", .adminRequired, .accountInGroup),
        Word(403, "USER_BOT_INVALID", .botNotAddable, .target),
        Word(400, "PHONE_NOT_OCCUPIED", .noSuchPerson, .target),
        Word(400, "USER_ALREADY_PARTICIPANT", .alreadyParticipant, .target),
        Word(400, "USER_DELETED", .targetDeleted, .target),
        Word(400, "USER_IS_BLOCKED", .blockedUs, .target),
        Word(400, "USER_NOT_MUTUAL_CONTACT", .notMutualContact, .target),
        Word(400, "USER_CHANNELS_TOO_MUCH", .targetInTooManyGroups, .target),
        Word(403, "PRIVACY_PREMIUM_REQUIRED", .premiumRequired, .target),
        Word(403, "ALLOW_PAYMENT_REQUIRED_100", .paidMessages, .target),
        Word(400, "CHAT_WRITE_FORBIDDEN", .writeForbidden, .accountInGroup),
        Word(400, "Root message must be used to get the message thread", .nothingToRead, .group),
        Word(400, "Invalid chat identifier specified", .staleChat, .ourData),
        Word(400, "Invalid user identifier", .unknownPerson, .ourData),
        Word(400, "Member not found", .unknownPerson, .ourData),
        Word(400, "Group not found", .unknownChat, .ourData),
        Word(400, "Basic group not found", .unknownChat, .ourData),
        Word(400, "Can't send message without content", .badText, .ourData),
        Word(400, "Can't invite members to a private chat", .wrongKindOfChat, .ours),
        Word(400, "Chat is not a supergroup or a channel", .wrongKindOfChat, .ours),
        Word(400, "The method can't be executed synchronously", .badRequest, .ours),
        Word(400, "Invalid TDLib instance specified", .badRequest, .ours),
        Word(400, "Option can't be set", .badRequest, .ours),
        Word(400, "Expected Boolean, but receive String", .badRequest, .ours),
        Word(400, "Parameter limit must be positive", .badRequest, .ours),
        Word(400, "Can't use searchMessagesFilterEmpty", .badRequest, .ours),
        Word(400, "Can't forward negative number of messages", .badRequest, .ours),
        Word(
            400, "Member limit can't be specified for links requiring administrator approval", .badRequest,
            .ours),
        Word(
            400, "Valid api_hash must be provided. Can be obtained at https://my.telegram.org", .wrongAPIKey,
            .ours),
        Word(401, "Wrong database encryption key", .wrongDatabaseKey, .ours),
        Word(
            400, "Can't lock file \"x/td.binlog\", because it is already in use by current program",
            .databaseInUse, .ours),
        Word(400, "Can't init database in the directory \"x\"", .databaseInUse, .ours),
        Word(400, "Unexpected setTdlibParameters", .unexpectedStep, .ours),
        Word(400, "System language code must be non-empty", .notConfigured, .ours),
        Word(400, "Device model must be non-empty", .notConfigured, .ours),
        Word(400, "Application version must be non-empty", .notConfigured, .ours),
        Word(400, "FLOOD_PREMIUM_WAIT_9 more", .floodWait, .account, wait: .seconds(9)),
        Word(400, "2FA_CONFIRM_WAIT_604800", .floodWait, .account, wait: .days(7)),
        Word(400, "TAKEOUT_INIT_DELAY_86400", .floodWait, .account, wait: .days(1)),
    ]

    /// Those that end the session by the way.
    static let endings: [(Word, SessionLoss)] = [
        (Word(401, "AUTH_KEY_UNREGISTERED", .sessionLost, .account), .revoked),
        (Word(401, "AUTH_KEY_INVALID", .sessionLost, .account), .revoked),
        (Word(401, "SESSION_REVOKED", .sessionLost, .account), .revoked),
        (Word(401, "SESSION_EXPIRED", .sessionLost, .account), .expired),
        (Word(401, "USER_DEACTIVATED", .accountDeactivated, .account), .deactivated),
        (Word(401, "USER_DEACTIVATED_BAN", .accountBanned, .account), .banned),
    ]

    static let login: [Word] = [
        Word(406, "PHONE_NUMBER_INVALID", .phoneInvalid, .account),
        Word(400, "PHONE_NUMBER_BANNED", .accountBanned, .account),
        Word(400, "PHONE_NUMBER_FLOOD", .phoneFlood, .account, wait: .hours(24)),
        Word(406, "PHONE_PASSWORD_FLOOD", .passwordFlood, .account, wait: .hours(24)),
        Word(400, "PHONE_NUMBER_APP_SIGNUP_FORBIDDEN", .signUpForbidden, .account),
        Word(400, "API_ID_INVALID", .wrongAPIKey, .ours),
        Word(400, "API_ID_PUBLISHED_FLOOD", .wrongAPIKey, .ours),
        Word(500, "AUTH_RESTART", .startAgain, .passing),
        Word(429, "Too Many Requests: retry after 86400", .floodWait, .account, wait: .hours(24)),
        Word(400, "PHONE_CODE_INVALID", .codeInvalid, .account),
        Word(400, "PHONE_CODE_EMPTY", .codeInvalid, .account),
        Word(400, "PHONE_CODE_EXPIRED", .codeExpired, .account),
        Word(400, "PHONE_NUMBER_UNOCCUPIED", .noAccount, .account),
        Word(406, "UPDATE_APP_TO_LOGIN", .updateRequired, .account),
        Word(500, "SIGN_IN_FAILED", .signInFailed, .account),
        Word(406, "SEND_CODE_UNAVAILABLE", .noMoreCodes, .account),
        Word(400, "Authentication code can't be resend", .noMoreCodes, .account),
        Word(400, "PASSWORD_HASH_INVALID", .passwordInvalid, .account),
        Word(400, "SRP_ID_INVALID", .stepAgain, .passing),
        Word(400, "SRP_PASSWORD_CHANGED", .stepAgain, .passing),
        Word(500, "AUTH_KEY_UNSYNCHRONIZED", .stepAgain, .passing),
        Word(400, "Another authorization query has started", .overtakenByOtherStep, .ours),
        Word(400, "PHONE_NUMBER_INVALID", .phoneInvalid, .account),
        Word(400, "Phone number must be non-empty", .phoneInvalid, .account),
        Word(400, "Call to setAuthenticationPhoneNumber unexpected", .unexpectedStep, .ours),
    ]
}

@Suite struct `A refusal` {
    @Test(arguments: Wire.allCases)
    func `is understood, whatever its code`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let talk = try await client.group("sandbox_talk").chat
            for word in Word.all {
                stage.world.add(Fault(method: "joinChat", code: word.code, message: word.message, count: 1))
                let failure = await #expect(throws: TelegramFailure.self) { try await client.join(talk) }
                #expect(failure?.reason == word.reason, "\(word.message)")
                #expect(failure?.blame == word.blame, "\(word.message)")
                #expect(failure?.wait == word.wait, "\(word.message)")
                #expect(failure?.message == word.message)
                #expect(failure?.code == word.code)
                #expect(failure?.method == "joinChat")
                let doubtful: Set<FailureReason> = [.serverTrouble, .aborted, .repeatedSend]
                #expect(failure?.isInDoubt == doubtful.contains(word.reason), "\(word.message)")
            }
        }
    }

    @Test(arguments: Wire.allCases)
    func `of a message comes later, and means the same`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let chat = try await client.group("sandbox_club").chat
            for word in Word.all {
                stage.world.add(
                    Fault(
                        method: "sendMessage", code: word.code, message: word.message, count: 1,
                        inUpdate: true))
                let failure = await #expect(throws: TelegramFailure.self) {
                    try await client.send("text", to: chat)
                }
                #expect(failure?.reason == word.reason, "\(word.message)")
            }
        }
    }

    @Test(arguments: Word.endings.indices, Wire.allCases)
    func `that ends the session ends the client, with its reason`(index: Int, wire: Wire) async throws {
        let (word, loss) = Word.endings[index]
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            stage.world.add(
                Fault(method: "getSupergroupFullInfo", code: word.code, message: word.message, count: 1))
            let failure = await #expect(throws: TelegramFailure.self) {
                try await client.group("sandbox_club")
            }
            #expect(failure?.reason == word.reason)
            #expect(failure?.reason.stopsAccount == true)
            _ = try await client.authorization { $0 == .closed }
            #expect(client.sessionLoss == loss)
        }
    }

    @Test(arguments: Wire.allCases)
    func `while signing in leaves the step as it was`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.open()
            for word in Word.login {
                stage.world.add(
                    Fault(
                        method: "setAuthenticationPhoneNumber", code: word.code, message: word.message,
                        count: 1))
                let failure = await #expect(throws: TelegramFailure.self) {
                    try await client.submit(phone: stage.phone(.warmed))
                }
                #expect(failure?.reason == word.reason, "\(word.message)")
                #expect(failure?.blame == word.blame, "\(word.message)")
                #expect(failure?.wait == word.wait, "\(word.message)")
                #expect(client.authorization == .waitPhoneNumber, "\(word.message)")
            }
        }
    }

    @Test(arguments: Wire.allCases)
    func `not found means what was looked for`(wire: Wire) async throws {
        try await Stage.run(wire) { stage in
            let client = try await stage.account()
            let talk = try await client.group("sandbox_talk").chat
            #expect(
                try await reason { _ = try await client.resolve(.phone("+15550000000")) } == .noSuchPerson)
            #expect(
                try await reason { _ = try await client.message(99_999 << 20, in: talk) } == .noSuchMessage)
        }
    }

    @Test func `every reason has somebody to blame and an advice`() {
        for reason in FailureReason.allCases where reason.retry == .afterWait {
            #expect(reason.blame == .account, "\(reason)")
        }
        #expect(FailureReason.unknown.blame == .unknown)
        #expect(FailureReason.unknown.stopsAccount)
        #expect(FailureReason.unknown.retry == .never)
    }

    /// All that the tables above do not reach is reached by the other suites.
    @Test func `of each kind was provoked`() {
        let provoked = Set((Word.all + Word.login + Word.endings.map(\.0)).map(\.reason))
        #expect(Set(FailureReason.allCases).subtracting(provoked) == [.premiumWouldAllow, .noAnswer])
    }

    @Test func `of every wording we know was provoked`() {
        let provoked = (Word.all + Word.login + Word.endings.map(\.0)).map(\.message)
        #expect(Set(FailureTable.words.keys).subtracting(provoked) == [])
        let unheard = FailureTable.beginnings.filter { beginning, _ in
            !provoked.contains { $0.hasPrefix(beginning) }
        }
        #expect(unheard.isEmpty, "\(unheard)")
    }
}

@Suite struct `A connection to a sandbox elsewhere` {
    @Test func `that forgets us closes every client, and they can be opened again`() async throws {
        try await Stage.run(.network) { stage in
            let client = try await stage.account(folder: "one")
            stage.world.reset(.tests)
            _ = try await client.authorization { $0 == .closed }
            // Another world: nobody is signed in there.
            try await eventually("the folder is free") { stage.telegram.openClients.isEmpty }
            #expect(try await stage.open("one").authorization == .waitPhoneNumber)
        }
    }

    @Test func `carries two thousand requests of twenty accounts`() async throws {
        try await Stage.run(.network) { stage in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 10..<30 {
                    let phone = stage.world.accounts()[number].phone
                    group.addTask {
                        let client = try await stage.account(phone)
                        let talk = try await client.group("sandbox_talk").chat
                        for _ in 1...100 { _ = try await client.standing(in: talk) }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    /// As when a process is killed: nothing is closed, and the next one wants the same folders at once.
    @Test func `that died leaves its folders to the next`() async throws {
        let world = SandboxWorld(.tests, time: SystemTime())
        var router = Router()
        NetworkLinks(world).register(on: &router)
        let server = HTTPServer(ServerSettings(port: 0, threads: 2), router)
        try server.bind()
        let http = HTTPClient()
        func connection() -> (Stage, Task<Void, any Error>) {
            let transport = NetworkTransport("http://127.0.0.1:\(server.port)", client: http)
            let telegram = Telegram(transport, application: .sandbox, time: SystemTime())
            return (Stage(telegram: telegram, world: world), Task { try await transport.run() })
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await world.run() }
            group.addTask { try await server.run() }
            let (first, firstRun) = connection()
            _ = try await first.account(folder: "one")
            let (second, secondRun) = connection()
            #expect(try await reason { _ = try await second.open("one") } == .databaseInUse)
            firstRun.cancel()
            _ = await firstRun.result
            try await eventually("the folder is free") {
                try await reason { _ = try await second.open("one") } == nil
            }
            #expect(second.telegram.openClients.map(\.authorization) == [.ready])
            secondRun.cancel()
            _ = await secondRun.result
            await http.shutdown()
            group.cancelAll()
        }
    }

    @Test func `loses nothing and doubles nothing when it breaks again and again`() async throws {
        let world = SandboxWorld(.tests, time: SystemTime())
        var router = Router()
        NetworkLinks(world).register(on: &router)
        let server = HTTPServer(ServerSettings(port: 0, threads: 2), router)
        try server.bind()
        let http = HTTPClient()
        let transport = NetworkTransport(
            "http://127.0.0.1:\(server.port)", client: Stumbling(http, random: SeededRandom(seed: 5)),
            time: QuickTime())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await world.run() }
            group.addTask { try await server.run() }
            let telegram = Telegram(transport, application: .sandbox, time: SystemTime())
            let running = Task { try await telegram.run() }
            let stage = Stage(telegram: telegram, world: world)
            let client = try await stage.account()
            let chat = try await client.group("sandbox_club").chat
            for number in 1...60 { _ = try await client.send("message \(number)", to: chat) }
            running.cancel()
            _ = await running.result
            await http.shutdown()
            group.cancelAll()
        }
        let sent = world.ledger.filter { $0.kind == .groupMessage }
        #expect(sent.count == 60)
        #expect(Set(sent.map(\.words)).count == 60)
    }
}

/// Loses answers and breaks streams: what was sent may have arrived.
private struct Stumbling: HTTPSending {
    let client: HTTPClient
    let random: SeededRandom

    init(_ client: HTTPClient, random: SeededRandom) {
        self.client = client
        self.random = random
    }

    func send(_ request: ClientRequest) async throws -> ClientResponse {
        if random.fraction() < 0.1 { throw ClientError.notSent(reason: "the road is closed") }
        let response = try await client.send(request)
        if request.method == .post {
            guard random.fraction() < 0.2 else { return response }
            _ = try await response.body.collect(upTo: 1 << 20)
            throw ClientError.inDoubt(reason: "the answer was lost")
        }
        let chunks = BodyChunks(response.body, left: 1 + random.int(in: 0...8))
        return ClientResponse(
            status: response.status, headers: response.headers, body: Body { try await chunks.next() })
    }
}

/// A body that breaks off after some chunks.
private actor BodyChunks {
    private let body: Body
    private var left: Int
    private var iterator: Body.Iterator?

    init(_ body: Body, left: Int) {
        self.body = body
        self.left = left
    }

    func next() async throws -> Bytes? {
        guard left > 0 else {
            iterator = nil
            throw ClientError.badAnswer(reason: "the stream broke")
        }
        left -= 1
        var current = iterator ?? body.makeAsyncIterator()
        let chunk = try await current.next()
        iterator = current
        return chunk
    }
}

/// The machine's time, with naps instead of sleeps.
private struct QuickTime: TimeSource {
    var now: Timestamp { SystemTime().now }
    var uptime: Duration { SystemTime().uptime }
    // A time source has to have it; nothing is waited for here but the next attempt.
    func sleep(for duration: Duration) async throws {  // rule: tests-do-not-sleep
        try await SystemTime().sleep(for: min(duration, .milliseconds(5)))
    }
}
