public import Core

#if canImport(Glibc)
    import Glibc
#endif

/// The servers of the production topology, privately on this machine: what `up --real` runs its services on.
///
/// As a `Service` it stands first in the list, so that it stops last.
public struct RealServers: Service {
    public let name = "servers"
    public let postgres: LocalPostgres
    public let redis: LocalRedis
    public let rabbitmq: LocalRabbitMQ
    /// Where the services' secrets are; without it they are files in the data folder.
    public let vault: LocalVault?
    /// In front of the gateway, as in production.
    public let nginx: LocalNginx?
    public let prometheus: LocalPrometheus?
    private let entrance: LocalVault.Entrance?
    private let time: any TimeSource = SystemTime()

    /// What stands around the services beside what they stand on; each only where it is installed.
    public struct Surroundings: Sendable {
        /// Where the gateway listens, for nginx to hand on to.
        public var gatewayPort: Int
        /// Where each service shows its metrics.
        public var metricsPorts: [String: Int]
        /// What Vault is to hold; what it holds already stays.
        public var makeSecrets: @Sendable () throws -> [String: String]

        public init(
            gatewayPort: Int, metricsPorts: [String: Int],
            makeSecrets: @escaping @Sendable () throws -> [String: String]
        ) {
            self.gatewayPort = gatewayPort
            self.metricsPorts = metricsPorts
            self.makeSecrets = makeSecrets
        }
    }

    /// Which database belongs to which service; integration-service and account-manager share one.
    public static let databases = [
        "user-service": "user_db",
        "integration-service": "integration_db",
        "account-manager": "integration_db",
        "invite-service": "invite_db",
        "parsing-service": "parsing_db",
        "report-service": "report_db",
    ]

    /// Starts all under `directory`/servers, with the data they had there before.
    public static func started(
        in directory: String, with surroundings: Surroundings? = nil
    ) async throws -> RealServers {
        let home = try home(in: directory)
        let password = try password(in: home)
        let postgres = try LocalPostgres(directory: home + "/postgres", password: password)
        let redis = try LocalRedis(directory: home + "/redis", password: password)
        let rabbitmq = try LocalRabbitMQ(directory: home + "/rabbitmq", password: password)
        let vault = try surroundings == nil ? nil : vault(in: home)
        var servers: [any LocalServer] = [redis, rabbitmq]
        if let vault { servers.append(vault) }
        let nginx = try surroundings.flatMap { surroundings in
            guard LocalNginx.isInstalled else { return nil as LocalNginx? }
            return try LocalNginx(
                directory: home + "/nginx", server: LocalNginx.proxy(to: surroundings.gatewayPort))
        }
        if let nginx { servers.append(nginx) }
        let prometheus = try surroundings.flatMap { surroundings in
            guard LocalPrometheus.isInstalled else { return nil as LocalPrometheus? }
            return try LocalPrometheus(directory: home + "/prometheus", targets: surroundings.metricsPorts)
        }
        if let prometheus { servers.append(prometheus) }

        do {
            // First and alone: of all of them only PostgreSQL refuses a folder that a second start already
            // uses.
            try await postgres.start()
            try await withThrowingTaskGroup { group in
                for server in servers { group.addTask { try await server.start() } }
                for database in Set(databases.values) { try await postgres.createDatabase(database) }
                try await group.waitForAll()
            }
            var entrance: LocalVault.Entrance?
            if let vault, let surroundings {
                // A secret that came with a newer version is added; what is there stays.
                let kept = try vault.secrets(at: secretPath)
                let all = try surroundings.makeSecrets().merging(kept) { $1 }
                if all != kept { try vault.put(all, at: secretPath) }
                entrance = try vault.admit("convoke", reading: secretPath)
            }
            return RealServers(
                postgres: postgres, redis: redis, rabbitmq: rabbitmq, vault: vault, nginx: nginx,
                prometheus: prometheus, entrance: entrance)
        } catch {
            await stop([postgres] + servers)
            throw error
        }
    }

    /// Where services look by default.
    private static let secretPath = "convoke"

    /// Keys that were made there are nowhere else, so a folder that has a Vault is not started without it.
    private static func vault(in home: String) throws -> LocalVault? {
        let folder = home + "/vault"
        guard LocalVault.isInstalled else {
            guard !fileExists(folder) else {
                throw ServerFailed(
                    server: "vault",
                    reason: "is not installed any more, and this data folder keeps its keys there",
                    logTail: "(not started)")
            }
            return nil
        }
        return try LocalVault(directory: folder)
    }

    private init(
        postgres: LocalPostgres, redis: LocalRedis, rabbitmq: LocalRabbitMQ, vault: LocalVault?,
        nginx: LocalNginx?, prometheus: LocalPrometheus?, entrance: LocalVault.Entrance?
    ) {
        self.postgres = postgres
        self.redis = redis
        self.rabbitmq = rabbitmq
        self.vault = vault
        self.nginx = nginx
        self.prometheus = prometheus
        self.entrance = entrance
    }

    /// What a service is told about them.
    public func environment(for service: String) -> [String: String] {
        var environment = ["REDIS_URL": redis.url, "RABBITMQ_URL": rabbitmq.url]
        if let database = Self.databases[service] {
            environment["DATABASE_URL"] = postgres.url(database: database)
        }
        if let vault, let entrance {
            environment["VAULT_ADDR"] = vault.url
            environment["VAULT_ROLE_ID"] = entrance.roleID
            environment["VAULT_SECRET_ID"] = entrance.secretID
        }
        if nginx != nil, service == "gateway" { environment["TRUSTED_PROXIES"] = "127.0.0.1" }
        return environment
    }

    /// Waits until it is cancelled, then stops them; one that dies before is an error that ends the process.
    public func run() async throws {
        do {
            while true {
                for server in all where await server.process.id == nil {
                    throw ServerFailed(
                        server: server.process.name, reason: "ended by itself",
                        logTail: server.process.logTail)
                }
                try await time.sleep(for: .milliseconds(500))
            }
        } catch {
            await stop()
            throw error
        }
    }

    private var all: [any LocalServer] {
        var servers: [any LocalServer] = [postgres, redis, rabbitmq]
        if let vault { servers.append(vault) }
        if let nginx { servers.append(nginx) }
        if let prometheus { servers.append(prometheus) }
        return servers
    }

    /// Stops all at once, in order; one that does not is killed.
    public func stop() async { await Self.stop(all) }

    private static func stop(_ servers: [any LocalServer]) async {
        await withTaskGroup { group in
            for server in servers { group.addTask { try? await server.stop() } }
        }
    }
}

extension RealServers {
    /// Where their data lies. As root they run as accounts of their own, which have to get through every
    /// folder above theirs; where one is closed (root's home) the data lies under /var/lib/convoke, and the
    /// place in `directory` points there.
    private static func home(in directory: String) throws -> String {
        let wanted = absolute(directory) + "/servers"
        try makeFolder(absolute(directory))
        guard geteuid() == 0, !othersMayEnter(absolute(directory)) else { return wanted }
        let place = "/var/lib/convoke/" + wanted.split(separator: "/").joined(separator: "-")
        try makeFolder(place)
        guard symlink(place, wanted) == 0 || errno == EEXIST else {
            throw FileError(path: wanted, reason: systemMessage(errno))
        }
        return place
    }

    private static func othersMayEnter(_ path: String) -> Bool {
        var parts = path.split(separator: "/")
        while !parts.isEmpty {
            var info = stat()
            guard stat("/" + parts.joined(separator: "/"), &info) == 0, info.st_mode & 0o001 != 0 else {
                return false
            }
            parts.removeLast()
        }
        return true
    }

    /// Loopback is shared with every account of the machine, so the servers ask for a password, made once.
    private static func password(in home: String) throws -> String {
        let path = home + "/password"
        if let kept = readFile(path), kept.count == 32 { return kept }
        let digits = Array("0123456789abcdef")
        let made = String(SystemRandom().bytes(16).flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
        try makeFolder(home)
        try writeFile(path, made)
        return made
    }
}

/// Processes of our own programs, as one service: all start together, and all are asked to end together.
/// None is started again: one that ends by itself ends the whole.
public struct ChildServices: Service {
    public struct Ended: Error, CustomStringConvertible {
        public let name: String
        public let status: ExitStatus
        public var description: String { "\(name) ended by itself with \(status.code)" }
    }

    public let name = "services"
    private let commands: [(name: String, command: Command)]

    /// Each command should have `endSignal: .terminate`, so that the services end in order when we are killed.
    public init(_ commands: [(name: String, command: Command)]) { self.commands = commands }

    public func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (name, command) in commands {
                group.addTask {
                    let child = try await ChildProcess.spawn(command)
                    let status = await withTaskCancellationHandler {
                        await child.wait()
                    } onCancel: {
                        child.signal(SIGTERM)
                    }
                    guard Task.isCancelled else { throw Ended(name: name, status: status) }
                }
            }
            // Not `waitForAll`, which keeps the first failure to itself until all have ended: leaving with it
            // cancels the others, and the group waits for their orderly end.
            while try await group.next() != nil {}
        }
        try Task.checkCancellation()
    }
}

extension Command {
    /// Our own environment, for children that shall see what we see.
    public static var ownEnvironment: [String: String] {
        var values: [String: String] = [:]
        var cursor = environ
        while let entry = cursor.pointee {
            let parts = String(cString: entry).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { values[String(parts[0])] = String(parts[1]) }
            cursor += 1
        }
        return values
    }
}
