import Core

extension World {
    private static let beforeParameters: Set<String> = [
        "getAuthorizationState", "getCurrentState", "close", "destroy", "setTdlibParameters",
    ]
    private static let silentBeforeParameters: Set<String> = [
        "getOption", "setOption", "setNetworkType", "getInternalLinkType",
    ]
    private static let beforeLogin: Set<String> = [
        "getAuthorizationState", "getCurrentState", "close", "destroy", "logOut", "getOption", "setOption",
        "setNetworkType", "getInternalLinkType", "setTdlibParameters",
    ]
    /// Answered from TDLib's own memory: nothing travels.
    private static let local: Set<String> = [
        "getAuthorizationState", "getCurrentState", "close", "destroy", "logOut", "getOption", "setOption",
        "setNetworkType", "getInternalLinkType", "setTdlibParameters", "getUser", "getChat", "getSupergroup",
        "getBasicGroup", "getChats", "searchChats", "openChat", "closeChat", "createPrivateChat", "getMe",
        "getMessageProperties",
    ]
    private static let logins: Set<String> = [
        "requestQrCodeAuthentication", "setAuthenticationPhoneNumber", "checkAuthenticationCode",
        "resendAuthenticationCode", "checkAuthenticationPassword", "setAuthenticationEmailAddress",
        "checkAuthenticationEmailCode",
    ]
    private static let writes: Set<String> = [
        "addChatMember", "addChatMembers", "sendMessage", "joinChat", "joinChatByInviteLink", "leaveChat",
        "importContacts", "createChatInviteLink", "editChatInviteLink", "revokeChatInviteLink",
        "processChatJoinRequest",
    ]

    /// A request arrives at the library.
    func accept(_ request: JSONValue, for key: ClientKey) {
        silentLinks.remove(key.link)
        let client = clients[key] ?? begin(key)
        guard client.stage != .closed else {
            return answer(client, Refusal(500, "Request aborted").json, to: request)
        }
        guard let method = request["@type"]?.stringValue else {
            let text =
                request.objectValue == nil
                ? "Expected a JSON object"
                : "Failed to parse JSON object as TDLib request: Can't find field \"@type\""
            return answer(client, Refusal(400, text).json, to: request)
        }
        if client.stage == .waitParameters {
            if Self.silentBeforeParameters.contains(method) { return client.waiting.append(request) }
            guard Self.beforeParameters.contains(method) else {
                return answer(
                    client,
                    Refusal(400, "Initialization parameters are needed: call setTdlibParameters first").json,
                    to: request)
            }
        }
        if Self.logins.contains(method) {
            // Of two steps at once the first one loses.
            for index in client.waiting.indices
            where Self.logins.contains(client.waiting[index]["@type"]?.stringValue ?? "") {
                let overtaken = client.waiting.remove(at: index)
                answer(client, Refusal(400, "Another authorization query has started").json, to: overtaken)
                break
            }
            client.loginTurn += 1
        }
        if Self.local.contains(method) { return serve(request, client, fault: nil) }
        guard client.isOnline else { return client.waiting.append(request) }
        var delay = options.latency * (0.2 + 0.8 * random.fraction())
        if options.latency == .zero { delay = .zero }
        if delay > .zero {
            client.waiting.append(request)
            later(delay, .request(key, request, fault: nil))
        } else {
            serve(request, client, fault: fault(for: request, client))
        }
    }

    private func begin(_ key: ClientKey) -> Client {
        let client = Client(key: key)
        clients[key] = client
        for (name, value) in [("version", "1.8.69"), ("commit_hash", "sandbox")] {
            emit(client, optionUpdate(name, ["@type": "optionValueString", "value": .string(value)]))
        }
        emit(client, stateUpdate(.waitParameters))
        return client
    }

    /// A request that travelled has arrived at the server, unless it was given up meanwhile.
    func arrive(_ key: ClientKey, _ request: JSONValue, fault: Fault?) {
        guard let client = clients[key], let place = client.waiting.firstIndex(of: request) else { return }
        client.waiting.remove(at: place)
        serve(request, client, fault: fault ?? self.fault(for: request, client))
    }

    private func serve(_ request: JSONValue, _ client: Client, fault: Fault?) {
        let method = request["@type"]?.stringValue ?? ""
        if var fault, fault.latency > .zero {
            client.waiting.append(request)
            let latency = fault.latency
            fault.latency = .zero
            later(latency, .request(client.key, request, fault: fault))
            return
        }
        do {
            if let fault, fault.moment == .before {
                if fault.isSilent { throw Postponed.never }
                if !fault.message.isEmpty, !fault.inUpdate { throw Refusal(fault.code, fault.message) }
            }
            try checkReadiness(method, client)
            let result = try perform(method, Arguments(json: request), client, fault: fault)
            if let fault, fault.moment == .after {
                if fault.isSilent { throw Postponed.never }
                if !fault.message.isEmpty { throw Refusal(fault.code, fault.message) }
            }
            if let result { answer(client, result, to: request) }
        } catch let refusal as Refusal {
            answer(client, refusal.json, to: request)
            afterRefusal(refusal, client)
        } catch Postponed.flood(let seconds) {
            client.waiting.append(request)
            later(.seconds(seconds), .request(client.key, request, fault: nil))
        } catch {
            client.waiting.append(request)
        }
    }

    /// A 401 of the server's makes TDLib log out by itself.
    private func afterRefusal(_ refusal: Refusal, _ client: Client) {
        guard client.stage == .ready, refusal.code == 401,
            [
                "AUTH_KEY_UNREGISTERED", "AUTH_KEY_INVALID", "SESSION_REVOKED", "SESSION_EXPIRED",
                "USER_DEACTIVATED",
                "USER_DEACTIVATED_BAN",
            ].contains(refusal.message)
        else { return }
        loseSession(client, refusal.message)
    }

    private func fault(for request: JSONValue, _ client: Client) -> Fault? {
        guard !faults.all.isEmpty else { return nil }
        let arguments = Arguments(json: request)
        let chat = (try? arguments.int("chat_id")) ?? 0
        var targets = (try? arguments.ids("user_ids")) ?? []
        targets.append((try? arguments.int("user_id")) ?? 0)
        if let member = try? arguments.object("member_id") {
            targets.append((try? member.int("user_id")) ?? 0)
        }
        if chat > 0 { targets.append(chat) }
        return faults.hit(
            method: arguments.type, account: client.account.map { accounts[$0].phone }, targets: targets,
            group: chat < 0 ? chat : nil, luck: { random.fraction() })
    }

    private func checkReadiness(_ method: String, _ client: Client) throws {
        if Self.logins.contains(method) || Self.beforeLogin.contains(method) { return }
        guard client.stage == .ready, let number = client.account else { throw Refusal(401, "Unauthorized") }
        if accounts[number].isFrozen, Self.writes.contains(method) {
            throw Refusal(406, "FROZEN_METHOD_INVALID")
        }
    }

    /// The answer; nil where it was given already.
    private func perform(_ method: String, _ a: Arguments, _ client: Client, fault: Fault?) throws
        -> JSONValue?
    {
        switch method {
        case "getAuthorizationState": return stateUpdate(client.stage)["authorization_state"]
        case "getCurrentState": return ["@type": "updates", "updates": [stateUpdate(client.stage)]]
        case "setTdlibParameters": return try setParameters(a, client)
        case "close": return close(client, a.json)
        case "destroy": return destroy(client, a.json)
        case "logOut": return logOut(client, a.json)
        case "getOption": return try getOption(a, client)
        case "setOption": return try setOption(a, client)
        case "setNetworkType": return try setNetworkType(a, client)
        case "requestQrCodeAuthentication": return try requestQR(client)
        case "setAuthenticationPhoneNumber": return try setPhone(a, client)
        case "checkAuthenticationCode": return try checkCode(a, client)
        case "resendAuthenticationCode": return try resendCode(client)
        case "checkAuthenticationPassword": return try checkPassword(a, client)
        case "setAuthenticationEmailAddress", "checkAuthenticationEmailCode":
            return try refuseEmail(method, client)
        case "getMe": return try getMe(client)
        case "getUser": return try getUser(a, client)
        case "getUserFullInfo": return try getUserFullInfo(a, client)
        case "createPrivateChat": return try createPrivateChat(a, client)
        case "canSendMessageToUser": return try canSendMessage(a, client)
        case "searchUserByPhoneNumber": return try searchUserByPhone(a, client)
        case "importContacts": return try importContacts(a, client)
        case "removeContacts": return try removeContacts(a, client)
        case "getGroupsInCommon": return try groupsInCommon(a, client)
        case "searchPublicChat": return try searchPublicChat(a, client)
        case "searchPublicChats": return try searchPublicChats(a, client)
        case "getInternalLinkType": return try internalLinkType(a)
        case "getMessageLinkInfo": return try messageLinkInfo(a, client)
        case "getChat": return try getChat(a, client)
        case "getSupergroup", "getBasicGroup": return try getGroup(a, client, method)
        case "getSupergroupFullInfo", "getBasicGroupFullInfo": return try getGroupFullInfo(a, client, method)
        case "getChatMessageCount": return try messageCount(a, client)
        case "loadChats": return loadChats(client)
        case "getChats": return try getChats(a, client)
        case "searchChats": return try searchChats(a, client)
        case "openChat", "closeChat":
            _ = try seenChat(a, client)
            return .ok
        case "joinChat": return try joinChat(a, client)
        case "joinChatByInviteLink": return try joinByLink(a, client)
        case "checkChatInviteLink": return try checkLink(a, client)
        case "leaveChat": return try leaveChat(a, client)
        case "getChatMember": return try getChatMember(a, client)
        case "getChatAdministrators": return try getAdministrators(a, client)
        case "getSupergroupMembers": return try getMembers(a, client)
        case "searchChatMembers": return try searchMembers(a, client)
        case "addChatMember":
            return try addMember(a, client, [a.int("user_id")], isHollow: fault?.isHollow ?? false)
        case "addChatMembers":
            return try addMember(a, client, a.ids("user_ids"), isHollow: fault?.isHollow ?? false)
        case "createChatInviteLink": return try createLink(a, client)
        case "getChatInviteLink": return try getLink(a, client)
        case "editChatInviteLink": return try editLink(a, client)
        case "revokeChatInviteLink": return try revokeLink(a, client)
        case "getChatInviteLinkMembers": return try linkMembers(a, client)
        case "getChatJoinRequests": return try joinRequests(a, client)
        case "processChatJoinRequest": return try processJoinRequest(a, client)
        case "sendMessage": return try sendMessage(a, client, fault: fault)
        case "deleteMessages": return try deleteMessages(a, client)
        case "getChatHistory": return try getHistory(a, client)
        case "getMessage": return try getMessage(a, client)
        case "getMessageThread": return try getThread(a, client)
        case "getMessageThreadHistory": return try getThreadHistory(a, client)
        case "getMessageProperties": return try getProperties(a, client)
        case "searchChatMessages": return try searchMessages(a, client)
        case "getMessageLink": return try getMessageLink(a, client)
        case "getActiveSessions": return try activeSessions(client)
        default:
            throw Refusal(400, "Failed to parse JSON object as TDLib request: Unknown class \"\(method)\"")
        }
    }
}
