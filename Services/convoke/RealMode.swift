import Core
import LocalServers
import Security
import ServiceKit

#if canImport(Glibc)
    import Glibc
#endif

extension Convoke {
    /// Private real servers in the data folder, and one process per service. Ctrl-C ends all of them.
    static func runReal(_ options: UpOptions) async -> Never {
        await runService("convoke", grace: .seconds(60)) { log in
            let environment = Environment.process.setting([
                "DATA_DIR": options.dataFolder, "CONVOKE_SEED": String(options.seed),
            ])
            // Both are known now; told by eight processes after half a minute they help less.
            try checkSettings(of: services, in: environment)
            let ports = servicePorts(environment)
            try checkFree(ports)
            let folder = try executableFolder()

            log.info("servers.starting", ["folder": .id("\(options.dataFolder)/servers")])
            let servers = try await RealServers.opened(
                in: options.dataFolder,
                with: .init(
                    gatewayPort: ports["gateway"] ?? 8000, metricsPorts: metricsPorts(ports, environment),
                    makeSecrets: { try firstSecrets(options.dataFolder) }))
            let commands = services.map { service in
                let environment = environment.setting(servers.environment(for: service.name))
                return (
                    name: service.name,
                    command: Command(
                        "\(folder)/\(service.name)", environment: environment.all, endSignal: .terminate)
                )
            }
            let greeting = ClosureService("greeting") {
                try await waitForHealth(of: ports)
                try await servers.waitUntilStarted()
                announce(environment)
                if let nginx = servers.nginx { printLine("nginx before the gateway: \(nginx.url)") }
                if let prometheus = servers.prometheus { printLine("Prometheus: \(prometheus.url)") }
                while true { try await SystemTime().sleep(for: .days(1)) }
            }
            return [servers, ChildServices(commands), greeting]
        }
    }

    private static func servicePorts(_ environment: Environment) -> [String: Int] {
        let base = environment.value("CONVOKE_PORT_BASE").flatMap { Int($0) } ?? 8000
        let ports = services.map { service in
            let own = environment.value("\(service.name.uppercased().replacing("-", with: "_"))_PORT")
            return (service.name, own.flatMap { Int($0) } ?? base + service.portOffset)
        }
        return Dictionary(uniqueKeysWithValues: ports)
    }

    /// The gateway shows its metrics elsewhere: its own port is everybody's.
    private static func metricsPorts(_ ports: [String: Int], _ environment: Environment) -> [String: Int] {
        let base = environment.value("CONVOKE_PORT_BASE").flatMap { Int($0) } ?? 8000
        var ports = ports
        ports["gateway"] = environment.value("GATEWAY_METRICS_PORT").flatMap { Int($0) } ?? base + 9
        return ports
    }

    private static func checkFree(_ ports: [String: Int]) throws {
        let taken = ports.filter { $0.value != 0 && !Loopback.isFree($0.value) }.sorted {
            $0.value < $1.value
        }
        guard taken.isEmpty else {
            throw ConfigurationError(
                mistakes: taken.map {
                    "port \($0.value) of \($0.key) is taken; CONVOKE_PORT_BASE moves all ports"
                })
        }
    }

    private static func waitForHealth(of ports: [String: Int]) async throws {
        for port in ports.values {
            while Loopback.ask(port, "GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?.contains(" 200 ")
                != true
            {
                try await SystemTime().sleep(for: .milliseconds(50))
            }
        }
    }

    /// What Vault is given on its first start: the keys that an earlier start without it left as files, so that
    /// what was sealed with them can still be read; else new ones.
    private static func firstSecrets(_ dataFolder: String) throws -> [String: String] {
        let random = SystemRandom()
        let files = SecretFolder("\(dataFolder)/secrets")
        let tokenKey = try files.read(Secrets.tokenKey.lowercased())?.expose()
        let sealingKey = try files.read(Secrets.sealingKey.lowercased())?.expose()
        let suppressionKey = try files.read(Secrets.suppressionKey.lowercased())?.expose()
        return [
            Secrets.suppressionKey: suppressionKey ?? Base64.encode(random.bytes(32)),
            Secrets.tokenKey: tokenKey ?? Base64.encode(random.bytes(32)),
            Secrets.sealingKey: sealingKey ?? "1:" + Base64.encode(random.bytes(32)),
        ]
    }
}

/// The services' executables stand beside this one.
private func executableFolder() throws -> String {
    guard let folder = FileSystem.programFolder else {
        throw ConfigurationError(mistakes: ["the folder of this program cannot be found"])
    }
    return folder
}
