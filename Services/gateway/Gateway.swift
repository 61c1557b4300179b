public import ServiceKit

extension ServiceDefinition {
    /// The one public door.
    public static let gateway = ServiceDefinition(
        "gateway", portOffset: 0,
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
