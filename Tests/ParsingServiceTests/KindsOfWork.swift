import Core
import HTTP
import Testing

@Suite(.timeLimit(.minutes(5)))
struct `A parse over a world of known content` {
    @Test(arguments: Engine.available)
    func `reads the members of a group to the last person`(engine: Engine) async throws {
        try await Plant.open(engine) { plant, run in
            try await plant.connect()
            let id = try await run.create("https://t.me/Sandbox_Club", "members", ["speed_config": "fast"])
            let task = try await run.ended(id)
            #expect(task["status"] == "completed", "\(task.text)")
            let people = try await run.results(id)
            let ids = people.compactMap { $0["platform_id"]?.stringValue.flatMap { Int64($0) } }
            let truth = plant.members(of: "sandbox_club")
            #expect(ids.count == truth.count)
            #expect(Set(ids) == truth)
            #expect(task["result_count"] == .int(Int64(truth.count)))
            #expect(task["coverage"]["read"] == .int(Int64(truth.count)))
            #expect(task["coverage"]["reported"] == .int(Int64(truth.count)))
            #expect(task["coverage"]["hidden"] == 0)
            #expect(task["progress"] == 100)
        }
    }
}
