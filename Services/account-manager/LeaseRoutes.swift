import Accounts
import Core
import HTTP

/// Accounts on loan: handed out, prolonged, given back.
struct LeaseRoutes: Sendable {
    let manager: AccountManager
    let time: any TimeSource

    func register(on router: inout Router) {
        router.manage("POST", "/allocate", allocate)
        router.manage("POST", "/release/{account_id}", release)
        router.manage("POST", "/extend/{account_id}", extend)
    }

    func allocate(_ request: Request) async throws -> Response {
        let form = try await request.decode(AllocateForm.self)
        try request.requireAccess(to: form.user)
        let now = time.now
        let (account, permit) = try await manager.allocate(form.wish, at: now)
        guard let lease = account.lease else { throw LeaseError.notHeld }
        let limits = account.candidate.limits
        return .json(
            JSONValue.object(present: [
                "account_id": .string(account.id.description), "user_id": .int(account.user),
                "phone": .string(account.phone), "purpose": .string(form.purpose.rawValue),
                "allocated_by": .string(lease.service), "allocated_at": lease.grantedAt.json,
                "expires_at": lease.expiresAt.json, "lease_id": .string(lease.id),
                "fencing_token": .int(lease.fencingToken),
                "permit_id": permit.map { .string($0.id) }, "permit_expires_at": permit?.expiresAt.json,
                "limits": [
                    "daily_invite_limit": JSONValue(account.candidate.allowance(.invite).daily(on: now.day)),
                    "daily_message_limit": JSONValue(
                        account.candidate.allowance(.message).daily(on: now.day)),
                    "daily_contact_limit": JSONValue(
                        account.candidate.allowance(.addContact).daily(on: now.day)),
                    "hourly_invite_limit": JSONValue(limits.invite.hourly),
                    "per_channel_daily_limit": JSONValue(limits.invite.perChannelDaily),
                    "max_per_channel_total": JSONValue(limits.invite.perChannelTotal),
                    "cooldown_seconds": JSONValue(limits.invite.pause.wholeSecondsUp),
                ],
                "current_usage": [
                    "used_invites_today": JSONValue(account.used(.invite, on: now.day)),
                    "used_messages_today": JSONValue(account.used(.message, on: now.day)),
                    "contacts_today": JSONValue(account.used(.addContact, on: now.day)),
                ],
            ]))
    }

    func release(_ request: Request) async throws -> Response {
        let form = try await request.decode(ReleaseForm.self)
        let account = try request.account()
        let now = time.now
        let error = form.usage.flatMap { usage in
            usage.errorType.map { AccountError(type: $0, message: usage.errorMessage, at: now) }
        }
        let released = try await manager.release(
            account, owner: try request.owner, lease: form.lease, by: form.service,
            stats: form.usage?.stats ?? UsageStats(), error: error, at: now)
        let message =
            released
            ? LocalizedText("The account is free again", "Аккаунт снова свободен")
            : LocalizedText("The account was free already", "Аккаунт уже был свободен")
        return .json(
            [
                "success": true, "account_id": .string(account.description), "released_at": now.json,
                "message": .string(message(request.language)),
            ] as JSONValue)
    }

    func extend(_ request: Request) async throws -> Response {
        let form = try await request.decode(ExtendForm.self)
        let account = try request.account()
        let lease = try await manager.extend(
            account, owner: try request.owner, lease: form.lease, by: form.service, for: form.duration,
            at: time.now)
        return .json(
            [
                "account_id": .string(account.description), "lease_id": .string(lease.id),
                "fencing_token": .int(lease.fencingToken), "expires_at": lease.expiresAt.json,
            ] as JSONValue)
    }
}
