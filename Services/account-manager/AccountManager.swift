public import ServiceKit

extension ServiceDefinition {
    /// Leases of accounts and their limits.
    public static let accountManager = ServiceDefinition(
        "account-manager", portOffset: 4, database: "integration_db",
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
