import Core
import HTTP
import Parsing
import Testing

/// Two places, and tasks that would hold them for hours. The pace is the documented one; the clock goes faster,
/// as a task that runs looks around every ten seconds.
@Suite(.timeLimit(.minutes(5)))
struct `The places for reading` {
    @Test(arguments: Engine.available)
    func `are given up to a user who has none, and to what is urgent`(engine: Engine) async throws {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        let settings = ["PARSING_TASKS_AT_ONCE": "2"]
        try await Plant.open(engine, Plant.options(), settings, .documented, time: time) { plant, run in
            try await plant.connect(5)
            try await plant.connect(2, of: 2, skipping: 5)
            plant.addGroup("test_endless", messages: 10_000_000, members: 50)
            var endless: [String] = []
            for _ in 0..<3 {
                endless.append(
                    try await run.create("test_endless", "messages", ["speed_config": "safe"]))
            }
            try await eventually("both places are taken") {
                await run.user().get("/tasks?status=running")["total"].intValue ?? 0 >= 2
            }
            let theirs = try await run.create("sandbox_club", "members", ["member_limit": 1], of: 2)
            #expect(try await run.ended(theirs, of: 2)["result_count"] == 1)
            let urgent = try await run.create(
                "sandbox_club", "members", ["member_limit": 2], priority: .high)
            #expect(try await run.ended(urgent)["result_count"] == 2)
            // Nothing was taken from those who gave way but their turn: whoever has one goes on where it was.
            while !endless.isEmpty {
                let done = try await Self.goesOn(endless, run)
                #expect(await run.user().post("/tasks/\(done)/cancel")["status"] == "cancelled")
                endless.removeAll { $0 == done }
            }
        }
    }

    /// Whichever of the tasks is first seen to have read more than a moment ago, and none has read less.
    private static func goesOn(_ tasks: [String], _ run: Plant.Run) async throws -> String {
        let end = SystemTime().uptime + .seconds(240)
        var known: [String: Int64] = [:]
        while SystemTime().uptime < end {
            for id in tasks {
                let task = await run.user().get("/tasks/\(id)")
                try #require(["pending", "running"].contains(task["status"].stringValue), "\(task.text)")
                let now = try #require(task["processed_messages"].intValue)
                let before = known[id] ?? now
                try #require(now >= before)
                if now > before { return id }
                known[id] = now
            }
            try await SystemTime().sleep(for: .milliseconds(10))
        }
        throw Stuck()
    }

    struct Stuck: Error {}

    /// An urgent task needs no place of somebody else's but an account, and its user has only one.
    @Test func `are not enough: the account goes to what its user has more urgent`() async throws {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        try await Plant.open(.sqlite, Plant.options(), [:], .documented, time: time) { plant, run in
            try await plant.connect(1)
            plant.addGroup("test_endless", messages: 10_000_000, members: 50)
            let slow = try await run.create("test_endless", "messages", ["speed_config": "safe"])
            try await eventually("it reads") { await run.user().get("/tasks/\(slow)")["status"] == "running" }
            let low = try await run.create("sandbox_club", "members", ["member_limit": 1], priority: .low)
            let urgent = try await run.create(
                "sandbox_club", "members", ["member_limit": 2], priority: .high)
            #expect(try await run.ended(urgent)["result_count"] == 2)
            #expect(await run.user().post("/tasks/\(slow)/cancel")["status"] == "cancelled")
            #expect(try await run.ended(low)["result_count"] == 1)
        }
    }
}
