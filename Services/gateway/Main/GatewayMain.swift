import GatewayWiring
import ServiceKit

@main
struct GatewayMain {
    static func main() async {
        await runProcess("gateway", [.gateway])
    }
}
