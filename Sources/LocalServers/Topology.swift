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
    private let time: any TimeSource = SystemTime()

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
    public static func started(in directory: String) async throws -> RealServers {
        let home = try home(in: directory)
        let password = try password(in: home)
        let servers = try RealServers(
            postgres: LocalPostgres(directory: home + "/postgres", password: password),
            redis: LocalRedis(directory: home + "/redis", password: password),
            rabbitmq: LocalRabbitMQ(directory: home + "/rabbitmq", password: password))
        // First and alone: of the three only PostgreSQL refuses a folder that a second start already uses.
        try await servers.postgres.start()
        do {
            async let cache: Void = servers.redis.start()
            async let broker: Void = servers.rabbitmq.start()
            for database in Set(databases.values) { try await servers.postgres.createDatabase(database) }
            _ = try await (cache, broker)
        } catch {
            await servers.stop()
            throw error
        }
        return servers
    }

    /// What a service is told about them.
    public func environment(for service: String) -> [String: String] {
        var environment = ["REDIS_URL": redis.url, "RABBITMQ_URL": rabbitmq.url]
        if let database = Self.databases[service] {
            environment["DATABASE_URL"] = postgres.url(database: database)
        }
        return environment
    }

    /// Waits until it is cancelled, then stops them; one that dies before is an error that ends the process.
    public func run() async throws {
        let servers: [any LocalServer] = [postgres, redis, rabbitmq]
        do {
            while true {
                for server in servers where await server.process.id == nil {
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

    /// Stops all at once, in order; one that does not is killed.
    public func stop() async {
        await withTaskGroup { group in
            for server: any LocalServer in [postgres, redis, rabbitmq] {
                group.addTask { try? await server.stop() }
            }
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
