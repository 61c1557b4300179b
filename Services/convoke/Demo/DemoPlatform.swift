import Core
import HTTP
import HTTPClient
import LocalServers
import ServiceKit

#if canImport(Glibc)
    import Glibc
#endif

/// The whole platform in this process, on embedded defaults, with a simulated Telegram and a time that can be
/// hurried.
struct DemoPlatform: Sendable {
    let time: SkippableTime
    let door: String
    let sandbox: String
    /// Where the process shows its metrics.
    private let figures: String
    let client: any HTTPSending

    /// Runs `story` while the platform is up; stops the platform when the story has ended.
    static func run(
        in folder: String, seed: UInt64, log: Log,
        _ story: @escaping @Sendable (DemoPlatform) async throws -> Void
    ) async throws {
        let base = try freeBase()
        let environment = Environment([
            "DATA_DIR": folder, "CONVOKE_SEED": String(seed), "CONVOKE_PORT_BASE": String(base),
            "SANDBOX_PEOPLE": "6000", "SANDBOX_ACCOUNTS": "24", "SANDBOX_COMMUNITIES": "12",
            "WEB_ROOT": Environment.process.value("WEB_ROOT") ?? "", "LOG_LEVEL": "info",
        ])
        let time = SkippableTime(origin: SystemTime().now)
        let resources = try await ProcessResources.open(
            environment, for: Convoke.services, log: log, time: time)
        let services = try await processServices(Convoke.services, resources, log: log)
        let client = HTTPClient()
        let platform = DemoPlatform(
            time: time, door: "http://127.0.0.1:\(base)", sandbox: "http://127.0.0.1:\(base + 90)",
            figures: "http://127.0.0.1:\(base + 2)",
            client: client)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runAll(services, log: log) }
            group.addTask {
                try await platform.waitUntilHealthy()
                try await story(platform)
            }
            // Whichever ends first ends the other; the platform ends by itself only when something is wrong.
            defer { group.cancelAll() }
            try await group.next()
        }
        await client.shutdown()
    }

    /// Ports of our own, so that a platform that is already running is left alone.
    private static func freeBase() throws -> Int {
        let offsets = ServicePorts.offsets.values + [9]
        for base in stride(from: 18_000, to: 28_000, by: 100)
        where offsets.allSatisfy({ Loopback.isFree(base + $0) }) {
            return base
        }
        throw NoFreePort()
    }

    private func waitUntilHealthy() async throws {
        while true {
            let health = try? await client.call(.get, "\(door)/api/health")
            if health?["status"]?.stringValue == "healthy" { return }
            try await SystemTime().sleep(for: .milliseconds(50))
        }
    }

    /// Skips to `moment`, once nobody is at work any more: whoever is would find half of their time gone.
    func skip(to moment: Timestamp) async throws {
        var quiet = 0
        while quiet < 3 {
            quiet = try await isQuiet() ? quiet + 1 : 0
            try await SystemTime().sleep(for: .milliseconds(5))
        }
        time.skip(moment - time.now)
        // Whoever was waiting for it gets up now.
        try await SystemTime().sleep(for: .milliseconds(20))
    }

    /// Whether no worker has a message in hand, as the platform's own figures say.
    private func isQuiet() async throws -> Bool {
        let answer = try await client.send(ClientRequest(.get, "\(figures)/metrics"))
        let text = String(decoding: try await answer.body.collect(upTo: 8 << 20), as: UTF8.self)
        return !text.split(separator: "\n").contains { line in
            (line.hasPrefix("broker_in_flight{") || line.hasPrefix("broker_prefetched{"))
                && !line.hasSuffix(" 0")
        }
    }
}
