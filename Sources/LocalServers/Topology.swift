public import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The servers of the production topology, privately on this machine: what `up --real` runs its services on.
///
/// As a `Service` it stands first in the list, so that it stops last. Of all of them only Vault is waited for
/// before the services are started, because they need their secrets: the others they find when these are there.
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
    private let lock: FolderLock
    private let haveStarted = Flag()
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

    /// Chooses ports under `directory`/servers, where their data is, and starts Vault: after this services can be
    /// told everything about all of them. `run` starts the others.
    public static func opened(
        in directory: String, with surroundings: Surroundings? = nil
    ) async throws -> RealServers {
        let home = try home(in: directory)
        let lock = try FolderLock(home)
        let password = try password(in: home)
        let vault = try surroundings == nil ? nil : vault(in: home)
        var entrance: LocalVault.Entrance?
        if let vault, let surroundings {
            do {
                try await vault.start()
                // A secret that came with a newer version is added; what is there stays.
                let kept = try vault.secrets(at: secretPath)
                let all = try surroundings.makeSecrets().merging(kept) { $1 }
                if all != kept { try vault.put(all, at: secretPath) }
                entrance = try vault.admit("convoke", reading: secretPath)
            } catch {
                await stop([vault])
                throw error
            }
        }
        return RealServers(
            postgres: try LocalPostgres(directory: home + "/postgres", password: password),
            redis: try LocalRedis(directory: home + "/redis", password: password),
            rabbitmq: try LocalRabbitMQ(directory: home + "/rabbitmq", password: password), vault: vault,
            nginx: try surroundings.flatMap { surroundings in
                guard LocalNginx.isInstalled else { return nil as LocalNginx? }
                return try LocalNginx(
                    directory: home + "/nginx", server: LocalNginx.proxy(to: surroundings.gatewayPort))
            },
            prometheus: try surroundings.flatMap { surroundings in
                guard LocalPrometheus.isInstalled else { return nil as LocalPrometheus? }
                return try LocalPrometheus(
                    directory: home + "/prometheus", targets: surroundings.metricsPorts)
            },
            entrance: entrance, lock: lock)
    }

    /// Starts all that do not run yet, with the data they had before.
    private func start() async throws {
        try await withThrowingTaskGroup { group in
            for server in all where server.process !== postgres.process {
                group.addTask { try await server.start() }
            }
            group.addTask {
                try await postgres.start()
                let missing = Set(Self.databases.values).subtracting(try await postgres.databases())
                for database in missing { try await postgres.createDatabase(database) }
            }
            // Not `waitForAll`: the first failure is to be told at once.
            while try await group.next() != nil {}
        }
        haveStarted.raise()
    }

    /// Returns once `run` has started all.
    public func waitUntilStarted() async throws {
        while !haveStarted.isRaised { try await time.sleep(for: .milliseconds(20)) }
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
        nginx: LocalNginx?, prometheus: LocalPrometheus?, entrance: LocalVault.Entrance?, lock: FolderLock
    ) {
        self.postgres = postgres
        self.redis = redis
        self.rabbitmq = rabbitmq
        self.vault = vault
        self.nginx = nginx
        self.prometheus = prometheus
        self.entrance = entrance
        self.lock = lock
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

    /// Starts them, waits until it is cancelled, then stops them; one that dies before is an error that ends the
    /// process.
    public func run() async throws {
        do {
            try await start()
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

/// A folder that is ours as long as this lives, however we end: Redis, RabbitMQ and Vault would not mind a second
/// of their kind at work on the same files.
private final class FolderLock: Sendable {
    private let file: Int32

    init(_ folder: String) throws {
        try makeFolder(folder)
        let path = folder + "/lock"
        file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw FileError(path: path, reason: systemMessage(errno)) }
        guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
            close(file)
            throw FileError(path: folder, reason: "another platform runs on this data folder")
        }
    }

    deinit { close(file) }
}

/// Raised once.
private final class Flag: Sendable {
    private let raised = Atomic<Bool>(false)
    var isRaised: Bool { raised.load(ordering: .acquiring) }
    func raise() { raised.store(true, ordering: .releasing) }
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
