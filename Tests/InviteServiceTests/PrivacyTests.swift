import Core
import HTTP
import Invites
import Sandbox
import ServiceKit
import Sheets
import Synchronization
import TestServers
import Testing

@testable import Storage

@Suite(.timeLimit(.minutes(5)))
struct `The stop-list` {
    @Test(arguments: Ground.available)
    func `keeps people out of lists, in one community or in all, for its operator alone`(ground: Ground)
        async throws
    {
        try await withOffice(ground) { office in
            let club = try await office.makeTask(group: "@club")
            let other = try await office.makeTask(group: "https://t.me/other")
            let foreign = try await office.makeTask(group: "@club", user: 2)
            let everywhere = try await office.post(
                "/api/v1/suppressions", ["identifier": "8 916 000-00-01", "note": "asked by phone"])
            #expect(everywhere.status == 201, "\(everywhere.json)")
            #expect(everywhere["items"][0]?["identifier"] == "+79160000001")
            #expect(
                try await office.post(
                    "/api/v1/suppressions", ["username": "@Boris", "group_id": "t.me/Club"]
                ).status == 201)
            #expect(
                try await office.post(
                    "/api/v1/suppressions", ["username": "boris", "group_id": "@club"]
                ).status == 200)
            let list = "username,phone\nanna,+79160000001\nboris,\ncarl,\n"
            func imported(_ task: Int64, user: Int64 = 1) async throws -> [JSONValue] {
                let answer = try await office.upload("/api/v1/import/file?task_id=\(task)", list, user: user)
                return [answer["imported"], answer["suppressed_count"]]
            }
            #expect(try await imported(club) == [1, 2])
            #expect(try await imported(other) == [2, 1])
            #expect(try await imported(foreign, user: 2) == [3, 0])
            #expect(try await office.people(club) == ["carl - - -"])
            #expect(try await office.get("/api/v1/suppressions", user: 2)["total"] == 0)
        }
    }

    @Test func `is looked at, searched, exported and shortened`() async throws {
        try await withOffice(.embedded) { office in
            _ = try await office.post(
                "/api/v1/suppressions", ["username": "anna", "phone_number": "+79160000001"])
            _ = try await office.post(
                "/api/v1/suppressions", ["user_id_platform": 77, "group_id": "-1001234567890"])
            _ = try await office.post("/api/v1/suppressions", ["username": "left_one", "reason": "left"])
            #expect(try await office.get("/api/v1/suppressions")["total"] == 4)
            #expect(try await office.get("/api/v1/suppressions?identifier=@ANNA")["total"] == 1)
            #expect(try await office.get("/api/v1/suppressions?reason=left")["total"] == 1)
            #expect(try await office.get("/api/v1/suppressions?group_id=-1001234567890")["total"] == 1)
            #expect(try await office.get("/api/v1/suppressions?scope=all")["total"] == 3)
            #expect(try await office.get("/api/v1/suppressions?reason=mood").status == 422)
            #expect(try await office.get("/api/v1/suppressions?identifier=%21").status == 422)
            let file = try await office.get("/api/v1/suppressions/export")
            #expect(file.text.contains("'+79160000001"))
            #expect(file.text.contains("77,-1001234567890") || file.text.contains("77,'-1001234567890"))
            #expect(try await office.get("/api/v1/suppressions/export?format=exe").status == 422)

            func entry(_ query: String) async throws -> String {
                let found = try await office.get("/api/v1/suppressions?\(query)")
                return try #require(found["items"][0]?["id"]?.stringValue)
            }
            let own = try await entry("identifier=anna")
            #expect(try await office.delete("/api/v1/suppressions/\(own)", user: 2).status == 404)
            #expect(try await office.delete("/api/v1/suppressions/\(own)").status == 204)
            #expect(try await office.delete("/api/v1/suppressions/\(own)").status == 404)
            #expect(try await office.delete("/api/v1/suppressions/nonsense").status == 404)
            let left = try await entry("reason=left")
            let refused = try await office.delete("/api/v1/suppressions/\(left)")
            #expect(refused.status == 409)
            #expect(refused.code == "persons_own_no")
            #expect(
                try await office.delete("/api/v1/suppressions/\(left)?consent_basis=wrote%20again").status
                    == 204)
        }
    }

    @Test func `is filled from a list in any form`() async throws {
        try await withOffice(.embedded) { office in
            let list = "контакт\n@anna\n+79160000001\nне контакт вовсе\n@anna\n"
            let answer = try await office.upload("/api/v1/suppressions/import", list)
            #expect(answer.status == 200, "\(answer.json)")
            #expect(answer["imported_count"] == 2)
            #expect(answer["duplicate_count"] == 1)
            #expect(answer["invalid"][0]?["line"] == 4)
            #expect(try await office.get("/api/v1/suppressions?reason=imported")["total"] == 2)
            #expect(try await office.upload("/api/v1/suppressions/import?group_id=%20", list).status == 422)
            #expect(try await office.upload("/api/v1/suppressions/import", "").status == 422)
        }
    }

    @Test(arguments: [
        "{}", #"{"username":"x y"}"#, #"{"phone_number":"12"}"#, #"{"user_id_platform":-5}"#,
        #"{"identifier":""}"#, #"{"identifier":[]}"#, #"{"identifier":"@anna","reason":"erased"}"#,
        #"{"identifier":"@anna","group_id":"a b"}"#, "[]", #"{"identifier":"@an\u0000na"}"#,
        #"{"identifier":"@anna","note":5}"#,
    ])
    func `takes no nonsense`(body: String) async throws {
        try await withOffice(.embedded) { office in
            for path in ["/api/v1/suppressions"] {
                let answer = try await office.ask(
                    office.request(.post, path, type: "application/json", body: Body(Bytes(body.utf8))))
                #expect(answer.status == 422, "\(answer.json)")
            }
            #expect(try await office.get("/api/v1/suppressions")["total"] == 0)
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `A person who wants to be forgotten` {
    /// Every way in which the store could still know somebody: the rows of every table, and on SQLite the
    /// bytes of the files.
    static func traces(_ words: [String], in office: ListOffice) async throws -> [String] {
        var found: [String] = []
        for (table, text) in try await contents(of: office.database) {
            for word in words where text.lowercased().contains(word) { found.append("\(word) in \(table)") }
        }
        return found
    }

    static func contents(of database: any Database) async throws -> [(table: String, text: String)] {
        if database.dialect == .postgres {
            return try await database.run(
                """
                SELECT table_name AS name,
                    CAST(query_to_xml('SELECT * FROM ' || quote_ident(table_name), TRUE, FALSE, '') AS TEXT) AS content
                FROM information_schema.tables WHERE table_schema = 'public'
                """
            ).map { (try $0.text("name"), try $0.text("content")) }
        }
        let tables = try await database.run(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).map { try $0.text("name") }
        var result: [(table: String, text: String)] = []
        for table in tables {
            let rows = try await database.run(SQL(text: "SELECT * FROM \(table)"))
            let text = rows.flatMap { row in row.columns.map { "\(row[$0] ?? .null)" } }.joined(
                separator: "\n")
            result.append((table, text))
        }
        return result
    }

    private static func filled(_ office: ListOffice) async throws -> Int64 {
        let task = try await office.makeTask()
        _ = try await office.upload(
            "/api/v1/import/file?task_id=\(task)",
            """
            username,phone,id,name,email
            secret_anna,+79165550001,900800701,Secretova Anna,secret@example.com
            boris,,,Boris,
            no name,+7 916 555-00-01,,Secretova again,
            """)
        let other = try await office.makeTask(group: "@other")
        // The same person by the number alone: found through the first row.
        _ = try await office.upload(
            "/api/v1/import/file?task_id=\(other)",
            "phone,name\n89165550001,Secretova A.\n+79165550002,Carl\n")
        _ = try await office.post(
            "/api/v1/suppressions",
            ["username": "secret_anna", "group_id": "@third", "note": "secret_anna left"])
        try await office.database.run(
            """
            INSERT INTO invite_logs (task_id, user_id, target_id, action, details, at)
            SELECT task_id, user_id, id, 'INVITE_FAILED', '{"target":"@secret_anna"}', 5 FROM invite_targets
            WHERE username = 'secret_anna'
            """)
        try await office.database.run(
            """
            INSERT INTO invite_attempts (id, task_id, target_id, user_id, run, action, account_id, lease_id,
                fencing_token, content, started_at)
            SELECT 'attempt-1', task_id, id, user_id, 1, 'invite', 'a', 'l', 1, 'invite', 5 FROM invite_targets
            WHERE username = 'secret_anna'
            """)
        _ = try await office.ask(
            office.form(
                "/api/v1/import/validate", Bytes("username\nsecret_anna\n".utf8),
                headers: ["Idempotency-Key": "secret"]))
        return task
    }

    private static let words = ["secret", "9165550001", "900800701", "555-00-01"]

    @Test(arguments: Ground.available)
    func `is in no store afterwards, stays out, and the counts stay true`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await Self.filled(office)
            for port in [Neighbours.integration, Neighbours.parsing] {
                office.neighbours.reply(port) { call in
                    .json(["service": "x", "erased": ["rows": 2], "known": [:]])
                }
            }
            office.neighbours.reply(Neighbours.reports) { _ in .json(["code": "not_found"], status: 404) }
            #expect(try await !Self.traces(Self.words, in: office).isEmpty)
            let before = try await office.count("SELECT COUNT(*) AS count FROM invite_targets")

            let receipt = try await office.post(
                "/api/v1/privacy/erase", ["phone_number": "8 (916) 555-00-01"])
            #expect(receipt.status == 200, "\(receipt.json)")
            #expect(receipt["status"] == "completed")
            #expect(
                receipt["services"].arrayValue?.compactMap { $0["status"]?.stringValue } == [
                    "done", "done", "done", "nothing_kept",
                ])
            #expect(receipt["services"][0]?["erased"]?["targets"] == 2)
            #expect(receipt["services"][0]?["erased"]?["rejected_lines"] == 1)
            #expect(try await Self.traces(Self.words, in: office) == [])
            #expect(try await office.count("SELECT COUNT(*) AS count FROM invite_targets") == before)

            // The others were told every way in which she was known, and what was sent to her.
            let told = try #require(office.neighbours.made.last { $0.port == Neighbours.parsing })
            #expect(told.target == "/internal/privacy/erase")
            #expect(told.body["usernames"] == ["secret_anna"])
            #expect(told.body["phones"] == ["+79165550001"])
            #expect(told.body["user_ids"] == [900_800_701])
            #expect(told.body["attempt_ids"] == ["attempt-1"])

            // Boris is untouched, and no list brings her back, by whatever name.
            #expect(try await office.people(task).contains("boris - - Boris"))
            let again = try await office.upload(
                "/api/v1/import/file?task_id=\(task)",
                "username,phone,id\nsecret_anna,,\n,+79165550001,\n,,900800701\n")
            #expect(again["imported"] == 0)
            #expect(again["suppressed_count"] == 3)
            #expect(try await Self.traces(Self.words, in: office) == [])

            let id = try #require(receipt["receipt_id"].stringValue)
            #expect(try await office.get("/api/v1/privacy/erasures/\(id)")["status"] == "completed")
            #expect(try await office.get("/api/v1/privacy/erasures/\(id)", user: 2).status == 404)
        }
    }

    @Test(arguments: Ground.available)
    func `is forgotten by a service that was away as soon as it is back`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            _ = try await Self.filled(office)
            office.neighbours.reply(Neighbours.integration) { _ in .json(["erased": [:]]) }
            let receipt = try await office.post("/api/v1/privacy/erase", ["username": "secret_anna"])
            #expect(receipt.status == 202, "\(receipt.json)")
            #expect(receipt["status"] == "pending")
            let id = try #require(receipt["receipt_id"].stringValue)
            // Parsing knows her by a further name, which everybody has to hear of.
            office.neighbours.reply(Neighbours.parsing) { call in
                .json(["erased": ["results": 3], "known": ["usernames": ["secret_alias"]]])
            }
            office.neighbours.reply(Neighbours.reports) { _ in .json(["erased": [:]]) }
            try await eventually("everybody has forgotten her") {
                office.time.advance(by: .minutes(6))
                return try await office.get("/api/v1/privacy/erasures/\(id)")["status"] == "completed"
            }
            #expect(try await Self.traces(Self.words, in: office) == [])
            #expect(
                office.neighbours.made.last { $0.port == Neighbours.integration }?.body["usernames"]
                    == ["secret_alias", "secret_anna"])
            #expect(try await office.get("/api/v1/suppressions?identifier=secret_alias")["total"] == 1)
        }
    }

    @Test func `is forgotten by one operator without touching another's`() async throws {
        try await withOffice(.embedded) { office in
            for port in [Neighbours.integration, Neighbours.parsing, Neighbours.reports] {
                office.neighbours.reply(port) { _ in .json(["erased": [:]]) }
            }
            let mine = try await office.makeTask()
            let theirs = try await office.makeTask(user: 2)
            _ = try await office.upload("/api/v1/import/file?task_id=\(mine)", "username\nanna\n")
            _ = try await office.upload("/api/v1/import/file?task_id=\(theirs)", "username\nanna\n", user: 2)
            _ = try await office.post("/api/v1/privacy/erase", ["identifier": "@anna"])
            #expect(try await office.people(mine) == ["- - - -"])
            #expect(try await office.people(theirs) == ["anna - - -"])
            #expect(
                try await office.get("/api/v1/tasks/\(mine)/targets")["items"][0]?["error_code"] == "erased")
        }
    }

    @Test(arguments: ["{}", #"{"identifier":"not anybody"}"#, "[]", #"{"identifier":5.5}"#])
    func `has to be named`(body: String) async throws {
        try await withOffice(.embedded) { office in
            let answer = try await office.ask(
                office.request(
                    .post, "/api/v1/privacy/erase", type: "application/json", body: Body(Bytes(body.utf8))))
            #expect(answer.status == 422, "\(answer.json)")
            #expect(office.neighbours.made.isEmpty)
        }
    }

    @Test(arguments: Ground.available)
    func `is forgotten without asking when the time is over`(ground: Ground) async throws {
        try await withOffice(ground, settings: ["INVITE_PEOPLE_DAYS": "30"]) { office in
            let ended = try await Self.filled(office)
            let running = try await office.makeTask()
            _ = try await office.upload("/api/v1/import/file?task_id=\(running)", "username\nstill_here\n")
            try await office.database.run(
                "UPDATE invite_tasks SET status = 'completed', finished_at = \(office.time.now) WHERE id = \(ended)"
            )
            try await office.database.run(
                "UPDATE invite_tasks SET status = 'in_progress' WHERE id = \(running)")
            office.time.advance(by: .days(31))
            try await eventually("the people are forgotten") {
                office.time.advance(by: .minutes(6))
                return try await office.people(ended).allSatisfy { $0 == "- - - -" }
            }
            #expect(try await office.people(running) == ["still_here - - -"])
            let left = try await Self.contents(of: office.database).filter { $0.text.contains("secret_anna") }
            #expect(left.map(\.table) == ["invite_suppressions"])
            let rejects = try await office.count("SELECT COUNT(*) AS count FROM invite_import_rejects")
            #expect(rejects == 0)
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `The report of a campaign` {
    @Test(arguments: Ground.available)
    func `is JSON, CSV, NDJSON or a workbook of the same people`(ground: Ground) async throws {
        try await withOffice(ground) { office in
            let task = try await office.makeTask()
            _ = try await office.upload(
                "/api/v1/import/file?task_id=\(task)", "username,name\nanna,=cmd|' /C calc'!A0\nboris,Борис\n"
            )
            try await office.database.run(
                """
                UPDATE invite_targets SET status = 'failed', error_code = 'privacy_restricted'
                WHERE task_id = \(task) AND username = 'boris'
                """)
            let json = try await office.get("/api/v1/tasks/\(task)/report")
            #expect(json.status == 200)
            #expect(json["targets"].arrayValue?.count == 2)
            #expect(json["by_status"]["FAILED"] == 1)
            #expect(json["by_error"][0]?["key"] == "privacy_restricted")
            #expect(json["by_source"][0]?["key"] == "FILE_UPLOAD")
            let csv = try await office.get(
                "/api/v1/tasks/\(task)/report?format=csv", headers: ["Accept-Language": "ru"])
            #expect(csv.text.hasPrefix("\u{FEFF}id,username"))
            #expect(csv.text.contains("'=cmd|"))
            #expect(csv.text.contains("Это запрещают настройки приватности"))
            for format in SheetFormat.allCases where format != .json {
                let reader = try SheetReader()
                try await reader.append(
                    try await office.get("/api/v1/tasks/\(task)/report?format=\(format.rawValue)").bytes)
                try await reader.open()
                var names: [String] = []
                while let rows = try await reader.next() { names += rows.map { $0[1] } }
                #expect(names == ["anna", "boris"])
            }
            let failed = try await office.get("/api/v1/tasks/\(task)/report?status=failed")
            #expect(failed["targets"].arrayValue?.count == 1)
            #expect(try await office.get("/api/v1/tasks/\(task)/report?format=doc").status == 422)
            #expect(try await office.get("/api/v1/tasks/\(task)/report?status=odd").status == 422)
            #expect(try await office.get("/api/v1/tasks/\(task)/report", user: 2).status == 404)
            #expect(try await office.get("/api/v1/tasks/x/report").status == 404)
        }
    }

    @Test func `of nobody is still a report`() async throws {
        try await withOffice(.embedded) { office in
            let task = try await office.makeTask()
            #expect(try await office.get("/api/v1/tasks/\(task)/report")["targets"] == .array([]))
            #expect(
                try await office.get("/api/v1/tasks/\(task)/report?format=ndjson").bytes.isEmpty)
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `A person who was read, imported and invited` {
    /// The whole way of somebody's data: read in a community, brought into a campaign, invited; then every table of
    /// every service is searched for what named them.
    @Test func `stands in no table of any service afterwards`() async throws {
        try await withTown { town in
            for name in [Town.Name.parsing, .reports] { try await town.start(name) }
            try await town.connect(3)
            let read = try await town.ask(
                .parsing, .post, "/api/v1/tasks",
                [
                    "platform": "telegram", "link": "https://t.me/sandbox_talk", "task_type": "members",
                    "config": ["member_limit": 40, "speed_config": "fast"],
                ])
            let parse = try #require(read["id"].stringValue, "\(read.json)")
            try await eventually("the community is read") {
                town.time.advance(by: .seconds(2))
                return try await town.ask(.parsing, .get, "/api/v1/tasks/\(parse)")["status"] == "completed"
            }
            let task = try await town.makeTask()
            let imported = try await town.post(
                "/api/v1/tasks/\(task)/import/parsing", ["parsing_task_id": .string(parse)])
            #expect(imported["imported_count"] == 40, "\(imported.json)")
            let started = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            #expect(started.status == 202, "\(started.json)")
            try await town.play(task)

            let all =
                try await town.get("/api/v1/tasks/\(task)/targets?page_size=100")["items"].arrayValue ?? []
            // Whoever has no username was found again where they had been read.
            let bare = all.filter { $0["username"] == .null && $0["phone_number"] == .null }
            #expect(!bare.isEmpty)
            #expect(
                bare.allSatisfy { $0["error_code"] != "person_unseen" && $0["seen_in"] == "sandbox_talk" })
            let persons = [
                try #require(all.first { $0["status"] == "INVITED" && $0["username"]?.stringValue != nil }),
                try #require(bare.first { $0["status"] == "INVITED" }),
            ]
            for person in persons {
                let id = try #require(person["user_id_platform"]?.stringValue)
                let names = [id, person["username"]?.stringValue, person["phone_number"]?.stringValue]
                    .compactMap { $0?.lowercased() }
                func traces() async throws -> [String] {
                    var found: [String] = []
                    for service in Town.Name.allCases {
                        let run = town.run(service)
                        let database = try #require(run).service.context.database
                        for (table, text) in try await `A person who wants to be forgotten`.contents(
                            of: database)
                        where names.contains(where: { text.lowercased().contains($0) }) {
                            found.append("\(service.rawValue) \(table)")
                        }
                    }
                    return found
                }
                let before = try await traces()
                for table in ["invite-service invite_targets", "parsing-service parse_people"] {
                    #expect(before.contains(table), "\(before)")
                }
                let counts = try await town.get("/api/v1/tasks/\(task)")["counts"]
                let receipt = try await town.post("/api/v1/privacy/erase", ["identifier": .string(id)])
                #expect(receipt["status"] == "completed", "\(receipt.json)")
                #expect(
                    receipt["services"].arrayValue?.compactMap { $0["status"]?.stringValue } == [
                        "done", "done", "done", "nothing_kept",
                    ])
                #expect(try await traces() == [])
                #expect(try await town.get("/api/v1/tasks/\(task)")["counts"] == counts)
            }
            // And the list they came from does not bring them back.
            let again = try await town.post(
                "/api/v1/tasks/\(task)/import/parsing", ["parsing_task_id": .string(parse)])
            #expect(again["imported_count"] == 0, "\(again.json)")
        }
    }
}

@Suite(.timeLimit(.minutes(5)))
struct `A person who was invited` {
    @Test func `is in no database afterwards, and the counts stay`() async throws {
        try await withTown { town in
            try await town.connect(1)
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let task = try await town.makeTask()
            let people = town.world.people(.open, notIn: club, limit: 2)
            try #require(people.count == 2)
            try await town.add(people, to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let before = try await town.get("/api/v1/tasks/\(task)")
            #expect(before["completed_count"] == 2)
            // As she stands in the campaign: by the first of the three that she has.
            let person = try #require(people.first)
            let name = person.username?.lowercased() ?? person.phone ?? String(person.userID)

            func traces() async throws -> [String] {
                var found: [String] = []
                for service in [Town.Name.invites, .integration, .manager] {
                    let database = try #require(town.run(service)).service.context.database
                    for (table, text) in try await `A person who wants to be forgotten`.contents(of: database)
                    where text.lowercased().contains(name) { found.append("\(service.rawValue) \(table)") }
                }
                return found
            }
            #expect(try await !traces().isEmpty)
            let receipt = try await town.post("/api/v1/privacy/erase", ["identifier": .string(name)])
            let lines = receipt["services"].arrayValue ?? []
            #expect(lines[0]["status"] == "done")
            #expect(lines[1]["status"] == "done", "\(receipt.json)")
            #expect(lines[1]["erased"]?["sends"]?.intValue ?? 0 > 0, "\(receipt.json)")
            // The order itself keeps the name until the services that are not here have carried it out.
            #expect(try await traces() == ["invite-service invite_erasures"])
            let after = try await town.get("/api/v1/tasks/\(task)")
            #expect(after["completed_count"] == 2)
            #expect(after["counts"] == before["counts"])
        }
    }
}
