import Core
import Foundation
import TestServers
import Testing

@Suite(.enabled(if: TestServers.areAvailable)) struct `What is deployed` {
    @Test func `is accepted by the programs that will read it, and names what exists`() async throws {
        let output = try await TestServers.directory() + "/output"
        let status = try await ChildProcess.run(
            Command(
                "Tools/deployment", environment: ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin"],
                output: .file(output)))
        let words = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        #expect(status == .exited(0), "\(words)")
    }
}

@Suite struct `The launcher` {
    private func launch(_ arguments: [String], environment: [String: String] = [:]) async throws -> (
        status: LocalServers.ExitStatus, words: String
    ) {
        let output = try await TestServers.directory() + "/output"
        let ground = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent"]
        let status = try await ChildProcess.run(
            Command(
                "./convoke", arguments, environment: ground.merging(environment) { $1 }, output: .file(output)
            ))
        return (status, (try? String(contentsOfFile: output, encoding: .utf8)) ?? "")
    }

    @Test(arguments: ["up", "demo", "test", "bench", "check", "doctor"])
    func `explains each command, in both ways of asking`(command: String) async throws {
        let asked = try await launch([command, "--help"])
        #expect(asked.status == .exited(0))
        #expect(asked.words.hasPrefix("Usage: ./convoke \(command)"))
        #expect(try await launch(["help", command]).words == asked.words)
    }

    @Test(arguments: [
        [], ["dance"], ["--loud"], ["up", "--loud"], ["up", "--seed", "many"], ["up", "--data"],
        ["test", "a", "b"],
        ["bench", "--loud"], ["check", "--loud"], ["doctor", "--loud"], ["help", "dance"],
    ])
    func `refuses wrong use at once, before it installs or builds`(arguments: [String]) async throws {
        #expect(try await launch(arguments).status == .exited(64))
    }

    @Test func `refuses ports that cannot be`() async throws {
        let (status, words) = try await launch(["up"], environment: ["CONVOKE_PORT_BASE": "70000"])
        #expect(status == .exited(64))
        #expect(words.contains("CONVOKE_PORT_BASE"))
    }

    @Test(.enabled(if: TestServers.areAvailable))
    func `names every need in its examination, and what is taken`() async throws {
        let ports = try Ports()
        let (_, words) = try await launch(["doctor"], environment: ports.settings)
        for need in [
            "Swift toolchain", "Debian packages", "tdjson", "Ports", "Disk", "Data folder", "Memory",
        ] {
            #expect(words.contains(need), "\(words)")
        }
        let occupant = try await LocalRedis(
            directory: TestServers.directory(), port: ports["report-service"], durability: .throwaway
        ).started()
        let (status, again) = try await launch(["doctor"], environment: ports.settings)
        #expect(status == .exited(1))
        #expect(again.contains("FAIL   Ports: \(occupant.port) taken"))
        try await occupant.stop()
    }
}
