import Core
import HTTP
import Invites
import ServiceKit

/// People of a campaign.
struct TargetRoutes: Sendable {
    let store: InviteStore
    let time: any TimeSource

    func register(on router: inout Router) {
        let base = "/api/v1/tasks/{id}/targets"
        router.on("POST", base, add)
        router.on("GET", base, list)
        router.on("POST", "\(base)/bulk", addMany)
        router.on("POST", "\(base)/bulk-action", act)
        router.on("GET", "\(base)/stats", stats)
        router.on("GET", "\(base)/{target_id}", show)
        router.on("PUT", "\(base)/{target_id}", update)
        router.on("DELETE", "\(base)/{target_id}", delete)
    }

    func add(_ request: Request) async throws -> Response {
        let (task, user) = try (request.intParameter("id"), request.requireUser())
        let form = try await request.decode(TargetForm.self)
        guard let target = form.target else { throw Problem.internalError }
        let added = try await store.add([target], to: task, of: user, at: time.now)
        guard let id = added.ids.first else { throw InviteError.duplicateTarget }
        let made = try await store.target(id, in: task, of: user)
        return .json(made.json(request.language), status: 201)
    }

    func addMany(_ request: Request) async throws -> Response {
        let (task, user) = try (request.intParameter("id"), request.requireUser())
        let json = try await request.json(limit: 16 << 20)
        // A bare list is what a script has at hand.
        let form: BulkTargetsForm = try Fields.decode(
            from: json.arrayValue == nil ? json : ["targets": json])
        let added = try await store.add(form.targets, to: task, of: user, at: time.now)
        return .json(
            [
                "created_count": JSONValue(added.ids.count), "duplicate_count": JSONValue(added.duplicates),
                "target_ids": .array(added.ids.map { .int($0) }),
            ] as JSONValue, status: 201)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let user = try request.requireUser()
        let task = try await store.task(request.intParameter("id"), of: user)
        let status = request.query["status"].flatMap { $0.isEmpty ? nil : $0 }
        if let status, TargetStage.stages(named: status).isEmpty {
            let known = Set(TargetStage.allCases.map(\.name)).sorted().joined(separator: ", ")
            throw ValidationError([
                FieldError(
                    "status", "unknown_value",
                    .init("One of these is expected: \(known)", "Ожидается одно из: \(known)"))
            ])
        }
        let query = TargetQuery(
            statusName: status, errorCode: request.query["error_code"], text: request.query["q"])
        let (targets, total) = try await store.targets(
            of: task.id, user: user, query, offset: page.offset, limit: page.size)
        return .json(Page(targets.map { $0.json(request.language) }, total: total, page))
    }

    func show(_ request: Request) async throws -> Response {
        let target = try await store.target(
            request.intParameter("target_id"), in: request.intParameter("id"), of: request.requireUser())
        return .json(target.json(request.language))
    }

    func update(_ request: Request) async throws -> Response {
        let form = try await request.decode(TargetChangeForm.self)
        let target = try await store.update(
            request.intParameter("target_id"), in: request.intParameter("id"), of: request.requireUser(),
            at: time.now
        ) { target in try form.apply(to: &target) }
        return .json(target.json(request.language))
    }

    func delete(_ request: Request) async throws -> Response {
        try await store.deleteTarget(
            request.intParameter("target_id"), in: request.intParameter("id"), of: request.requireUser())
        return .noContent
    }

    func act(_ request: Request) async throws -> Response {
        let form = try await request.decode(TargetActionForm.self)
        let verdicts = try await store.bulk(
            form.action, form.ids, in: request.intParameter("id"), of: request.requireUser(), at: time.now)
        let done = verdicts.values.count { $0 }
        return .json(
            [
                "results": .array(
                    form.ids.map { ["target_id": .int($0), "success": .bool(verdicts[$0] ?? false)] }),
                "success_count": JSONValue(done), "failed_count": JSONValue(verdicts.count - done),
            ] as JSONValue)
    }

    func stats(_ request: Request) async throws -> Response {
        let task = try await store.task(request.intParameter("id"), of: request.requireUser())
        let counts = try await store.counts(of: task.id)
        let breakdown = try await store.breakdown(of: task.id)
        return .json(
            [
                "total": JSONValue(counts.total),
                "by_status": [
                    "PENDING": JSONValue(counts.pending), "INVITED": JSONValue(counts.invited),
                    "FAILED": JSONValue(counts.failed), "SKIPPED": JSONValue(counts.skipped),
                    "IN_DOUBT": JSONValue(counts.inDoubt),
                ],
                "by_source": breakdown.bySource.json { TargetStage(rawValue: $0)?.name ?? $0 },
                "by_error": breakdown.byError.json { TargetStage(rawValue: $0)?.name ?? $0 },
            ] as JSONValue)
    }
}

extension [TaskBreakdown.Line] {
    /// `{"key": {"STATUS": 3}}`, keys in the order of the lines.
    func json(_ name: (String) -> String) -> JSONValue {
        var keys: [String] = []
        var cells: [String: [JSONMember]] = [:]
        for line in self {
            let key = line.key ?? ""
            if cells[key] == nil { keys.append(key) }
            let status = name(line.status)
            var row = cells[key] ?? []
            if let index = row.firstIndex(where: { $0.name == status }) {
                let sum = (row[index].value.intValue ?? 0) + Int64(line.count)
                row[index] = JSONMember(status, .int(sum))
            } else {
                row.append(JSONMember(status, JSONValue(line.count)))
            }
            cells[key] = row
        }
        return .object(keys.map { JSONMember($0, .object(cells[$0] ?? [])) })
    }
}
