import Core
import LocalServers
import TestServers
import Testing

/// What every server we start must do.
@Suite struct `A local server` {
    @Test(arguments: Kind.available)
    func `answers, survives a kill with its data, stops, and leaves no process behind`(kind: Kind)
        async throws
    {
        let directory = try await TestServers.directory()
        let server = try kind.make(directory)

        try await server.start()
        let first = try #require(await server.process.id)
        let family = ProcessTable.descendants(of: first)
        try await kind.put("kept", in: server)

        await server.kill()
        #expect(([first] + family).filter(ProcessTable.isRunning) == [])

        try await server.start()
        let second = try #require(await server.process.id)
        #expect(second != first)
        #expect(try await kind.get(from: server).contains("kept"))

        let secondFamily = ProcessTable.descendants(of: second)
        try await server.stop()
        #expect(([second] + secondFamily).filter(ProcessTable.isRunning) == [])
        #expect(await server.process.id == nil)
    }

    @Test(arguments: Kind.available)
    func `says why it did not start`(kind: Kind) async throws {
        let occupant = try await LocalRedis(directory: TestServers.directory()).started()
        let server = try kind.make(try await TestServers.directory(), port: occupant.port)
        let failure = await #expect(throws: ServerFailed.self) { try await server.start() }
        #expect(failure?.description.contains("port \(occupant.port) is taken") == true)
        #expect(await server.process.id == nil)
        try await occupant.stop()
    }
}

/// The kinds of servers, each with a way to keep and find a word through a client of its own.
enum Kind: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case postgres, redis, rabbitmq, nginx, vault

    static var available: [Kind] {
        TestServers.areAvailable ? allCases.filter { $0 != .vault || LocalVault.isInstalled } : []
    }
    var testDescription: String { rawValue }

    func make(_ directory: String, port: Int? = nil) throws -> any LocalServer {
        switch self {
        case .postgres: try LocalPostgres(directory: directory, port: port)
        case .redis: try LocalRedis(directory: directory, port: port)
        case .rabbitmq: try LocalRabbitMQ(directory: directory, port: port)
        case .nginx: try LocalNginx(directory: directory, port: port, server: "root \(directory);")
        case .vault: try LocalVault(directory: directory, port: port)
        }
    }

    func put(_ word: String, in server: any LocalServer) async throws {
        switch server {
        case let postgres as LocalPostgres: try await postgres.createDatabase(word)
        case let redis as LocalRedis: #expect(Loopback.ask(redis.port, "SET word \(word)\r\n") == "+OK\r\n")
        case let rabbit as LocalRabbitMQ: try await rabbit.createVirtualHost(word)
        case let vault as LocalVault:
            #expect(vault.secret("word", method: "POST", value: word)?.contains("200") == true)
        default: break
        }
    }

    func get(from server: any LocalServer) async throws -> String {
        switch server {
        case let postgres as LocalPostgres: try await postgres.databases().joined(separator: " ")
        case let redis as LocalRedis: Loopback.ask(redis.port, "GET word\r\n") ?? ""
        case let rabbit as LocalRabbitMQ: try await rabbit.virtualHosts().joined(separator: " ")
        case let nginx as LocalNginx:
            Loopback.ask(nginx.port, "GET /nginx.conf HTTP/1.0\r\n\r\n").map { _ in "kept" } ?? ""
        case let vault as LocalVault: vault.secret("word") ?? ""
        default: ""
        }
    }
}

extension LocalVault {
    fileprivate func secret(_ name: String, method: String = "GET", value: String = "") -> String? {
        let body = "{\"data\":{\"value\":\"\(value)\"}}"
        let head = "X-Vault-Token: \(rootToken ?? "")\r\nContent-Length: \(body.utf8.count)"
        return Loopback.ask(
            port, "\(method) /v1/secret/data/\(name) HTTP/1.0\r\n\(head)\r\n\r\n\(body)", untilEnd: true)
    }
}
