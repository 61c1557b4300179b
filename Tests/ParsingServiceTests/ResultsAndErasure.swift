import Core
import HTTP
import Parsing
import ServiceKit
import Sheets
import Storage
import Testing

@testable import ParsingServiceWiring

@Suite(.timeLimit(.minutes(5)))
struct `The results of a parse` {
    @Test(arguments: Engine.available)
    func `are paged, filtered, searched and exported`(engine: Engine) async throws {
        try await Plant.open(engine) { plant, run in
            try await plant.connect(2)
            let id = try await run.create("sandbox_silent", "members", ["speed_config": "fast"])
            let messages = try await run.create("sandbox_full", "messages", ["speed_config": "fast"])
            #expect(try await run.ended(id)["status"] == "completed")
            #expect(try await run.ended(messages)["status"] == "completed")
            let user = run.user()
            let all = try await run.results(id)
            #expect(all.count == 300)

            var paged: [JSONValue] = []
            for page in 1...3 {
                let answer = await user.get("/results/\(id)?page=\(page)&page_size=100")
                #expect(answer["total"] == 300)
                #expect(answer["has_next"] == .bool(page < 3))
                paged += answer["items"].arrayValue ?? []
            }
            #expect(paged == all)
            #expect(await user.get("/results/\(id)?page=10000")["items"] == [])

            let named = try await run.results(id, "&has_username=true")
            #expect(named == all.filter { $0["username"]?.stringValue != nil })
            let unnamed = try await run.results(id, "&has_username=false")
            #expect(named.count + unnamed.count == 300)
            let phones = try await run.results(id, "&has_phone=true")
            #expect(!phones.isEmpty)
            #expect(phones == all.filter { $0["platform_specific_data"]?["phone"]?.stringValue != nil })
            let second = await user.get("/results/\(id)?has_username=true&page=2&page_size=50")
            #expect(second["items"].arrayValue == Array(named.dropFirst(50).prefix(50)))
            #expect(second["total"] == .int(Int64(named.count)))

            let anna = try await run.results(id, "&q=%D0%B0%D0%BD%D0%BD%D0%B0")
            #expect(!anna.isEmpty)
            #expect(anna.allSatisfy { $0["display_name"]?.stringValue?.contains("Анна") == true })
            let name = try #require(named.first?["username"]?.stringValue)
            let asked = try await run.results(id, "&q=@\(name.uppercased())")
            #expect(asked.contains { $0["username"]?.stringValue == name })
            #expect(asked.allSatisfy { $0["username"]?.stringValue?.contains(name) == true })
            // What means something to a database means nothing to a search.
            #expect(try await run.results(id, "&q=%25").isEmpty)
            #expect(try await run.results(id, "&q=%27%20OR%201%3D1").isEmpty)
            #expect(try await run.results(id, "&min_messages=1").isEmpty)

            // Whoever has only a number of somebody may find them where they were met.
            #expect(all.allSatisfy { $0["seen_in"]?.stringValue?.hasPrefix("https://t.me/sandbox_") == true })
            for format in ["ndjson", "json", "csv", "xlsx"] {
                let file = await user.get("/results/\(id)/export?format=\(format)")
                #expect(file.status == 200)
                #expect(file.headers["content-disposition"]?.contains(".\(format)") == true)
                switch format {
                case "ndjson":
                    let lines = file.text.split(separator: "\n").compactMap {
                        try? JSONValue(parsing: String($0))
                    }
                    #expect(lines == all)
                case "json": #expect(file.json.arrayValue == all)
                case "csv":
                    let lines = file.text.split(whereSeparator: \.isNewline)
                    #expect(lines.count == 301)
                    #expect(file.bytes.starts(with: [0xEF, 0xBB, 0xBF]))
                    #expect(lines[0].contains("platform_id"))
                    for item in all.prefix(20) {
                        #expect(file.text.contains(item["platform_id"]?.stringValue ?? "?"))
                    }
                default: #expect(file.bytes.starts(with: Bytes("PK".utf8)))
                }
                if format == "csv" || format == "xlsx" {
                    let reader = try SheetReader()
                    try await reader.append(file.bytes)
                    #expect(try await reader.open().format.rawValue == format)
                    var rows: [[String]] = []
                    while let part = try await reader.next() {
                        rows += part.map { Array($0.texts.prefix(3)) }
                    }
                    let expected = all.map { item in
                        ["platform_id", "username", "display_name"].map { item[$0]?.stringValue ?? "" }
                    }
                    #expect(rows == expected, "\(format)")
                }
            }
            let filtered = await user.get("/results/\(id)/export?format=ndjson&has_phone=true")
            #expect(filtered.text.split(separator: "\n").count == phones.count)
            let written = await user.get("/results/\(messages)/export?format=json&kind=messages")
            #expect(written.json.arrayValue?.count == plant.truth(of: "sandbox_full").messages.count)
            let empty = try await run.create("sandbox_none", "members")
            #expect(await user.get("/results/\(empty)/export?format=json").json == [])
        }
    }

    @Test func `cannot become formulas`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect()
            plant.addGroup("test_formulas", messages: 0, members: 5)
            let author = try #require(plant.members(of: "test_formulas").min())
            for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "a,\"b\";c\nd"] {
                plant.write(text, by: author, in: plant.chat("test_formulas"))
            }
            let id = try await run.create("test_formulas", "messages")
            _ = try await run.ended(id)
            let file = await run.user().get("/results/\(id)/export?format=csv&kind=messages").text
            // Each is there, behind a mark that makes it a text, whatever separates the fields.
            for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1"] {
                #expect(file.contains("'\(formula)"), "\(formula)")
                for separator in [",", ";", "\t", ",\"", ";\"", "\t\"", "\n", "\n\""] {
                    #expect(!file.contains("\(separator)\(formula)"), "\(separator)\(formula)")
                }
            }
        }
    }

    @Test(arguments: Engine.available)
    func `forget a person, a user, a deleted task, and what is old`(engine: Engine) async throws {
        try await Plant.open(engine, Plant.options(), ["PARSING_RETENTION_DAYS": "1"]) { plant, run in
            try await plant.connect(2)
            try await plant.connect(1, of: 2, skipping: 4)
            let members = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            let messages = try await run.create("sandbox_gate", "messages", ["speed_config": "fast"])
            let foreign = try await run.create("sandbox_gate", "members", ["speed_config": "fast"], of: 2)
            for id in [members, messages] { #expect(try await run.ended(id)["status"] == "completed") }
            #expect(try await run.ended(foreign, of: 2)["status"] == "completed")

            let wrote = try await run.results(messages, "&has_username=true")
            let person = try #require(wrote.first)
            let number = try #require(person["platform_id"]?.stringValue)
            let name = try #require(person["username"]?.stringValue)
            let invites = run.service("invite-service", for: 1)
            let receipt = await invites.post(
                "/internal/privacy/erase", ["usernames": [.string(name.uppercased())]])
            #expect(receipt.status == 200, "\(receipt.text)")
            #expect(receipt["erased"]["people"]?.intValue == 2)
            #expect(receipt["erased"]["messages"]?.intValue == person["message_count"]?.intValue)
            // How else the results knew them, for the services that are asked next.
            #expect(receipt["known"]["user_ids"]?[0]?.intValue.map(String.init) == number)
            for id in [members, messages] {
                let left = try await run.results(id)
                #expect(!left.contains { $0["platform_id"]?.stringValue == number })
                let task = await run.user().get("/tasks/\(id)")
                #expect(task["result_count"] == .int(Int64(left.count)))
            }
            #expect(
                !(try await run.results(messages, "&kind=messages")).contains {
                    $0["author_id"]?.stringValue == number
                })
            // Pages skip no one although a place is empty.
            let page = await run.user().get("/results/\(members)?page=2&page_size=50")
            #expect(page["items"].arrayValue?.count == 50)
            // Another user's results are another user's.
            #expect(
                try await run.results(foreign, of: 2).contains { $0["platform_id"]?.stringValue == number })
            let byNumber: JSONValue = ["user_ids": [.int(Int64(number) ?? 0)]]
            let again = await invites.post("/internal/privacy/erase", byNumber)
            #expect(again["erased"] == ["messages": 0, "people": 0])
            #expect(
                await run.service("invite-service", for: nil).post("/internal/privacy/erase", byNumber).status
                    == 401)
            #expect(await invites.post("/internal/privacy/erase", ["usernames": [""]]).status == 422)

            let store = ParseStore(run.service.context.database)
            let now = plant.time.now
            // A day and more later the results are gone and the task is not.
            while try await store.purge(at: now + .days(2)) > 0 {}
            let old = await run.user().get("/tasks/\(members)")
            #expect(old["results_available"] == false)
            #expect(old["result_count"] == 0)
            #expect(await run.user().get("/results/\(members)")["items"] == [])
            #expect(await run.user().delete("/tasks/\(members)").status == 204)
            try await store.erase(user: 2)
            #expect(await run.user(2).get("/tasks")["total"] == 0)
            while try await store.purge(at: now) > 0 {}
            let rows = try await run.service.context.database.run("SELECT count(*) AS n FROM parse_people")
            #expect(try rows[0].int("n") == 0)
            #expect(await run.user().get("/tasks")["total"] == 1)
        }
    }
}
