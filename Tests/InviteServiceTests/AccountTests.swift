import Core
import Invites
import Sandbox
import TestServers
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `The accounts of a campaign` {
    private func club(_ town: Town) throws -> Int64 {
        try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
    }

    @Test func `wait and say until when; a new one lets it go on by itself`() async throws {
        try await withTown { town in
            let accounts = try await town.connect(1)
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club(town), limit: 8), to: task)
            try town.world.limit(accounts[0].phone)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            var status = try await town.get("/api/v1/tasks/\(task)/status")
            try await eventually("it waits") {
                status = try await town.get("/api/v1/tasks/\(task)/status")
                return status["waiting_for"]["reason"] == "no_account"
            }
            // PEER_FLOOD rests an account for a day.
            let until = try #require(status["waiting_for"]["until"]?.stringValue.flatMap { Timestamp($0) })
            #expect(until - town.time.now > .hours(23))
            let switched = try await town.get("/api/v1/tasks/\(task)/logs?action=ACCOUNT_SWITCHED")
            #expect(switched["items"][0]?["code"] == "peer_flood")
            // Its attempt was not the person's fault.
            #expect(try await town.get("/api/v1/tasks/\(task)/targets")["items"][0]?["attempts"] == 0)

            try await town.connect(1, skipping: 1)
            try await eventually("the new one goes on") {
                // Always before the moment at which the old one would: a busy machine is given longer.
                town.time.advance(by: min(.seconds(30), (until - town.time.now) / 100))
                return town.world.ledger.contains { $0.kind == .addMember && $0.isAccepted }
            }
            #expect(town.time.now < until)
        }
    }

    /// Several lanes find at the same moment that nobody is free: the last of them says so.
    @Test func `that all rest are waited for with a reason, hour after hour`() async throws {
        try await withTown { town in
            try await town.connect(4)
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club(town), limit: 40), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            var rounds = 0
            while rounds < 10 {
                var next: Timestamp?
                var status = try await town.get("/api/v1/tasks/\(task)/status")
                try await eventually("it waits, or is done") {
                    status = try await town.get("/api/v1/tasks/\(task)/status")
                    next = status["next_action_at"].stringValue.flatMap { Timestamp($0) }
                    return next.map { $0 > town.time.now } == true || status["status"] == "COMPLETED"
                }
                guard let next, status["status"] != "COMPLETED" else { break }
                #expect(status["waiting_for"]["message"]?.stringValue?.isEmpty == false, "round \(rounds)")
                town.time.advance(by: next - town.time.now)
                rounds += 1
            }
            #expect(rounds > 5, "an account rests after each person")
        }
    }

    @Test func `without the right to invite are left out, and none having it is said`() async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask(["group_id": "sandbox_talk"])
            try await town.add(town.world.people(.open, limit: 3), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            var status = try await town.get("/api/v1/tasks/\(task)/status")
            try await eventually("nobody may invite") {
                status = try await town.get("/api/v1/tasks/\(task)/status")
                return status["waiting_for"]["reason"] == "no_administrator"
            }
            #expect(town.adds == 0)
            let accounts = try await town.get("/api/v1/tasks/\(task)/accounts")
            #expect(accounts["items"].arrayValue?.allSatisfy { $0["may_invite"] == false } == true)
        }
    }

    @Test func `of one user never work for another`() async throws {
        try await withTown { town in
            try await town.connect(2, user: 1)
            let task = try await town.makeTask(user: 2)
            try await town.add(town.world.people(.open, notIn: club(town), limit: 3), to: task, user: 2)
            _ = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true], user: 2)
            try await eventually("it waits") {
                // A service that was slow to answer is asked again some seconds later.
                town.time.advance(by: .milliseconds(50))
                return try await town.get("/api/v1/tasks/\(task)", user: 2)["waiting_for"]["reason"]
                    == "no_account"
            }
            #expect(town.adds == 0)
            for path in ["", "/targets", "/status", "/logs", "/stats", "/accounts", "/targets/stats"] {
                #expect(try await town.get("/api/v1/tasks/\(task)\(path)", user: 1).status == 404, "\(path)")
            }
            #expect(try await town.post("/api/v1/tasks/\(task)/cancel", user: 1).status == 404)
            #expect(try await town.get("/api/v1/tasks", user: 1)["total"] == 0)
        }
    }

    @Test func `never add anybody to a broadcast channel of more than 200 members`() async throws {
        try await withTown { town in
            try await town.connect(1)
            let refused = try await town.post(
                "/api/v1/tasks", ["name": "News", "settings": ["group_id": "@sandbox_news"]])
            #expect(refused.status == 409)
            #expect(refused.code == "broadcast_channel")
            #expect(refused["alternative"]["invite_type"] == "invite_link")
            let linked = try await town.post(
                "/api/v1/tasks",
                [
                    "name": "News", "invite_message": "Come in: {link}",
                    "settings": ["group_id": "@sandbox_news", "invite_type": "invite_link"],
                ])
            #expect(linked.status == 201)
        }
    }

    @Test func `respect a person's no in every later campaign of this community`() async throws {
        try await withTown { town in
            try await town.connect(3)
            let group = try club(town)
            let left = town.world.peopleWhoLeft(group, limit: 2)
            try #require(left.count == 2)
            let first = try await town.makeTask()
            try await town.add(left, to: first)
            _ = try await town.post("/api/v1/tasks/\(first)/execute")
            try await town.play(first)
            let failed = try await town.get("/api/v1/tasks/\(first)/targets")
            #expect(failed["items"][0]?["error_code"] == "not_mutual_contact")
            let sent = town.adds

            let second = try await town.makeTask()
            try await town.add(left, to: second)
            _ = try await town.post("/api/v1/tasks/\(second)/execute")
            try await town.play(second)
            let skipped = try await town.get("/api/v1/tasks/\(second)/targets")
            #expect(skipped["items"][0]?["status"] == "SKIPPED")
            #expect(skipped["items"][0]?["error_code"] == "suppressed")
            #expect(town.adds == sent)
            #expect(try await town.post("/api/v1/tasks/\(first)/retry-failed")["retried_count"] == 0)
        }
    }

    @Test func `write to whom they may not add, where the campaign says so`() async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask(
                ["group_id": "@sandbox_club", "fallback_to_messages": true], message: "Come in: {link}")
            try await town.add(town.world.people(.closed, notIn: club(town), limit: 3), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["completed_count"] == 3, "\(end.json)")
            #expect(end["counts"]["attempted"] == 6)
            #expect(town.world.ledger.count { $0.kind == .message } == 3)
            #expect(town.world.ledger.count { $0.kind == .linkCreated } == 3)
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }

    @Test func `send a personal link to each where links are wished`() async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask(
                ["group_id": "@sandbox_club", "invite_type": "invite_link"], message: "Hello!")
            try await town.add(town.world.people(.open, notIn: club(town), limit: 4), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            #expect(try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 4)
            let links =
                try await town.get("/api/v1/tasks/\(task)/targets")["items"].arrayValue?
                .compactMap { $0["invite_link"]?.stringValue } ?? []
            #expect(Set(links).count == 4)
            #expect(try await town.get("/api/v1/tasks/\(task)/stats")["links"]["sent"] == 4)
        }
    }

    @Test func `only make the links where the operator sends them, and count who comes`() async throws {
        try await withTown { town in
            try await town.connect(1)
            let task = try await town.makeTask([
                "group_id": "@sandbox_club", "invite_type": "invite_link", "link_delivery": "export",
            ])
            try await town.add(town.world.people(.open, notIn: club(town), limit: 3), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["completed_count"] == 3)
            #expect(end["counts"]["attempted"] == 0)
            #expect(town.world.ledger.count { $0.kind == .message } == 0)
            #expect(town.world.ledger.count { $0.kind == .linkCreated } == 3)
        }
    }

    @Test func `try one person out under all limits`() async throws {
        try await withTown { town in
            let account = try await town.connect(1)[0].id
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club(town), limit: 2), to: task)
            let targets = try await town.get("/api/v1/tasks/\(task)/targets")
            let first = targets["items"][0]?["id"] ?? .null
            let second = targets["items"][1]?["id"] ?? .null
            let tried = try await town.post(
                "/api/v1/tasks/\(task)/test-invite", ["target_id": first, "account_id": .string(account)])
            #expect(tried["success"] == true, "\(tried.json)")
            #expect(tried["target"]["status"] == "INVITED")
            // The pause between two actions holds for tests too.
            let refused = try await town.post("/api/v1/tasks/\(task)/test-invite", ["target_id": second])
            #expect(refused["success"] == false)
            #expect(refused["reason"] == "no_account_available")
            #expect(refused["retry_at"].stringValue != nil)
            #expect(refused["target"]["status"] == "PENDING")
        }
    }
}
