import Core
import HTTP
import Parsing
import Synchronization
import Testing

@testable import ParsingServiceWiring

@Suite(.timeLimit(.minutes(5)))
struct `A progress stream` {
    /// Events as a client reads them.
    private func events(_ bytes: Bytes) -> [(id: String, name: String, data: JSONValue)] {
        String(decoding: bytes, as: UTF8.self).split(separator: "\n\n").compactMap { block in
            var (id, name, data) = ("", "", "")
            for line in block.split(separator: "\n") {
                if line.hasPrefix("id: ") { id = String(line.dropFirst(4)) }
                if line.hasPrefix("event: ") { name = String(line.dropFirst(7)) }
                if line.hasPrefix("data: ") { data += line.dropFirst(6) }
            }
            guard !name.isEmpty else { return nil }
            return (id, name, (try? JSONValue(parsing: data)) ?? .null)
        }
    }

    @Test func `tells all listeners how far the task is, until it has ended`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            let id = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            // They listen before there is an account to read with.
            let streams = try await withThrowingTaskGroup(of: Bytes.self) { group in
                for _ in 0..<150 {
                    group.addTask {
                        let (_, response) = await run.user().open(.get, "/api/v1/tasks/\(id)/progress-stream")
                        #expect(response.status == 200)
                        #expect(response.headers["content-type"]?.hasPrefix("text/event-stream") == true)
                        return try await response.collect()
                    }
                }
                try await plant.connect()
                return try await group.reduce(into: [Bytes]()) { $0.append($1) }
            }
            #expect(streams.count == 150)
            for stream in streams {
                let events = events(stream)
                #expect(events.last?.name == "done")
                #expect(events.last?.data["status"] == "completed")
                #expect(events.last?.data["progress"] == 100)
                #expect(events.first?.name == "progress")
                #expect(events.count { $0.name == "done" } == 1)
                // Nothing is told twice; the end has the number of what it ends with.
                let ids = events.filter { $0.name == "progress" }.compactMap { Int($0.id) }
                #expect(zip(ids, ids.dropFirst()).allSatisfy { $0 < $1 }, "\(ids)")
                #expect(events.last?.id == ids.last.map { String($0) })
            }
        }
    }

    @Test func `goes on after the event that was last seen`() async throws {
        try await Plant.open(.sqlite) { plant, run in
            try await plant.connect()
            let id = try await run.create("sandbox_gate", "members", ["speed_config": "fast"])
            _ = try await run.ended(id)
            let whole = events(await run.user().get("/api/v1/tasks/\(id)/progress-stream").bytes)
            #expect(whole.map(\.name) == ["progress", "done"])
            let last = try #require(whole.first?.id)
            let rest = await run.user().get(
                "/api/v1/tasks/\(id)/progress-stream", headers: ["Last-Event-ID": last])
            #expect(events(rest.bytes).map(\.name) == ["done"])
            let asked = await run.user().get("/api/v1/tasks/\(id)/progress-stream?last_event_id=0")
            #expect(events(asked.bytes).map(\.name) == ["progress", "done"])
            let nonsense = await run.user().get(
                "/api/v1/tasks/\(id)/progress-stream", headers: ["Last-Event-ID": "what?"])
            #expect(events(nonsense.bytes).map(\.name) == ["progress", "done"])
        }
    }

    @Test func `repeats nothing and leaves nothing out when the connection is lost on the way`() async throws
    {
        let time = ScaledTime(origin: SystemTime().now, scale: 30)
        try await Plant.open(.sqlite, Plant.options(), [:], .documented, time: time) { plant, run in
            try await plant.connect()
            plant.addGroup("test_watched", messages: 800, members: 30)
            let id = try await run.create("test_watched", "messages", ["speed_config": "fast"])
            var told: [Int] = []
            var last: String?
            var isDone = false
            while !isDone {
                let headers: Headers = last.map { ["Last-Event-ID": $0] } ?? [:]
                let (_, response) = await run.user().open(
                    .get, "/api/v1/tasks/\(id)/progress-stream", headers: headers)
                // Whoever listens hangs up after every second event.
                let connection = Connection(events: 2)
                guard case .stream(_, let write) = response.content else {
                    Issue.record("\(response.status)")
                    return
                }
                do { try await write(connection) } catch is Connection.Lost {}
                for event in events(connection.bytes) {
                    if event.name == "done" {
                        isDone = true
                        #expect(event.data["processed_messages"] == 800)
                    } else {
                        told.append(try #require(Int(event.id)))
                    }
                    last = event.id
                }
            }
            #expect(zip(told, told.dropFirst()).allSatisfy { $0 < $1 }, "\(told)")
            #expect(told.count > 1)
            let task = await run.user().get("/tasks/\(id)/progress")
            #expect(task["revision"] == .int(Int64(told.last ?? 0)))
        }
    }

    @Test func `ends when the task is deleted`() async throws {
        try await Plant.open(.sqlite) { _, run in
            let id = try await run.create("sandbox_club", "members")
            async let stream = run.user().get("/api/v1/tasks/\(id)/progress-stream")
            try await eventually("somebody listens") {
                await run.nobody.get("/metrics").text.contains("parse_progress_listeners 1")
            }
            #expect(await run.user().delete("/tasks/\(id)").status == 204)
            #expect(events(await stream.bytes).last?.name == "done")
        }
    }
}

/// A connection that is lost once so many events have come.
private final class Connection: BodyWriter {
    struct Lost: Error {}
    private let most: Int
    private let received = Mutex<Bytes>([])

    init(events: Int) { most = events }

    var bytes: Bytes { received.withLock { $0 } }

    func write(_ bytes: Bytes) async throws {
        let count = received.withLock { received in
            received += bytes
            return String(decoding: received, as: UTF8.self).components(of: "\nevent: ")
        }
        if count >= most { throw Lost() }
    }
}

extension String {
    fileprivate func components(of part: String) -> Int { ("\n" + self).split(separator: part).count - 1 }
}
