import Broker
import Core
import HTTP
import Storage
import Synchronization
import TestServers
import Testing

@testable import ServiceKit

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct `The health of a service` {
    @Test func `shows each component with its latency`() async throws {
        try await Served.open(
            database: true,
            { _ in
                ServiceParts(components: [
                    Component("fine", ping: {}),
                    Component("shown", showing: { [JSONMember("stats", ["total": 3])] }),
                ])
            }
        ) { served in
            let answer = await served.ask("GET", "/api/v1/health/detailed")
            #expect(answer.status == 200)
            #expect(answer["status"] == "healthy")
            #expect(answer["service"] == "test-service")
            let components = answer["components"]
            #expect(components.objectValue?.map(\.name) == ["database", "cache", "fine", "shown"])
            for component in components.objectValue ?? [] {
                #expect(component.value["status"] == "healthy")
                #expect(component.value["latency_ms"]?.doubleValue ?? -1 >= 0)
            }
            #expect(components["shown"]?["stats"] == ["total": 3])
        }
    }

    @Test func `is 503 when a needed component is down, without saying where it is`() async throws {
        let isDown = Mutex(true)
        try await Served.open(
            { _ in
                ServiceParts(components: [
                    Component("needed", ping: { if isDown.withLock({ $0 }) { throw Down() } }),
                    Component("spare", isNeeded: false, ping: { throw Down() }),
                ])
            }
        ) { served in
            let down = await served.ask("GET", "/api/v1/health/detailed")
            #expect(down.status == 503)
            #expect(down["status"] == "unhealthy")
            #expect(down["components"]["needed"]?["status"] == "unhealthy")
            #expect(down["components"]["needed"]?["error"] == "does not answer")
            #expect(!down.text.contains("10.0.0.1"))
            // The process answers all the same.
            #expect(await served.ask("GET", "/health").status == 200)
            isDown.withLock { $0 = false }
            let up = await served.ask("GET", "/api/v1/health/detailed")
            #expect(up.status == 200)
            #expect(up["components"]["spare"]?["status"] == "unhealthy")
        }
    }
    struct Down: Error { let address = "10.0.0.1" }

    @Test func `gives up on a component that hangs`() async throws {
        try await Served.open(
            { context in
                ServiceParts(components: [
                    Component("hanging", ping: { try await context.time.sleep(for: .hours(1)) })
                ])
            }
        ) { served in
            let answer = Kept<Answer?>(nil)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    answer.value = await served.ask("GET", "/api/v1/health/detailed")
                }
                try await eventually("the answer is there") {
                    served.time.advance(by: .seconds(1))
                    return answer.value != nil
                }
            }
            let given = answer.value
            #expect(given?.status == 503)
            #expect(given?["components"]["hanging"]?["error"] == "does not answer in time")
        }
    }
}

@Suite struct `A service that starts` {
    @Test(arguments: Engine.available)
    func `answers its health and nothing else until its schema is there`(engine: Engine) async throws {
        try await Served.open(
            with: try await engine.settings(), database: true, workers: false,
            { _ in ServiceParts(routes: whoami) }
        ) {
            served in
            #expect(await served.ask("GET", "/health").status == 200)
            #expect(await served.ask("GET", "/metrics").status == 200)
            let health = await served.ask("GET", "/api/v1/health/detailed")
            #expect(health.status == 503)
            #expect(health["components"]["database"]?["status"] == "unhealthy")
            let early = await served.ask("GET", "/who", token: served.userToken())
            #expect(early.status == 503)
            #expect(early.code == "unavailable")
            #expect(early.headers["retry-after"] == "2")
            // Whoever is not signed in hears that first.
            #expect(await served.ask("GET", "/who").status == 401)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runAll(served.service.services, log: .silent) }
                try await served.service.readiness.wait(served.time)
                #expect(await served.ask("GET", "/who", token: served.userToken()).status == 200)
                #expect(await served.ask("GET", "/api/v1/health/detailed").status == 200)
                group.cancelAll()
            }
        }
    }

    @Test func `waits for a database that is not there yet, aloud`() async throws {
        let settings = ["DATABASE_URL": "postgres://nobody:hunter2secret@127.0.0.1:1/test_db"]
        try await Served.open(
            with: settings, database: true, workers: false, { _ in ServiceParts(routes: whoami) }
        ) { served in
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await runAll(served.service.services, log: .silent) }
                try await eventually("it says that the database is away") {
                    served.log.lines.contains { $0.contains("database.unavailable") }
                }
                #expect(!served.service.readiness.isReady)
                #expect(await served.ask("GET", "/who", token: served.userToken()).status == 503)
                #expect(!served.log.lines.joined().contains("hunter2secret"))
                group.cancelAll()
            }
        }
    }
}

@Suite struct `The settings of a service` {
    private let definition = ServiceDefinition(
        "test-service", portOffset: 42, database: "test_db", contract: []
    ) { _ in
        ServiceParts()
    }

    private func mistakes(_ values: [String: String]) -> [String] {
        do {
            _ = try ServiceSettings(for: definition, from: Environment(values), dataFolder: "data")
            return []
        } catch {
            return error.mistakes
        }
    }

    @Test func `need nothing`() throws {
        let settings = try ServiceSettings(for: definition, from: Environment(), dataFolder: "data")
        #expect(settings.port == 8042)
        #expect(settings.host == "127.0.0.1")
        #expect(settings.authMode == .dev)
        #expect(settings.database == .sqlite("data/test_db.sqlite"))
    }

    @Test func `are judged all at once`() {
        let mistakes = mistakes([
            "TEST_SERVICE_PORT": "99999", "CONVOKE_PORT_BASE": "x", "AUTH_MODE": "lax",
            "DATABASE_URL": "mysql://x",
            "MAX_BODY_BYTES": "1", "MAX_CONNECTIONS": "-1", "HTTP_THREADS": "many", "TLS_CERTIFICATE": "x",
        ])
        for name in [
            "TEST_SERVICE_PORT", "CONVOKE_PORT_BASE", "AUTH_MODE", "DATABASE_URL", "MAX_BODY_BYTES",
            "MAX_CONNECTIONS",
            "HTTP_THREADS", "TLS_CERTIFICATE and TLS_KEY",
        ] { #expect(mistakes.contains { $0.hasPrefix(name) }, "\(name)") }
        #expect(mistakes.count == 8)
    }

    @Test func `of a process are judged all at once`() {
        let error = #expect(throws: ConfigurationError.self) {
            try ProcessSettings(
                from: Environment([
                    "REDIS_URL": "http://x", "RABBITMQ_URL": "x", "CONVOKE_TIME_SCALE": "0",
                    "CONVOKE_TIME_ORIGIN": "noon",
                    "LOG_LEVEL": "loud",
                ]))
        }
        #expect(error?.mistakes.count == 5, "\(error?.mistakes ?? [])")
    }

    @Test func `of all services of a process are judged before anything is opened`() async throws {
        let picky = ServiceDefinition(
            "picky-service", portOffset: 43, contract: [],
            checkSettings: { environment, _ throws(ConfigurationError) in
                var environment = environment
                _ = environment.int("PICKY_LIMIT", default: 1, in: 1...9)
                try environment.finish()
            }
        ) { _ in ServiceParts() }
        let folder = try await TestServers.directory() + "/never-made"
        let environment = Environment([
            "DATA_DIR": folder, "LOG_LEVEL": "loud", "TEST_SERVICE_PORT": "x", "PICKY_LIMIT": "10",
            "AUTH_MODE": "lax",
        ])
        let error = await #expect(throws: ConfigurationError.self) {
            try await ProcessResources.open(environment, for: [definition, picky], log: .silent)
        }
        for name in ["LOG_LEVEL", "TEST_SERVICE_PORT", "PICKY_LIMIT", "AUTH_MODE"] {
            #expect(error?.mistakes.count { $0.hasPrefix(name) } == 1, "\(name)")
        }
        #expect(access(folder, F_OK) != 0)
    }

    @Test(arguments: ["0.0.0.0", "192.168.1.5", "::", "example.com", "127.0.0.1.example.com"])
    func `refuse development mode on a network`(host: String) throws {
        #expect(mistakes(["HOST": host]) == ["AUTH_MODE must be strict when HOST is not a loopback address"])
        #expect(mistakes(["HOST": host, "AUTH_MODE": "dev"]).count == 1)
        #expect(mistakes(["HOST": host, "AUTH_MODE": "strict"]) == [])
    }

    @Test func `name the database of the service on a shared server`() throws {
        func database(_ values: [String: String]) throws -> DatabaseLocation? {
            try ServiceSettings(for: definition, from: Environment(values), dataFolder: "data").database
        }
        #expect(
            try database(["DATABASE_URL": "postgres://u:p@db:5432"])
                == .postgres(Secret("postgres://u:p@db:5432/test_db")))
        #expect(
            try database(["DATABASE_URL": "postgres://u:p@db:5432/?sslmode=require"])
                == .postgres(Secret("postgres://u:p@db:5432/test_db?sslmode=require")))
        #expect(
            try database(["DATABASE_URL": "postgres://db/other"]) == .postgres(Secret("postgres://db/other")))
        #expect(
            try database(["POSTGRES_SERVER": "db", "POSTGRES_USER": "a@b", "POSTGRES_PASSWORD": "p:/w"])
                == .postgres(Secret("postgres://a%40b:p%3A%2Fw@db:5432/test_db")))
    }
}
