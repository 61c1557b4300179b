import Core
import HTTP
import Invites
import Sandbox
import ServiceKit
import Storage
import Synchronization
import TestServers
import Testing

/// Three processes of invite-service over one database, one queue and one cache: whoever is asked, all obey.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: TestServers.areAvailable))
struct `A command sent to several replicas at once` {
    private func campaign(_ town: Town, people: Int = 40, _ temper: Temper = .open) async throws -> Int64 {
        let club = try #require(town.world.communities().first { $0.username == "sandbox_club" }?.chatID)
        let task = try await town.makeTask(["group_id": "@sandbox_club", "batch_size": 1])
        try await town.add(town.world.people(temper, notIn: club, limit: people), to: task)
        return task
    }

    /// The command of each, sent to all replicas at the same moment, with how much had been sent when the answer came.
    private func send(_ command: String, _ task: Int64, to replicas: [Town.Run], _ town: Town) async throws
        -> [(
            answer: Town.Answer, sent: Int
        )]
    {
        try await withThrowingTaskGroup(of: (Town.Answer, Int).self) { group in
            for replica in replicas {
                group.addTask {
                    let answer = try await town.ask(replica, .post, "/api/v1/tasks/\(task)/\(command)")
                    return (answer, town.adds)
                }
            }
            return try await group.reduce(into: []) { $0.append((answer: $1.0, sent: $1.1)) }
        }
    }

    private struct Sent: Error {}

    private func pass(_ town: Town) async throws {
        for _ in 0..<3 {
            town.time.advance(by: .hours(2))
            try await SystemTime().sleep(for: .milliseconds(40))
        }
    }

    @Test func `starts it once, and stops it for all of them`() async throws {
        try await withTown(.real) { town in
            try await town.connect(10)
            let replicas = try await town.replicas(3)
            let task = try await campaign(town)

            let started = try await send("execute", task, to: replicas, town)
            #expect(started.allSatisfy { $0.answer.status == 202 && $0.answer["status"] == "IN_PROGRESS" })
            let runs = try await town.store.database.run("SELECT run FROM invite_tasks WHERE id = \(task)")
            #expect(try runs.first?.int("run") == 1)
            let starts = try await town.get("/api/v1/tasks/\(task)/logs?action=TASK_STARTED")
            #expect(starts["total"] == 1)

            for _ in 0..<2 {
                let before = town.adds
                // Time passes only while nobody is at work: a send that hours have overtaken is not begun.
                do {
                    try await town.play(task) { if town.adds > before { throw Sent() } }
                } catch is Sent {}
                let paused = try await send("pause", task, to: replicas, town)
                // The first that says nothing is on its way any more speaks for all.
                let known = paused.filter { $0.answer["in_flight"] == 0 }.map(\.sent).min()
                for (answer, _) in paused {
                    #expect([200, 202].contains(answer.status))
                    #expect(answer["status"] == "PAUSED")
                }
                try await pass(town)
                #expect(known.map { $0 == town.adds } ?? true, "\(known ?? -1) \(town.adds)")
                #expect(try await town.get("/api/v1/tasks/\(task)")["status"] == "PAUSED")
                let resumed = try await send("resume", task, to: replicas, town)
                #expect(resumed.allSatisfy { $0.answer["status"] == "IN_PROGRESS" })
            }

            // One says go on while another says stop: what stands afterwards holds.
            let race = try await withThrowingTaskGroup(of: Town.Answer.self) { group in
                for (index, command) in ["pause", "resume", "pause"].enumerated() {
                    let replica = replicas[index]
                    group.addTask { try await town.ask(replica, .post, "/api/v1/tasks/\(task)/\(command)") }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(race.allSatisfy { [200, 202].contains($0.status) })
            let sent = town.adds
            if try await town.get("/api/v1/tasks/\(task)")["status"] == "PAUSED" {
                try await eventually("all are back") {
                    try await town.store.inFlight(task, at: town.time.now) == 0
                }
                let held = town.adds
                try await pass(town)
                #expect(town.adds == held && held >= sent)
            }

            let cancelled = try await send("cancel", task, to: replicas, town)
            let known = cancelled.filter { $0.answer["in_flight"] == 0 }.map(\.sent).min()
            #expect(cancelled.allSatisfy { $0.answer["status"] == "CANCELLED" })
            try await pass(town)
            #expect(known.map { $0 == town.adds } ?? true)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["completed_count"].intValue == Int64(town.adds))
            #expect(end["skipped_count"].intValue == Int64(40 - town.adds))
            for command in ["execute", "resume", "pause"] {
                let refused = try await send(command, task, to: replicas, town)
                #expect(refused.allSatisfy { $0.answer.status == 409 }, "\(command)")
            }
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }

    /// Whom one replica takes back no other takes back again, and each is tried once more.
    @Test func `tries once more who had failed, and each once`() async throws {
        try await withTown(.real) { town in
            try await town.connect(8)
            let replicas = try await town.replicas(3)
            let task = try await campaign(town, people: 6, .closed)
            _ = try await town.post("/api/v1/tasks/\(task)/execute")
            try await town.play(task)
            #expect(try await town.get("/api/v1/tasks/\(task)")["failed_count"] == 6)
            let tried = town.adds
            let again = try await send("retry-failed", task, to: replicas, town)
            #expect(again.allSatisfy { $0.answer.status == 200 })
            #expect(again.compactMap { $0.answer["retried_count"].intValue }.reduce(0, +) >= 6)
            try await town.play(task)
            let end = try await town.get("/api/v1/tasks/\(task)")
            #expect(end["failed_count"] == 6)
            let attempts = try await town.store.database.run(
                """
                SELECT target_id, COUNT(*) AS count FROM invite_attempts WHERE counts <> 'none' GROUP BY target_id
                """)
            #expect(try attempts.allSatisfy { try $0.int("count") == 2 })
            #expect(town.adds == 2 * tried)
            #expect(Judge.judge(town.world.ledger).isEmpty)
        }
    }
}

extension Town {
    /// invite-service so many times: the one there is, and more processes over the same servers. They end with the town.
    func replicas(_ count: Int) async throws -> [Run] {
        let first = run(.invites)
        var all = [try #require(first)]
        while all.count < count { all.append(try await startReplica(.invites)) }
        return all
    }
}
