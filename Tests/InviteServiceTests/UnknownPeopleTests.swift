import Core
import HTTP
import Invites
import ServiceKit
import Storage
import TestServers
import Testing

@testable import Sandbox

/// People of whom a list says nothing but a number. Telegram's library shows nobody by a number whom the account's
/// own client has not been shown before, and so does the sandbox.
@Suite(.timeLimit(.minutes(5)))
struct `People known by an id alone` {
    /// Everybody of a world as small as the tests' is in the larger groups.
    private func people(_ town: Town, _ count: Int, skipping: Int = 0) throws -> [PersonReport] {
        let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
        return Array(
            town.world.people(.open, notIn: club, withUsername: false, limit: count + skipping).dropFirst(
                skipping))
    }

    /// What account-manager has counted, in its ledger and in permits that are open still.
    private func counted(_ town: Town) async throws -> (actions: Int, permits: Int) {
        let found = town.run(.manager)
        let database = try #require(found).service.context.database
        return (
            try await database.run("SELECT COUNT(*) AS n FROM account_ledger").first?.int("n") ?? -1,
            try await database.run("SELECT COUNT(*) AS n FROM account_permits WHERE state = 'open'").first?
                .int("n") ?? -1
        )
    }

    /// Those who can be met in a community: its members, where it shows them, else whoever has written there lately.
    private func met(in place: String, _ town: Town) throws -> [PersonReport] {
        let name = CommunityKey(place)?.description ?? ""
        let authors = town.world.change { world -> Set<Int64>? in
            guard var group = world.groups.values.first(where: { $0.username == name }) else { return [] }
            guard group.kind == .channel || group.hidesMembers else { return nil }
            group = group.linked.flatMap { world.groups[$0] } ?? group
            let last = group.historyCount
            return Set(
                (max(1, last - 500)...last).compactMap { world.message($0, in: group)?.sender }.filter {
                    $0 > 0
                })
        }
        return try people(town, 3000).filter { authors?.contains($0.userID) ?? true }
    }

    /// Among its members; by what they have written, where those are hidden; below the posts of a channel.
    @Test(arguments: ["https://t.me/sandbox_talk", "@sandbox_hidden", "sandbox_news"])
    func `are found where they were met`(place: String) async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask()
            try await town.addByNumber(met(in: place, town).prefix(4), seenIn: place, to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            let targets = try await town.get("/api/v1/tasks/\(task)/targets").json
            #expect(end["completed_count"] == 4, "\(targets)")
            #expect(end["counts"]["attempted"] == 4)
            #expect(try await counted(town).actions == 4)
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }

    /// A large community is read a few pages at a time, by the one account that has begun.
    @Test func `are waited for while the account still reads`() async throws {
        try await withTown { town in
            try await town.connect(3)
            let task = try await town.makeTask()
            let deep = try #require(people(town, 3000).last)
            try await town.addByNumber([deep], seenIn: "sandbox_talk", to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            #expect(try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 1)
            let target = try await town.get("/api/v1/tasks/\(task)/targets")["items"][0] ?? .null
            #expect(target["attempts"] == 1)
            let attempts = try await town.store.database.run(
                "SELECT account_id, code FROM invite_attempts ORDER BY started_at")
            #expect(attempts.count > 1)
            #expect(Set(try attempts.map { try $0.text("account_id") }).count == 1)
            #expect(try await counted(town).actions == 1)
        }
    }

    /// However often one asks.
    @Test func `are looked for no faster than twenty pages a minute`() async throws {
        try await withTown { town in
            let account = try await town.connect(1)[0].id
            let found = town.run(.integration)
            let metrics = try #require(found).service.context.metrics
            func pages() -> Int {
                Metrics.text(of: [metrics]).split(separator: "\n").reduce(0) { sum, line in
                    let isPage = ["getSupergroupMembers", "getChatHistory"].contains {
                        line.contains("\"\($0)\"")
                    }
                    let value = line.split(separator: " ").last.flatMap { Double($0) }
                    return sum + (isPage && line.hasPrefix("telegram_requests_total") ? Int(value ?? 0) : 0)
                }
            }
            // Nobody has this number, so that each of the two is read to its end.
            func ask(_ place: String) async throws -> Town.Answer {
                try await town.ask(
                    .integration, .post, "/api/v1/telegram/invites/accounts/\(account)/invite",
                    [
                        "invite_type": "group_invite", "group_id": "@sandbox_club", "target_user_id": 77,
                        "target_seen_in": .string(place), "target_name": "Nobody Known",
                    ])
            }
            for _ in 0..<8 {
                for place in ["sandbox_talk", "sandbox_big"] {
                    let answer = try await ask(place)
                    #expect(answer.status == 409)
                    #expect(answer["error"] == "person_unseen")
                    #expect((answer["retry_after"].intValue ?? 0) > 0, "\(answer.json)")
                }
            }
            #expect((10...20).contains(pages()), "\(pages())")
            try await eventually("both have been read to their end") {
                town.time.advance(by: .seconds(20))
                let answers = [try await ask("sandbox_talk"), try await ask("sandbox_big")]
                return answers.allSatisfy { $0["error"] == "person_unseen" && $0["retry_after"] == .null }
            }
            let all = pages()
            _ = try await ask("sandbox_talk")
            #expect(pages() == all)
        }
    }

    @Test func `are invited by the one account that knows them`() async throws {
        try await withTown { town in
            let accounts = try await town.connect(3)
            let person = try #require(people(town, 3000).first { $0.username != nil })
            let looked = try await town.ask(
                .integration, .post, "/api/v1/telegram/invites/accounts/\(accounts[2].id)/membership",
                ["group_id": "@sandbox_club", "target_username": .string(person.username ?? "")])
            #expect(looked["is_member"] == false)
            let task = try await town.makeTask()
            try await town.addByNumber([person], seenIn: nil, to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let target = try await town.get("/api/v1/tasks/\(task)/targets")["items"][0] ?? .null
            #expect(target["status"] == "INVITED")
            #expect(target["account_id"]?.stringValue == accounts[2].id)
            #expect(target["attempts"] == 1)
            #expect(try await counted(town) == (1, 0))
        }
    }

    /// Nobody is asked anything, so nothing counts: no attempt, no limit, nobody's turn.
    @Test func `and to no account end with words that say what to do, and cost nothing`() async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask()
            let all = try people(town, 3000)
            try await town.addByNumber(all.filter { $0.username == nil }.prefix(3), seenIn: nil, to: task)
            let known = all.filter { $0.username != nil }.prefix(2)
            try await town.add(Array(known), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["status"] == "COMPLETED")
            #expect(end["completed_count"] == 2)
            #expect(end["failed_count"] == 3)
            #expect(end["counts"]["attempted"] == 2)
            #expect(try await counted(town) == (2, 0))
            for (language, words) in [("en", "username"), ("ru", "имен")] {
                let failed = try await town.ask(
                    .invites, .get, "/api/v1/tasks/\(task)/targets?status=FAILED",
                    headers: ["Accept-Language": language])
                for item in failed["items"].arrayValue ?? [] {
                    #expect(item["error_code"] == "person_unseen")
                    #expect(item["attempts"] == 0)
                    #expect(item["error_message"]?.stringValue?.contains(words) == true)
                }
            }
            #expect(town.adds == 2)

            // Told where they were met, they are found.
            let failed =
                try await town.get("/api/v1/tasks/\(task)/targets?status=FAILED")["items"].arrayValue ?? []
            for item in failed {
                let path = "/api/v1/tasks/\(task)/targets/\(item["id"]?.intValue ?? 0)"
                #expect(try await town.put(path, ["seen_in": "nowhere at all"]).status == 422)
                let changed = try await town.put(path, ["seen_in": "@Sandbox_Talk"])
                #expect(changed["seen_in"] == "sandbox_talk", "\(changed.json)")
            }
            #expect(try await town.post("/api/v1/tasks/\(task)/retry-failed").status == 200)
            try await town.play(task)
            #expect(try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 5)
        }
    }
}

extension Town {
    /// Adds people by nothing but their numbers, and where they were met.
    @discardableResult
    func addByNumber(_ people: some Collection<PersonReport>, seenIn: String?, to task: Int64) async throws
        -> Int
    {
        let targets = people.map { person in
            JSONValue.object(present: [
                "user_id_platform": .int(person.userID), "seen_in": seenIn.map { .string($0) },
            ])
        }
        guard !targets.isEmpty else { return 0 }
        let added = try await post("/api/v1/tasks/\(task)/targets/bulk", ["targets": .array(targets)])
        #expect(added.status == 201, "\(added.json)")
        return targets.count
    }
}

extension SandboxWorld {
    /// People who would come, of those a community lists, who are not in the club.
    func members(of username: String) -> [PersonReport] {
        let club = communities().first { $0.username == "sandbox_club" }?.chatID
        let open = people(.open, notIn: club, withUsername: false, limit: .max)
        let members = change { world in
            world.groups.values.first { $0.username == username }.map { Set($0.members) } ?? []
        }
        return open.filter { members.contains($0.userID) }
    }
}
