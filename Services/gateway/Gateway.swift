import Core
import HTTP
import HTTPClient
public import ServiceKit

extension ServiceDefinition {
    /// The one public door.
    public static let gateway = ServiceDefinition(
        "gateway", portOffset: 0, contract: PackageResources.openapi_yaml,
        checkSettings: { environment, _ throws(ConfigurationError) in
            _ = try GatewaySettings(from: environment)
        }
    ) { context in
        let settings = try GatewaySettings(from: context.environment)
        let client = HTTPClient(clientSettings(settings), metrics: context.metrics, log: context.log)
        let upstreams = Dictionary(
            uniqueKeysWithValues: RouteTable.services.map {
                ($0, Upstream(service: $0, addresses: context.peers.addresses(of: $0)))
            })
        let health = GatheredHealth(upstreams: upstreams, client: client, time: context.time)
        let door = Door(
            keeper: Doorkeeper(
                tokens: context.tokens, ended: context.endedSessions, cache: context.cache,
                addresses: settings.addresses, userLimit: settings.userLimit, time: context.time,
                refusals: context.metrics.counters(
                    "auth_refusals_total", "Calls refused for their token", labels: ["reason"])),
            proxy: Proxy(
                upstreams: upstreams, client: client, tokens: context.tokens, deadline: settings.deadline,
                idle: settings.idle, time: context.time,
                outcomes: context.metrics.counters(
                    "gateway_upstream_total", "Calls of the services behind, by how they went",
                    labels: ["service", "outcome"])),
            pages: try WebPages(settings.webRoot ?? WebPages.besideExecutable))
        return ServiceParts(
            workers: [ClosingClient(client: client, time: context.time)],
            guards: [BrowserRules(origins: settings.origins, isSecure: settings.isSecure)],
            operators: settings.operators, passesOn: true,
            routes: { router in
                router.on("GET", "/api/health") { _ in await health.response() }
                router.otherwise { try door.handler(for: $0) }
            })
    }
}

/// Its own client: event streams of a thousand people must not take the places of other services' calls.
private func clientSettings(_ settings: GatewaySettings) -> HTTPClient.Settings {
    var client = HTTPClient.Settings()
    client.limits.perHost = settings.upstreamConnections
    return client
}

private struct ClosingClient: Service {
    let name = "gateway-client"
    let client: HTTPClient
    let time: any TimeSource

    func run() async throws {
        do {
            while true { try await time.sleep(for: .days(1)) }
        } catch {
            await client.shutdown()
        }
    }
}
