public import ServiceKit

extension ServiceDefinition {
    /// A simulated Telegram for development, tests and demonstrations.
    public static let telegramSandbox = ServiceDefinition(
        "telegram-sandbox", portOffset: 90,
        contract: PackageResources.openapi_yaml
    ) { _ in
        ServiceParts()
    }
}
