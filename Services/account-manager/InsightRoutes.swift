import Accounts
import Core
import HTTP
import LimitAudit
import ServiceKit

/// Why, when, and what if: health, explanations, plans, the ledger, logs, reports.
struct InsightRoutes: Sendable {
    let manager: AccountManager
    let settings: AccountManagerSettings
    let audit: LimitAudit
    let upkeep: Upkeep
    let authMode: AuthMode
    let time: any TimeSource

    func register(on router: inout Router) {
        router.manage("GET", "/health/{account_id}", health)
        router.manage("GET", "/accounts/health", accountsHealth)
        router.manage("GET", "/stats/recovery", recoveryStats)
        router.manage("GET", "/explain", explain)
        router.manage("POST", "/plan", plan)
        router.manage("GET", "/ledger", ledger)
        router.manage("GET", "/logs", logs)
        router.manage("GET", "/alerts", alerts)
        router.manage("GET", "/reports/health", reports)
    }

    /// The user a list is about: the caller, or the one a service names; nil for a service that names none.
    private func subject(_ request: Request) throws -> Int64? {
        guard let text = request.query["user_id"] else { return try request.owner }
        guard let user = Int64(text), user > 0 else {
            throw ValidationError([
                FieldError(
                    "user_id", "out_of_range",
                    .init("A positive number is expected", "Ожидается положительное число"))
            ])
        }
        try request.requireAccess(to: user)
        return user
    }

    func health(_ request: Request) async throws -> Response {
        let now = time.now
        let stored = try await manager.fresh(try request.account(), owner: try request.owner, at: now)
        return .json(stored.health(at: now, request.language))
    }

    func accountsHealth(_ request: Request) async throws -> Response {
        let now = time.now
        let page = try PageRequest(request.query)
        var status: AccountStatus?
        if let text = request.query["status"] {
            status = AccountStatus(rawValue: text.lowercased())
            guard status != nil else { throw unknown("status", AccountStatus.allCases.map(\.rawValue)) }
        }
        let found = try await manager.store.accounts(
            of: try subject(request), status: status, offset: page.offset, limit: page.size, at: now)
        return .json(
            Page(found.accounts.map { $0.health(at: now, request.language) }, total: found.total, page))
    }

    func recoveryStats(_ request: Request) async throws -> Response {
        let now = time.now
        let counts = try await manager.store.counts(of: try request.owner, at: now)
        let more: JSONValue = [
            "frozen_active": JSONValue(counts.frozen), "disabled_accounts": JSONValue(counts.disabled),
            "leased_accounts": JSONValue(counts.leased), "next_recovery_at": JSONValue(counts.nextRecovery),
            "checked_at": now.json,
        ]
        return .json(JSONValue.object((counts.json.objectValue ?? []) + (more.objectValue ?? [])))
    }

    func explain(_ request: Request) async throws -> Response {
        let now = time.now
        guard let user = try subject(request) else {
            throw ValidationError([
                FieldError("user_id", "missing", .init("This field is required", "Это поле обязательно"))
            ])
        }
        guard let purpose = Purpose(rawValue: request.query["purpose"]?.lowercased() ?? "invite_campaign")
        else {
            throw unknown("purpose", Purpose.allCases.map(\.rawValue))
        }
        let channel = try readChannel(request)
        let page = try PageRequest(request.query)
        let found = try await manager.store.candidates(
            of: user, offset: page.offset, limit: page.size, at: now)
        let items = found.accounts.map { $0.explanation(purpose, channel, at: now, request.language) }
        var members = Page(items, total: found.total, page).json.objectValue ?? []
        let eligible = items.count { $0["eligible"]?.boolValue == true }
        members.insert(JSONMember("purpose", .string(purpose.rawValue)), at: 0)
        members.insert(JSONMember("eligible_on_this_page", JSONValue(eligible)), at: 1)
        // The summary counts all accounts, as a refused allocation would.
        let wish = Acquire(user: user, purpose: purpose, service: "explain", channel: channel)
        let summary = try await manager.store.refusals(of: wish, at: now)
        members.append(
            JSONMember(
                "reasons",
                .object(
                    RefusalReason.allCases.filter { summary.counts[$0, default: 0] > 0 }
                        .map { JSONMember($0.rawValue, JSONValue(summary.counts[$0])) })))
        members.append(JSONMember("retry_at", eligible > 0 ? .null : JSONValue(summary.retryAt)))
        return .json(JSONValue.object(members))
    }

    func plan(_ request: Request) async throws -> Response {
        let form = try await request.decode(PlanForm.self)
        try request.requireAccess(to: form.user)
        guard let channel = form.channel else { throw Problem.notFound }
        let now = time.now
        let found = try await manager.store.candidates(of: form.user, limit: 2_000, at: now)
        let limits = try await manager.store.limits(ofUser: form.user)
        let start = max(form.start ?? now, now)
        let newcomer = Candidate(
            account: AccountID(SeededRandom(seed: 1)), limits: limits, rampUp: settings.rampUp,
            connectedOn: start.day)
        let plan = Plan(
            PlanRequest(
                channel: channel, invites: form.invites, start: start,
                accounts: found.accounts.map(\.candidate),
                accountsAdded: form.added, newcomer: newcomer))
        return .json(plan.json(request.language, channel: channel, start: start))
    }

    func ledger(_ request: Request) async throws -> Response {
        guard let text = request.query["account_id"] else {
            throw ValidationError([
                FieldError("account_id", "missing", .init("This field is required", "Это поле обязательно"))
            ])
        }
        guard let account = AccountID(text) else { throw AccountStoreError.unknownAccount }
        let (from, to) = try readRange(request)
        let page = try PageRequest(request.query)
        let found = try await manager.store.page(
            ofLedger: account, owner: try request.owner, from: from, to: to, offset: page.offset,
            limit: page.size,
            at: time.now)
        let items: [JSONValue] = found.entries.map { entry in
            .object(present: [
                "id": .int(entry.id), "at": entry.record.at.json, "action_type": .string(entry.action),
                "channel": entry.record.channel.map { .string($0.description) },
                "success": .bool(entry.record.success), "error_type": entry.error.map { .string($0) },
                "service": .string(entry.service), "lease_id": entry.lease.map { .string($0) },
                "permit_id": entry.permit.map { .string($0) }, "reported_in_sum": .bool(entry.isSummed),
            ])
        }
        return .json(Page(items, total: found.total, page))
    }

    func logs(_ request: Request) async throws -> Response {
        let (from, to) = try readRange(request)
        let page = try PageRequest(request.query)
        var account: AccountID?
        if let text = request.query["account_id"] {
            account = AccountID(text)
            guard account != nil else { throw AccountStoreError.unknownAccount }
        }
        let found = try await manager.events.events(
            of: try subject(request), account: account, action: request.query["action"],
            status: request.query["status"], from: from, to: to, offset: page.offset, limit: page.size)
        let items: [JSONValue] = found.events.map { event in
            .object(present: [
                "id": .int(event.id), "at": event.at.json, "user_id": .int(event.user),
                "account_id": event.account.map { .string($0.description) }, "action": .string(event.action),
                "status": .string(event.status), "details": event.details,
            ])
        }
        return .json(Page(items, total: found.total, page))
    }

    func alerts(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let found = try await audit.alerts(of: try subject(request), offset: page.offset, limit: page.size)
        return .json(Page(found.alerts, total: found.total, page))
    }

    /// The reports are about the installation, so they are for its services and for the operator on a laptop.
    func reports(_ request: Request) async throws -> Response {
        try request.requireOperator(authMode)
        let page = try PageRequest(request.query)
        let found = try await upkeep.reports(offset: page.offset, limit: page.size)
        return .json(Page(found.reports, total: found.total, page))
    }

    private func readChannel(_ request: Request) throws -> ChannelKey? {
        guard let text = request.query["target_channel_id"] else { return nil }
        do { return try ChannelKey(text) } catch {
            throw ValidationError([FieldError("target_channel_id", "unknown_channel", error.text)])
        }
    }

    private func readRange(_ request: Request) throws -> (from: Timestamp, to: Timestamp) {
        var errors: [FieldError] = []
        func read(_ name: String) -> Timestamp? {
            guard let text = request.query[name] else { return nil }
            if let moment = Timestamp(text) { return moment }
            errors.append(
                FieldError(
                    name, "wrong_type",
                    .init(
                        "A time such as 2025-08-24T10:00:00Z is expected",
                        "Ожидается время вида 2025-08-24T10:00:00Z")))
            return nil
        }
        let (from, to) = (read("from"), read("to"))
        guard errors.isEmpty else { throw ValidationError(errors) }
        return (from ?? .epoch, to ?? time.now + .days(1))
    }

    private func unknown(_ field: String, _ known: [String]) -> ValidationError {
        let list = known.joined(separator: ", ")
        return ValidationError([
            FieldError(
                field, "unknown_value",
                .init("One of these is expected: \(list)", "Ожидается одно из: \(list)"))
        ])
    }
}
