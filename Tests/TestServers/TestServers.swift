import Core
@_exported public import LocalServers

#if canImport(Glibc)
    import Glibc
#endif

/// Real servers for tests: one of each kind per test process, started when first asked for, and gone with
/// all their files when the process ends, however it ends.
///
/// They lend an engine and do not wait for the disk. A test that kills a server brings its own.
public enum TestServers {
    /// A fresh, empty database.
    public static func postgres() async throws -> String { try await shared.postgres() }

    /// A fresh group of `redisGroup` database indexes, the first of which is `base` and in the URL.
    ///
    /// Others use the same server at the same time: no `FLUSHALL`, no `SCRIPT FLUSH`, no `CONFIG`.
    public static func redis() async throws -> (url: String, base: Int) { try await shared.redis() }

    public static let redisGroup = 8

    /// A fresh virtual host.
    public static func rabbitmq() async throws -> String { try await shared.rabbitmq() }

    /// A Vault-compatible server; `nil` where it is not installed. All tests share its contents.
    public static func vault() async throws -> (url: String, rootToken: String)? { try await shared.vault() }

    /// A fresh empty folder for a server or files of a test's own; gone with the process.
    public static func directory() async throws -> String { try await shared.directory() }

    /// False in the quick checks, which do without real servers: contract suites then leave those engines out.
    public static let areAvailable = !Environment.process.has("CONVOKE_FAST")

    private static let shared = SharedServers()
}

private actor SharedServers {
    private var root: Task<TemporaryFolder, any Error>?
    private var count = 0
    private var postgresServer: Task<LocalPostgres, any Error>?
    private var redisServer: Task<LocalRedis, any Error>?
    private var rabbitServer: Task<LocalRabbitMQ, any Error>?
    private var vaultServer: Task<LocalVault, any Error>?

    func postgres() async throws -> String {
        let folder = try await folder("postgres")
        let starting =
            postgresServer
            ?? Task {
                try await LocalPostgres(directory: folder, durability: .throwaway).started()
            }
        postgresServer = starting
        let name = "test_\(next())"
        let server = try await starting.value
        try await server.createDatabase(name)
        return server.url(database: name)
    }

    func redis() async throws -> (url: String, base: Int) {
        let folder = try await folder("redis")
        let starting =
            redisServer
            ?? Task {
                try await LocalRedis(directory: folder, databases: 16_384, durability: .throwaway).started()
            }
        redisServer = starting
        let base = next() * TestServers.redisGroup
        let server = try await starting.value
        return (server.url(database: base), base)
    }

    func rabbitmq() async throws -> String {
        let folder = try await folder("rabbitmq")
        let starting = rabbitServer ?? Task { try await LocalRabbitMQ(directory: folder).started() }
        rabbitServer = starting
        let name = "test-\(next())"
        let server = try await starting.value
        try await server.createVirtualHost(name)
        return server.url(virtualHost: name)
    }

    func vault() async throws -> (url: String, rootToken: String)? {
        guard LocalVault.isInstalled else { return nil }
        let folder = try await folder("vault")
        let starting = vaultServer ?? Task { try await LocalVault(directory: folder).started() }
        vaultServer = starting
        let server = try await starting.value
        return server.rootToken.map { (server.url, $0) }
    }

    func directory() async throws -> String {
        let path = try await folder("own-\(next())")
        mkdir(path, 0o755)
        return path
    }

    private func next() -> Int {
        count += 1
        return count
    }

    private func folder(_ name: String) async throws -> String {
        let root = self.root ?? Task { try await TemporaryFolder(named: "convoke-tests") }
        self.root = root
        return try await "\(root.value.path)/\(name)"
    }
}
