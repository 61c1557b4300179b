import Core
import HTTP
import Integration
import ServiceKit
import Storage

/// A user's bots. Their tokens are checked with Telegram, sealed, and never shown again.
struct BotRoutes: Sendable {
    let bots: BotStore
    let seals: SessionSeals
    let checker: BotChecker
    let journal: Journal
    let time: any TimeSource
    let random: any RandomSource

    func register(on router: inout Router) {
        let base = "/api/v1/telegram/bots"
        router.on("GET", base, list)
        router.on("POST", base, add)
        router.on("GET", "\(base)/{id}", show)
        router.on("PUT", "\(base)/{id}", change)
        router.on("DELETE", "\(base)/{id}", remove)
        router.on("POST", "\(base)/{id}/check", check)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let (items, total) = try await bots.bots(
            of: request.requireUser(), offset: page.offset, limit: page.size)
        return .json(Page(items, total: total, page))
    }

    func show(_ request: Request) async throws -> Response {
        .json(try await bots.bot(id(request), of: request.requireUser()))
    }

    func add(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(NewBotForm.self).bot
        guard let token = form.token else { throw IntegrationError.unknownBot }
        return try await journal.noting(.botAdded, Journal.Subject(request)) {
            let profile = try await checker.profile(of: token.secret)
            let id = UniqueID(at: time.now, random)
            let bot = try await bots.add(
                id, of: user, profile, description: form.description ?? "",
                sealedToken: seals.seal(token, of: id),
                at: time.now)
            return .json(bot, status: 201)
        }
    }

    func change(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try id(request)
        let form = try await request.decode(BotForm.self)
        return try await journal.noting(.botChanged, Journal.Subject(request)) {
            let known = try await bots.bot(id, of: user)
            var profile: BotProfile?
            if let token = form.token {
                let found = try await checker.profile(of: token.secret)
                // Another bot's token would make this row another bot.
                guard found.telegramUserID == known.profile.telegramUserID else { throw Problem.foreignToken }
                profile = found
            }
            return .json(
                try await bots.change(
                    id, of: user, description: form.description, isActive: form.isActive,
                    sealedToken: form.token.map { seals.seal($0, of: id) }, profile: profile, at: time.now))
        }
    }

    /// Whether Telegram still takes the token.
    func check(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try id(request)
        return try await journal.noting(.botChecked, Journal.Subject(request)) {
            let token = try seals.openToken(try await bots.sealedToken(of: id, user: user), of: id)
            let profile = try await checker.profile(of: token)
            return .json(try await bots.change(id, of: user, profile: profile, at: time.now))
        }
    }

    func remove(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try id(request)
        try await journal.noting(.botRemoved, Journal.Subject(request)) {
            try await bots.remove(id, of: user)
        }
        return .noContent
    }

    private func id(_ request: Request) throws -> UniqueID {
        guard let id = UniqueID(request.parameter("id")) else { throw Problem.notFound }
        return id
    }
}

/// Asks Telegram's interface for bots whose a token is.
struct BotChecker: Sendable {
    let client: any HTTPSending
    /// Without a path, such as `https://api.telegram.org`.
    let address: String

    func profile(of token: Secret<String>) async throws -> BotProfile {
        let answer: JSONValue
        do {
            let response = try await client.send(
                ClientRequest(.get, "\(address)/bot\(token.expose())/getMe", deadline: .seconds(10)))
            if response.status == 429 { throw Problem.tooFast(retryAfter: .seconds(30)) }
            guard [200, 401, 404].contains(response.status) else { throw LoginFailure.unreachable }
            guard response.status == 200 else { throw Problem.refusedToken }
            answer = try await response.json(limit: 64 << 10)
        } catch is ClientError {
            throw LoginFailure.unreachable
        } catch is JSONSyntaxError {
            throw LoginFailure.unreachable
        }
        guard answer["ok"] == true, let bot = answer["result"], bot["is_bot"] == true,
            let id = bot["id"]?.intValue
        else {
            throw Problem.refusedToken
        }
        return BotProfile(
            telegramUserID: id, username: bot["username"]?.stringValue ?? "",
            name: bot["first_name"]?.stringValue ?? "")
    }
}

extension Problem {
    static var refusedToken: Problem {
        token("token_refused", .init("Telegram does not know this token", "Telegram не знает этого токена"))
    }
    static var foreignToken: Problem {
        token(
            "token_of_another_bot",
            .init("This token belongs to another bot", "Этот токен принадлежит другому боту"))
    }

    private static func token(_ code: String, _ message: LocalizedText) -> Problem {
        var problem = Problem(422, code, message)
        problem.errors = [FieldError("token", code, message)]
        return problem
    }
}
