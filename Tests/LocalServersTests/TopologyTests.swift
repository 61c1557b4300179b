import Core
import Foundation
import LocalServers
import TestServers
import Testing

@Suite(.enabled(if: TestServers.areAvailable), .timeLimit(.minutes(10)))
struct `The real servers of a run` {
    @Test func `start together, tell each service where its own are, and stop when cancelled`() async throws {
        let directory = try await TestServers.directory()
        let servers = try await RealServers.opened(in: directory)
        let invite = servers.environment(for: "invite-service")
        #expect(invite["DATABASE_URL"]?.hasSuffix("/invite_db") == true)
        #expect(
            servers.environment(for: "account-manager")["DATABASE_URL"]
                == servers.environment(for: "integration-service")["DATABASE_URL"])
        #expect(servers.environment(for: "gateway")["DATABASE_URL"] == nil)

        let running = Task { try await servers.run() }
        try await servers.waitUntilStarted()
        let ids = try await [
            #require(servers.postgres.process.id), #require(servers.redis.process.id),
            #require(servers.rabbitmq.process.id),
        ]
        #expect(try await servers.postgres.databases().contains("invite_db"))

        running.cancel()
        _ = await running.result
        #expect(ids.filter(ProcessTable.isRunning) == [])
    }

    @Test func `leave nothing behind when they are stopped while they start`() async throws {
        let servers = try await RealServers.opened(in: TestServers.directory())
        let running = Task { try await servers.run() }
        // It takes longest: it is far from answering.
        while await servers.rabbitmq.process.id == nil { await Task.yield() }
        let id = try #require(await servers.rabbitmq.process.id)
        let family = [id] + ProcessTable.descendants(of: id)

        running.cancel()
        _ = await running.result
        #expect(family.filter(ProcessTable.isRunning) == [])
        #expect(await servers.postgres.process.id == nil)
        #expect(await servers.redis.process.id == nil)
    }

    @Test func `are not started on a folder where others run`() async throws {
        let directory = try await TestServers.directory()
        let first = try await RealServers.opened(in: directory)
        let refusal = await #expect(throws: FileError.self) {
            _ = try await RealServers.opened(in: directory)
        }
        #expect(refusal?.reason.contains("another platform") == true)
        withExtendedLifetime(first) {}
    }
}

@Suite struct `A child process` {
    @Test func `tells how it ended`() async throws {
        #expect(try await ChildProcess.run(Command("/bin/sh", ["-c", "exit 7"])) == .exited(7))
        let child = try await ChildProcess.spawn(Command("/bin/sleep", ["60"]))
        child.signal(SIGTERM)
        #expect(await child.wait() == .signalled(SIGTERM))
        #expect(child.status?.code == 128 + SIGTERM)
    }

    @Test func `sees the environment it is given and nothing else`() async throws {
        let path = try await TestServers.directory() + "/seen"
        let command = Command("/usr/bin/env", [], environment: ["ONE": "1"], output: .file(path))
        #expect(try await ChildProcess.run(command) == .exited(0))
        #expect(try String(contentsOfFile: path, encoding: .utf8) == "ONE=1\n")
    }

    @Test func `that ends by itself ends the services beside it`() async throws {
        let services = ChildServices([
            ("fails", Command("/bin/sh", ["-c", "exit 3"])), ("stays", Command("/bin/sleep", ["60"])),
        ])
        let ended = await #expect(throws: ChildServices.Ended.self) { try await services.run() }
        #expect(ended?.name == "fails")
        #expect(ended?.status == .exited(3))
    }
}

@Suite struct `A temporary folder` {
    @Test func `disappears with what made it`() async throws {
        var folder: TemporaryFolder? = try await TemporaryFolder(named: "convoke-test")
        let path = try #require(folder?.path)
        #expect(FileManager.default.fileExists(atPath: path))
        folder = nil
        let time = SystemTime()
        let start = time.uptime
        while FileManager.default.fileExists(atPath: path), time.uptime - start < .seconds(10) {
            try await time.sleep(for: .milliseconds(5))
        }
        #expect(!FileManager.default.fileExists(atPath: path))
    }
}
