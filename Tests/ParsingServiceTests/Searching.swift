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
                let group = plant.world.communities().first { $0.username == item["username"]?.stringValue }
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
