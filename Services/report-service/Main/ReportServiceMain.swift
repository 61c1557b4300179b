import ReportServiceWiring
import ServiceKit

@main
struct ReportServiceMain {
    static func main() async {
        await runProcess("report-service", [.reportService])
    }
}
