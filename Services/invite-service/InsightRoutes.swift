import Contracts
import Core
import HTTP
import Invites
import ServiceKit

/// Why, how many, and who: statistics, the log, accounts.
struct InsightRoutes: Sendable {
    let store: InviteStore
    let manager: AccountManagerClient
    let integration: IntegrationClient
    let time: any TimeSource

    func register(on router: inout Router) {
        router.on("GET", "/api/v1/tasks/{id}/stats", stats)
        router.on("GET", "/api/v1/tasks/{id}/logs", logs)
        router.on("GET", "/api/v1/tasks/{id}/accounts", taskAccounts)
        router.on("GET", "/api/v1/accounts", accounts)
    }

    func stats(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        let counts = try await store.counts(of: task.id)
        let attempts = try await store.attemptCounts(of: [task.id])[task.id] ?? AttemptCounts()
        let breakdown = try await store.breakdown(of: task.id)
        let stage = { (name: String) in TargetStage(rawValue: name)?.name ?? name }
        var result: [JSONMember] = [
            JSONMember("task_id", .int(task.id)), JSONMember("target_count", JSONValue(counts.total)),
            JSONMember("counts", attempts.json),
            JSONMember(
                "by_status",
                [
                    "PENDING": JSONValue(counts.pending), "INVITED": JSONValue(counts.invited),
                    "FAILED": JSONValue(counts.failed), "SKIPPED": JSONValue(counts.skipped),
                    "IN_DOUBT": JSONValue(counts.inDoubt),
                ]),
            JSONMember("by_account", breakdown.byAccount.json { $0 }),
            JSONMember("by_day", breakdown.byDay.json { $0 }),
            JSONMember("by_error", breakdown.byError.json(stage)),
            JSONMember("by_source", breakdown.bySource.json(stage)),
        ]
        let links = try await store.linkCounts(of: task.id)
        result.append(
            JSONMember("links", ["sent": JSONValue(links.links), "joined": JSONValue(links.joined)]))
        result.append(JSONMember("waterfall", try await waterfall(task, counts, request.language)))
        return .json(JSONValue.object(result))
    }

    /// Why so few today: from those who wait to those who can be invited now, limit by limit.
    private func waterfall(_ task: InviteTask, _ counts: TargetCounts, _ language: Language) async throws
        -> JSONValue
    {
        let now = time.now
        let pace = task.settings.pace(try await store.paceState(of: task, at: now), at: now)
        var steps: [JSONValue] = [["step": "pending", "count": JSONValue(counts.pending)]]
        var binding: JSONValue = task.waiting.map { .string($0.reason.rawValue) } ?? .null
        if case .wait(let until, let reason) = pace {
            binding = .string(reason.rawValue)
            steps.append([
                "step": "campaign", "limit": .string(reason.rawValue), "until": until.json,
                "message": .string(reason.text(until: until)(language)),
            ])
        }
        let purpose: AccountPurpose = task.settings.inviteType == .groupInvite ? .inviteCampaign : .messaging
        guard
            let explained = try? await manager.explain(
                purpose, for: task.userID, channel: task.channel, pageSize: 100)
        else {
            steps.append(["step": "accounts", "error": "account-manager"])
            return ["steps": .array(steps), "binding": binding]
        }
        let out = try await store.exclusions(of: task.userID, in: task.community, at: now)
        steps.append(["step": "accounts", "count": explained["total"] ?? 0])
        steps.append(["step": "without_right", "count": JSONValue(out.accounts.count)])
        let reasons = explained["reasons"]?.objectValue ?? []
        for reason in reasons {
            steps.append(["step": "accounts_refused", "limit": .string(reason.name), "count": reason.value])
        }
        // Of all accounts, of which only some are on the page.
        let refused = reasons.map { $0.value.intValue ?? 0 }.reduce(0, +)
        let free = max(0, (explained["total"]?.intValue ?? 0) - refused)
        steps.append(["step": "accounts_free_now", "count": .int(free)])
        if binding.isNull, free == 0,
            let most = reasons.max(by: { ($0.value.intValue ?? 0) < ($1.value.intValue ?? 0) })
        {
            binding = .string(most.name)
        }
        return [
            "steps": .array(steps), "binding": binding, "retry_at": explained["retry_at"] ?? .null,
        ]
    }

    func logs(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let task = try await store.task(request.intParameter("id"), of: request.requireUser())
        var action: LogAction?
        if let text = request.query["action"], !text.isEmpty {
            action = LogAction(rawValue: text.uppercased())
            guard action != nil else {
                let known = LogAction.allCases.map(\.rawValue).joined(separator: ", ")
                throw ValidationError([
                    FieldError(
                        "action", "unknown_value",
                        .init("One of these is expected: \(known)", "Ожидается одно из: \(known)"))
                ])
            }
        }
        let lines = try await store.logs(of: task.id, action: action, offset: page.offset, limit: page.size)
        let total = try await store.logCount(of: task.id, action: action)
        return .json(Page(lines.map { $0.json(request.language) }, total: total, page))
    }

    /// Who could invite in this task, who may not and why, and what each has done for it.
    func taskAccounts(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        let purpose: AccountPurpose = task.settings.inviteType == .groupInvite ? .inviteCampaign : .messaging
        let explained = try await manager.explain(
            purpose, for: user, channel: task.channel, page: page.page, pageSize: page.size)
        let rights = try await store.rights(of: user, in: task.community, at: time.now)
        let done = try await store.breakdown(of: task.id).byAccount.json { $0 }
        let items = (explained["items"]?.arrayValue ?? []).map { item -> JSONValue in
            let id = item["account_id"]?.stringValue ?? ""
            return .object(
                (item.objectValue ?? []) + [
                    JSONMember("may_invite", rights[id].map { .bool($0) } ?? .null),
                    JSONMember("attempts", done[id] ?? [:]),
                ])
        }
        return .json(Page(items, total: Int(explained["total"]?.intValue ?? 0), page))
    }

    /// The caller's accounts with what account-manager says of each.
    func accounts(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let user = try request.requireUser()
        let (found, total) = try await integration.accounts(of: user, page: page.page, pageSize: page.size)
        let explained = try? await manager.explain(.inviteCampaign, for: user, pageSize: 100)
        var verdicts: [String: JSONValue] = [:]
        for item in explained?["items"]?.arrayValue ?? [] {
            if let id = item["account_id"]?.stringValue { verdicts[id] = item }
        }
        let items = found.map { account -> JSONValue in
            let verdict = verdicts[account.id]
            return [
                "account_id": .string(account.id), "phone": .string(account.phone),
                "username": JSONValue(account.username), "is_active": .bool(account.isActive),
                "status": .string(account.status), "eligible": verdict?["eligible"] ?? .null,
                "reason": verdict?["reason"] ?? .null, "message": verdict?["message"] ?? .null,
                "retry_at": verdict?["retry_at"] ?? .null,
            ]
        }
        return .json(Page(items, total: total, page))
    }
}
