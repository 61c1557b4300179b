import Core
import HTTP
import Integration
import ServiceKit
import Storage
import Telegram

/// The groups and channels a user works with, looked up through one of the user's accounts.
struct ChannelRoutes: Sendable {
    let channels: ChannelStore
    let accounts: AccountStore
    let sessions: Sessions
    let resolver: Resolver
    let journal: Journal
    let time: any TimeSource
    let random: any RandomSource

    func register(on router: inout Router) {
        let base = "/api/v1/telegram/channels"
        router.on("GET", base, list)
        router.on("POST", base, add)
        router.on("GET", "\(base)/{id}", show)
        router.on("PUT", "\(base)/{id}", annotate)
        router.on("DELETE", "\(base)/{id}", remove)
        router.on("POST", "\(base)/{id}/check", check)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let (items, total) = try await channels.channels(
            of: request.requireUser(), offset: page.offset, limit: page.size)
        return .json(Page(items, total: total, page))
    }

    func show(_ request: Request) async throws -> Response {
        .json(try await channels.channel(id(request), of: request.requireUser()))
    }

    func add(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(ChannelForm.self)
        let account = try await account(form.accountID, of: user)
        do {
            return try await journal.noting(.channelAdded, Journal.Subject(request, account: account.id)) {
                let facts = try await look(at: form.link, through: account)
                let channel = try await channels.add(
                    UniqueID(at: time.now, random), of: user, facts, link: form.link, note: form.note,
                    account: account.id,
                    at: time.now)
                return .json(channel, status: 201)
            }
        } catch {
            throw explained(error, about: form.link, in: request.language)
        }
    }

    func annotate(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(ChannelNoteForm.self)
        let id = try id(request)
        return try await journal.noting(.channelChanged, Journal.Subject(request)) {
            .json(try await channels.annotate(id, of: user, note: form.note, at: time.now))
        }
    }

    /// Asks Telegram for the facts again, through the account that looked last, or any other.
    func check(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try id(request)
        let known = try await channels.channel(id, of: user)
        let account = try await account(known.accountID, of: user, orAny: true)
        do {
            return try await journal.noting(.channelChecked, Journal.Subject(request, account: account.id)) {
                let facts = try await look(at: known.link, through: account)
                return .json(
                    try await channels.refresh(id, of: user, facts, account: account.id, at: time.now))
            }
        } catch {
            throw explained(error, about: known.link, in: request.language)
        }
    }

    func remove(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try id(request)
        try await journal.noting(.channelRemoved, Journal.Subject(request)) {
            try await channels.remove(id, of: user)
        }
        return .noContent
    }

    private func look(at link: String, through account: LinkedAccount) async throws -> ChannelFacts {
        let community = try await sessions.with(account) { client in
            try await client.community(resolver.chat(link, for: client))
        }
        return ChannelFacts(
            chatID: community.chat.rawValue, kind: community.kind.rawValue, title: community.title,
            username: community.username, memberCount: community.memberCount.map { Int64($0) },
            discussionChatID: community.linkedChat?.rawValue, mayInvite: community.mayInvite)
    }

    /// The account somebody names, or the first that is connected.
    private func account(_ id: UniqueID?, of user: Int64, orAny: Bool = false) async throws -> LinkedAccount {
        if let id {
            do {
                let account = try await accounts.account(id, of: user)
                if account.isConnected || !orAny { return account }
            } catch IntegrationError.unknownAccount where orAny {
                // It was erased since.
            }
        }
        guard let first = try await accounts.connected(of: user, after: nil, limit: 1).first else {
            throw IntegrationError.accountNotConnected(reason: nil)
        }
        return first
    }

    private func id(_ request: Request) throws -> UniqueID {
        guard let id = UniqueID(request.parameter("id")) else { throw Problem.notFound }
        return id
    }
}
