import Core
import HTTP
import Invites
import ServiceKit
import Sheets

/// The stop-list: who is not to be invited, by an operator at all or into one community.
struct SuppressionRoutes: Sendable {
    let store: SuppressionStore
    let settings: ListSettings
    let slots: UploadSlots
    let time: any TimeSource

    /// People of one transaction: long enough to be quick, short enough not to hold the others up.
    static let writtenAtOnce = 1000
    static let shownRejects = 100

    func register(on router: inout Router) {
        router.on("GET", "/api/v1/suppressions", list)
        router.on("POST", "/api/v1/suppressions", add)
        router.on("POST", "/api/v1/suppressions/import", importList)
        router.on("GET", "/api/v1/suppressions/export", export)
        router.on("DELETE", "/api/v1/suppressions/{id}", remove)
    }

    func list(_ request: Request) async throws -> Response {
        let page = try PageRequest(request.query)
        let (found, total) = try await store.entries(
            of: request.requireUser(), try query(request), offset: page.offset, limit: page.size)
        return .json(Page(found.map(\.json), total: total, page))
    }

    private func query(_ request: Request) throws -> SuppressionQuery {
        var errors: [FieldError] = []
        func value(_ name: String) -> String? { request.query[name].flatMap { $0.isEmpty ? nil : $0 } }
        var query = SuppressionQuery()
        if let text = value("group_id") {
            if let key = CommunityKey(text) {
                query.community = key.description
            } else {
                errors.append(FieldError("group_id", "not_a_group", .notAGroup))
            }
        } else if value("scope") == "all" {
            query.community = ""
        }
        if let text = value("reason") {
            query.reason = SuppressionReason(rawValue: text.lowercased())
            if query.reason == nil { errors.append(FieldError("reason", "unknown_value", .knownReasons)) }
        }
        if let text = value("identifier") ?? value("q") {
            query.identity = WrittenPerson.contact(text)
            if query.identity == nil {
                errors.append(FieldError("identifier", "not_a_contact", RowReject.contact.text))
            }
        }
        guard errors.isEmpty else { throw ValidationError(errors) }
        return query
    }

    func add(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let form = try await request.decode(SuppressionForm.self)
        let added = try await store.add([form.entry], of: user, at: time.now)
        let (found, _) = try await store.entries(
            of: user,
            SuppressionQuery(community: form.entry.community ?? "", identity: form.entry.identity), offset: 0,
            limit: 10)
        request.log.info("suppression.added", ["new": .int(added)])
        return .json(
            JSONValue.object([
                JSONMember("added", JSONValue(added)), JSONMember("items", .array(found.map(\.json))),
            ]), status: added > 0 ? 201 : 200)
    }

    func remove(_ request: Request) async throws -> Response {
        let ground = request.query["consent_basis"].flatMap { $0.isEmpty ? nil : $0 }
        if let ground, ground.unicodeScalars.count > 500 {
            throw ListUpload.wrong(
                "consent_basis", "too_long",
                .init("At most 500 characters are expected", "Ожидается не больше 500 символов"))
        }
        let removed = try await store.remove(
            request.parameter("id"), of: request.requireUser(), ground: ground)
        // On what ground a person's own no was taken back is to be found later.
        request.log.info(
            "suppression.removed",
            [
                "suppression": .id(removed.id), "reason": .text(removed.reason.rawValue),
                "ground": .flag(ground != nil),
            ])
        return .noContent
    }

    /// A whole list of people who are to be left alone, in any form a campaign's list may have.
    func importList(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let upload = try await slots.receive(request, settings)
        let community = try community(upload.fields["group_id"] ?? request.query["group_id"])
        let reader = upload.reader
        let shape = try await reader.open()
        guard shape.roles.canIdentify else { throw Problem.noColumns(shape.columns) }
        var read = 0
        var added = 0
        var invalid = 0
        var shown: [JSONValue] = []
        var entries: [NewSuppression] = []
        func write() async throws {
            added += try await store.add(entries, of: user, at: time.now)
            entries.removeAll(keepingCapacity: true)
        }
        while let rows = try await reader.next() {
            guard read + rows.count <= settings.mostRows else { throw Problem.tooManyRows(settings.mostRows) }
            let columns = WrittenColumns(rows.roles)
            for row in rows {
                read += 1
                do throws(RowReject) {
                    if let defect = row.defect { throw RowReject(defect) }
                    let person = try columns.person(row).person()
                    entries.append(
                        NewSuppression(
                            person.identity, community: community, reason: .imported, source: upload.fileName)
                    )
                } catch {
                    invalid += 1
                    if shown.count < Self.shownRejects {
                        shown.append([
                            "line": JSONValue(row.line), "code": .string(error.rawValue),
                            "message": .string(error.text(request.language)),
                        ])
                    }
                }
                if entries.count >= Self.writtenAtOnce { try await write() }
            }
        }
        guard read > 0 else { throw Problem.noRows }
        try await write()
        return .json(
            [
                "success": true, "rows_read": JSONValue(read), "imported": JSONValue(added),
                "imported_count": JSONValue(added), "duplicate_count": JSONValue(read - invalid - added),
                "invalid_count": JSONValue(invalid), "invalid": .array(shown), "list": shape.json,
            ] as JSONValue)
    }

    /// The list for another system. Erased people have no name left in it.
    func export(_ request: Request) async throws -> Response {
        let user = try request.requireUser()
        let format = try SheetFormat(asked: request.query["format"], default: .csv)
        let query = try query(request)
        let (store, folder) = (store, settings.scratchFolder)
        return .list(format, named: "suppressions") { body in
            let writer = try SheetWriter(
                format, columns: ["identifier", "group_id", "reason", "source", "note", "created_at"],
                scratchFolder: folder)
            try await store.stream(of: user, query) { entries in
                try await writer.write(
                    entries.map { entry in
                        [
                            SheetValue(entry.label),
                            SheetValue(entry.community.isEmpty ? nil : entry.community),
                            .text(entry.reason.rawValue), .text(entry.source), SheetValue(entry.note),
                            SheetValue(entry.createdAt),
                        ]
                    }
                ) { try await body.write($0) }
            }
            try await writer.finish { try await body.write($0) }
        }
    }

    private func community(_ text: String?) throws -> String? {
        guard let text, !text.isEmpty else { return nil }
        guard let key = CommunityKey(text) else {
            throw ListUpload.wrong("group_id", "not_a_group", .notAGroup)
        }
        return key.description
    }
}

/// `POST /suppressions`: one person, in any of the ways they are known.
struct SuppressionForm: JSONDecodable {
    let entry: NewSuppression

    /// What an operator may say; the other reasons are the machine's own observations.
    private enum Reason: String, CaseIterable { case manual, optedOut = "opted_out", removed, left, blocked }

    init(from fields: inout Fields) {
        var person = WrittenPerson()
        person.contact = fields.optionalString("identifier", length: 1...256) ?? ""
        person.username = fields.optionalString("username", length: 1...256) ?? ""
        person.phone = fields.optionalString("phone_number", length: 1...64) ?? ""
        if let number = fields.raw("user_id_platform")?.intValue {
            person.platformID = String(number)
        } else {
            person.platformID = fields.optionalString("user_id_platform", length: 1...32) ?? ""
        }
        var identity = PersonIdentity(username: nil, phone: nil, platformID: nil)
        do throws(RowReject) { identity = try person.person().identity } catch {
            let name =
                switch error {
                case .username: "username"
                case .phone: "phone_number"
                case .platformID: "user_id_platform"
                default: "identifier"
                }
            fields.fail(name, error.rawValue, error.text)
        }
        var community: String?
        if let group = fields.optionalString("group_id", length: 1...300) {
            community = CommunityKey(group)?.description
            if community == nil { fields.fail("group_id", "not_a_group", .notAGroup) }
        }
        let reason: Reason = fields.choice("reason", default: .manual)
        entry = NewSuppression(
            identity, community: community, reason: SuppressionReason(rawValue: reason.rawValue) ?? .manual,
            source: "api", note: fields.optionalString("note", length: 1...500))
    }
}

extension LocalizedText {
    static let notAGroup = LocalizedText(
        "A group's @name, link or id is expected", "Ожидается @имя, ссылка или id группы")
    static let knownReasons: LocalizedText = {
        let known = SuppressionReason.allCases.map(\.rawValue).joined(separator: ", ")
        return LocalizedText("One of these is expected: \(known)", "Ожидается одно из: \(known)")
    }()
}
