import Core
import HTTP
import Integration
import Security
import ServiceKit
import Storage
import Telegram

/// Sending invitations and messages; under both prefixes the documents use.
struct SendRoutes: Sendable {
    let desk: SendDesk
    let accounts: AccountStore
    let sessions: Sessions
    let resolver: Resolver
    let peers: Peers
    let journal: Journal
    let time: any TimeSource
    let random: any RandomSource

    func register(on router: inout Router) {
        for base in ["/api/v1/telegram/invites/accounts", "/api/v1/integrations/telegram/invites/accounts"] {
            router.on("GET", base, list)
            router.on("POST", "\(base)/{id}/invite", send)
            router.on("GET", "\(base)/{id}/limits", limits)
            router.on("POST", "\(base)/{id}/membership", membership)
        }
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let (items, total) = try await accounts.accounts(
            of: request.requireUser(), offset: page.offset, limit: page.size)
        return .json(Page(items, total: total, page))
    }

    func send(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let form = try await request.decode(SendForm.self)
        let start = time.uptime
        let target = form.target
        let attempt = Attempt(
            id: form.attemptID ?? key(of: request) ?? "own-\(UniqueID(at: time.now, random))",
            userID: account.userID,
            accountID: account.id,
            kind: form.kind,
            contents: [
                target.username, target.phone, target.userID.map(String.init), form.group, form.message,
                form.name,
            ], fencingToken: form.fencingToken)
        let subject = try Journal.Subject(request, account: account.id)
        let wish = SendWish(
            attempt: attempt, target: target, group: form.group, text: form.message, name: form.name,
            notAfter: form.notAfter, subject: subject)
        let answer: SendDesk.Answer
        do {
            if form.isWithdrawal {
                guard let known = try await desk.withdraw(wish, from: account) else {
                    return .json(
                        ["status": "withdrawn", "attempt_id": JSONValue(form.attemptID)] as JSONValue)
                }
                answer = known
            } else {
                answer = try await desk.send(wish, from: account)
            }
        } catch {
            if !(error is CancellationError) {
                await journal.write(
                    Action(form.kind), .error, subject, code: Problem.describing(error)?.code ?? "internal",
                    [:],
                    time.uptime - start)
            }
            throw explained(error, about: target.name, in: request.language)
        }
        let duration = time.uptime - start
        let details: JSONValue = answer.isRepeated ? ["repeated": true] : [:]
        switch answer.outcome {
        case .failed(let failure):
            if !answer.isNoted {
                await journal.write(
                    Action(form.kind), .error, subject, code: failure.code.rawValue, details, duration)
            }
            throw failure.problem(about: target.name, in: request.language)
        case .sent(let sent):
            if !answer.isNoted {
                await journal.write(Action(form.kind), .success, subject, details, duration)
            }
            return .json(
                [
                    "status": "success", "message_id": JSONValue(sent.messageID), "sent_at": sent.at.json,
                    "execution_time": .double(duration.inSeconds),
                    "target_username": JSONValue(target.username),
                    "target_user_id": JSONValue(sent.targetUserID ?? target.userID),
                    "is_member": sent.isMember.map { .bool($0) } ?? .null,
                    "attempt_id": JSONValue(form.attemptID), "repeated": .bool(answer.isRepeated),
                    "error_code": .null,
                ] as JSONValue)
        }
    }

    /// An `Idempotency-Key` names an attempt as well; those of one caller say nothing to another.
    private func key(of request: Request) -> String? {
        guard let key = request.headers["Idempotency-Key"] else { return nil }
        let caller = if case .service(let name, _) = request.identity { name } else { "" }
        return "key-" + TokenDigest.of(Secret("\(caller)/\(key)"))
    }

    func membership(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let form = try await request.decode(MembershipForm.self)
        do {
            return try await journal.noting(.membership, Journal.Subject(request, account: account.id)) {
                let isMember = try await sessions.with(account) { client -> Bool? in
                    let chat = try await resolver.chat(form.group, for: client)
                    let person = try await resolver.person(form.target, for: client)
                    do {
                        return try await client.membership(of: person, in: chat).isMember
                    } catch let failure as TelegramFailure where failure.reason == .membersInaccessible {
                        // Nobody but an administrator can tell.
                        return nil
                    }
                }
                return .json(["is_member": isMember.map { .bool($0) } ?? .null] as JSONValue)
            }
        } catch {
            throw explained(error, about: form.target.name, in: request.language)
        }
    }

    /// What the account may still do: account-manager's word, handed on.
    func limits(_ request: Request) async throws -> Response {
        let account = try await request.account(in: accounts)
        let answer: ClientResponse
        do {
            answer = try await peers.ask(
                "account-manager", .get, "/api/v1/account-manager/rate-limit/status/\(account.id)",
                onBehalfOf: request.identity.user)
        } catch is ClientError {
            throw Problem.accountManagerDown
        }
        var response = Response(answer.status, content: .bytes(try await answer.body.collect(upTo: 1 << 20)))
        response.headers["Content-Type"] = answer.headers["content-type"] ?? "application/json"
        return response
    }
}

extension Problem {
    static let accountManagerDown = Problem(
        503, "service_down",
        .init(
            "account-manager does not answer just now; try again shortly",
            "account-manager сейчас не отвечает; повторите чуть позже")
    ).with(header: "Retry-After", "2").with(["service": "account-manager"])
}
