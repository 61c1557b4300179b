import Core
import LocalServers
import ServiceKit

extension Convoke {
    /// Private real servers in the data folder, and one process per service. Ctrl-C ends all of them.
    static func runReal(_ options: UpOptions) async -> Never {
        await runService("convoke", grace: .seconds(60)) { log in
            let topology = try await Topology.start(directory: options.dataFolder, log: log)
            let folder = executableFolder()
            var children: [any Service] = []
            for service in services {
                let process = try await ChildProcess.spawn(
                    LocalServers.Command(
                        "\(folder)/\(service.name)",
                        environment: Environment.process.setting(topology.environment).setting([
                            "DATA_DIR": options.dataFolder, "CONVOKE_SEED": String(options.seed),
                        ]).all))
                children.append(ServiceProcess(name: service.name, process: process))
            }
            try await waitUntilAllAnswer()
            announce(Environment.process)
            return [topology] + children
        }
    }
}
