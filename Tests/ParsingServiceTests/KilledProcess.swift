import Core
import Foundation
import HTTP
import HTTPClient
import Parsing
import TestServers
import Testing

/// SIGKILL on a process of its own, while PostgreSQL, Telegram and the other services live on in theirs. The
/// pace is the documented one; only the clock of all goes faster.
@Suite(.timeLimit(.minutes(15)))
struct `A parse whose process is killed` {
    /// As much as the contract asks for where there is time: `CONVOKE_LONG=1`.
    static let size: (messages: Int64, kills: Int) =
        Environment.process.has("CONVOKE_LONG") ? (100_000, 50) : (3_000, 5)

    @Test(arguments: Engine.available)
    func `brings what one brings that nobody disturbed`(engine: Engine) async throws {
        let (messages, kills) = Self.size
        let plant = try await Plant(
            engine, Plant.options(), time: ScaledTime(origin: SystemTime().now, scale: 30))
        plant.addGroup("test_huge", messages: messages, members: 500)
        try await plant.connect(2)
        let victim = try await Victim(plant, engine)
        try await victim.start()
        let id = try await victim.create("test_huge", "messages", ["speed_config": "fast"])
        let random = SeededRandom(seed: 11)
        var struck = 0
        for kill in 0..<kills {
            // Somewhere within the next part, and there at any moment between two pages or amid one.
            let target =
                messages * Int64(kill) / Int64(kills) + Int64(random.int(in: 0...Int(messages) / kills))
            var task = try await victim.task(id)
            while task["processed_messages"]?.intValue ?? 0 < target, task["status"] != "completed" {
                try #require(task["status"] != "failed", "\(task.text)")
                try await SystemTime().sleep(for: .milliseconds(5))
                task = try await victim.task(id)
            }
            try await SystemTime().sleep(for: .milliseconds(random.int(in: 0...40)))
            struck += task["status"] == "completed" ? 0 : 1
            try await victim.kill()
            try await victim.start()
        }
        #expect(struck > 0, "it was over before anybody was killed")
        try await eventually("it ends") {
            ["completed", "failed"].contains(try await victim.task(id)["status"]?.stringValue)
        }
        let last = try await victim.task(id)
        #expect(last["status"] == "completed", "\(last.text)")
        #expect(await victim.end() == .exited(0))

        let run = try await plant.started(.unlimited(size: 100, pages: 10), ["PARSING_WORKER_NAME": "calm"])
        let calm = try await run.create("test_huge", "messages", ["speed_config": "fast"])
        let undisturbed = try await run.ended(calm)
        let killed = await run.user().get("/tasks/\(id)")
        for name in [
            "status", "processed_messages", "processed_media", "processed_users", "result_count",
            "message_count", "filtered_count", "coverage", "progress", "estimated_total", "community", "plan",
        ] {
            #expect(killed[name] == undisturbed[name], "\(name)")
        }
        #expect(killed["processed_messages"] == .int(Int64(plant.truth(of: "test_huge").total)))
        // Byte for byte: the same rows in the same order, and their numbers without a gap.
        for kind in ["people", "messages"] {
            let one = try await run.rows(id, kind)
            let other = try await run.rows(calm, kind)
            #expect(one.count == other.count, "\(kind)")
            #expect(one == other, "\(zip(one, other).first { $0 != $1 }.map { "\($0)\n\($1)" } ?? "")")
        }
        #expect(try await run.everything(id).differences(from: plant.truth(of: "test_huge")) == [])
        await run.stop()
        await plant.close()
    }
}

/// Over SQLite `parsing-service` as a whole, which is asked over HTTP; over PostgreSQL `parsing-service worker`,
/// beside one that answers and is left alone.
private final class Victim {
    private let plant: Plant
    private let command: Command
    private let port: Int
    private let output: String
    private let answering: Plant.Run?
    private var process: ChildProcess?

    init(_ plant: Plant, _ engine: Engine) async throws {
        self.plant = plant
        port = try Loopback.freePort()
        output = "\(plant.folder)/victim"
        let clock = try #require(plant.time as? ScaledTime)
        var settings = plant.values
        settings["CONVOKE_TIME_SCALE"] = String(clock.scale)
        settings["CONVOKE_TIME_ORIGIN"] = clock.origin.description
        settings["LOG_LEVEL"] = "info"
        settings["PARSING_WORKER_NAME"] = "victim"
        switch engine {
        case .sqlite:
            settings["DATA_DIR"] = "\(plant.folder)/parsing"
            settings["AUTH_MODE"] = "dev"
            settings["PARSING_SERVICE_PORT"] = String(port)
            answering = nil
        case .postgres:
            settings["DATA_DIR"] = "\(plant.folder)/worker"
            settings["PARSING_SERVICE_WORKER_PORT"] = String(port)
            answering = try await plant.started(.quick, ["PARSING_WORKER": "false"])
        }
        command = Command(
            try Self.folder() + "/parsing-service", engine == .sqlite ? [] : ["worker"],
            environment: settings, output: .file(output))
    }

    /// Where the programs were built, beside the tests.
    private static func folder() throws -> String {
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(fileURLWithPath: program).deletingLastPathComponent().path
    }

    func start() async throws { process = try await ChildProcess.spawn(command) }

    func kill() async throws {
        let process = try #require(process)
        try #require(process.status == nil, "it ended by itself: \(printed)")
        process.signal(SIGKILL)
        #expect(await process.wait() == .signalled(SIGKILL))
    }

    /// As an init system ends it.
    func end() async -> LocalServers.ExitStatus {
        process?.signal(SIGTERM)
        let status = await process?.wait() ?? .exited(-1)
        await answering?.stop()
        return status
    }

    func create(_ link: String, _ type: String, _ config: JSONValue) async throws -> String {
        if let answering { return try await answering.create(link, type, config) }
        var made: JSONValue?
        try await eventually("it takes the task") {
            made = try await ask(
                .post, "/api/v1/tasks",
                [
                    "user_id": 1, "platform": "telegram", "links": [.string(link)],
                    "task_type": .string(type), "config": config,
                ])
            return made != nil
        }
        return try #require(made?["id"]?.stringValue, "\(made?.text ?? "")")
    }

    /// How it stands, as soon as anybody can tell.
    func task(_ id: String) async throws -> JSONValue {
        if let answering {
            let answer = await answering.user().get("/tasks/\(id)")
            try #require(answer.status == 200, "\(answer.text)")
            return answer.json
        }
        var task: JSONValue = .null
        try await eventually("it answers") {
            guard let answer = try await ask(.get, "/api/v1/tasks/\(id)?user_id=1") else { return false }
            task = answer
            return task["status"]?.stringValue.flatMap { TaskStatus(rawValue: $0) } != nil
        }
        return task
    }

    /// Nil while nobody is there.
    private func ask(_ method: HTTP.Method, _ path: String, _ body: JSONValue? = nil) async throws
        -> JSONValue?
    {
        try #require(process?.status == nil, "it ended by itself: \(printed)")
        do {
            let answer = try await plant.client.send(
                ClientRequest(
                    method, "http://127.0.0.1:\(port)\(path)", headers: ["Content-Type": "application/json"],
                    body: Body(body?.bytes ?? [])))
            guard answer.status < 500 else { return nil }
            return try await answer.json()
        } catch is ClientError {
            return nil
        }
    }

    private var printed: String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }
}

extension Plant.Run {
    /// All rows of a result as lines, in their order.
    fileprivate func rows(_ id: String, _ kind: String) async throws -> [Substring] {
        let answer = await user().get("/api/v1/results/\(id)/export?format=ndjson&kind=\(kind)")
        try #require(answer.status == 200)
        return answer.text.split(separator: "\n")
    }
}
