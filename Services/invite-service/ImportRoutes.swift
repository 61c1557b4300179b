import Core
import HTTP
import Invites
import ServiceKit
import Sheets

/// Lists on their way into campaigns.
struct ImportRoutes: Sendable {
    let desk: ImportDesk
    let store: ImportStore
    let slots: UploadSlots

    static let shownRejects = 100

    func register(on router: inout Router) {
        router.on("POST", "/api/v1/import/file", importFile)
        router.on("POST", "/api/v1/import/validate", validate)
        router.on("GET", "/api/v1/import", imports)
        router.on("GET", "/api/v1/import/{id}", progress)
        router.on("GET", "/api/v1/import/{id}/rejects", rejects)
        router.on("POST", "/api/v1/tasks/{id}/import/parsing", importParsing)
    }

    func importFile(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let upload = try await slots.receive(request, desk.settings)
        let task = try number("task_id", upload, request)
        guard let task else { throw ListUpload.wrong("task_id", "missing", .missing) }
        return try await run(
            ImportDesk.Order(
                new: NewImport(.file, task: task, sourceName: upload.fileName), user: user,
                source: .list(upload.reader), consentBasis: try basis(upload, request), log: request.log),
            request, waits: try waits(upload, request))
    }

    func validate(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let upload = try await slots.receive(request, desk.settings)
        return try await run(
            ImportDesk.Order(
                new: NewImport(
                    .validation, task: try number("task_id", upload, request), sourceName: upload.fileName),
                user: user, source: .list(upload.reader), consentBasis: nil, log: request.log),
            request, waits: try waits(upload, request))
    }

    func importParsing(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let task = try request.intParameter("id")
        let form = try await request.decode(ParsingImportForm.self)
        return try await run(
            ImportDesk.Order(
                new: NewImport(.parsing, task: task, sourceName: "parse task \(form.parseTask)"), user: user,
                source: .parseTask(form.parseTask, form.filters), consentBasis: form.consentBasis,
                log: request.log), request, waits: form.waits)
    }

    private func run(_ order: ImportDesk.Order, _ request: Request, waits: Bool) async throws -> Response {
        guard waits else {
            let begun = try await desk.start(order)
            var response = Response.json(try await json(begun, request.language), status: 202)
            response.headers["Location"] = "/api/v1/import/\(begun.id)"
            return response
        }
        return .json(try await json(try await desk.carryOut(order), request.language))
    }

    // MARK: - Looking

    func imports(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        var task: Int64?
        if let text = request.query["task_id"], !text.isEmpty {
            task = Int64(text)
            guard let task, task > 0 else { throw ListUpload.wrong("task_id", "out_of_range", .positive) }
        }
        let (found, total) = try await store.imports(
            of: request.requireUser(), task: task, offset: page.offset, limit: page.size)
        return .json(Page(found.map { summary($0, request.language) }, total: total, page))
    }

    func progress(_ request: Request) async throws -> Response {
        let found = try await store.listImport(request.intParameter("id"), of: request.requireUser())
        return .json(try await json(found, request.language))
    }

    /// The lines that were not taken, as a file to mend.
    func rejects(_ request: Request) async throws -> Response {
        let found = try await store.listImport(request.intParameter("id"), of: request.requireUser())
        let format = try SheetFormat(asked: request.query["format"], default: .csv)
        let (store, language) = (store, request.language)
        let folder = desk.settings.scratchFolder
        return .list(format, named: "rejects-\(found.id)") { body in
            let writer = try SheetWriter(
                format, columns: ["line", "code", "reason", "content"], scratchFolder: folder)
            try await store.streamRejects(of: found.id) { rows in
                try await writer.write(
                    rows.map { reject in
                        [
                            .number(Int64(reject.line)), .text(reject.reason.rawValue),
                            .text(reject.reason.text(language)), SheetValue(reject.content),
                        ]
                    }
                ) { try await body.write($0) }
            }
            try await writer.finish { try await body.write($0) }
        }
    }

    /// With the figures of this very moment, where this process does the work.
    private func summary(_ found: ListImport, _ language: Language) -> JSONValue {
        let now = found.finishedAt == nil ? desk.live.snapshot(found.id) : nil
        let counts = now?.counts ?? found.counts
        let stage = now?.stage ?? found.stage
        let base = "/api/v1/import/\(found.id)"
        return .object([
            JSONMember("import_id", .int(found.id)), JSONMember("task_id", JSONValue(found.taskID)),
            JSONMember("kind", .string(found.kind.rawValue)), JSONMember("stage", .string(stage.rawValue)),
            JSONMember("success", .bool(found.stage == .completed)),
            JSONMember("progress", .double((now?.progress ?? found.progress))),
            JSONMember("source", .string(found.sourceName)), JSONMember("list", found.shape),
            JSONMember("rows_read", JSONValue(counts.rowsRead)),
            JSONMember("imported", JSONValue(counts.imported)),
            JSONMember("imported_count", JSONValue(counts.imported)),
            JSONMember("duplicates", JSONValue(counts.duplicates)),
            JSONMember("duplicate_count", JSONValue(counts.duplicates)),
            JSONMember("suppressed_count", JSONValue(counts.suppressed)),
            JSONMember("invalid_count", JSONValue(counts.rejected)),
            JSONMember("without_identifier_count", JSONValue(counts.unnamed)),
            JSONMember("error_count", JSONValue(counts.rejected + counts.unnamed)),
            JSONMember("rejects_url", counts.rejected > 0 ? .string("\(base)/rejects") : .null),
            JSONMember("progress_url", .string(base)),
            JSONMember("message", .string(message(found, stage, counts)(language))),
            JSONMember("created_at", found.createdAt.json),
            JSONMember("finished_at", JSONValue(found.finishedAt)),
        ])
    }

    private func json(_ found: ListImport, _ language: Language) async throws -> JSONValue {
        let rejects: [JSONValue] =
            found.finishedAt == nil
            ? []
            : try await store.rejects(of: found.id, limit: Self.shownRejects).map { reject in
                [
                    "line": JSONValue(reject.line), "code": .string(reject.reason.rawValue),
                    "message": .string(reject.reason.text(language)),
                ]
            }
        return .object(
            (summary(found, language).objectValue ?? []) + [
                JSONMember("invalid", .array(rejects)), JSONMember("errors", .array(rejects)),
            ])
    }

    private func message(
        _ found: ListImport, _ stage: ListImport.Stage, _ counts: ListImport.Counts
    ) -> LocalizedText {
        switch stage {
        case .reading:
            return .init(
                "\(counts.rowsRead) rows have been read", "Прочитано строк: \(counts.rowsRead)")
        case .writing: return .init("The people are being written", "Люди записываются")
        case .failed:
            return LocalizedText(
                found.problem?["detail_en"]?.stringValue ?? "It failed",
                found.problem?["detail_ru"]?.stringValue ?? "Не удалось")
        case .completed:
            let tried = found.kind == .validation
            return .init(
                """
                \(tried ? "Would be added" : "Added"): \(counts.imported); duplicates: \(counts.duplicates); \
                on the stop-list: \(counts.suppressed); not understood: \(counts.rejected); \
                without an identifier: \(counts.unnamed)
                """,
                """
                \(tried ? "Будет добавлено" : "Добавлено"): \(counts.imported); повторов: \(counts.duplicates); \
                в стоп-листе: \(counts.suppressed); не разобрано: \(counts.rejected); \
                без идентификатора: \(counts.unnamed)
                """)
        }
    }

    // MARK: - Fields beside the file, in the form or in the address

    private func field(_ name: String, _ upload: ListUpload, _ request: Request) -> String? {
        let text = upload.fields[name] ?? request.query[name]
        return text.flatMap { $0.isEmpty ? nil : $0 }
    }

    private func number(_ name: String, _ upload: ListUpload, _ request: Request) throws -> Int64? {
        guard let text = field(name, upload, request) else { return nil }
        guard let number = Int64(text), number > 0 else {
            throw ListUpload.wrong(name, "out_of_range", .positive)
        }
        return number
    }

    private func basis(_ upload: ListUpload, _ request: Request) throws -> String? {
        guard let text = field("consent_basis", upload, request) else { return nil }
        guard text.unicodeScalars.count <= 500 else {
            throw ListUpload.wrong(
                "consent_basis", "too_long",
                .init("At most 500 characters are expected", "Ожидается не больше 500 символов"))
        }
        return text
    }

    private func waits(_ upload: ListUpload, _ request: Request) throws -> Bool {
        switch field("wait", upload, request) {
        case nil, "true", "1": true
        case "false", "0": false
        default:
            throw ListUpload.wrong(
                "wait", "unknown_value", .init("true or false is expected", "Ожидается true или false"))
        }
    }
}

/// `POST /tasks/{id}/import/parsing`
struct ParsingImportForm: JSONDecodable {
    let parseTask: String
    let filters: [(name: String, value: String)]
    let consentBasis: String?
    let waits: Bool

    private static let known = [
        "q", "has_username", "has_phone", "active_since", "min_messages",
    ]

    init(from fields: inout Fields) {
        if let number = fields.raw("parsing_task_id")?.intValue {
            parseTask = String(number)
        } else {
            parseTask = fields.string("parsing_task_id", length: 1...100)
        }
        consentBasis = fields.optionalString("consent_basis", length: 1...500)
        waits = fields.raw("wait")?.boolValue ?? true
        var filters: [(name: String, value: String)] = []
        if let raw = fields.raw("filters") {
            if let members = raw.objectValue {
                for member in members where !member.value.isNull {
                    let text: String? =
                        switch member.value {
                        case .string(let text): text.utf8.contains(0) ? nil : text
                        case .int(let number): String(number)
                        case .bool(let flag): flag ? "true" : "false"
                        default: nil
                        }
                    guard Self.known.contains(member.name) else {
                        fields.fail(
                            "filters.\(member.name.prefix(100))", "unknown_filter",
                            .init(
                                "Known filters: \(Self.known.joined(separator: ", "))",
                                "Известные фильтры: \(Self.known.joined(separator: ", "))"))
                        continue
                    }
                    guard let text, text.utf8.count <= 1000 else {
                        fields.fail("filters.\(member.name)", "wrong_type", .notText)
                        continue
                    }
                    filters.append((member.name, text))
                }
            } else {
                fields.fail("filters", "not_an_object", .init("An object is expected", "Ожидается объект"))
            }
        }
        self.filters = filters
    }
}

extension SheetFormat {
    init(asked: String?, default fallback: SheetFormat) throws(ValidationError) {
        guard let asked, !asked.isEmpty else {
            self = fallback
            return
        }
        guard let format = SheetFormat(rawValue: asked.lowercased()) else {
            let known = SheetFormat.allCases.map(\.rawValue).joined(separator: ", ")
            throw ListUpload.wrong(
                "format", "unknown_value",
                .init("One of these is expected: \(known)", "Ожидается одно из: \(known)"))
        }
        self = format
    }
}

extension Response {
    /// A list to be saved under a name.
    static func list(
        _ format: SheetFormat, named name: String,
        _ write: @escaping @Sendable (any BodyWriter) async throws -> Void
    ) -> Response {
        var response = Response.stream(type: format.contentType, write)
        response.headers["Content-Disposition"] =
            "attachment; filename=\"\(name).\(format.fileExtension)\""
        // People's names are nothing for a cache on the way.
        response.headers["Cache-Control"] = "no-store"
        return response
    }
}
