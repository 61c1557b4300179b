import Core
import Foundation
import TestServers
import Testing

@Suite(.timeLimit(.minutes(10))) struct `The platform in one process` {
    @Test
    func `answers on all ports, shows what it stands on, ends when asked, and starts again on its data`()
        async throws
    {
        let ports = try Ports()
        let data = try await TestServers.directory() + "/data"
        let first = try await RunningProgram.start(
            "convoke", ["up", "--data", data], settings: ports.settings)
        try await ports.waitUntilAllAnswer(first)
        for service in Ports.offsets.keys {
            try await waitUntil("\(service) is healthy") {
                Answer(ports[service], "GET", "/api/v1/health/detailed")?.status == 200
            }
            try await expectOperable(service, ports[service], metrics: ports.metrics(of: service))
        }
        try await first.waitFor("Convoke is up: http://127.0.0.1:\(ports.base)")
        #expect(await first.end() == .exited(0))

        let second = try await RunningProgram.start(
            "convoke", ["up", "--data", data], settings: ports.settings)
        try await ports.waitUntilAllAnswer(second)
        #expect(await second.end() == .exited(0))
    }

    @Test func `ends at once at a second signal, whatever still runs`() async throws {
        let ports = try Ports()
        let data = try await TestServers.directory() + "/data"
        let program = try await RunningProgram.start(
            "convoke", ["up", "--data", data], settings: ports.settings)
        try await ports.waitUntilAllAnswer(program)
        // It would wait for this client, as for every request that is being answered.
        let client = try HangingClient(ports["user-service"])
        defer { client.hangUp() }
        program.process.signal(SIGTERM)
        try await program.waitFor("process.stopping")
        program.process.signal(SIGINT)
        #expect(await program.process.wait() == .exited(128 + SIGINT))
    }

    @Test func `names all mistakes in its settings at once, before it opens anything`() async throws {
        let data = try await TestServers.directory() + "/data"
        let program = try await RunningProgram.start(
            "convoke", ["up", "--data", data],
            settings: [
                "CONVOKE_PORT_BASE": "many", "LOG_LEVEL": "loud", "RABBITMQ_URL": "rabbit",
                "REGISTRATION": "maybe",
                "UPSTREAM_SECONDS": "0", "HOST": "0.0.0.0", "VAULT_ADDR": "vault:8200",
            ])
        #expect(await program.process.wait() == .exited(78))
        let mistakes = program.logged("settings.wrong", "mistake")
        for name in [
            "CONVOKE_PORT_BASE", "LOG_LEVEL", "RABBITMQ_URL", "REGISTRATION", "UPSTREAM_SECONDS", "AUTH_MODE",
            "VAULT_ADDR",
        ] {
            #expect(mistakes.filter { $0.hasPrefix(name) }.isEmpty == false, "\(name) in \(mistakes)")
        }
        #expect(Set(mistakes).count == mistakes.count, "each is told once")
        #expect(!FileManager.default.fileExists(atPath: data))
    }

    @Test(.enabled(if: TestServers.areAvailable)) func `says which port is taken`() async throws {
        let ports = try Ports()
        let occupant = try await LocalRedis(
            directory: TestServers.directory(), port: ports["parsing-service"], durability: .throwaway
        ).started()
        let data = try await TestServers.directory() + "/data"
        let program = try await RunningProgram.start(
            "convoke", ["up", "--data", data], settings: ports.settings)
        #expect(await program.process.wait() == .exited(70))
        let reason = program.logged("process.failed", "error").joined()
        #expect(reason.contains(":\(occupant.port): another program listens there"), "\(program.printed)")
        try await occupant.stop()
    }

    @Test(arguments: [["dance"], ["up", "--data"], ["up", "--seed", "x"], ["up", "--loud"]])
    func `refuses what it does not know`(arguments: [String]) async throws {
        let program = try await RunningProgram.start("convoke", arguments)
        #expect(await program.process.wait() == .exited(64))
        #expect(program.printed.contains("--help"))
    }

    @Test func `is never a network's to reach without tokens`() async throws {
        let program = try await RunningProgram.start(
            "user-service", settings: ["HOST": "0.0.0.0", "DATA_DIR": try await TestServers.directory()])
        #expect(await program.process.wait() == .exited(78))
        #expect(program.printed.contains("AUTH_MODE must be strict"))
    }
}

@Suite(.timeLimit(.minutes(10))) struct `A service in a process of its own` {
    @Test(arguments: Ports.offsets.keys.sorted())
    func `answers, shows its metrics and contract, and ends when asked`(service: String) async throws {
        let ports = try Ports()
        let data = try await TestServers.directory() + "/data"
        let program = try await RunningProgram.start(
            service, settings: ports.settings.merging(["DATA_DIR": data]) { $1 })
        try await waitUntil("\(service) answers") {
            try #require(program.process.status == nil, "\(program.printed)")
            return Answer(ports[service], "GET", "/health")?.status == 200
        }
        try await expectOperable(service, ports[service], metrics: ports.metrics(of: service))
        #expect(await program.end() == .exited(0))
    }
}

/// What an operator expects of every service: health, metrics that Prometheus reads, a contract.
func expectOperable(_ service: String, _ port: Int, metrics metricsPort: Int) async throws {
    let health = try #require(Answer(port, "GET", "/health"))
    #expect(health.json["service"]?.stringValue == service)
    let contract = try #require(Answer(port, "GET", "/openapi.json"))
    #expect(contract.json["openapi"]?.stringValue?.hasPrefix("3.") == true)

    let metrics = try #require(Answer(metricsPort, "GET", "/metrics"))
    #expect(metrics.body.contains("process_resident_memory_bytes"))
    guard FileManager.default.fileExists(atPath: "/usr/bin/promtool") else { return }
    let folder = try await TestServers.directory()
    try metrics.body.write(toFile: folder + "/metrics", atomically: true, encoding: .utf8)
    let verdict = try await ChildProcess.run(
        Command(
            "/bin/sh", ["-c", "exec promtool check metrics <metrics"], environment: ["PATH": "/usr/bin:/bin"],
            directory: folder, output: .file(folder + "/verdict")))
    let words = (try? String(contentsOfFile: folder + "/verdict", encoding: .utf8)) ?? ""
    #expect(verdict == .exited(0), "\(service): \(words)")
}
