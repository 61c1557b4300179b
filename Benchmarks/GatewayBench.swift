import Core
import GatewayWiring
import Glibc
import HTTP
import HTTPClient
import HTTPServer
import LocalServers
import ServiceKit
import Synchronization

extension Benchmark {
    static let gateway = Benchmark(
        name: "gateway",
        summary: "authenticated GETs handed on, beside nginx `proxy_pass` to the same upstream"
    ) { report in
        let folder = try await TemporaryFolder(named: "convoke-gateway")
        let upstream = try await LocalNginx(
            directory: folder.path + "/upstream",
            server:
                #"location / { default_type application/json; return 200 '{"id":7,"email":"someone@example.org"}'; }"#
        ).started()
        let proxy = try await LocalNginx(
            directory: folder.path + "/proxy",
            server: """
                location / {
                    proxy_pass http://upstream;
                    proxy_http_version 1.1;
                    proxy_set_header Connection "";
                }
                """,
            http: "upstream upstream { server 127.0.0.1:\(upstream.port); keepalive 64; }"
        ).started()
        let gateway = try await RunningGateway(folder.path, userService: upstream.url)
        let slowest = Mutex("")
        try await report.ratio(
            "GET /api/auth/me through the gateway", unit: "requests/s", target: 0.4,
            ours: {
                let result = try await WrkResult.of(
                    gateway.url + "/api/auth/me", headers: ["Authorization: Bearer \(gateway.token())"],
                    in: folder)
                slowest.withLock { $0 = result.slowestPercent }
                return result.rate
            },
            limit: { try await WrkResult.of(proxy.url + "/auth/me", in: folder).rate },
            limitName: "nginx, which checks no token")
        await report.note("the slowest of a hundred took \(slowest.withLock { $0 }) in the last round")
        try await gateway.stop()
        try await proxy.stop()
        try await upstream.stop()
    }

    static let gatewayStreams = Benchmark(
        name: "gateway-streams",
        summary: "memory while a gigabyte goes up and a thousand event streams are open"
    ) { report in
        let folder = try await TemporaryFolder(named: "convoke-gateway")
        let service = StreamingService()
        var settings = ServerSettings(port: 0)
        settings.limits.bodyBytes = 2 << 30
        let upstream = HTTPServer(settings, service)
        try upstream.bind()
        let serving = Task.detached { try await upstream.run() }
        let gateway = try await RunningGateway(folder.path, userService: "http://127.0.0.1:\(upstream.port)")
        var clientSettings = HTTPClient.Settings()
        clientSettings.limits.perHost = 2000
        let client = HTTPClient(clientSettings)
        let bearer: Headers = ["Authorization": "Bearer \(gateway.token())"]

        let seen = Tally()
        let streams = Task {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<1000 {
                    group.addTask {
                        let answer = try await client.send(
                            ClientRequest(
                                .get, gateway.url + "/api/auth/events", headers: bearer, idle: .minutes(5)))
                        for try await piece in answer.body {
                            let events = piece.count { $0 == UInt8(ascii: "#") }
                            seen.count.withLock { $0 += events }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        let time = SystemTime()
        func wait(forEvents count: Int) async throws {
            while seen.count.withLock({ $0 }) < count { try await time.sleep(for: .milliseconds(20)) }
        }
        try await wait(forEvents: 1000)
        let before = residentMegabytes()
        for round in 1...50 {
            service.round.withLock { $0 = round }
            try await wait(forEvents: 1000 * (round + 1))
        }
        let afterEvents = residentMegabytes()
        let sent = Tally()
        let piece = Bytes(repeating: 7, count: 64 << 10)
        let body = Body(length: 1 << 30) {
            sent.count.withLock { sent in
                guard sent < 1 << 30 else { return nil }
                sent += piece.count
                return piece
            }
        }
        let answer = try await client.send(
            ClientRequest(
                .post, gateway.url + "/api/auth/upload", headers: bearer, body: body, deadline: .minutes(5)))
        let received = try await answer.json()["received"]?.intValue ?? 0
        let after = residentMegabytes()
        await report.hold("a gigabyte arrived whole", received == 1 << 30)
        await report.hold(
            "resident: \(before) MB with 1000 streams open, \(afterEvents) MB after 50 events on each, "
                + "\(after) MB after the upload (gateway, service and client in one process)",
            after - before < 48)
        streams.cancel()
        _ = await streams.result
        await client.shutdown()
        try await gateway.stop()
        serving.cancel()
        _ = await serving.result
    }
}

/// Sends an event whenever the round changes, and counts what is uploaded.
private final class StreamingService: Responder {
    let round = Mutex(0)

    func answer(_ request: Request) async -> Response {
        if request.path == "/auth/events" {
            return .events(SystemTime()) { events in
                var last = -1
                while true {
                    let now = self.round.withLock { $0 }
                    if now != last {
                        try await events.send(ServerSentEvent(id: String(now), name: "progress", data: "#"))
                        last = now
                    }
                    try await SystemTime().sleep(for: .milliseconds(100))
                }
            }
        }
        var count = 0
        do {
            for try await piece in request.body { count += piece.count }
        } catch {
            return Response(400)
        }
        return .json(["received": .int(Int64(count))] as JSONValue)
    }
}

/// A gateway of this process on a free port.
private struct RunningGateway {
    let url: String
    private let service: AssembledService
    private let running: Task<Void, any Error>

    init(_ folder: String, userService: String) async throws {
        let environment = Environment([
            "DATA_DIR": folder + "/data", "USER_SERVICE_URL": userService,
            "USER_REQUESTS_PER_MINUTE": "1000000000",
        ])
        let resources = try await ProcessResources.open(environment, log: .silent, sink: NoLog())
        let service = try await assemble(.gateway, resources, broker: nil)
        try await service.context.endedSessions.fill([], now: resources.time.now, round: "1")
        var settings = service.listener
        settings.port = 0
        settings.limits.bodyBytes = 2 << 30
        let server = HTTPServer(settings, service.router)
        try server.bind()
        url = "http://127.0.0.1:\(server.port)"
        self.service = service
        running = Task.detached { try await runAll(service.services + [server], log: .silent) }
    }

    func token() -> String {
        let context = service.context
        return context.tokens.access(
            userID: 7, email: "someone@example.org", session: "s1", now: context.time.now
        )
        .expose()
    }

    func stop() async throws {
        running.cancel()
        _ = await running.result
    }
}

private final class Tally: Sendable {
    let count = Mutex(0)
}

private struct NoLog: LogSink {
    func write(_: String) {}
}

private func residentMegabytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 200)
    guard fgets(&line, 200, file) != nil else { return 0 }
    let fields = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        .split(separator: " ")
    return (fields.count > 1 ? Int(fields[1]) ?? 0 : 0) * 4 / 1024
}
