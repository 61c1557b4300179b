public import Core
import HTTP

/// Something a service stands on: its database, its cache, another service.
public struct Component: Sendable {
    public let name: String
    /// Whether the service is of no use without it.
    public let isNeeded: Bool
    let check: @Sendable () async throws -> [JSONMember]

    /// `showing` throws when the component does not answer, and may return members to show beside its status.
    public init(
        _ name: String, isNeeded: Bool = true,
        showing check: @escaping @Sendable () async throws -> [JSONMember]
    ) {
        self.name = name
        self.isNeeded = isNeeded
        self.check = check
    }

    public init(_ name: String, isNeeded: Bool = true, ping: @escaping @Sendable () async throws -> Void) {
        self.init(
            name, isNeeded: isNeeded,
            showing: {
                try await ping()
                return []
            })
    }
}

/// What `/health` and `/api/v1/health/detailed` answer.
public struct Health: Sendable {
    let service: String
    let components: [Component]
    let time: any TimeSource
    /// How long one component may take; all are asked at once.
    static let patience: Duration = .seconds(2)

    func addRoutes(to router: inout Router) {
        let brief = brief.bytes
        router.quick("GET", "/health") { _ in
            Response(200, headers: ["Content-Type": "application/json"], content: .bytes(brief))
        }
        router.on("GET", "/api/v1/health/detailed") { _ in
            let verdict = await detailed()
            return .json(verdict.json, status: verdict.isHealthy ? 200 : 503)
        }
    }

    private var brief: JSONValue {
        ["status": "healthy", "service": .string(service), "version": .string(platformVersion)]
    }

    struct Verdict: Sendable {
        let isHealthy: Bool
        let json: JSONValue
    }

    func detailed() async -> Verdict {
        let time = time
        var results = await withTaskGroup(of: (Int, Bool, JSONMember).self) { group in
            for (index, component) in components.enumerated() {
                group.addTask {
                    let (works, value) = await examine(component, time)
                    return (index, works || !component.isNeeded, JSONMember(component.name, value))
                }
            }
            var results: [(Int, Bool, JSONMember)] = []
            for await result in group { results.append(result) }
            return results
        }
        results.sort { $0.0 < $1.0 }
        let isHealthy = results.allSatisfy { $0.1 }
        return Verdict(
            isHealthy: isHealthy,
            json: [
                "status": isHealthy ? "healthy" : "unhealthy", "service": .string(service),
                "version": .string(platformVersion), "components": .object(results.map { $0.2 }),
            ])
    }
}

private func examine(_ component: Component, _ time: any TimeSource) async -> (works: Bool, JSONValue) {
    let start = time.uptime
    func latency() -> JSONValue { .double(((time.uptime - start).inSeconds * 100_000).rounded() / 100) }
    do {
        let members = try await withDeadline(Health.patience, time.machine) { try await component.check() }
        return (
            true, .object([JSONMember("status", "healthy"), JSONMember("latency_ms", latency())] + members)
        )
    } catch {
        // What exactly failed may hold addresses and names of ours: it is in the log, not here.
        let reason: JSONValue = error is DeadlineExceeded ? "does not answer in time" : "does not answer"
        return (false, ["status": "unhealthy", "latency_ms": latency(), "error": reason])
    }
}

/// The version of the platform; all parts are released together.
public let platformVersion = "0.1.0"
