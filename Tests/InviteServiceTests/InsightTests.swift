import Core
import HTTP
import Invites
import Sandbox
import ServiceKit
import Storage
import TestServers
import Testing

/// What an operator sees of a campaign that keeps to its own pace, and of those it has invited.
@Suite(.timeLimit(.minutes(5)))
struct `What one sees of a campaign` {
    private struct Seen: Error {}

    private func club(_ town: Town) throws -> Int64 {
        try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
    }

    /// The clock begins on a Sunday, 15:00 in Moscow.
    @Test func `is that it keeps to its hours and its cap, and why so few today`() async throws {
        try await withTown { town in
            try await town.connect(5)
            let task = try await town.makeTask([
                "group_id": "@sandbox_club", "daily_cap": 2,
                "window": [
                    "days": ["mon", "tue", "wed", "thu", "fri"], "from": "09:00", "to": "18:00",
                    "timezone": "Europe/Moscow",
                ],
            ])
            try await town.add(town.world.people(.open, notIn: club(town), limit: 5), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            var status = try await town.get("/api/v1/tasks/\(task)/status")
            try await eventually("it waits for Monday") {
                status = try await town.get("/api/v1/tasks/\(task)/status")
                return status["waiting_for"]["reason"] == "window"
            }
            #expect(status["waiting_for"]["reason"] == "window")
            #expect(status["waiting_for"]["until"] == "2025-08-25T06:00:00Z")
            #expect(status["waiting_for"]["message"]?.stringValue?.isEmpty == false)
            #expect(status["next_action_at"] == "2025-08-25T06:00:00Z")

            // Behind Monday's two it says what binds, and until when.
            await #expect(throws: Seen.self) {
                try await town.play(task) {
                    guard town.adds == 2 else { return }
                    let status = try await town.get("/api/v1/tasks/\(task)/status")
                    if status["waiting_for"]["reason"] == "daily_cap" { throw Seen() }
                }
            }
            let stats = try await town.get("/api/v1/tasks/\(task)/stats")
            #expect(stats["waterfall"]["binding"] == "daily_cap", "\(stats["waterfall"])")
            let steps = stats["waterfall"]["steps"]?.arrayValue ?? []
            func count(_ step: String) -> Int64? {
                steps.first { $0["step"]?.stringValue == step }?["count"]?.intValue
            }
            #expect(count("pending") == 3)
            #expect(count("accounts") == 5)
            #expect(count("without_right") == 0)
            #expect(stats["by_day"].objectValue?.count == 1)

            try await town.play(task)
            let adds = town.world.ledger.filter { $0.kind == .addMember }
            #expect(adds.count == 5)
            let days = Dictionary(grouping: adds) { ($0.time.milliseconds + 10_800_000) / 86_400_000 }
            #expect(days.values.allSatisfy { $0.count <= 2 }, "\(days.mapValues(\.count))")
            for add in adds {
                let minute = (add.time.milliseconds / 60_000 + 180) % 1440
                #expect((540..<1080).contains(minute), "\(add.time)")
            }
            #expect(try await town.get("/api/v1/tasks/\(task)/stats")["by_day"].objectValue?.count == 3)
        }
    }

    @Test func `is who has stayed, and whoever has left is left alone from then on`() async throws {
        try await withTown { town in
            try await town.connect(3)
            let group = try club(town)
            let people = town.world.people(.open, notIn: group, limit: 3)
            let task = try await town.makeTask(["group_id": "@sandbox_club", "verify_membership": true])
            try await town.add(people, to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            try await town.play(task)
            let waiting = try await town.store.database.run(
                "SELECT COUNT(*) AS count FROM invite_targets WHERE verify_at IS NOT NULL")
            #expect(try waiting.first?.int("count") == 3)
            town.world.setStanding(of: people[1].userID, inGroup: group, to: "left")
            try await eventually("they were looked for once more") {
                town.time.advance(by: .minutes(5))
                let left = try await town.store.database.run(
                    "SELECT COUNT(*) AS count FROM invite_targets WHERE verify_at IS NOT NULL")
                return try left.first?.int("count") == 0
            }
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["counts"] == ["attempted": 3, "accepted": 3, "refused": 0, "verified": 2])
            let logs = try await town.get("/api/v1/tasks/\(task)/logs?action=MEMBER_LEFT")
            #expect(logs["total"] == 1)
            #expect(logs["items"][0]?["message"]?.stringValue?.isEmpty == false)
            // Also for the next campaign.
            let next = try await town.makeTask()
            try await town.add([people[1]], to: next)
            _ = try await town.post("/api/v1/tasks/\(next)/execute", ["force": true])
            try await town.play(next)
            let target = try await town.get("/api/v1/tasks/\(next)/targets")["items"][0]
            #expect(target?["error_code"] == "suppressed")
        }
    }

    @Test func `can be followed from where one has stopped`() async throws {
        try await withTown { town in
            try await town.connect(2)
            let task = try await town.makeTask()
            try await town.add(town.world.people(.open, notIn: club(town), limit: 2), to: task)
            _ = try await town.post("/api/v1/tasks/\(task)/execute", ["force": true])
            try await town.play(task)
            let all = try await town.stream("/api/v1/tasks/\(task)/status-stream?last_event_id=0")
            let ids = all.split(separator: "\n").filter { $0.hasPrefix("id: ") }.compactMap {
                Int64($0.dropFirst(4))
            }
            try #require(ids.count >= 2)
            #expect(ids == ids.sorted())
            let rest = try await town.stream("/api/v1/tasks/\(task)/status-stream?last_event_id=\(ids[0])")
            #expect(!rest.contains("id: \(ids[0])\n"))
            #expect(rest.contains("id: \(ids[1])\n"))
            #expect(rest.contains("event: done"))
        }
    }
}
