import Core
import HTTP
import ServiceKit

/// How all services are, asked at once; one that does not answer in time is named.
struct GatheredHealth: Sendable {
    static let patience: Duration = .seconds(2)

    let upstreams: [String: Upstream]
    let client: any HTTPSending
    let time: any TimeSource

    func response() async -> Response {
        let results = await withTaskGroup(of: JSONMember.self) { group in
            for (name, upstream) in upstreams {
                group.addTask { JSONMember(name, await status(of: upstream)) }
            }
            var members: [JSONMember] = []
            for await member in group { members.append(member) }
            return members.sorted { $0.name < $1.name }
        }
        let down = results.filter { $0.value["status"] != "healthy" }.map(\.name)
        let json: JSONValue = [
            "status": down.isEmpty ? "healthy" : down.count == results.count ? "unhealthy" : "degraded",
            "service": "gateway", "version": .string(platformVersion), "down": JSONValue(down),
            "services": .object(results),
        ]
        return .json(json, status: down.isEmpty ? 200 : 503)
    }

    /// Healthy when one replica is: the others are left out of the rounds meanwhile.
    private func status(of upstream: Upstream) async -> JSONValue {
        let start = time.uptime
        for replica in upstream.replicas {
            let request = ClientRequest(
                .get, "\(replica.address)/api/v1/health/detailed", deadline: Self.patience)
            guard let answer = try? await client.send(request),
                let json = try? await answer.json(limit: 1 << 20),
                answer.status == 200, json["status"] == "healthy"
            else { continue }
            let latency = ((time.uptime - start).inSeconds * 100_000).rounded() / 100
            return ["status": "healthy", "latency_ms": .double(latency)]
        }
        return ["status": "unhealthy"]
    }
}
