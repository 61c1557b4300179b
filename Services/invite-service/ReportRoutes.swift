import Core
import HTTP
import Invites
import ServiceKit
import Sheets

/// A campaign's report: what came of everybody, to be read, counted and kept.
struct ReportRoutes: Sendable {
    let store: InviteStore
    let settings: ListSettings
    let time: any TimeSource

    func register(on router: inout Router) {
        router.on("GET", "/api/v1/tasks/{id}/report", report)
    }

    private static let columns = [
        "id", "username", "phone_number", "user_id_platform", "full_name", "email", "source", "source_detail",
        "consent_basis", "status", "error_code", "reason", "attempts", "account_id", "invited_at",
        "is_member",
        "invite_link", "joined", "created_at", "updated_at",
    ]

    func report(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let format = try SheetFormat(asked: request.query["format"], default: .json)
        let task = try await store.task(request.intParameter("id"), of: user)
        let status = request.query["status"].flatMap { $0.isEmpty ? nil : $0.uppercased() }
        if let status, TargetStage.stages(named: status).isEmpty {
            throw ListUpload.wrong(
                "status", "unknown_value",
                .init("There is no such status", "Такого статуса нет"))
        }
        let query = TargetQuery(statusName: status)
        let (store, language, folder) = (store, request.language, settings.scratchFolder)
        // Asked before the first byte goes out: from then on nothing can be refused any more.
        let summary = format == .json ? try await summary(task, language) : .null
        return .list(format, named: "task-\(task.id)-report") { body in
            guard format == .json else {
                let writer = try SheetWriter(format, columns: Self.columns, scratchFolder: folder)
                try await store.streamTargets(of: task.id, user: user, query) { targets in
                    try await writer.write(targets.map { Self.row($0, language) }) {
                        try await body.write($0)
                    }
                }
                try await writer.finish { try await body.write($0) }
                return
            }
            var head = summary.bytes
            // The object stays open for the people, who come one piece after the other.
            head.removeLast()
            try await body.write(head + Bytes(",\"targets\":[".utf8))
            var isFirst = true
            try await store.streamTargets(of: task.id, user: user, query) { targets in
                var bytes = Bytes()
                for target in targets {
                    if !isFirst { bytes.append(UInt8(ascii: ",")) }
                    isFirst = false
                    JSONWriter.append(target.json(language), to: &bytes)
                }
                if !bytes.isEmpty { try await body.write(bytes) }
            }
            try await body.write(Bytes("]}\n".utf8))
        }
    }

    private func summary(_ task: InviteTask, _ language: Language) async throws -> JSONValue {
        let counts = try await store.counts(of: task.id)
        let attempts = try await store.attemptCounts(of: [task.id])[task.id] ?? AttemptCounts()
        let breakdown = try await store.breakdown(of: task.id)
        func lines(_ lines: [TaskBreakdown.Line], _ isReason: Bool = false) -> JSONValue {
            .array(
                lines.map { line in
                    .object(present: [
                        "key": JSONValue(line.key), "status": .string(line.status.uppercased()),
                        "count": JSONValue(line.count),
                        "reason": isReason
                            ? line.key.flatMap { TargetReason(code: $0) }.map { .string($0.text(language)) }
                            : nil,
                    ])
                })
        }
        return [
            "task_id": .int(task.id), "name": .string(task.name), "status": .string(task.status.name),
            "generated_at": time.now.json, "created_at": task.createdAt.json,
            "started_at": JSONValue(task.startedAt), "finished_at": JSONValue(task.finishedAt),
            "ended_reason": JSONValue(task.endedReason), "group_id": .string(task.settings.group),
            "invite_type": .string(task.settings.inviteType.rawValue),
            "target_count": JSONValue(counts.total), "counts": attempts.json,
            "by_status": [
                "PENDING": JSONValue(counts.pending), "INVITED": JSONValue(counts.invited),
                "FAILED": JSONValue(counts.failed), "SKIPPED": JSONValue(counts.skipped),
                "IN_DOUBT": JSONValue(counts.inDoubt),
            ],
            "by_error": lines(breakdown.byError, true), "by_source": lines(breakdown.bySource),
            "by_account": lines(breakdown.byAccount), "by_day": lines(breakdown.byDay),
        ]
    }

    private static func row(_ target: InviteTarget, _ language: Language) -> [SheetValue] {
        let reason = target.errorCode.flatMap { TargetReason(code: $0) }
        return [
            .number(target.id), SheetValue(target.identity.username), SheetValue(target.identity.phone),
            SheetValue(target.identity.platformID.map(String.init)), SheetValue(target.fullName),
            SheetValue(target.email), .text(target.source.rawValue), SheetValue(target.sourceDetail),
            SheetValue(target.consentBasis), .text(target.stage.name), SheetValue(target.errorCode),
            SheetValue(reason?.text(language) ?? target.errorDetail), SheetValue(target.attempts),
            SheetValue(target.accountID), SheetValue(target.invitedAt), SheetValue(target.isMember),
            SheetValue(target.inviteLink), SheetValue(target.joined), SheetValue(target.createdAt),
            SheetValue(target.updatedAt),
        ]
    }
}
