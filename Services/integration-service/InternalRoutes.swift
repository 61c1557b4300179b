import Core
import HTTP
import Integration
import ServiceKit
import Storage
import Telegram

/// For other services alone: which accounts there are, and the streams by which communities are read.
struct InternalRoutes: Sendable {
    let accounts: AccountStore
    let desk: ReadDesk

    func register(on router: inout Router) {
        router.on("GET", "/internal/active-accounts", activeAccounts)
        let base = "/internal/telegram/accounts/{id}"
        router.on("GET", "\(base)/members", members)
        router.on("GET", "\(base)/messages", messages)
        router.on("GET", "\(base)/comments", comments)
        router.on("GET", "\(base)/search", search)
    }

    /// Of the user the service acts for, or of all; `after` is the last id of the page before.
    func activeAccounts(_ request: Request) async throws -> Response {
        _ = try request.requireService()
        var reader = QueryReader(request.query)
        let user = reader.number("user_id", in: 1 ... .max)
        let after = reader.id("after")
        let limit = reader.number("limit", in: 1...10_000) ?? 1000
        try reader.finish()
        let owner = request.identity.user?.id ?? user
        let found = try await accounts.connected(of: owner, after: after, limit: Int(limit))
        return .json(
            JSONValue.array(
                found.map { account in
                    [
                        "id": account.id.json, "user_id": .int(account.userID),
                        "phone": .string(account.profile.phone),
                        "is_active": true, "created_at": account.createdAt.json,
                    ]
                }))
    }

    func members(_ request: Request) async throws -> Response {
        let (account, subject) = try await prepared(request)
        var reader = QueryReader(request.query)
        let group = reader.group("group_id")
        let cursor = reader.parsed("cursor", "a cursor of this stream", "курсор этого потока") {
            ReadCursor($0)
        }
        let filter: MemberFilter =
            switch reader.parsed(
                "filter", "one of: recent, administrators, bots", "одно из: recent, administrators, bots",
                {
                    ["recent", "administrators", "bots"].contains($0) ? $0 : nil
                })
            {
            case "administrators": .administrators
            case "bots": .bots
            default: reader.query["q"].map { .search($0) } ?? .recent
            }
        let bounds = bounds(&reader)
        try reader.finish()
        return try await explaining(request) {
            try await desk.members(
                of: group, from: cursor, filter, bounds, for: account, subject, request.language)
        }
    }

    func messages(_ request: Request) async throws -> Response {
        let (account, subject) = try await prepared(request)
        var reader = QueryReader(request.query)
        let group = reader.group("group_id")
        let cursor = reader.parsed("cursor", "a cursor of this stream", "курсор этого потока") {
            ReadCursor($0)
        }
        let bounds = bounds(&reader)
        try reader.finish()
        return try await explaining(request) {
            try await desk.messages(of: group, from: cursor, bounds, for: account, subject, request.language)
        }
    }

    func comments(_ request: Request) async throws -> Response {
        let (account, subject) = try await prepared(request)
        var reader = QueryReader(request.query)
        let group = reader.group("group_id")
        let post = reader.number("post_id", in: 1 ... .max)
        if request.query["post_id"] == nil {
            _ = reader.parsed("post_id", "the id of a post", "идентификатор поста") { _ in Int?.none }
        }
        let cursor = reader.parsed("cursor", "a cursor of this stream", "курсор этого потока") {
            ReadCursor($0)
        }
        let bounds = bounds(&reader)
        try reader.finish()
        guard let post else {
            throw ValidationError([
                FieldError("post_id", "missing", .init("This field is required", "Это поле обязательно"))
            ])
        }
        return try await explaining(request) {
            try await desk.comments(
                of: group, post: post, from: cursor, bounds, for: account, subject, request.language)
        }
    }

    func search(_ request: Request) async throws -> Response {
        let (account, subject) = try await prepared(request)
        var reader = QueryReader(request.query)
        let limit = reader.number("limit", in: 1...200) ?? 50
        try reader.finish()
        guard let query = request.query["q"], (1...200).contains(query.count) else {
            throw ValidationError([
                FieldError(
                    "q", "missing",
                    .init("1 to 200 characters are expected", "Ожидается от 1 до 200 символов"))
            ])
        }
        let family = try await accounts.connected(of: account.userID, after: nil, limit: 1000)
        return try await explaining(request) {
            try await desk.search(
                query, limit: Int(limit), for: account, of: family, subject, request.language)
        }
    }

    /// The account has to be the user's for whom the service acts.
    private func prepared(_ request: Request) async throws -> (LinkedAccount, Journal.Subject) {
        _ = try request.requireService()
        let account = try await request.account(in: accounts)
        // Whoever slept through its lease reads no more with an account that others have now.
        if let token = request.query["fencing_token"].flatMap({ Int64($0) }) {
            try await accounts.fence(account, token)
        }
        return (account, try Journal.Subject(request, account: account.id))
    }

    private func bounds(_ reader: inout QueryReader) -> ReadDesk.Bounds {
        ReadDesk.Bounds(
            limit: reader.number("limit", in: 1...10_000_000), since: reader.moment("since"),
            until: reader.moment("until"),
            pageSize: reader.number("page_size", in: 1...200).map { Int($0) },
            pages: reader.number("pages", in: 1...1000).map { Int($0) })
    }

    private func explaining(_ request: Request, _ work: () async throws -> Response) async throws -> Response
    {
        do { return try await work() } catch {
            throw explained(error, about: request.query["group_id"], in: request.language)
        }
    }
}
