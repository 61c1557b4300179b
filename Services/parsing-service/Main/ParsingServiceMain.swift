import ParsingServiceWiring
import ServiceKit

@main
struct ParsingServiceMain {
    static func main() async {
        await runProcess("parsing-service", [.parsingService])
    }
}
