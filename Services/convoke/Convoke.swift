import AccountManagerWiring
import Core
import GatewayWiring
import IntegrationServiceWiring
import InviteServiceWiring
import ParsingServiceWiring
import ReportServiceWiring
import ServiceKit
import TelegramSandboxWiring
import UserServiceWiring

/// All services in one process, and the operator's command line.
@main
struct Convoke {
    static let services: [ServiceDefinition] = [
        .telegramSandbox, .userService, .accountManager, .integrationService, .parsingService, .inviteService,
        .reportService, .gateway,
    ]

    static func main() async {
        do {
            switch try Order(Array(CommandLine.arguments.dropFirst())) {
            case .up(let options) where options.isReal: await runReal(options)
            case .up(let options): await runEmbedded(options)
            case .demo(let options): await runDemo(options)
            case .verifyLimits(let options): await verifyLimits(options)
            case .help("verify-limits"): print(verifyHelp, terminator: "")
            case .version: print("convoke \(platformVersion)")
            case .help("demo"): print(demoHelp, terminator: "")
            case .help("up"): print(upHelp, terminator: "")
            case .help: print(helpText, terminator: "")
            }
        } catch {
            printLine("convoke: \(error.sentence). See convoke --help.")
            endProcess(ExitCode.usage)
        }
        // `endProcess` runs no exit handlers, so what is printed into a pipe would be lost.
        flushStandardOutput()
        endProcess(ExitCode.ok)
    }

    private static func runEmbedded(_ options: UpOptions) async -> Never {
        await runService("convoke") { log in
            let environment = Environment.process.setting([
                "DATA_DIR": options.dataFolder, "CONVOKE_SEED": String(options.seed),
            ])
            let resources = try await ProcessResources.open(environment, for: services, log: log)
            let all = try await processServices(services, resources, log: log)
            announce(Environment.process)
            return all
        }
    }

    /// Said on standard output, apart from the log, because it is for a person.
    static func announce(_ environment: Environment) {
        let base = Int(environment.string("CONVOKE_PORT_BASE", default: "8000")) ?? 8000
        printLine("Convoke is up: http://127.0.0.1:\(base)   (Ctrl-C stops it)")
    }

    static func printLine(_ line: String) {
        print(line)
        flushStandardOutput()
    }
}
