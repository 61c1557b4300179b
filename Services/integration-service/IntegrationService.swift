public import ServiceKit

extension ServiceDefinition {
    /// Everything that talks to Telegram.
    public static let integrationService = ServiceDefinition(
        "integration-service", portOffset: 1, database: "integration_db",
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
