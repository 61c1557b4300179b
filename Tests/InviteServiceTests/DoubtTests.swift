import Contracts
import Core
import HTTP
import Invites
import Sandbox
import Storage
import TestServers
import Testing

/// Attempts whose worker is gone between the decision to send and the answer.
@Suite(.timeLimit(.minutes(5)))
struct `An attempt that nobody knows about` {
    /// Between its check and the moment it is found, its account may have been used: to send it then would break
    /// a limit. The ledger of Telegram itself is the judge.
    @Test(arguments: Ground.available)
    func `is made by nobody any more, and the person comes under a check of their own`(ground: Ground)
        async throws
    {
        try await withTown(ground) { town in
            let account = try #require(try await town.connect(1).first).id
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let people = town.world.people(.open, notIn: club, limit: 2)
            let task = try await town.makeTask()
            try await town.add(people, to: task)
            let store = try town.store
            let name = people[1].username?.lowercased()
            try await store.database.run(
                """
                UPDATE invite_targets SET not_before = \(town.time.now + .days(1))
                WHERE task_id = \(task) AND username = \(name)
                """)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await eventually("the first one was invited") {
                try await town.get("/api/v1/tasks/\(task)")["completed_count"] == 1
            }
            // A worker that ends just when it has written down that it sends.
            let then = town.time.now + .days(1)
            let (claim, _, found) = try await store.claim(task, limit: 1, by: "gone", at: then)
            guard case .claimed(let claimed) = claim, let found else {
                Issue.record("\(claim)")
                return
            }
            let lease = LeasedAccount(
                accountID: account, userID: 1, phone: "", leaseID: "gone", fencingToken: 1, expiresAt: then)
            let attempt = InviteAttempt(
                id: "inv-gone", target: claimed[0], run: found.run, .invite, lease, channel: found.channel,
                permit: nil, content: "i@sandbox_club", at: then)
            #expect(try await store.begin(attempt, of: found, by: "gone", at: then) == .granted)
            try await store.database.run(
                "UPDATE invite_targets SET held_until = \(town.time.now) WHERE id = \(claimed[0].id)")

            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["completed_count"] == 2, "\(end.json)")
            #expect(Judge.judge(town.world.ledger) == [])
            #expect(town.adds == 2)
            // However late its worker wakes.
            let late = try await town.ask(
                .integration, .post, "/api/v1/telegram/invites/accounts/\(account)/invite",
                [
                    "invite_type": "group_invite", "group_id": "@sandbox_club", "attempt_id": "inv-gone",
                    "target_username": JSONValue(name),
                ])
            #expect(late.status == 503, "\(late.json)")
            #expect(town.adds == 2)
        }
    }

    @Test func `is begun by nobody whose permit has run out`() async throws {
        try await withTown { town in
            let account = try #require(try await town.connect(1).first).id
            let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
            let person = try #require(town.world.people(.open, notIn: club, limit: 1).first)
            func send(notAfter: Timestamp) async throws -> Int {
                try await town.ask(
                    .integration, .post, "/api/v1/telegram/invites/accounts/\(account)/invite",
                    [
                        "invite_type": "group_invite", "group_id": "@sandbox_club", "attempt_id": "late",
                        "target_username": JSONValue(person.username), "not_after": notAfter.json,
                    ]
                ).status
            }
            #expect(try await send(notAfter: town.time.now - .seconds(1)) == 503)
            #expect(town.adds == 0)
            // It was not made, so that it may be made in time.
            #expect(try await send(notAfter: town.time.now + .days(1)) == 200)
            #expect(town.adds == 1)
        }
    }
}
