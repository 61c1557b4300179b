import Accounts
import Core
import HTTP

/// May this account do that now, and: it has done it.
struct LimitRoutes: Sendable {
    let manager: AccountManager
    let time: any TimeSource

    func register(on router: inout Router) {
        router.manage("POST", "/rate-limit/check/{account_id}", check)
        router.manage("POST", "/rate-limit/record/{account_id}", record)
        router.manage("POST", "/rate-limit/release/{account_id}", release)
        router.manage("GET", "/rate-limit/status/{account_id}", status)
        router.manage("POST", "/handle-error/{account_id}", handleError)
    }

    func check(_ request: Request) async throws -> Response {
        let form = try await request.decode(CheckForm.self)
        let account = try request.account()
        let now = time.now
        guard form.reserves else {
            let verdict = try await manager.check(
                account, owner: try request.owner, form.action, into: form.channel, at: now)
            return answer(verdict, nil, request)
        }
        let (verdict, permit) = try await manager.reserve(
            account, owner: try request.owner, form.action, into: form.channel, lease: form.lease,
            by: request.actor(form.service), at: now)
        return answer(verdict, permit, request)
    }

    private func answer(_ verdict: Verdict, _ permit: Permit?, _ request: Request) -> Response {
        var members = verdict.json.objectValue ?? []
        if let permit {
            members.append(JSONMember("permit_id", .string(permit.id)))
            members.append(JSONMember("permit_expires_at", permit.expiresAt.json))
        }
        members.append(JSONMember("message", .string(verdict.text(request.language))))
        return .json(JSONValue.object(members))
    }

    func record(_ request: Request) async throws -> Response {
        let form = try await request.decode(RecordForm.self)
        let account = try request.account()
        let now = time.now
        let report = Report(
            form.action, into: form.channel, success: form.success, error: form.errorType,
            permit: form.permit,
            lease: form.lease, service: request.actor(form.service))
        let done = try await manager.record(
            account, owner: try request.owner, report, then: form.leaseAfter, at: now)
        let verdict = done.verdict
        let usage = verdict.json["checks"]?.objectValue?.filter { $0.name != "status" } ?? []
        return .json(
            [
                "recorded": true, "already_recorded": .bool(!done.isNew), "released": .bool(done.isReleased),
                "account_id": .string(account.description),
                "action_type": .string(form.action.rawValue), "allowed": .bool(verdict.allowed),
                "usage": .object(usage),
            ] as JSONValue)
    }

    func release(_ request: Request) async throws -> Response {
        let form = try await request.decode(PermitForm.self)
        let account = try request.account()
        let released = try await manager.releasePermit(
            form.permit, of: account, owner: try request.owner, at: time.now)
        return .json(["released": .bool(released), "permit_id": .string(form.permit)] as JSONValue)
    }

    func status(_ request: Request) async throws -> Response {
        let now = time.now
        let stored = try await manager.account(try request.account(), owner: try request.owner, at: now)
        let verdicts = ActionType.allCases.map { ($0, stored.candidate.verdict($0, at: now)) }
        func each(_ name: LimitName) -> JSONValue {
            .object(
                verdicts.map { action, verdict in
                    JSONMember(action.rawValue, verdict.json["checks"]?[name.rawValue] ?? .null)
                })
        }
        return .json(
            [
                "account_id": .string(stored.id.description),
                "status": .string(stored.candidate.standing.status(at: now).rawValue),
                "daily_limits": each(.daily), "hourly_limits": each(.hourly), "cooldowns": each(.cooldown),
                "burst": each(.burst), "per_channel_limits": stored.channelsJSON(at: now),
                "resets_at": now.day.next.start.json,
            ] as JSONValue)
    }

    func handleError(_ request: Request) async throws -> Response {
        let form = try await request.decode(ErrorForm.self)
        let account = try request.account()
        let now = time.now
        let error = AccountError(type: form.type, message: form.message, context: form.context, at: now)
        let service = form.service.isEmpty ? request.actor(nil) : form.service
        let outcome = try await manager.handle(
            error, of: account, owner: try request.owner, by: service, at: now)
        return .json(
            JSONValue.object(present: [
                "account_id": .string(account.description), "error_type": .string(form.type),
                "recognized_as": .string(error.code), "action_taken": .string(outcome.action.rawValue),
                "new_status": .string(outcome.newStatus.rawValue),
                "blocked_seconds": outcome.blockedFor.map { JSONValue($0.wholeSecondsUp) },
                "recovery_at": outcome.recoveryAt?.json,
                "should_switch_account": .bool(outcome.shouldSwitchAccount),
                "message": .string(outcome.text(request.language)),
            ]))
    }
}
