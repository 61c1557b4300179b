import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A private Redis with an append-only file.
public struct LocalRedis: LocalServer {
    public let process: ServerProcess
    public let port: Int
    private let password: String?
    /// How many database indexes it has.
    public let databases: Int

    public init(
        directory: String, port: Int? = nil, password: String? = nil, databases: Int = 16,
        durability: Durability = .durable
    ) throws {
        let folder = ServerFolder(directory, accountName: "redis")
        let port = try port ?? Loopback.freePort()
        self.port = port
        self.databases = databases
        self.password = password
        // In a file, not in arguments, which every account of this machine can read.
        var configuration = """
            bind 127.0.0.1
            port \(port)
            dir "\(folder.path)"
            databases \(databases)
            save ""
            appendonly \(durability == .durable ? "yes" : "no")
            appendfsync always
            daemonize no

            """
        if let password { configuration += "requirepass \(password)\n" }
        let question = (password.map { "AUTH \($0)\r\n" } ?? "") + "PING\r\n"
        process = ServerProcess(
            ServerRecipe(
                name: "redis", folder: folder, port: port,
                prepare: { [configuration] in try folder.write("redis.conf", configuration) },
                command: folder.command("/usr/bin/redis-server", [folder("redis.conf")]),
                // While it loads its file it answers `-LOADING`.
                answers: { _ in Loopback.ask(port, question)?.contains("+PONG") ?? false }))
    }

    public var url: String { url(database: 0) }

    public func url(database: Int) -> String {
        "redis://\(password.map { ":\($0)@" } ?? "")127.0.0.1:\(port)/\(database)"
    }
}
