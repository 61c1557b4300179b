import Core
import Foundation
import LocalServers
import TestServers
import Testing

@Suite(.enabled(if: TestServers.areAvailable)) struct `The real servers of a run` {
    @Test func `start together, tell each service where its own are, and stop when cancelled`() async throws {
        let directory = try await TestServers.directory()
        let servers = try await RealServers.started(in: directory)
        let ids = try await [
            #require(servers.postgres.process.id), #require(servers.redis.process.id),
            #require(servers.rabbitmq.process.id),
        ]

        let invite = servers.environment(for: "invite-service")
        #expect(invite["DATABASE_URL"]?.hasSuffix("/invite_db") == true)
        #expect(
            servers.environment(for: "account-manager")["DATABASE_URL"]
                == servers.environment(for: "integration-service")["DATABASE_URL"])
        #expect(servers.environment(for: "gateway")["DATABASE_URL"] == nil)
        #expect(try await servers.postgres.databases().contains("invite_db"))

        await withTaskGroup { group in
            group.addTask { _ = try? await servers.run() }
            group.cancelAll()
        }
        #expect(ids.filter(ProcessTable.isRunning) == [])
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
