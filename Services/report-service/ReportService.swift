public import ServiceKit

extension ServiceDefinition {
    /// Reports gathered from many sources.
    public static let reportService = ServiceDefinition(
        "report-service", portOffset: 6, database: "report_db",
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
