import Core
import HTTP
import Testing

@testable import Sandbox

@Suite(.timeLimit(.minutes(5)))
struct `A search for communities` {
    @Test func `finds groups always, and channels only where people comment`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            #expect(await run.user().get("/api/v1/search?q=sandbox").code == "no_account_available")
            let skipping = plant.world.accounts().filter { $0.kind == .warmed }.count - 1
            try await plant.connect(1, skipping: skipping)
            let found = await run.user().get("/api/v1/search?q=Sandbox&limit=50")
            #expect(found.status == 200, "\(found.text)")
            let names = (found["items"].arrayValue ?? []).compactMap { $0["username"]?.stringValue }
            #expect(names.contains("sandbox_talk"))
            #expect(names.contains("sandbox_gate"))
            #expect(!names.contains("sandbox_quiet"))
            for item in found["items"].arrayValue ?? [] {
                #expect(item["platform_specific_data"]?["has_comments"] == true)
                let group = plant.world.communities().first {
                    String($0.chatID) == item["platform_id"]?.stringValue
                }
                #expect(item["members_count"]?.intValue == group.map { Int64($0.members) })
                #expect(item["activity"]?["last_message_at"]?.stringValue != nil)
            }
            let scores = (found["items"].arrayValue ?? []).compactMap { $0["usefulness"]?.doubleValue }
            #expect(scores == scores.sorted(by: >))
            #expect(found["cached"] == false)
            let hidden = found["items"].arrayValue?.first { $0["username"] == "sandbox_hidden" }
            #expect(hidden?["can_list_members"] == false)
            #expect(hidden?["language"] == "en")

            let searches = plant.requests.all.count { $0.path.hasSuffix("/search") }
            let again = await run.user().get("/v1/search?q=sandbox&limit=2")
            #expect(again["cached"] == true)
            #expect(again["items"].arrayValue?.count == 2)
            #expect(plant.requests.all.count { $0.path.hasSuffix("/search") } == searches)

            #expect(await run.user().get("/search").mistakes == ["q missing"])
            #expect(await run.user().get("/search?q=x").mistakes == ["q missing"])
            let wrong = await run.user().get("/search?q=chess&platform=vk&limit=0")
            #expect(wrong.mistakes == ["platform wrong_value", "limit wrong_value"])
            #expect(await run.user(2).get("/search?q=sandbox").code == "no_account_available")
        }
    }

    /// Whichever account happens to search: one of two administers each.
    @Test(arguments: Engine.available)
    func `says which of the user's accounts administers what was found`(engine: Engine) async throws {
        try await Plant.open(engine) { plant, run in
            let names = ["test_admin_a", "test_admin_b", "test_admin_none", "test_admin_foreign"]
            for name in names { plant.addGroup(name, messages: 40, members: 30) }
            for name in ["test_admin_news_a", "test_admin_news_b", "test_admin_news_none"] {
                plant.addChannel(name, posts: 40)
            }
            let mine = try await plant.connect(2)
            try await plant.connect(1, of: 2, skipping: 2)
            let people = plant.world.accounts().filter { $0.kind == .warmed }.map(\.userID)
            for (name, account) in [
                ("test_admin_a", 0), ("test_admin_b", 1), ("test_admin_news_a", 0), ("test_admin_news_b", 1),
                ("test_admin_foreign", 2),
            ] {
                plant.world.setStanding(
                    of: people[account], inGroup: plant.chat(name), to: "administrator", mayInvite: true)
            }
            let answer = await run.user().get("/api/v1/search?q=test_admin&limit=50")
            #expect(answer.status == 200, "\(answer.text)")
            var found: [String: JSONValue] = [:]
            for item in answer["items"].arrayValue ?? [] {
                let name = item["username"]?.stringValue ?? ""
                #expect(item["is_admin"] == .bool(item["admin_account_id"] != .null), "\(name)")
                found[name] = item["admin_account_id"]
            }
            let expected: [String: JSONValue] = [
                "test_admin_a": .string(mine[0]), "test_admin_b": .string(mine[1]),
                "test_admin_news_a": .string(mine[0]), "test_admin_news_b": .string(mine[1]),
                "test_admin_none": .null, "test_admin_foreign": .null, "test_admin_news_none": .null,
            ]
            for (name, account) in expected { #expect(found[name] == account, "\(name)") }
            // Where one has a say, one gets further.
            let items = (answer["items"].arrayValue ?? []).compactMap { $0["username"]?.stringValue }
            let place = try #require(items.firstIndex(of: "test_admin_none"))
            #expect(try #require(items.firstIndex(of: "test_admin_a")) < place)
            #expect(try #require(items.firstIndex(of: "test_admin_b")) < place)
        }
    }

    @Test func `leaves a channel out whose comments could not be looked at`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            // The last account administers none of them.
            try await plant.connect()
            let club = plant.chat("sandbox_news")
            plant.world.setStanding(
                of: plant.world.accounts()[0].userID, inGroup: club, to: "left")
            let first = await run.user().get("/search?q=sandbox%20news")
            let names = (first["items"].arrayValue ?? []).compactMap { $0["username"]?.stringValue }
            #expect(names.contains("sandbox_news"), "\(first.text)")
            plant.world.add(
                Fault(method: "getChatHistory", group: club, code: 400, message: "CHANNEL_PRIVATE"))
            let second = await run.user().get("/search?q=sandbox%20new")
            #expect(second.status == 200)
            #expect(
                !(second["items"].arrayValue ?? []).contains { $0["username"] == "sandbox_news" },
                "\(second.text)")
        }
    }
}
