import Core
import HTTP
import Parsing
import ServiceKit

/// Tasks: made, looked at, told what to do.
struct TaskRoutes: Sendable {
    let store: ParseStore
    let adapter: any PlatformAdapter
    let dispatcher: ParseDispatcher
    let running: RunningParses
    let hub: ProgressHub
    let metrics: ParsingMetrics
    let settings: ParsingSettings
    let time: any TimeSource
    let random: any RandomSource

    func register(on router: inout PrefixedRouter) {
        router.on("POST", "/tasks", create)
        router.on("GET", "/tasks", list)
        router.on("GET", "/tasks/{id}", show)
        router.on("DELETE", "/tasks/{id}", delete)
        router.on("POST", "/tasks/{id}/pause") { try await follow(.pause, $0) }
        router.on("POST", "/tasks/{id}/resume") { try await follow(.resume, $0) }
        router.on("POST", "/tasks/{id}/cancel") { try await follow(.cancel, $0) }
        router.on("GET", "/tasks/{id}/progress", progress)
        router.on("GET", "/tasks/{id}/progress-stream", stream)
    }

    func create(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(NewTaskForm.self)
        let now = time.now
        let made = try await store.create(
            form.links.map { link in
                (
                    id: newID(at: now),
                    task: NewTask(
                        user: user, platform: form.platform, link: link, title: form.title, type: form.type,
                        priority: form.priority, config: form.config)
                )
            }, at: now)
        for task in made {
            metrics.created[task.platform.rawValue, task.type.rawValue].increment()
            request.log.info("parse.created", ["task": .id(task.id), "user_id": .int(user)])
            await dispatcher.announce(task)
        }
        let shown = made.map { $0.json(request.language, at: now) }
        guard made.count == 1 else {
            return .json(
                ["tasks": .array(shown), "total": JSONValue(shown.count)] as JSONValue, status: 201)
        }
        var response = Response.json(shown[0], status: 201)
        response.headers["Location"] = "/api/v1/tasks/\(made[0].id)"
        return response
    }

    /// Names of tasks begin with the moment, so that they sort as they were made.
    private func newID(at now: Timestamp) -> String {
        let digits = random.bytes(6).map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0\(text)" : text
        }
        return "task_\(now.seconds)_\(digits.joined())"
    }

    func list(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let page = try PageRequest(request.query)
        var reader = QueryReader(request.query)
        var filter = ParseStore.TaskFilter()
        filter.status = reader.choice("status")
        filter.type = reader.choice("task_type")
        filter.priority = reader.choice("priority")
        _ = reader.choice("platform", Platform.self)
        filter.link = reader.parsed(
            "link", .init("Expected: a community's link", "Ожидается: ссылка на сообщество")
        ) { CommunityLink($0) }
        let sort = reader.choice("sort_by", ParseStore.TaskSort.self) ?? .createdAt
        let order = reader.choice("sort_order", SortOrder.self) ?? .descending
        try reader.finish()
        let (tasks, total) = try await store.tasks(
            of: user, filter, by: sort, isAscending: order == .ascending, offset: page.offset,
            limit: page.size)
        let now = time.now
        return .json(Page(tasks.map { $0.json(request.language, at: now) }, total: total, page))
    }

    func show(_ request: Request) async throws -> Response {
        .json(try await task(request).json(request.language, at: time.now))
    }

    func delete(_ request: Request) async throws -> Response {
        let task = try await store.delete(
            request.parameter("id"), of: try request.requireUser(), at: time.now)
        running.stop(task)
        request.log.info("parse.deleted", ["task": .id(task.id)])
        return .noContent
    }

    private func follow(_ order: TaskOrder, _ request: Request) async throws -> Response {
        let now = time.now
        let task = try await store.order(
            order, request.parameter("id"), of: try request.requireUser(), at: now,
            keepingResultsFor: settings.retention)
        if order == .resume { await dispatcher.announce(task) } else { running.stop(task) }
        request.log.info("parse.ordered", ["task": .id(task.id), "order": .id(order.rawValue)])
        return .json(task.json(request.language, at: now))
    }

    func progress(_ request: Request) async throws -> Response {
        .json(try await task(request).progressJSON(request.language, at: time.now))
    }

    /// Says how the task stands, and then what changes, until it has ended. Who comes back after the event
    /// that was last hears only what is newer.
    func stream(_ request: Request) async throws -> Response {
        let task = try await task(request)
        // Before the task is looked at again, so that no change falls in between.
        let news = hub.listen(to: task.number)
        let current = try await self.task(request)
        let seen = request.lastEventID.flatMap { Int64($0) } ?? -1
        let language = request.language
        let first = ProgressHub.News(current, revision: current.revision, at: time.now)
        let listeners = metrics.listeners
        return .events(time) { writer in
            listeners.add(1)
            defer { listeners.add(-1) }
            var told = seen
            if first.revision > told {
                try await writer.send(first.events(language).progress)
                told = first.revision
            }
            if first.isLast { return try await writer.send(first.events(language).done) }
            for await item in news where item.revision > told || item.isLast {
                if item.revision > told { try await writer.send(item.events(language).progress) }
                told = item.revision
                if item.isLast { return try await writer.send(item.events(language).done) }
            }
        }
    }

    private func task(_ request: Request) async throws -> ParseTask {
        try await store.task(request.parameter("id"), of: try request.requireUser())
    }
}

extension ParseTask {
    func json(_ language: Language, at now: Timestamp) -> JSONValue {
        let progress = progress
        return .object(present: [
            "id": .string(id), "user_id": .int(user), "platform": .string(platform.rawValue),
            "link": .string(link.shown), "title": JSONValue(title ?? course.community?.title),
            "task_type": .string(type.rawValue), "priority": .string(priority.rawValue),
            "status": .string(status.rawValue), "progress": JSONValue(progress.percent),
            "processed_messages": .int(counts.messages), "processed_media": .int(counts.media),
            "processed_users": .int(counts.users), "estimated_total": JSONValue(progress.estimatedTotal),
            "result_count": .int(counts.results), "message_count": .int(counts.storedMessages),
            "filtered_count": .int(counts.filtered),
            "rate_per_minute": progress.ratePerMinute.map { .double(($0 * 10).rounded() / 10) } ?? .null,
            "eta": progress.remaining.map { (now + $0).json } ?? .null, "coverage": course.coverageJSON,
            "plan": course.planJSON(language), "community": course.community?.json ?? .null,
            "speed_config": config.speed.json(language, estimated: progress.estimatedDuration(config.speed)),
            "config": config.json, "waiting": waiting?.json(language), "error": failure?.json(language),
            "results_available": .bool(!areResultsErased), "results_until": JSONValue(resultsUntil),
            "created_at": createdAt.json, "updated_at": updatedAt.json, "started_at": JSONValue(startedAt),
            "finished_at": JSONValue(finishedAt),
        ])
    }

    func progressJSON(_ language: Language, at now: Timestamp) -> JSONValue {
        let progress = progress
        return .object(present: [
            "id": .string(id), "status": .string(status.rawValue), "progress": JSONValue(progress.percent),
            "processed_messages": .int(counts.messages), "processed_media": .int(counts.media),
            "processed_users": .int(counts.users), "result_count": .int(counts.results),
            "message_count": .int(counts.storedMessages),
            "estimated_total": JSONValue(progress.estimatedTotal),
            "rate_per_minute": progress.ratePerMinute.map { .double(($0 * 10).rounded() / 10) } ?? .null,
            "eta": progress.remaining.map { (now + $0).json } ?? .null, "coverage": course.coverageJSON,
            "step": course.step.map { .string($0.rawValue) } ?? .null, "waiting": waiting?.json(language),
            "error": failure?.json(language), "revision": .int(revision), "updated_at": updatedAt.json,
        ])
    }
}

extension TaskProgress {
    func estimatedDuration(_ speed: Speed) -> Duration? {
        estimatedTotal.map { speed.duration(of: $0, asking: .messages) }
    }
}
