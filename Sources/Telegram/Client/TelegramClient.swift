import Core
import Synchronization

/// One account on Telegram. All requests of the platform go through here, whichever transport is behind.
///
/// Every function throws `TelegramFailure`, or `CancellationError` when the calling task is cancelled. A failure
/// that `isInDoubt` may have happened all the same.
public final class TelegramClient: Sendable {
    public let id: ClientID
    public let session: SessionParameters
    let transport: any TelegramTransport
    let limits: RequestLimits
    let time: any TimeSource
    private let metrics: TelegramMetrics
    private let state = Mutex(State())

    init(
        id: ClientID, session: SessionParameters, transport: any TelegramTransport, limits: RequestLimits,
        time: any TimeSource, metrics: TelegramMetrics
    ) {
        self.id = id
        self.session = session
        self.transport = transport
        self.limits = limits
        self.time = time
        self.metrics = metrics
    }

    private struct State {
        var authorization = AuthorizationState.starting
        var nextNumber: Int64 = 1
        var pending: [Int64: Pending] = [:]
        var stateWaiters: [Int64: StateWaiter] = [:]
        var listeners: [Int64: AsyncStream<TelegramUpdate>.Continuation] = [:]
        var sends = SendBook()
        var people = RecentPeople()
        var freeze: FreezeNotice?
        var connection = ConnectionState.unknown
        var lossReason: String?
        /// We ended the session ourselves, so its end is no loss.
        var isEnding = false
        var loss: SessionLoss?

        mutating func number() -> Int64 {
            defer { nextNumber += 1 }
            return nextNumber
        }
    }
    private struct Pending {
        let method: TelegramMethod
        let waiter: CheckedContinuation<JSONValue, any Error>
    }
    private struct StateWaiter {
        let isWanted: @Sendable (AuthorizationState) -> Bool
        let waiter: CheckedContinuation<AuthorizationState, any Error>
    }

    // MARK: - What is known without asking

    public var authorization: AuthorizationState { state.withLock { $0.authorization } }
    public var connection: ConnectionState { state.withLock { $0.connection } }
    /// Telegram froze this account.
    public var freeze: FreezeNotice? { state.withLock { $0.freeze } }
    /// Set once the session ended although nobody here had ended it.
    public var sessionLoss: SessionLoss? { state.withLock { $0.loss } }

    /// What happens to the account from now on, in order. A listener that falls 10,000 updates behind loses
    /// the oldest; the stream ends when the client is closed.
    public func updates() -> AsyncStream<TelegramUpdate> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: TelegramUpdate.self, bufferingPolicy: .bufferingNewest(10_000))
        let number = state.withLock { state -> Int64? in
            guard state.authorization != .closed else { return nil }
            let number = state.number()
            state.listeners[number] = continuation
            return number
        }
        guard let number else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in self?.state.withLock { $0.listeners[number] = nil } }
        return stream
    }

    /// Returns once the state is a wanted one, at once where it is already. Throws when the client is closed
    /// first.
    public func authorization(
        where isWanted: @escaping @Sendable (AuthorizationState) -> Bool
    ) async throws -> AuthorizationState {
        let number = state.withLock { $0.number() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (waiter: CheckedContinuation<AuthorizationState, any Error>) in
                let known = state.withLock { state -> Result<AuthorizationState, any Error>? in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    if isWanted(state.authorization) { return .success(state.authorization) }
                    if state.authorization == .closed {
                        return .failure(closedFailure("getAuthorizationState"))
                    }
                    state.stateWaiters[number] = StateWaiter(isWanted: isWanted, waiter: waiter)
                    return nil
                }
                if let known { waiter.resume(with: known) }
            }
        } onCancel: {
            state.withLock { $0.stateWaiters.removeValue(forKey: number) }?.waiter
                .resume(throwing: CancellationError())
        }
    }

    // MARK: - Asking

    /// Sends a request and returns its answer.
    func ask(_ request: TelegramRequest, within limit: Duration? = nil) async throws -> JSONValue {
        metrics.requests[request.method.rawValue].increment()
        do {
            return try await withDeadline(limit ?? limits.server, time) { try await self.answer(to: request) }
        } catch is DeadlineExceeded {
            let failure = TelegramFailure(
                .noAnswer, message: "no answer in time", method: request.method.rawValue,
                isInDoubt: request.method.isWrite)
            count(failure)
            throw failure
        } catch let failure as TelegramFailure {
            count(failure)
            throw failure
        }
    }

    /// The same for what TDLib answers from its memory.
    func askLocally(_ request: TelegramRequest) async throws -> JSONValue {
        try await ask(request, within: limits.local)
    }

    /// Sends a request whose answer interests nobody.
    func tell(_ request: TelegramRequest) { transport.send(request.json(), to: id) }

    private func answer(to request: TelegramRequest) async throws -> JSONValue {
        let number = state.withLock { $0.number() }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<JSONValue, any Error>) in
                let refusal: (any Error)? = state.withLock { state in
                    if Task.isCancelled { return CancellationError() }
                    if state.authorization == .closed { return closedFailure(request.method.rawValue) }
                    state.pending[number] = Pending(method: request.method, waiter: waiter)
                    return nil
                }
                if let refusal { return waiter.resume(throwing: refusal) }
                transport.send(request.json(extra: .int(number)), to: id)
            }
        } onCancel: {
            state.withLock { $0.pending.removeValue(forKey: number) }?.waiter.resume(
                throwing: CancellationError())
        }
    }

    private func count(_ failure: TelegramFailure) {
        metrics.failures[failure.method, failure.reason.rawValue].increment()
    }

    /// Sends a text and waits until Telegram has it, or has refused it.
    func send(_ make: @Sendable (Int32) -> TelegramRequest) async throws -> JSONValue {
        let sendingID = state.withLock { $0.sends.begin() }
        defer { state.withLock { $0.sends.end(sendingID) } }
        let request = make(sendingID)
        do {
            return try await withDeadline(limits.server, time) {
                _ = try await self.answer(to: request)
                return try await self.outcome(of: sendingID)
            }
        } catch is DeadlineExceeded {
            let failure = TelegramFailure(
                .noAnswer, message: "no answer in time", method: request.method.rawValue, isInDoubt: true)
            count(failure)
            throw failure
        } catch let failure as TelegramFailure {
            count(failure)
            throw failure
        }
    }

    private func outcome(of sendingID: Int32) async throws -> JSONValue {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (waiter: CheckedContinuation<JSONValue, any Error>) in
                let known = state.withLock { state -> Result<JSONValue, any Error>? in
                    if Task.isCancelled { return .failure(CancellationError()) }
                    return state.sends.wait(for: sendingID, waiter)
                }
                if let known { waiter.resume(with: known) }
            }
        } onCancel: {
            state.withLock { $0.sends.withdraw(sendingID) }?.resume(throwing: CancellationError())
        }
    }

    // MARK: - Opening and ending

    func start(_ application: TelegramApplication) async throws {
        // A client begins to live with the first request sent to it.
        tell(.getAuthorizationState)
        do {
            _ = try await withDeadline(limits.local, time) {
                try await self.authorization { $0 == .waitParameters }
            }
        } catch is DeadlineExceeded {
            throw TelegramFailure(
                .noAnswer, message: "the client does not start", method: "getAuthorizationState")
        }
        for (name, value) in Self.serverOptions { tell(.setOption(name, value)) }
        _ = try await askLocally(.setTdlibParameters(session, application))
    }

    /// What a program without a person in front of it does not need; all of it would cost memory or traffic.
    static let serverOptions: KeyValuePairs<String, OptionValue> = [
        "ignore_background_updates": .flag(true), "disable_top_chats": .flag(true),
        "ignore_inline_thumbnails": .flag(true), "notification_group_count_max": .number(0),
        "disable_persistent_network_statistics": .flag(true),
    ]

    enum Ending { case close, logOut, destroy }

    /// Ends the client in order and waits until it is closed; gives up waiting after a while.
    func end(_ ending: Ending) async {
        let isClosed = state.withLock { state in
            state.isEnding = true
            return state.authorization == .closed
        }
        if isClosed { return }
        switch ending {
        case .close: tell(.close)
        case .logOut: tell(.logOut)
        case .destroy: tell(.destroy)
        }
        _ = try? await withDeadline(ending == .logOut ? limits.server : limits.local, time) {
            try await self.authorization { $0 == .closed }
        }
    }

    func note(lossReason: String) { state.withLock { $0.lossReason = lossReason } }

    private func closedFailure(_ method: String) -> TelegramFailure {
        TelegramFailure(.aborted, code: 500, message: "Request aborted", method: method)
    }

    // MARK: - Receiving

    /// Everything of this client that the transport hands over, one at a time.
    func receive(_ message: JSONValue) {
        if let extra = message["@extra"] {
            if message.type == "message" { noteMessage(message) }
            return settle(extra, message)
        }
        switch message.type {
        case "updateAuthorizationState":
            change(to: AuthorizationState(message["authorization_state"] ?? .null))
        case "updateConnectionState":
            let name = (message["state"]?.type ?? "").dropFirst("connectionState".count)
            let connection =
                ConnectionState(rawValue: name.prefix(1).lowercased() + name.dropFirst()) ?? .unknown
            state.withLock { $0.connection = connection }
            publish(.connection(connection))
        case "updateUser":
            guard let user = message["user"] else { return }
            let person = Person(user)
            state.withLock { $0.people.keep(person) }
        case "updateFreezeState":
            let freeze = message.flag("is_frozen") ? FreezeNotice(message) : nil
            state.withLock { $0.freeze = freeze }
            publish(.freeze(freeze))
        case "updateServiceNotification":
            publish(
                .serviceNotice(
                    type: message.text("type"), text: message["content"]?["text"]?.text("text") ?? ""))
            // The key was used from two places, and Telegram has dropped it.
            if message.text("type").hasPrefix("AUTH_KEY_DROP_") { note(lossReason: "AUTH_KEY_DUPLICATED") }
        case "updateSupergroup":
            guard let group = message["supergroup"] else { return }
            publish(.standing(ChatID(supergroup: group.int("id")), Membership(group["status"] ?? .null)))
        case "updateBasicGroup":
            guard let group = message["basic_group"] else { return }
            publish(.standing(ChatID(basicGroup: group.int("id")), Membership(group["status"] ?? .null)))
        case "updateChatPendingJoinRequests":
            publish(
                .pendingJoinRequests(
                    ChatID(rawValue: message.int("chat_id")),
                    count: Int(message["pending_join_requests"]?.int("total_count") ?? 0)))
        case "updateNewMessage":
            guard let new = message["message"] else { return }
            noteMessage(new)
            if new["sending_state"] == nil { publish(.newMessage(read(new))) }
        case "updateMessageSendSucceeded": settleSend(message)
        case "updateMessageSendFailed": settleSend(message)
        case "updateDeleteMessages" where message.flag("is_permanent"):
            let chat = message.int("chat_id")
            for id in message.ids("message_ids") {
                // Gone before it was confirmed: nobody knows whether it was seen.
                let waiter = state.withLock {
                    $0.sends.settle(
                        chat, id,
                        .failure(
                            TelegramFailure(
                                .noAnswer, message: "the message was deleted before it was confirmed",
                                method: "sendMessage", isInDoubt: true)))
                }
                waiter?()
            }
        default: break
        }
    }

    private func settle(_ extra: JSONValue, _ message: JSONValue) {
        guard let number = extra.intValue,
            let pending = state.withLock({ $0.pending.removeValue(forKey: number) })
        else { return }
        if message.type == "error" {
            pending.waiter.resume(throwing: TelegramFailure(error: message, method: pending.method))
        } else {
            pending.waiter.resume(returning: message)
        }
    }

    /// A message of ours on its way: from now on it goes by its temporary id.
    private func noteMessage(_ message: JSONValue) {
        guard let sending = message["sending_state"], sending.type == "messageSendingStatePending" else {
            return
        }
        state.withLock {
            $0.sends.bind(
                Int32(truncatingIfNeeded: sending.int("sending_id")), message.int("chat_id"),
                message.int("id"))
        }
    }

    private func settleSend(_ update: JSONValue) {
        guard let message = update["message"] else { return }
        let outcome: Result<JSONValue, any Error>
        if update.type == "updateMessageSendSucceeded" {
            outcome = .success(message)
        } else {
            let error = update["error"] ?? message["sending_state"]?["error"] ?? .null
            outcome = .failure(TelegramFailure(error: error, method: .sendMessage))
        }
        state.withLock { $0.sends.settle(message.int("chat_id"), update.int("old_message_id"), outcome) }?()
        if case .failure = outcome {
            // A failed message stays in the chat until it is taken away.
            tell(
                .deleteMessages(ChatID(rawValue: message.int("chat_id")), [message.int("id")], forAll: false))
        }
    }

    /// Whom a change of state concerns, to be told outside of the lock.
    private struct Change {
        var waiters: [StateWaiter] = []
        var aborted: [Pending] = []
        var listeners: [AsyncStream<TelegramUpdate>.Continuation] = []
        var sends: [() -> Void] = []
        var loss: SessionLoss?
    }

    private func change(to new: AuthorizationState) {
        let change = state.withLock { state in
            let wasReady = state.authorization == .ready
            state.authorization = new
            if new == .loggingOut, !state.isEnding, wasReady || state.lossReason != nil {
                state.loss = SessionLoss(reason: state.lossReason)
            }
            // The reason may be told after the state.
            if new == .closed, state.loss != nil { state.loss = SessionLoss(reason: state.lossReason) }
            var change = Change()
            let told = state.stateWaiters.filter { $0.value.isWanted(new) || new == .closed }
            for number in told.keys { state.stateWaiters[number] = nil }
            change.waiters = Array(told.values)
            change.listeners = Array(state.listeners.values)
            guard new == .closed else { return change }
            change.aborted = Array(state.pending.values)
            state.pending = [:]
            state.listeners = [:]
            change.sends = state.sends.abortAll()
            change.loss = state.loss
            return change
        }
        for listener in change.listeners { listener.yield(.authorization(new)) }
        for waiting in change.waiters {
            if waiting.isWanted(new) {
                waiting.waiter.resume(returning: new)
            } else {
                waiting.waiter.resume(throwing: closedFailure("getAuthorizationState"))
            }
        }
        guard new == .closed else { return }
        for pending in change.aborted {
            pending.waiter.resume(
                throwing: TelegramFailure(code: 500, message: "Request aborted", method: pending.method))
        }
        for send in change.sends { send() }
        for listener in change.listeners { listener.finish() }
        if let loss = change.loss { metrics.losses[loss.word].increment() }
    }

    private func publish(_ update: TelegramUpdate) {
        for listener in state.withLock({ Array($0.listeners.values) }) { listener.yield(update) }
    }

    func read(_ message: JSONValue) -> ChatMessage {
        ChatMessage(message) { id in self.recentPerson(id) }
    }

    /// Somebody TDLib told of not long ago.
    func recentPerson(_ id: UserID) -> Person? { state.withLock { $0.people[id] } }

    func keep(_ person: Person) { state.withLock { $0.people.keep(person) } }
}

extension SessionLoss {
    var word: String {
        switch self {
        case .revoked: "revoked"
        case .expired: "expired"
        case .banned: "banned"
        case .deactivated: "deactivated"
        case .keyDuplicated: "key_duplicated"
        case .unknown: "unknown"
        }
    }
}

extension FreezeNotice {
    init(_ json: JSONValue) {
        func moment(_ name: String) -> Timestamp? {
            let seconds = json.int(name)
            return seconds > 0 ? Timestamp(seconds: seconds) : nil
        }
        since = moment("freezing_date")
        deletionDate = moment("deletion_date")
        appealLink = json.text("appeal_link")
    }
}
