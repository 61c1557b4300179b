import Core
import HTTP
import Integration
import ServiceKit
import Storage
import Telegram

/// A user's accounts, and what each may do where.
struct AccountRoutes: Sendable {
    let accounts: AccountStore
    let sessions: Sessions
    let resolver: Resolver
    let journal: Journal
    let time: any TimeSource

    func register(on router: inout Router) {
        let base = "/api/v1/telegram/accounts"
        router.on("GET", base, list)
        router.on("GET", "\(base)/{id}", show)
        router.on("DELETE", "\(base)/{id}", disconnect)
        router.on("POST", "\(base)/{id}/check-admin", checkAdmin)
        router.on("GET", "\(base)/{id}/community", community)
        router.on("POST", "\(base)/{id}/join", join)
        router.on("POST", "\(base)/{id}/invite-links", createInviteLink)
        router.on("GET", "\(base)/{id}/invite-links", inviteLink)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let (items, total) = try await accounts.accounts(
            of: request.requireUser(), offset: page.offset, limit: page.size)
        return .json(Page(items, total: total, page))
    }

    func show(_ request: Request) async throws -> Response { .json(try await request.account(in: accounts)) }

    /// Logs out at Telegram first: a session whose key is lost would stay in its owner's list for ever.
    func disconnect(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        try await journal.noting(.disconnect, Journal.Subject(request, account: account.id)) {
            guard let session = account.sessionID else { return }
            try await sessions.logOutOrWipe(session, sealedKey: accounts.sealedKey(of: session))
            try await accounts.end(account.id, session: session, as: .disconnected, reason: nil, at: time.now)
        }
        return .noContent
    }

    /// Refusals that concern the group are answers; those that concern the account are problems.
    func checkAdmin(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let form = try await request.decode(CheckAdminForm.self)
        let language = request.language
        return try await journal.noting(.checkAdmin, Journal.Subject(request, account: account.id)) {
            do {
                let community = try await sessions.with(account) { client in
                    try await client.community(resolver.chat(form.group, for: client))
                }
                return .json(adminVerdict(community, form.required, language))
            } catch {
                let failure = (error as? SendFailure) ?? (error as? TelegramFailure).map { SendFailure($0) }
                guard let failure, failure.code == .groupRestriction || failure.code == .adminRequired else {
                    throw error
                }
                return .json(
                    [
                        "is_admin": false, "permissions": [], "has_required_permissions": false,
                        "group_title": .null,
                        "message": .string(failure.explanation(language)),
                        "error": .string(failure.code.rawValue),
                        "original_error": .string(failure.original),
                    ] as JSONValue)
            }
        }
    }

    private func adminVerdict(_ community: Community, _ required: [String], _ language: Language) -> JSONValue
    {
        let permissions = AdminPermissions(community.standing.rights)
        let isAdmin = community.standing.isAdministrator
        let message =
            isAdmin
            ? LocalizedText("The account administers the group", "Аккаунт является администратором")
            : LocalizedText(
                "The account does not administer the group", "Аккаунт не является администратором")
        return [
            "is_admin": .bool(isAdmin), "permissions": .array(permissions.names.map { .string($0) }),
            "has_required_permissions": .bool(isAdmin && permissions.hold(required)),
            "group_title": .string(community.title), "message": .string(message(language)),
            "chat_id": .int(community.chat.rawValue), "kind": .string(community.kind.rawValue),
            "member_count": JSONValue(community.memberCount),
            "refuses_direct_adds": .bool(community.refusesDirectAdds),
        ]
    }

    func community(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        var reader = QueryReader(request.query)
        let group = reader.group("group_id")
        try reader.finish()
        return try await atTelegram(.community, request, account) { client in
            .json(try await client.community(resolver.chat(group, for: client)).json(hasComments: nil))
        }
    }

    func join(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let form = try await request.decode(GroupForm.self)
        return try await atTelegram(.join, request, account) { client in
            let outcome: JoinOutcome
            if case .inviteLink(let link)? = TelegramReference(form.group) {
                outcome = try await client.join(link: link)
            } else {
                outcome = try await client.join(resolver.chat(form.group, for: client))
            }
            let (word, chat): (String, ChatID?) =
                switch outcome {
                case .joined(let chat): ("joined", chat)
                case .requested: ("requested", nil)
                case .declined: ("declined", nil)
                case .needsBotApproval: ("needs_bot_approval", nil)
                }
            return .json(
                ["status": .string(word), "chat_id": chat.map { .int($0.rawValue) } ?? .null] as JSONValue)
        }
    }

    func createInviteLink(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let form = try await request.decode(InviteLinkForm.self)
        return try await atTelegram(.inviteLink, request, account) { client in
            let chat = try await resolver.chat(form.group, for: client)
            return .json(try await client.createInviteLink(for: chat, form.link).json, status: 201)
        }
    }

    /// How many came in through a link.
    func inviteLink(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        var reader = QueryReader(request.query)
        let group = reader.group("group_id")
        let link = reader.group("link")
        try reader.finish()
        return try await atTelegram(.inviteLink, request, account) { client in
            let chat = try await resolver.chat(group, for: client)
            return .json(try await client.inviteLink(link, of: chat).json)
        }
    }

    private func atTelegram(
        _ action: Action, _ request: Request, _ account: LinkedAccount,
        _ work: (TelegramClient) async throws -> Response
    ) async throws -> Response {
        do {
            return try await journal.noting(action, Journal.Subject(request, account: account.id)) {
                try await sessions.with(account, work)
            }
        } catch {
            throw explained(error, about: nil, in: request.language)
        }
    }
}

/// A refusal with its message in the reader's language; other errors as they are.
func explained(_ error: any Error, about target: String?, in language: Language) -> any Error {
    switch error {
    case let failure as SendFailure: failure.problem(about: target, in: language)
    case let failure as TelegramFailure: SendFailure(failure).problem(about: target, in: language)
    default: error
    }
}

extension Request {
    /// The account the path names, where it is the caller's.
    func account(in accounts: AccountStore) async throws -> LinkedAccount {
        let user = try requireUser()
        guard let id = UniqueID(parameter("id")) else { throw Problem.notFound }
        return try await accounts.account(id, of: user)
    }
}

extension InviteLink {
    var json: JSONValue {
        [
            "link": .string(link), "name": .string(name), "joined": .int(Int64(joined)),
            "pending_requests": .int(Int64(pendingRequests)),
            "creates_join_request": .bool(createsJoinRequest),
            "is_revoked": .bool(isRevoked), "expires_at": JSONValue(expires),
        ]
    }
}
