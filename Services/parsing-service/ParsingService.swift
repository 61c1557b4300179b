public import ServiceKit

extension ServiceDefinition {
    /// Reading communities.
    public static let parsingService = ServiceDefinition(
        "parsing-service", portOffset: 3, database: "parsing_db",
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
