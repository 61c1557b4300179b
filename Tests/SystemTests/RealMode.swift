import Core
import Foundation
import TestServers
import Testing

@Suite(.timeLimit(.minutes(15)), .enabled(if: TestServers.areAvailable))
struct `The platform over real servers` {
    @Test func `keeps its word through a kill, leaves nothing behind, and stands on the servers it says`()
        async throws
    {
        let ports = try Ports()
        let data = try await TestServers.directory() + "/data"
        let account = #"{"email":"anna@example.org","password":"correct horse battery staple"}"#

        let first = try await RunningProgram.start(
            "convoke", ["up", "--real", "--data", data], settings: ports.settings)
        try await first.waitFor("Convoke is up")
        try await waitUntil("the schema is there") {
            Answer(ports["user-service"], "GET", "/api/v1/health/detailed")?.status == 200
        }
        let health = Answer(ports["user-service"], "GET", "/api/v1/health/detailed")?.json["components"]
        #expect(health?["database"] != nil && health?["cache"] != nil && health?["queue"] != nil)
        #expect((health?["vault"] != nil) == LocalVault.isInstalled)
        #expect(!FileManager.default.fileExists(atPath: data + "/user_db.sqlite"), "nothing is embedded here")
        for service in Ports.offsets.keys {
            try await expectOperable(service, ports[service], metrics: ports.metrics(of: service))
        }
        #expect(Answer(ports["user-service"], "POST", "/auth/register", json: account)?.status == 201)

        // As a power cut would: nothing of ours gets to say goodbye.
        let family = ProcessTable.descendants(of: first.process.id)
        #expect(family.count >= 11)
        first.process.signal(SIGKILL)
        _ = await first.process.wait()
        try await waitUntil("all that belonged to it has ended") {
            !family.contains(where: ProcessTable.isRunning)
        }

        let second = try await RunningProgram.start(
            "convoke", ["up", "--real", "--data", data], settings: ports.settings)
        try await second.waitFor("Convoke is up")
        try await waitUntil("the account can sign in") {
            Answer(ports["user-service"], "POST", "/auth/login", json: account)?.status == 200
        }
        let secondFamily = ProcessTable.descendants(of: second.process.id)
        #expect(await second.end() == .exited(0))
        #expect(secondFamily.filter(ProcessTable.isRunning) == [])
    }

    @Test func `is not started where a port is taken, and says which`() async throws {
        let ports = try Ports()
        let occupant = try await LocalRedis(
            directory: TestServers.directory(), port: ports["invite-service"], durability: .throwaway
        ).started()
        let data = try await TestServers.directory() + "/data"
        let program = try await RunningProgram.start(
            "convoke", ["up", "--real", "--data", data], settings: ports.settings)
        #expect(await program.process.wait() == .exited(78))
        #expect(
            program.logged("settings.wrong", "mistake").joined().contains(
                "port \(occupant.port) of invite-service"))
        #expect(!FileManager.default.fileExists(atPath: data + "/servers"), "no server was started")
        try await occupant.stop()
    }
}
