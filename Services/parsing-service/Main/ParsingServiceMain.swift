import ParsingServiceWiring
import ServiceKit

@main
struct ParsingServiceMain {
    /// `parsing-service` answers and, unless `PARSING_WORKER=false`, reads too; `parsing-service worker` reads
    /// alone. Any number of either may run.
    static func main() async {
        if CommandLine.arguments.dropFirst().first == "worker" {
            await runProcess("parsing-service-worker", [.parsingServiceWorker])
        } else {
            await runProcess("parsing-service", [.parsingService])
        }
    }
}
