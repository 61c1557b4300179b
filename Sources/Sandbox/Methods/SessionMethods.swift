import Core

extension World {
    func optionUpdate(_ name: String, _ value: JSONValue) -> JSONValue {
        ["@type": "updateOption", "name": .string(name), "value": value]
    }

    func change(_ client: Client, to stage: Client.Stage) {
        client.stage = stage
        emit(client, stateUpdate(stage))
    }

    func setParameters(_ a: Arguments, _ client: Client) throws -> JSONValue? {
        guard client.stage == .waitParameters else { throw Refusal(400, "Unexpected setTdlibParameters") }
        guard try a.int("api_id") > 0 else {
            throw Refusal(400, "Valid api_id must be provided. Can be obtained at https://my.telegram.org")
        }
        guard try !a.text("api_hash").isEmpty else {
            throw Refusal(400, "Valid api_hash must be provided. Can be obtained at https://my.telegram.org")
        }
        for (field, name) in [
            ("system_language_code", "System language code"), ("device_model", "Device model"),
            ("application_version", "Application version"),
        ] where try a.text(field).isEmpty {
            throw Refusal(400, "\(name) must be non-empty")
        }
        let key = try a.text("database_encryption_key")
        guard key.utf8.count % 4 == 0 else {
            throw Refusal(400, "Failed to parse JSON object as TDLib request: Wrong padding length")
        }
        let directory = try a.text("database_directory")
        for other in clients.values
        where other !== client && other.directory == directory && silentLinks.contains(other.key.link) {
            keepUnfinished(other)
            clients[other.key] = nil
        }
        let isInUse = clients.values.contains {
            $0 !== client && $0.directory == directory && $0.stage != .closed
        }
        guard !isInUse else {
            throw Refusal(
                400,
                "Can't lock file \"\(directory)/td.binlog\", because it is already in use by current program")
        }
        let session = sessions[directory]
        let begun = unfinished[directory]
        if let known = session?.key ?? begun?.key, known != key {
            throw Refusal(401, "Wrong database encryption key")
        }
        client.directory = directory
        client.encryptionKey = key
        emit(
            client, optionUpdate("message_text_length_max", ["@type": "optionValueInteger", "value": "4096"]))
        if options.isOdd { emit(client, ["@type": "updateFromTheFuture", "future": ["@type": "future"]]) }
        if let session {
            client.account = session.account
            becomeReady(client)
        } else if let begun {
            unfinished[directory] = nil
            if case .waitScan = begun.stage {
                change(client, to: .waitScan(token: newToken(client)))
            } else {
                change(client, to: begun.stage)
            }
        } else {
            change(client, to: .waitPhone)
        }
        let waiting = client.waiting
        client.waiting = []
        for request in waiting { accept(request, for: client.key) }
        if let lost = session?.lost {
            // The server says so to the first that asks.
            answer(client, .ok, to: a.json)
            loseSession(client, lost)
            return nil
        }
        return .ok
    }

    func becomeReady(_ client: Client) {
        guard let number = client.account else { return }
        emit(
            client,
            optionUpdate(
                "authorization_date", ["@type": "optionValueInteger", "value": .string(String(now.seconds))]))
        introduce(user: accounts[number].id, to: client)
        emit(
            client,
            optionUpdate(
                "my_id", ["@type": "optionValueInteger", "value": .string(String(accounts[number].id))]))
        change(client, to: .ready)
        emit(client, ["@type": "updateConnectionState", "state": ["@type": "connectionStateReady"]])
        if accounts[number].isFrozen { emit(client, freezeUpdate(true)) }
    }

    func freezeUpdate(_ isFrozen: Bool) -> JSONValue {
        [
            "@type": "updateFreezeState", "is_frozen": .bool(isFrozen),
            "freezing_date": .int(isFrozen ? now.seconds : 0),
            "deletion_date": .int(isFrozen ? now.seconds + 86_400 * 30 : 0),
            "appeal_link": .string(isFrozen ? "https://t.me/spambot?start=appeal" : ""),
        ]
    }

    func getOption(_ a: Arguments, _ client: Client) throws -> JSONValue {
        switch try a.text("name") {
        case "version": ["@type": "optionValueString", "value": "1.8.69"]
        case "my_id" where client.account != nil:
            [
                "@type": "optionValueInteger",
                "value": .string(String(Account.firstID + Int64(client.account ?? 0))),
            ]
        case let name: client.values[name] ?? ["@type": "optionValueEmpty"]
        }
    }

    func setOption(_ a: Arguments, _ client: Client) throws -> JSONValue {
        let name = try a.text("name")
        let known: Set = [
            "ignore_background_updates", "online", "notification_group_count_max",
            "disable_network_statistics",
            "disable_persistent_network_statistics", "disable_top_chats", "ignore_inline_thumbnails",
            "message_unload_delay", "use_storage_optimizer",
        ]
        guard known.contains(name) else { throw Refusal(400, "Option can't be set") }
        client.values[name] = try a.object("value")?.json
        return .ok
    }

    func setNetworkType(_ a: Arguments, _ client: Client) throws -> JSONValue {
        client.isOnline = try a.object("type")?.type != "networkTypeNone"
        emit(
            client,
            [
                "@type": "updateConnectionState",
                "state": [
                    "@type": .string(
                        client.isOnline ? "connectionStateReady" : "connectionStateWaitingForNetwork")
                ],
            ])
        guard client.isOnline else { return .ok }
        let waiting = client.waiting
        client.waiting = []
        for request in waiting { accept(request, for: client.key) }
        return .ok
    }

    // MARK: - Ending

    /// `close` is answered first; then come the states.
    func close(_ client: Client, _ request: JSONValue) -> JSONValue? {
        keepUnfinished(client)
        answer(client, .ok, to: request)
        emit(
            client,
            [
                "@type": "updateAuthorizationState",
                "authorization_state": ["@type": "authorizationStateClosing"],
            ])
        finish(client, pending: Refusal(500, "Request aborted"))
        return nil
    }

    /// How far a login had come is on the disk, however its client ended: closed in order, or killed.
    func keepUnfinished(_ client: Client) {
        switch client.stage {
        case .ready, .waitParameters, .waitPhone, .closed: break
        default: unfinished[client.directory] = (client.encryptionKey, client.stage)
        }
    }

    func destroy(_ client: Client, _ request: JSONValue) -> JSONValue? {
        answer(client, .ok, to: request)
        emit(client, .loggingOut)
        forget(client)
        finish(client, pending: Refusal(401, "Unauthorized"))
        return nil
    }

    func logOut(_ client: Client, _ request: JSONValue) -> JSONValue? {
        emit(client, .loggingOut)
        answer(client, .ok, to: request)
        forget(client)
        finish(client, pending: Refusal(401, "Unauthorized"))
        return nil
    }

    private func forget(_ client: Client) {
        unfinished[client.directory] = nil
        if sessions[client.directory] != nil { make(.sessionEnded(directory: client.directory)) }
    }

    func finish(_ client: Client, pending: Refusal) {
        for request in client.waiting { answer(client, pending.json, to: request) }
        client.waiting = []
        change(client, to: .closed)
        client.seenUsers = []
        client.seenChats = []
    }

    /// The server has ended the session.
    func loseSession(_ client: Client, _ reason: String) {
        logLines.append(
            (
                client.key,
                "[ 2][t 1][0][AuthManager.cpp:943][#\(client.key.number)][!AuthManager]\tLost authorization because of \(reason)"
            ))
        emit(client, .loggingOut)
        forget(client)
        finish(client, pending: Refusal(401, reason))
    }

    // MARK: - Signing in

    private func newToken(_ client: Client) -> String {
        let token = (0..<3).map { _ in String(random.next(), radix: 36) }.joined()
        later(.seconds(30), .renewQR(client.key, token: token))
        return token
    }

    func requestQR(_ client: Client) throws -> JSONValue {
        switch client.stage {
        case .waitPhone, .waitCode, .waitPassword, .waitEmailAddress, .waitRegistration: break
        default: throw Refusal(400, "Call to requestQrCodeAuthentication unexpected")
        }
        change(client, to: .waitScan(token: newToken(client)))
        return .ok
    }

    func renewQR(_ key: ClientKey, _ token: String) {
        guard let client = clients[key], client.stage == .waitScan(token: token) else { return }
        change(client, to: .waitScan(token: newToken(client)))
    }

    func setPhone(_ a: Arguments, _ client: Client) throws -> JSONValue {
        switch client.stage {
        case .waitPhone, .waitCode, .waitPassword, .waitEmailAddress, .waitRegistration: break
        default: throw Refusal(400, "Call to setAuthenticationPhoneNumber unexpected")
        }
        let phone = try a.text("phone_number")
        guard !phone.isEmpty else { throw Refusal(400, "Phone number must be non-empty") }
        guard let number = Account.number(ofPhone: phone), accounts.indices.contains(number) else {
            throw Refusal(400, "PHONE_NUMBER_INVALID")
        }
        if accounts[number].isBanned { throw Refusal(400, "PHONE_NUMBER_BANNED") }
        switch accounts[number].kind {
        case .needsEmail:
            change(client, to: .waitEmailAddress)
            return .ok
        case .needsPremium:
            change(client, to: .waitPremium)
            return .ok
        default: break
        }
        try spendCode(number)
        change(client, to: .waitCode(account: number, sentAt: now, resent: false))
        return .ok
    }

    /// Telegram sends about ten codes a day to one number.
    private func spendCode(_ number: Int) throws {
        accounts[number].code = String(10_000 + luck(random.next()).below(90_000))
        accounts[number].patience.codes.removeAll { $0 + .days(1) <= now }
        guard options.strictness == .off || accounts[number].patience.codes.count < 10 else {
            throw Refusal(400, "PHONE_NUMBER_FLOOD")
        }
        accounts[number].patience.codes.append(now)
    }

    func checkCode(_ a: Arguments, _ client: Client) throws -> JSONValue {
        guard case .waitCode(let number, let sentAt, _) = client.stage else {
            throw Refusal(400, "Call to checkAuthenticationCode unexpected")
        }
        let code = try a.text("code")
        guard !code.isEmpty else { throw Refusal(400, "PHONE_CODE_EMPTY") }
        guard now - sentAt < .minutes(10) else { throw Refusal(400, "PHONE_CODE_EXPIRED") }
        guard code == accounts[number].code else {
            accounts[number].wrongCodes += 1
            throw Refusal(400, "PHONE_CODE_INVALID")
        }
        accounts[number].code = nil
        accounts[number].wrongCodes = 0
        guard accounts[number].kind != .unregistered else {
            change(client, to: .waitRegistration)
            return .ok
        }
        signIn(client, number)
        return .ok
    }

    func resendCode(_ client: Client) throws -> JSONValue {
        guard case .waitCode(let number, _, let resent) = client.stage else {
            throw Refusal(400, "Call to resendAuthenticationCode unexpected")
        }
        guard !resent else { throw Refusal(400, "Authentication code can't be resend") }
        try spendCode(number)
        change(client, to: .waitCode(account: number, sentAt: now, resent: true))
        return .ok
    }

    func checkPassword(_ a: Arguments, _ client: Client) throws -> JSONValue {
        guard case .waitPassword(let number) = client.stage else {
            throw Refusal(400, "Call to checkAuthenticationPassword unexpected")
        }
        guard try a.text("password") == Account.password else {
            accounts[number].wrongPasswords += 1
            if accounts[number].wrongPasswords > 10, options.strictness == .telegram {
                throw Refusal(429, "Too Many Requests: retry after 300")
            }
            throw Refusal(400, "PASSWORD_HASH_INVALID")
        }
        accounts[number].wrongPasswords = 0
        enter(client, number)
        return .ok
    }

    func refuseEmail(_ method: String, _ client: Client) throws -> JSONValue {
        guard method == "setAuthenticationEmailAddress", client.stage == .waitEmailAddress else {
            throw Refusal(400, "Call to \(method) unexpected")
        }
        throw Refusal(400, "EMAIL_NOT_ALLOWED")
    }

    /// The phone or the QR code is proven; the second password may be left.
    func signIn(_ client: Client, _ number: Int) {
        if accounts[number].hasPassword {
            change(client, to: .waitPassword(account: number))
        } else {
            enter(client, number)
        }
    }

    private func enter(_ client: Client, _ number: Int) {
        client.account = number
        make(.sessionBegan(directory: client.directory, key: client.encryptionKey, account: number, at: now))
        becomeReady(client)
    }

    func activeSessions(_ client: Client) throws -> JSONValue {
        let mine = sessions.filter { $0.value.account == client.account }.sorted { $0.key < $1.key }
        return [
            "@type": "sessions",
            "sessions": .array(
                mine.enumerated().map { index, session in
                    [
                        "@type": "session", "id": .string(String(index + 1)),
                        "is_current": .bool(session.key == client.directory), "is_password_pending": false,
                        "application_name": "Convoke", "device_model": "Sandbox", "platform": "Linux",
                        "log_in_date": .int(session.value.began.seconds),
                    ]
                }),
            "inactive_session_ttl_days": 180,
        ]
    }
}

extension JSONValue {
    static let loggingOut: JSONValue = [
        "@type": "updateAuthorizationState", "authorization_state": ["@type": "authorizationStateLoggingOut"],
    ]
}
