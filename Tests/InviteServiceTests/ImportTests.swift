import Core
import HTTP
import Invites
import ServiceKit
import Sheets
import Storage
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `An uploaded list` {
    @Test(arguments: Ground.available)
    func `becomes people of a campaign, each once, and every other line has a reason`(ground: Ground)
        async throws
    {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            let list = """
                Username;Телефон;id;ФИО;email;основание
                @Anna;;;Анна Иванова;anna@example.com;письмо от 1 мая
                ;8 (916) 000-00-02;;;нет;
                https://t.me/Boris?x=1;;500600701;Борис;;
                ANNA;+79160000009;;;;
                ;+7 916 000 00 02;;Снова второй;;
                не имя;;;;;
                ;12;;;;
                ;;;Никто;n/a;
                dora_k;-;;"Дора ""К"", мл.";;
                """
            let answer = try await office.upload("/api/v1/import/file?task_id=\(task)", list)
            #expect(answer.status == 200, "\(answer.json)")
            #expect(answer["success"] == true)
            #expect(answer["rows_read"] == 9)
            #expect(answer["imported"] == 4)
            #expect(answer["duplicates"] == 2)
            #expect(answer["invalid_count"] == 3)
            #expect(
                answer["invalid"].arrayValue?.map {
                    "\($0["line"]?.intValue ?? 0) \($0["code"]?.stringValue ?? "")"
                }
                    == ["7 not_a_username", "8 not_a_phone", "9 missing"])
            #expect(answer["list"]["delimiter"] == ";")
            #expect(answer["list"]["recognised"]?["fullName"] == ["ФИО"])
            #expect(
                try await office.people(task) == [
                    "anna - - Анна Иванова", "- +79160000002 - -", "boris - 500600701 Борис",
                    "dora_k - - Дора \"К\", мл.",
                ])
            let first = try await office.get("/api/v1/tasks/\(task)/targets")["items"][0]
            #expect(first?["source"] == "FILE_UPLOAD")
            #expect(first?["source_detail"] == "list.csv")
            #expect(first?["consent_basis"] == "письмо от 1 мая")
            #expect(first?["email"] == "anna@example.com")
            #expect(try await office.stagedRows() == 0)
        }
    }

    @Test(arguments: Ground.available)
    func `does not bring somebody twice who is there already`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            let list = "username,phone\nanna,+79160000001\nboris,\n"
            let path = "/api/v1/import/file?task_id=\(task)"
            #expect(try await office.upload(path, list)["imported"] == 2)
            let again = try await office.upload(path, list + ",+7 (916) 000-00-01\ncarl,\n")
            #expect(again["imported"] == 1)
            #expect(again["duplicates"] == 3)
            #expect(try await office.people(task).count == 3)
        }
    }

    @Test(arguments: SheetFormat.allCases)
    func `may be in any of the formats`(format: SheetFormat) async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let writer = try SheetWriter(format, columns: ["username", "phone", "name"])
            var file = Bytes()
            try await writer.write([
                [.text("@anna"), .empty, .text("=Анна")], [.empty, .number(79_160_000_002), .text("Борис")],
                [.text("-"), .empty, .empty],
            ]) { file += $0 }
            try await writer.finish { file += $0 }
            let answer = try await office.upload("/api/v1/import/file?task_id=\(task)", file, named: "x.bin")
            #expect(answer["list"]["format"] == .string(format.rawValue), "\(answer.json)")
            #expect(answer["imported"] == 2)
            #expect(answer["invalid_count"] == 1)
            #expect(try await office.people(task) == ["anna - - =Анна", "- +79160000002 - Борис"])
        }
    }

    @Test(arguments: Ground.available)
    func `can be tried without writing anybody`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            _ = try await office.upload("/api/v1/import/file?task_id=\(task)", "username\nanna\n")
            let list = "username\nanna\nboris\nBORIS\n-\n"
            let tried = try await office.upload("/api/v1/import/validate?task_id=\(task)", list)
            #expect(tried.status == 200, "\(tried.json)")
            #expect(tried["imported"] == 1)
            #expect(tried["duplicates"] == 2)
            #expect(tried["invalid_count"] == 1)
            let alone = try await office.upload("/api/v1/import/validate", list)
            #expect(alone["imported"] == 2)
            #expect(alone["duplicates"] == 1)
            #expect(try await office.people(task).count == 1)
            #expect(try await office.count("SELECT COUNT(*) AS count FROM invite_targets") == 1)
            #expect(try await office.stagedRows() == 0)
            let done = try await office.upload("/api/v1/import/file?task_id=\(task)", list)
            #expect(done["imported"] == tried["imported"])
            #expect(done["duplicates"] == tried["duplicates"])
        }
    }

    @Test(arguments: Ground.available)
    func `gives its rejected lines back as a file, to its owner alone`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            let answer = try await office.upload(
                "/api/v1/import/file?task_id=\(task)", "username,note\nanna,x\nбез имени,=1+1\n,z\n")
            let path = try #require(answer["rejects_url"].stringValue)
            let csv = try await office.get(path, headers: ["Accept-Language": "ru"])
            #expect(csv.headers["content-disposition"]?.hasSuffix(".csv\"") == true)
            #expect(csv.text.contains("3,not_a_username,"))
            #expect(csv.text.contains("без имени | =1+1"))
            #expect(csv.text.contains("В строке нет ни имени"))
            for format in SheetFormat.allCases {
                let reader = try SheetReader()
                try await reader.append(try await office.get("\(path)?format=\(format.rawValue)").bytes)
                try await reader.open()
                var lines = 0
                while let rows = try await reader.next() { lines += rows.count }
                // Nothing in its headings is about people, so a list's reader takes them for a row.
                #expect(lines == (format == .csv || format == .xlsx ? 3 : 2))
            }
            #expect(try await office.get(path, user: 2).status == 404)
            #expect(try await office.get("/api/v1/import/999999/rejects").status == 404)
            #expect(try await office.get("\(path)?format=pdf").status == 422)
            #expect(try await office.get(path.replacing("/rejects", with: ""), user: 2).status == 404)
            #expect(try await office.get("/api/v1/import", user: 2)["total"] == 0)
            #expect(try await office.get("/api/v1/import?task_id=\(task)")["total"] == 1)
        }
    }

    @Test(arguments: Ground.available)
    func `can be left to itself, and tells how far it is`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            let list = "username\n" + (0..<30_000).map { "person_\($0)" }.joined(separator: "\n")
            let begun = try await office.upload(
                "/api/v1/import/file", Bytes(list.utf8), fields: ["task_id": "\(task)", "wait": "false"])
            #expect(begun.status == 202, "\(begun.json)")
            let place = try #require(begun.headers["location"])
            #expect(begun["progress_url"] == .string(place))
            try await eventually("the list is written") {
                let now = try await office.get(place)
                let progress = now["progress"].doubleValue ?? -1
                #expect((0...1).contains(progress))
                return now["stage"] == "completed"
            }
            #expect(try await office.get(place)["imported"] == 30_000)
            let targets = try await office.count(
                "SELECT COUNT(*) AS count FROM invite_targets WHERE task_id = \(task)")
            #expect(targets == 30_000)
        }
    }

    @Test func `is written although its sender goes away`() async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let list = "username\n" + (0..<20_000).map { "person_\($0)" }.joined(separator: "\n")
            let request = office.form("/api/v1/import/file?task_id=\(task)", Bytes(list.utf8))
            let sender = Task { await office.service.router.answer(request) }
            try await eventually("the import has begun") {
                try await office.count("SELECT COUNT(*) AS count FROM invite_imports") == 1
            }
            sender.cancel()
            _ = await sender.value
            try await eventually("the list is written") { try await office.people(task).count == 20_000 }
        }
    }

    @Test func `repeats its answer to a repeated request`() async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let path = "/api/v1/import/file?task_id=\(task)"
            let headers: Headers = ["Idempotency-Key": "once"]
            let file = Bytes("username\nanna\n".utf8)
            let first = try await office.upload(path, file, headers: headers)
            let second = try await office.upload(path, file, headers: headers)
            #expect(first.json == second.json)
            #expect(second["imported"] == 1)
            #expect(
                try await office.upload(path, Bytes("username\nboris\n".utf8), headers: headers).status == 422
            )
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `A list that cannot be taken` {
    private static let settings = ["IMPORT_MAX_BYTES": "100000", "IMPORT_MAX_ROWS": "1000"]

    @Test(arguments: Ground.available)
    func `is refused with the reason and leaves nothing behind`(ground: Ground) async throws {
        try await withOffice(ground, settings: Self.settings) { office in
            let task = try await office.makeTask()
            let foreign = try await office.makeTask(user: 2)
            let path = "/api/v1/import/file?task_id=\(task)"
            func refused(
                _ file: Bytes, _ status: Int, _ code: String, at path: String = path,
                sourceLocation: SourceLocation = #_sourceLocation
            ) async throws {
                let answer = try await office.upload(path, file)
                #expect(answer.status == status, "\(answer.json)", sourceLocation: sourceLocation)
                #expect(answer.code == code, sourceLocation: sourceLocation)
            }
            let good = Bytes("username\nanna\n".utf8)
            try await refused([], 422, "empty_list")
            try await refused(Bytes("username\n".utf8), 422, "empty_list")
            try await refused(Bytes(repeating: 0x61, count: 100_001), 413, "list_too_large")
            try await refused(Bytes("%PDF-1.4 binary".utf8), 422, "unknown_format")
            try await refused([0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1], 422, "old_excel")
            try await refused(
                [0x50, 0x4B, 0x03, 0x04] + Bytes(repeating: 7, count: 500), 422, "broken_workbook")
            try await refused(Bytes("username\nanna\n\"boris\n".utf8), 422, "unclosed_quote")
            try await refused(Bytes("[{\"username\":\"anna\"},{\"user".utf8), 422, "ends_early")
            try await refused(Bytes("colour,size\nred,5 m\nblue,6 m\n".utf8), 422, "no_identifying_column")
            let long = "username\n" + (0..<2500).map { "person_\($0)" }.joined(separator: "\n")
            try await refused(Bytes(long.utf8), 422, "too_many_rows")
            try await refused(good, 404, "not_found", at: "/api/v1/import/file?task_id=\(foreign)")
            try await refused(good, 404, "not_found", at: "/api/v1/import/file?task_id=987654")
            for bad in ["0", "-1", "x", "99999999999999999999"] {
                try await refused(good, 422, "validation_failed", at: "/api/v1/import/file?task_id=\(bad)")
            }
            try await refused(good, 422, "validation_failed", at: "/api/v1/import/file")
            try await refused(good, 422, "validation_failed", at: "\(path)&wait=perhaps")
            #expect(try await office.people(task).isEmpty)
            #expect(try await office.stagedRows() == 0)
            let failed = try await office.get("/api/v1/import?page_size=100")
            #expect(failed["items"].arrayValue?.allSatisfy { $0["stage"] == "failed" } == true)
            // Nothing of it keeps the next one from being taken.
            #expect(try await office.upload(path, good)["imported"] == 1)
        }
    }

    @Test func `is refused when the form is none`() async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let path = "/api/v1/import/file?task_id=\(task)"
            func answer(_ type: String?, _ body: String) async throws -> ListOffice.Answer {
                try await office.ask(
                    office.request(.post, path, type: type, body: Body(Bytes(body.utf8))))
            }
            #expect(try await answer("application/json", "{}").status == 415)
            #expect(try await answer("multipart/form-data", "x").status == 400)
            #expect(try await answer("multipart/form-data; boundary=e", "no form").status == 400)
            #expect(
                try await answer(
                    "multipart/form-data; boundary=e",
                    "--e\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nusername\nanna"
                ).status == 400)
            let noFile = try await answer(
                "multipart/form-data; boundary=e",
                "--e\r\nContent-Disposition: form-data; name=\"wait\"\r\n\r\ntrue\r\n--e--\r\n")
            #expect(noFile.status == 422)
            #expect(noFile["errors"][0]?["field"] == "file")
            let two = try await answer(
                "multipart/form-data; boundary=e",
                """
                --e\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nusername\nanna\r\n\
                --e\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nusername\nboris\r\n--e--\r\n
                """)
            #expect(two.status == 422)
            #expect(try await office.ask(office.request(.get, "/api/v1/import/file")).status == 405)
            #expect(try await office.ask(office.request(.put, "/api/v1/import/file")).status == 405)
            #expect(try await office.people(task).isEmpty)
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `The results of parsing` {
    private static let lines = [
        #"{"username":"first","platform_id":"1001","display_name":"Shown","platform_specific_data":{"username":"second","phone":"+79160000001","user_id":2,"first_name":"F"},"author_username":"third"}"#,
        #"{"platform_specific_data":{"username":"nested","user_id":1002,"first_name":"Имя","last_name":"Фамилия"},"author_name":"Author"}"#,
        #"{"author_username":"@Author","author_phone":"8 916 000 00 03","author_id":1003,"author_name":"Author","seen_in":"https://t.me/Some_Group"}"#,
        #"{"username":"No Name","platform_id":"","author_id":"1004"}"#,
        #"{"username":"","platform_specific_data":{},"author_id":"","display_name":"Nobody"}"#,
        #"{"platform_specific_data":null,"content":"hello"}"#,
        #"{"username":"FIRST"}"#,
    ]

    @Test(arguments: Ground.available)
    func `are read by the order of their fields, and who has no identifier is counted`(ground: Ground)
        async throws
    {
        try await withOffice(ground) { office in
            office.neighbours.reply(Neighbours.parsing) { _ in .lines(Self.lines) }
            let task = try await office.makeTask()
            let answer = try await office.post(
                "/api/v1/tasks/\(task)/import/parsing",
                [
                    "parsing_task_id": "task/7", "consent_basis": "public group",
                    "filters": ["has_username": true, "q": "a&b"],
                ])
            #expect(answer.status == 200, "\(answer.json)")
            #expect(answer["imported_count"] == 4)
            #expect(answer["duplicate_count"] == 1)
            #expect(answer["without_identifier_count"] == 2)
            #expect(answer["error_count"] == 2)
            #expect(
                try await office.people(task) == [
                    "first +79160000001 1001 Shown", "nested - 1002 Имя Фамилия",
                    "author +79160000003 1003 Author", "- - 1004 -",
                ])
            let call = try #require(office.neighbours.made.first { $0.port == Neighbours.parsing })
            #expect(
                call.target
                    == "/api/v1/results/task%2F7/export?format=ndjson&kind=people&has_username=true&q=a%26b")
            #expect(call.onBehalfOf)
            let target = try await office.get("/api/v1/tasks/\(task)/targets")["items"][0]
            #expect(target?["source"] == "PARSING_IMPORT")
            #expect(target?["consent_basis"] == "public group")
            let met = try await office.get("/api/v1/tasks/\(task)/targets?q=author")["items"][0]
            #expect(met?["seen_in"] == "some_group")
        }
    }

    @Test func `that cannot be had or break off leave the campaign as it was`() async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let path = "/api/v1/tasks/\(task)/import/parsing"
            let order: JSONValue = ["parsing_task_id": 5]
            #expect(try await office.post(path, order).status == 503)
            office.neighbours.reply(Neighbours.parsing) { _ in .json(["code": "not_found"], status: 404) }
            let unknown = try await office.post(path, order)
            #expect(unknown.status == 404)
            #expect(unknown.code == "unknown_parse_task")
            office.neighbours.reply(Neighbours.parsing) { _ in .json(["detail": "no"], status: 409) }
            #expect(try await office.post(path, order).status == 502)
            office.neighbours.reply(Neighbours.parsing) { _ in .json([:], status: 500) }
            #expect(try await office.post(path, order).status == 503)
            office.neighbours.reply(Neighbours.parsing) { _ in .lines([Self.lines[0], "{\"userna"]) }
            #expect(try await office.post(path, order).status == 502)
            let pieces = Mutex(2)
            office.neighbours.reply(Neighbours.parsing) { _ in
                ClientResponse(
                    status: 200, headers: [:],
                    body: Body {
                        let left = pieces.withLock { left in
                            left -= 1
                            return left
                        }
                        guard left >= 0 else { throw ClientError.badAnswer(reason: "broken off") }
                        return Bytes((Self.lines[0] + "\n").utf8)
                    })
            }
            #expect(try await office.post(path, order).status == 503)
            #expect(try await office.people(task).isEmpty)
            #expect(try await office.stagedRows() == 0)
        }
    }

    @Test(arguments: [
        ("{}", 422), (#"{"parsing_task_id":""}"#, 422), (#"{"parsing_task_id":[]}"#, 422),
        (#"{"parsing_task_id":"1","filters":[]}"#, 422), (#"{"parsing_task_id":"1","filters":{"x":1}}"#, 422),
        (#"{"parsing_task_id":"1","filters":{"q":{}}}"#, 422), (#"{"parsing_task_id":"a\u0000b"}"#, 422),
        ("[]", 422), ("{", 400), ("", 400),
    ])
    func `are not asked for by an order that is wrong`(body: String, status: Int) async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            let answer = try await office.ask(
                office.request(
                    .post, "/api/v1/tasks/\(task)/import/parsing", type: "application/json",
                    body: Body(Bytes(body.utf8))))
            #expect(answer.status == status, "\(answer.json)")
            #expect(!office.neighbours.made.contains { $0.port == Neighbours.parsing })
        }
    }

    @Test func `go into one's own campaigns alone`() async throws {
        try await withOffice(.embedded) { office in
            let foreign = try await office.makeTask(user: 2)
            let answer = try await office.post(
                "/api/v1/tasks/\(foreign)/import/parsing", ["parsing_task_id": "1"])
            #expect(answer.status == 404)
            #expect(office.neighbours.made.isEmpty)
        }
    }
}
