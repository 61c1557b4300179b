import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A private Redis with an append-only file.
public struct LocalRedis: LocalServer {
    public let process: ServerProcess
    public let port: Int
    /// How many database indexes it has.
    public let databases: Int

    public init(
        directory: String, port: Int? = nil, databases: Int = 16, durability: Durability = .durable
    ) throws {
        let folder = ServerFolder(directory, accountName: "redis")
        let port = try port ?? Loopback.freePort()
        self.port = port
        self.databases = databases
        let isDurable = durability == .durable
        let arguments = [
            "--bind", "127.0.0.1", "--port", String(port), "--dir", folder.path, "--databases",
            String(databases),
            "--save", "", "--appendonly", isDurable ? "yes" : "no", "--appendfsync", "always",
            "--daemonize", "no", "--tcp-backlog", "128",
        ]
        process = ServerProcess(
            ServerRecipe(
                name: "redis", folder: folder, port: port, prepare: {},
                command: folder.command("/usr/bin/redis-server", arguments),
                // While it loads its file it answers `-LOADING`.
                answers: { _ in Loopback.ask(port, "PING\r\n")?.hasPrefix("+PONG") ?? false }))
    }

    public var url: String { "redis://127.0.0.1:\(port)/0" }
    public func url(database: Int) -> String { "redis://127.0.0.1:\(port)/\(database)" }
}
