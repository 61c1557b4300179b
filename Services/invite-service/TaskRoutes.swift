import Contracts
import Core
import HTTP
import Invites
import ServiceKit

/// Campaigns as an operator writes and reads them.
struct TaskRoutes: Sendable {
    let store: InviteStore
    let integration: IntegrationClient
    let time: any TimeSource

    func register(on router: inout Router) {
        router.on("POST", "/api/v1/tasks", create)
        router.on("GET", "/api/v1/tasks", list)
        router.on("POST", "/api/v1/tasks/bulk", bulk)
        router.on("GET", "/api/v1/tasks/{id}", show)
        router.on("PUT", "/api/v1/tasks/{id}", update)
        router.on("DELETE", "/api/v1/tasks/{id}", delete)
        router.on("POST", "/api/v1/tasks/{id}/duplicate", duplicate)
    }

    func create(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(NewTaskForm.self)
        guard let new = form.task else { throw Problem.internalError }
        try await integration.refuseBroadcast(new.settings, of: user)
        var task = try await store.create(new, of: user, at: time.now)
        if form.startsAtOnce, task.scheduledAt == nil {
            task = try await store.apply(.execute, to: task.id, of: user, at: time.now)
        }
        return try await answer(task, request, status: 201)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let user = try request.requireUser()
        let query = try TaskQuery(request.query)
        let (tasks, total) = try await store.tasks(of: user, query, offset: page.offset, limit: page.size)
        let ids = tasks.map(\.id)
        let counts = try await store.counts(of: ids)
        let attempts = try await store.attemptCounts(of: ids)
        let items = tasks.map {
            $0.json(
                counts[$0.id] ?? TargetCounts(), attempts[$0.id] ?? AttemptCounts(), request.language)
        }
        return .json(Page(items, total: total, page))
    }

    func show(_ request: Request) async throws -> Response {
        let task = try await store.task(request.intParameter("id"), of: request.requireUser())
        return try await answer(task, request)
    }

    func update(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(TaskChangeForm.self)
        if let settings = form.settings { try await integration.refuseBroadcast(settings, of: user) }
        let task = try await store.update(
            request.intParameter("id"), of: user, versions: request.expectedVersions(), at: time.now
        ) { task in try form.apply(to: &task) }
        return try await answer(task, request)
    }

    func delete(_ request: Request) async throws -> Response {
        try await store.delete(request.intParameter("id"), of: request.requireUser())
        return .noContent
    }

    func duplicate(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decodeOptional(DuplicateForm.self)
        let source = try await store.task(request.intParameter("id"), of: user)
        let copy = try await store.duplicate(
            source.id, of: user, name: form.name ?? "\(source.name) (2)", copiesTargets: form.copiesTargets,
            copiesSettings: form.copiesSettings, resetsSchedule: form.resetsSchedule, at: time.now)
        return try await answer(copy, request, status: 201)
    }

    /// Says for each what came of it: one that cannot be done keeps no other from being done.
    func bulk(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(BulkTasksForm.self)
        var verdicts: [JSONValue] = []
        for id in form.ids {
            do {
                switch form.action {
                case .delete: try await store.delete(id, of: user)
                case .pause: try await store.apply(.pause, to: id, of: user, at: time.now)
                case .resume: try await store.apply(.resume, to: id, of: user, at: time.now)
                case .cancel: try await store.apply(.cancel, to: id, of: user, at: time.now)
                case .setPriority:
                    _ = try await store.update(id, of: user, versions: nil, at: time.now) { task in
                        if let priority = form.priority { task.priority = priority }
                    }
                }
                verdicts.append(["task_id": .int(id), "success": true])
            } catch let error as InviteError {
                verdicts.append([
                    "task_id": .int(id), "success": false, "code": .string(error.problem.code),
                    "message": .string(error.problem.detail(request.language)),
                ])
            }
        }
        let done = verdicts.count { $0["success"]?.boolValue == true }
        return .json(
            [
                "results": .array(verdicts), "success_count": JSONValue(done),
                "failed_count": JSONValue(verdicts.count - done),
            ] as JSONValue)
    }

    private func answer(_ task: InviteTask, _ request: Request, status: Int = 200) async throws -> Response {
        try await store.answer(task, request.language, status: status)
    }
}

extension InviteStore {
    /// A task with its counts as they are now, and its version for whoever edits it.
    func answer(_ task: InviteTask, _ language: Language, status: Int = 200) async throws -> Response {
        var response = Response.json(try await json(task, language), status: status)
        response.headers["ETag"] = "\"\(task.version)\""
        if status == 201 { response.headers["Location"] = "/api/v1/tasks/\(task.id)" }
        return response
    }

    func json(_ task: InviteTask, _ language: Language) async throws -> JSONValue {
        let counts = try await counts(of: task.id)
        let attempts = try await attemptCounts(of: [task.id])[task.id] ?? AttemptCounts()
        return task.json(counts, attempts, language)
    }
}

extension IntegrationClient {
    /// Refuses what Telegram would refuse for every single person, as far as an account can see the group now.
    func refuseBroadcast(_ settings: TaskSettings, of user: Int64) async throws {
        guard settings.inviteType == .groupInvite else { return }
        do {
            for account in try await accounts(of: user, pageSize: 20).accounts where account.isActive {
                guard let seen = try? await community(settings.group, seenBy: account.id, user: user) else {
                    continue
                }
                if seen.refusesDirectAdds { throw InviteError.broadcastChannel }
                return
            }
        } catch let error as InviteError {
            throw error
        } catch  where !(error is CancellationError) {
            // Nobody can look now; it is looked at before the first invitation in any case.
        }
    }
}

extension TaskQuery {
    init(_ query: Query) throws(ValidationError) {
        var errors: [FieldError] = []
        func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String, _: Choice.Type)
            -> Choice?
        {
            guard let text = query[name], !text.isEmpty else { return nil }
            if let found = Choice.allCases.first(where: { $0.rawValue == text.lowercased() }) { return found }
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            errors.append(
                FieldError(
                    name, "unknown_value",
                    .init("One of these is expected: \(known)", "Ожидается одно из: \(known)")))
            return nil
        }
        func moment(_ name: String) -> Timestamp? {
            guard let text = query[name], !text.isEmpty else { return nil }
            if let found = Timestamp(text) { return found }
            errors.append(
                FieldError(
                    name, "wrong_type",
                    .init(
                        "A time such as 2025-08-24T10:00:00Z is expected",
                        "Ожидается время вида 2025-08-24T10:00:00Z")))
            return nil
        }
        enum Order: String, CaseIterable { case asc, desc }
        self.init(
            status: choice("status", TaskStatus.self), platform: query["platform"]?.lowercased(),
            priority: choice("priority", TaskPriority.self), createdAfter: moment("created_after"),
            createdBefore: moment("created_before"), nameContains: query["name_contains"],
            sort: choice("sort_by", Sort.self) ?? .createdAt,
            descends: choice("sort_order", Order.self) != .asc)
        guard errors.isEmpty else { throw ValidationError(errors) }
    }
}

extension InviteTask {
    func json(_ counts: TargetCounts, _ attempts: AttemptCounts, _ language: Language) -> JSONValue {
        .object([
            JSONMember("id", .int(id)), JSONMember("user_id", .int(userID)),
            JSONMember("name", .string(name)), JSONMember("platform", .string(platform)),
            JSONMember("description", .string(description)), JSONMember("status", .string(status.name)),
            JSONMember("priority", .string(priority.name)),
            JSONMember("invite_message", JSONValue(inviteMessage)),
            JSONMember("target_count", JSONValue(counts.total)),
            JSONMember("pending_count", JSONValue(counts.pending)),
            JSONMember("in_doubt_count", JSONValue(counts.inDoubt)),
            JSONMember("completed_count", JSONValue(counts.invited)),
            JSONMember("failed_count", JSONValue(counts.failed)),
            JSONMember("skipped_count", JSONValue(counts.skipped)), JSONMember("counts", attempts.json),
            JSONMember("progress_percentage", .double(counts.progress)),
            JSONMember("settings", settings.json), JSONMember("version", .int(version)),
            JSONMember("scheduled_at", JSONValue(scheduledAt)), JSONMember("created_at", createdAt.json),
            JSONMember("updated_at", updatedAt.json), JSONMember("started_at", JSONValue(startedAt)),
            JSONMember("finished_at", JSONValue(finishedAt)),
            JSONMember("next_action_at", JSONValue(nextActionAt)),
            JSONMember("waiting_for", waiting.map { $0.json(language) } ?? .null),
            JSONMember("ended_reason", JSONValue(endedReason)),
        ])
    }
}

extension Waiting {
    func json(_ language: Language) -> JSONValue {
        [
            "reason": .string(reason.rawValue), "until": JSONValue(until),
            "message": .string(reason.text(until: until)(language)), "detail": JSONValue(detail),
        ]
    }
}
