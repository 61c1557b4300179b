import Accounts
import Core
import HTTP
import LimitAudit
import ServiceKit

/// What an operator does by hand: recover, tighten, tidy, verify.
struct OperatorRoutes: Sendable {
    let manager: AccountManager
    let upkeep: Upkeep
    let audit: LimitAudit
    let authMode: AuthMode
    let time: any TimeSource

    func register(on router: inout Router) {
        router.manage("POST", "/recover/{account_id}", recover)
        router.manage("POST", "/maintenance/process-recoveries", processRecoveries)
        router.manage("POST", "/maintenance/cleanup-rate-limits", cleanUp)
        router.manage("POST", "/maintenance/reset-daily-limits", resetDay)
        router.manage("POST", "/maintenance/verify-limits", verify)
        router.manage("GET", "/limits", limits)
        router.manage("PUT", "/limits/accounts/{account_id}", tightenAccount)
        router.manage("PUT", "/limits/users/{user_id}", tightenUser)
        router.manage("PUT", "/limits/global", tightenAll)
    }

    func recover(_ request: Request) async throws -> Response {
        let now = time.now
        let account = try request.account()
        let (changed, stored) = try await manager.recover(
            account, owner: try request.owner, byHand: true, at: now)
        let status = stored.candidate.standing.status(at: now)
        let message: LocalizedText
        switch (changed, status) {
        case (_, .active): message = .init("The account can work", "Аккаунт может работать")
        default:
            // A wait of Telegram's is a limit, and nobody lifts a limit by hand.
            let end = stored.candidate.standing.refusal(at: now)?.moment
            message = .init(
                "The account still rests\(end.map { " until \($0)" } ?? "")",
                "Аккаунт ещё отдыхает\(end.map { " до \($0)" } ?? "")")
        }
        return .json(
            JSONValue.object(present: [
                "account_id": .string(account.description), "recovered": .bool(changed),
                "status": .string(status.rawValue),
                "recovery_at": stored.candidate.standing.refusal(at: now)?.moment?.json,
                "message": .string(message(request.language)),
            ]))
    }

    func processRecoveries(_ request: Request) async throws -> Response {
        let done = try await manager.recoverDue(of: try request.owner, at: time.now)
        return .json(
            [
                "processed": JSONValue(done.looked), "recovered": JSONValue(done.recovered.count),
                "account_ids": JSONValue(done.recovered.map(\.description)),
            ] as JSONValue)
    }

    func cleanUp(_ request: Request) async throws -> Response {
        let now = time.now
        let tidied = try await manager.store.tidy(of: try request.owner, at: now)
        return .json(
            [
                "cleaned_leases": JSONValue(tidied.leases), "cleaned_permits": JSONValue(tidied.permits),
                "cleaned_at": now.json,
            ] as JSONValue)
    }

    func resetDay(_ request: Request) async throws -> Response {
        let now = time.now
        let reset = try await manager.resetDay(of: try request.owner, at: now)
        return .json(["reset_accounts": JSONValue(reset), "day": .string(now.day.description)] as JSONValue)
    }

    func verify(_ request: Request) async throws -> Response {
        let owner = try request.owner
        let result = try await upkeep.verify(at: time.now, only: owner)
        return .json(result)
    }

    // MARK: - Limits

    func limits(_ request: Request) async throws -> Response {
        let now = time.now
        let owner = try request.owner
        var user = owner
        var account: StoredAccount?
        if let text = request.query["account_id"] {
            guard let id = AccountID(text) else { throw AccountStoreError.unknownAccount }
            let found = try await manager.account(id, owner: owner, at: now)
            account = found
            user = found.user
        } else if let text = request.query["user_id"] {
            guard let named = Int64(text), named > 0 else { throw Problem.notFound }
            try request.requireAccess(to: named)
            user = named
        }
        let store = manager.store
        var effective = Limits.tightest([
            try await store.tightening(.configuration), try await store.tightening(.everybody),
        ])
        if let user { effective = try await store.limits(ofUser: user) }
        if let account { effective = account.candidate.limits }
        return .json(
            JSONValue.object(present: [
                "ceilings": Limits.ceilings.json, "effective": effective.json,
                "configuration": try await store.tightening(.configuration).json,
                "global": try await store.tightening(.everybody).json,
                "user": user == nil ? nil : try await store.tightening(.user(user ?? 0)).json,
                "account": account == nil
                    ? nil
                    : try await store.tightening(.account(account?.id ?? AccountID(SeededRandom(seed: 0))))
                        .json,
            ]))
    }

    func tightenAccount(_ request: Request) async throws -> Response {
        let form = try await request.decode(LimitsForm.self)
        let stored = try await manager.account(try request.account(), owner: try request.owner, at: time.now)
        return try await tighten(.account(stored.id), form, by: stored.user)
    }

    func tightenUser(_ request: Request) async throws -> Response {
        let form = try await request.decode(LimitsForm.self)
        let user = try request.intParameter("user_id")
        try request.requireAccess(to: user)
        return try await tighten(.user(user), form, by: user)
    }

    /// For everybody: an administrator's tool or, on a laptop, its only operator.
    func tightenAll(_ request: Request) async throws -> Response {
        let form = try await request.decode(LimitsForm.self)
        let owner = try request.owner
        try request.requireOperator(authMode)
        return try await tighten(.everybody, form, by: owner ?? 0)
    }

    private func tighten(_ scope: LimitScope, _ form: LimitsForm, by user: Int64) async throws -> Response {
        let override = try LimitsOverride(form.values)
        try await manager.tighten(scope, to: override, by: user, at: time.now)
        return .json(["limits": override.json] as JSONValue)
    }
}

/// How integration-service tells which accounts are connected.
struct InternalAccountRoutes: Sendable {
    let manager: AccountManager
    let time: any TimeSource

    func register(on router: inout Router) {
        router.on("POST", "/internal/accounts") { request in
            _ = try request.requireService()
            let form = try await request.decode(RegisterForm.self)
            guard let account = form.account else { throw Problem.notFound }
            try await manager.connect(account, user: form.user, phone: form.phone, at: time.now)
            return .json(
                ["account_id": .string(account.description), "status": "active"] as JSONValue, status: 201)
        }
        router.on("DELETE", "/internal/accounts/{account_id}") { request in
            _ = try request.requireService()
            try await manager.disconnect(try request.account(), owner: try request.owner, at: time.now)
            return .noContent
        }
    }
}
