public import ServiceKit

extension ServiceDefinition {
    /// Invitation campaigns.
    public static let inviteService = ServiceDefinition(
        "invite-service", portOffset: 2, database: "invite_db",
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
