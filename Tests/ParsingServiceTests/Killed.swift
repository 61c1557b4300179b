import Core
import HTTP
import Parsing
import Testing

@Suite(.timeLimit(.minutes(10)))
struct `A parse whose worker is killed` {
    /// Within one process, at any of its awaits; `KilledProcess` kills the process.
    @Test(arguments: Engine.available)
    func `ends as one that nobody disturbed`(engine: Engine) async throws {
        let (messages, kills) = engine == .sqlite ? (3_000, 50) : (1_000, 8)
        let plant = try await Plant(engine)
        plant.addGroup("test_huge", messages: Int64(messages), members: 150)
        try await plant.connect(8)
        let random = SeededRandom(seed: 11)
        let rhythm = Rhythm.unlimited(size: 50, pages: 1)
        var run = try await plant.started(rhythm)
        let id = try await run.create("test_huge", "messages", ["speed_config": "fast"])
        for kill in 1...kills {
            // Somewhere within the next part.
            let target = Int64(messages * (kill - 1) / kills + random.int(in: 0...(messages / kills)))
            try await eventually("it has read \(target) messages") {
                let task = await run.user().get("/tasks/\(id)")
                return task["processed_messages"].intValue ?? 0 >= target || task["status"] == "completed"
            }
            await run.kill()
            run = try await plant.started(rhythm)
        }
        let task = try await run.ended(id)
        #expect(task["status"] == "completed", "\(task.text)")
        let truth = plant.truth(of: "test_huge")
        #expect(task["processed_messages"] == .int(Int64(truth.total)))
        #expect(task["message_count"] == .int(Int64(truth.messages.count)))
        let found = try await run.everything(id)
        #expect(found.differences(from: truth) == [])
        await run.stop()
        await plant.close()
    }
}

extension Plant.Run {
    /// As `found`, by the export, which brings a hundred thousand messages faster than pages do.
    func everything(_ id: String) async throws -> Found {
        func lines(_ kind: String) async throws -> [JSONValue] {
            let answer = await user().get("/api/v1/results/\(id)/export?format=ndjson&kind=\(kind)")
            try #require(answer.status == 200)
            return try answer.bytes.split(separator: UInt8(ascii: "\n")).map { try JSONValue(parsing: $0) }
        }
        return Found(messages: try await lines("messages"), people: try await lines("people"))
    }
}
