import Core
import LocalServers
import ServiceKit

#if canImport(Glibc)
    import Glibc
#endif

extension Convoke {
    /// Private real servers in the data folder, and one process per service. Ctrl-C ends all of them.
    static func runReal(_ options: UpOptions) async -> Never {
        await runService("convoke", grace: .seconds(60)) { log in
            log.info("servers.starting", ["folder": .id("\(options.dataFolder)/servers")])
            let servers = try await RealServers.started(in: options.dataFolder)
            let folder = try executableFolder()
            let commands = services.map { service in
                let environment = Environment.process
                    .setting(servers.environment(for: service.name))
                    .setting(["DATA_DIR": options.dataFolder, "CONVOKE_SEED": String(options.seed)])
                return (
                    name: service.name,
                    command: Command(
                        "\(folder)/\(service.name)", environment: environment.all, endSignal: .terminate)
                )
            }
            announce(Environment.process)
            return [servers, ChildServices(commands)]
        }
    }
}

/// The services' executables stand beside this one.
private func executableFolder() throws -> String {
    guard let resolved = unsafe realpath("/proc/self/exe", nil) else {
        throw ConfigurationError(mistakes: ["the folder of this program cannot be found"])
    }
    defer { unsafe free(resolved) }
    let path = unsafe String(cString: resolved)
    return path.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
}
