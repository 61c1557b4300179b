import Contracts
import Core
import HTTP
import Invites
import ServiceKit

/// Starting, stopping and watching campaigns.
struct RunRoutes: Sendable {
    let store: InviteStore
    let runner: CampaignRunner
    let bell: CampaignBell
    let manager: AccountManagerClient
    let integration: IntegrationClient
    let time: any TimeSource
    let log: Log

    func register(on router: inout Router) {
        let base = "/api/v1/tasks/{id}"
        router.on("POST", "\(base)/execute", execute)
        router.on("POST", "\(base)/pause", pause)
        router.on("POST", "\(base)/resume", resume)
        router.on("POST", "\(base)/cancel", cancel)
        router.on("POST", "\(base)/retry-failed", retryFailed)
        router.on("POST", "\(base)/test-invite", testInvite)
        router.on("POST", "\(base)/dry-run", dryRun)
        router.on("GET", "\(base)/status", status)
        router.on("GET", "\(base)/status-stream", statusStream)
        router.on("POST", "/api/v1/campaigns", campaign)
        router.on("GET", "/api/v1/campaigns/{id}", showCampaign)
    }

    // MARK: - Starting and stopping

    func execute(_ request: Request) async throws -> Response {
        let form = try await request.decodeOptional(ExecuteForm.self)
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        let started = try await start(task, isForced: form.isForced, request.language)
        return try await store.answer(started, request.language, status: 202)
    }

    private func start(_ task: InviteTask, isForced: Bool, _ language: Language) async throws -> InviteTask {
        let counts = try await store.counts(of: task.id)
        guard counts.pending + counts.inDoubt > 0 || task.status == .inProgress else {
            throw InviteError.noTargets
        }
        try await integration.refuseBroadcast(task.settings, of: task.userID)
        if !isForced, task.settings.inviteType == .groupInvite, let channel = task.channel {
            try await refuseImpossible(counts.pending, into: channel, of: task.userID, language)
        }
        let started = try await store.apply(.execute, to: task.id, of: task.userID, at: time.now)
        await ring(task)
        return started
    }

    /// A campaign that cannot end is refused with the arithmetic, not started and stuck months later.
    private func refuseImpossible(_ invites: Int, into channel: String, of user: Int64, _ language: Language)
        async throws
    {
        guard invites > 0, invites <= 1_000_000 else { return }
        let plan: JSONValue
        do { plan = try await manager.plan(invites: invites, into: channel, for: user) } catch is PeerError {
            return
        }
        guard plan["possible"]?.boolValue == false, (plan["accounts"]?.intValue ?? 0) > 0 else { return }
        let sentence = plan["message"]?.stringValue ?? ""
        throw Problem(
            409, "impossible",
            .init(
                "\(sentence) Start it nevertheless with force",
                "\(sentence) Запустить всё равно: force")
        ).with(["plan": plan])
    }

    /// A hint: the task is due in SQL in any case.
    private func ring(_ task: InviteTask) async {
        do { try await bell.ring(.look, task.id, task.priority) } catch {
            log.info("campaign.not-rung", ["task": .int(task.id), "error": .error(error)])
        }
    }

    func pause(_ request: Request) async throws -> Response { try await stop(.pause, request) }
    func cancel(_ request: Request) async throws -> Response { try await stop(.cancel, request) }

    /// Answers when nothing is on its way any more; what takes longer than a few seconds is told, not hidden.
    private func stop(_ event: TaskEvent, _ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let task = try await store.apply(event, to: request.intParameter("id"), of: user, at: time.now)
        let end = time.uptime + .seconds(5)
        var inFlight = try await store.inFlight(task.id, at: time.now)
        while inFlight > 0, time.uptime < end {
            try await time.sleep(for: .milliseconds(50))
            inFlight = try await store.inFlight(task.id, at: time.now)
        }
        var members = try await store.json(task, request.language).objectValue ?? []
        members.append(JSONMember("in_flight", JSONValue(inFlight)))
        var response = Response.json(JSONValue.object(members), status: inFlight == 0 ? 200 : 202)
        response.headers["ETag"] = "\"\(task.version)\""
        return response
    }

    func resume(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let task = try await store.apply(.resume, to: request.intParameter("id"), of: user, at: time.now)
        await ring(task)
        return try await store.answer(task, request.language)
    }

    func retryFailed(_ request: Request) async throws -> Response {
        let form = try await request.decodeOptional(RetryForm.self)
        let user = try request.requireUser()
        let (task, count) = try await store.retryFailed(
            request.intParameter("id"), of: user, codes: form.codes, at: time.now)
        if count > 0 { await ring(task) }
        return .json(
            ["retried_count": JSONValue(count), "task": try await store.json(task, request.language)]
                as JSONValue)
    }

    // MARK: - Trying out

    func testInvite(_ request: Request) async throws -> Response {
        let form = try await request.decode(TestInviteForm.self)
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        _ = try await store.target(form.target, in: task.id, of: user)
        let outcome = try await runner.test(task, target: form.target, account: form.account)
        let target = try await store.target(form.target, in: task.id, of: user)
        return .json(
            [
                "success": .bool(target.stage == .invited), "account_id": JSONValue(outcome.account),
                "reason": JSONValue(outcome.reason), "message": JSONValue(outcome.message?(request.language)),
                "retry_at": JSONValue(outcome.retryAt), "target": target.json(request.language),
            ] as JSONValue)
    }

    /// The whole run against the limits, in numbers alone.
    func dryRun(_ request: Request) async throws -> Response {
        let form = try await request.decodeOptional(DryRunForm.self)
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        let counts = try await store.counts(of: task.id)
        let suppressed = try await store.suppressedCount(in: task)
        let wanted = max(0, counts.pending - suppressed)
        var plan: JSONValue = .null
        if wanted > 0, task.settings.inviteType == .groupInvite {
            guard let channel = task.channel else {
                throw Problem(
                    409, "group_not_resolved",
                    .init(
                        "A private link has to be looked behind by an account first",
                        "Приватную ссылку сначала должен открыть один из аккаунтов"))
            }
            plan = try await manager.plan(
                invites: min(wanted, 1_000_000), into: channel, for: user, accountsAdded: form.accountsAdded)
        }
        let forecast = Forecast(
            settings: task.settings, wanted: wanted,
            perDay: (plan["schedule"]?.arrayValue ?? []).compactMap {
                $0["invites"]?.intValue.map { Int($0) }
            },
            from: time.now)
        return .json(
            [
                "task_id": .int(task.id), "targets": JSONValue(counts.total),
                "to_invite": JSONValue(wanted), "suppressed": JSONValue(suppressed),
                "possible": plan["possible"] ?? .bool(true), "plan": plan, "forecast": forecast.json,
            ] as JSONValue)
    }

    // MARK: - Watching

    func status(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        var members = try await statusJSON(task, request.language).objectValue ?? []
        var end: JSONValue = .null
        let pending = members.first { $0.name == "pending_count" }?.value.intValue ?? 0
        if task.status == .inProgress, task.settings.inviteType == .groupInvite, pending > 0,
            let channel = task.channel,
            let plan = try? await manager.plan(
                invites: Int(min(pending, 1_000_000)), into: channel, for: user)
        {
            end = plan["finish_at"] ?? .null
        }
        members.append(JSONMember("estimated_end", end))
        return .json(JSONValue.object(members))
    }

    private func statusJSON(_ task: InviteTask, _ language: Language) async throws -> JSONValue {
        let counts = try await store.counts(of: task.id)
        let attempts = try await store.attemptCounts(of: [task.id])[task.id] ?? AttemptCounts()
        let rate = try await store.acceptedSince(time.now - .hours(1), of: task.id)
        let recent = try await store.logs(of: task.id, limit: 10)
        let successes = try await store.logs(of: task.id, action: .inviteSuccessful, limit: 10)
        return [
            "task_id": .int(task.id), "status": .string(task.status.name),
            "target_count": JSONValue(counts.total), "pending_count": JSONValue(counts.pending),
            "in_doubt_count": JSONValue(counts.inDoubt), "completed_count": JSONValue(counts.invited),
            "failed_count": JSONValue(counts.failed), "skipped_count": JSONValue(counts.skipped),
            "counts": attempts.json, "progress_percentage": .double(counts.progress),
            "rate_per_hour": JSONValue(rate), "next_action_at": JSONValue(task.nextActionAt),
            "waiting_for": task.waiting.map { $0.json(language) } ?? .null,
            "started_at": JSONValue(task.startedAt), "finished_at": JSONValue(task.finishedAt),
            "ended_reason": JSONValue(task.endedReason),
            "last_actions": .array(recent.map { $0.json(language) }),
            "last_successes": .array(successes.map { $0.json(language) }),
        ]
    }

    /// `status` whenever it changes, `log` for every line, `done` at the end. Resumed behind the last line seen.
    func statusStream(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let id = try request.intParameter("id")
        _ = try await store.task(id, of: user)
        let language = request.language
        let known = request.lastEventID.flatMap { Int64($0) }
        var last: Int64 = 0
        if let known { last = known } else { last = try await store.logs(of: id, limit: 1).first?.id ?? 0 }
        let start = last
        return .events(time) { writer in
            var last = start
            var shown: JSONValue = .null
            while true {
                for line in try await store.logs(of: id, after: last, limit: 500, newestFirst: false) {
                    try await writer.send(
                        ServerSentEvent(id: String(line.id), name: "log", data: line.json(language).text))
                    last = line.id
                }
                let task = try await store.task(id, of: user)
                let status = try await statusJSON(task, language)
                if status != shown {
                    try await writer.send(
                        ServerSentEvent(
                            id: last > 0 ? String(last) : nil, name: "status", data: status.text))
                    shown = status
                }
                if task.status.isFinal {
                    try await writer.send(ServerSentEvent(name: "done", data: status.text))
                    return
                }
                try await time.sleep(for: .milliseconds(500))
            }
        }
    }

    // MARK: - All in one call

    func campaign(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(CampaignForm.self, limit: 16 << 20)
        guard let new = form.task else { throw Problem.internalError }
        try await integration.refuseBroadcast(new.settings, of: user)
        let task = try await store.create(new, of: user, at: time.now)
        let added = try await store.add(form.targets, to: task.id, of: user, at: time.now)
        let started: InviteTask
        do {
            started = try await start(task, isForced: false, request.language)
        } catch {
            // Refused as a whole: nothing of it stays.
            try await store.delete(task.id, of: user)
            throw error
        }
        var members = try await store.json(started, request.language).objectValue ?? []
        members.append(JSONMember("campaign_id", .int(task.id)))
        members.append(JSONMember("duplicate_count", JSONValue(added.duplicates)))
        return .json(JSONValue.object(members), status: 201)
    }

    func showCampaign(_ request: Request) async throws -> Response {
        let task = try await store.task(request.intParameter("id"), of: request.requireUser())
        var members = try await store.json(task, request.language).objectValue ?? []
        members.append(JSONMember("campaign_id", .int(task.id)))
        return .json(JSONValue.object(members))
    }
}
