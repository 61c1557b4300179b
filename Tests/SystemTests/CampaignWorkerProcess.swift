import Core
import Foundation
import TestServers
import Testing

/// Campaigns are worked on by as many processes as one likes; the one that answers need not be among them.
@Suite(.timeLimit(.minutes(10)), .enabled(if: TestServers.areAvailable))
struct `A campaign worker as a process of its own` {
    @Test func `carries out what the answering process was told`() async throws {
        let ports = try Ports()
        let queues = try await TestServers.rabbitmq()
        let database = try await TestServers.postgres()
        let cache = try await TestServers.redis().url
        let secret = Data(repeating: 7, count: 32).base64EncodedString()
        func start(_ arguments: [String], _ more: [String: String] = [:]) async throws -> RunningProgram {
            let settings = [
                "RABBITMQ_URL": queues, "DATABASE_URL": database, "REDIS_URL": cache,
                "JWT_SECRET": String(repeating: "k", count: 32), "INVITE_SUPPRESSION_KEY": secret,
                "DATA_DIR": try await TestServers.directory() + "/data", "INVITE_WAKE_MILLISECONDS": "50",
            ]
            return try await RunningProgram.start(
                "invite-service", arguments,
                settings: settings.merging(ports.settings) { $1 }.merging(more) { $1 })
        }
        let service = try await start([], ["INVITE_WORKER": "false"])
        let port = ports["invite-service"]
        @Sendable func ask(_ method: String, _ path: String, _ body: String? = nil) throws -> JSONValue {
            try #require(Answer(port, method, "/api/v1\(path)", json: body)).json
        }
        try await waitUntil("the service answers") {
            try #require(service.process.status == nil, "\(service.printed)")
            return Answer(port, "GET", "/api/v1/health/detailed")?.status == 200
        }
        _ = try ask("POST", "/suppressions", #"{"username":"said_no"}"#)
        func campaign(_ person: String) throws -> Int64 {
            let settings = #"{"group_id":"@club"}"#
            let made = try ask("POST", "/tasks", #"{"name":"Test","settings":\#(settings)}"#)
            let task = try #require(made["id"]?.intValue, "\(made)")
            _ = try ask("POST", "/tasks/\(task)/targets", #"{"username":"\#(person)"}"#)
            let started = try ask("POST", "/tasks/\(task)/execute", #"{"force":true}"#)
            try #require(started["status"] == "IN_PROGRESS", "\(started)")
            return task
        }
        let ending = try campaign("said_no")
        let waiting = try campaign("would_come")
        #expect(try ask("GET", "/tasks/\(ending)")["status"] == "IN_PROGRESS")

        let worker = try await start(["worker"])
        // Taken from the queue, claimed in SQL, checked against the stop-list, ended.
        try await waitUntil("the campaign has ended") {
            try #require(worker.process.status == nil, "\(worker.printed)")
            return try ask("GET", "/tasks/\(ending)")["status"] == "COMPLETED"
        }
        #expect(try ask("GET", "/tasks/\(ending)")["skipped_count"] == 1)
        // There is no account-manager here: the worker has looked for an account, and says what it waits for.
        try await waitUntil("the other one waits for an account") {
            try ask("GET", "/tasks/\(waiting)")["waiting_for"]?["reason"] == "unreachable"
        }
        #expect(await worker.end() == .exited(0))
        #expect(await service.end() == .exited(0))
    }
}
