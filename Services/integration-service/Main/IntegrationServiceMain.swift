import IntegrationServiceWiring
import ServiceKit

@main
struct IntegrationServiceMain {
    static func main() async {
        await runProcess("integration-service", [.integrationService])
    }
}
