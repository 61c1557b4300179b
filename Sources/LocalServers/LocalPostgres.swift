import Core

#if canImport(Glibc)
    import Glibc
#endif

/// Whether a server's word survives a power cut. Servers that only lend tests an engine need not wait for
/// the disk; those whose recovery is looked at must.
public enum Durability: Sendable {
    case durable
    case throwaway
}

/// A private PostgreSQL with one superuser, `convoke`, and nothing in it.
public struct LocalPostgres: LocalServer {
    public let process: ServerProcess
    public let port: Int
    private let folder: ServerFolder
    private let password: String?
    private static let user = "convoke"

    /// Without a `password` every account of this machine may enter.
    public init(
        directory: String, port: Int? = nil, password: String? = nil, durability: Durability = .durable
    ) throws {
        let folder = ServerFolder(directory, accountName: "postgres")
        let port = try port ?? Loopback.freePort()
        self.folder = folder
        self.port = port
        self.password = password
        var settings = [
            "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=500",
            // Otherwise in /dev/shm, where a kill leaves it lying.
            "dynamic_shared_memory_type=mmap",
        ]
        if durability == .throwaway {
            settings += ["fsync=off", "full_page_writes=off", "synchronous_commit=off"]
        }
        let bin = Self.binaries
        process = ServerProcess(
            ServerRecipe(
                name: "postgres", folder: folder, port: port,
                prepare: { try await Self.initialise(folder, bin, password) },
                command: folder.command(
                    bin + "/postgres",
                    ["-D", folder("data"), "-p", String(port)] + settings.flatMap { ["-c", $0] },
                    endSignal: .quit),
                answers: { Self.isReady(folder, $0) },
                // "Fast": does not wait for clients to leave.
                stop: .signal(SIGINT)))
    }

    public var url: String { url(database: "postgres") }

    public func url(database: String) -> String {
        "postgres://\(Self.user)\(password.map { ":" + $0 } ?? "")@127.0.0.1:\(port)/\(database)"
    }

    /// Makes a database; one that is there already stays as it is.
    public func createDatabase(_ name: String) async throws {
        guard try await !databases().contains(name) else { return }
        try await query("CREATE DATABASE \"\(name)\" TEMPLATE template0")
    }

    /// The names of all databases.
    public func databases() async throws -> [String] { try await query("SELECT datname FROM pg_database") }

    /// The lines of an answer, through PostgreSQL's own client: no driver of ours is under this.
    @discardableResult
    private func query(_ sql: String) async throws -> [String] {
        let answer = folder("answer-\(SystemRandom().next())")
        defer { removeFile(answer) }
        let arguments = ["-X", "-q", "-A", "-t", "-d", "postgres", "-o", answer, "-c", sql]
        let environment = [
            "PGHOST": "127.0.0.1", "PGPORT": String(port), "PGUSER": Self.user, "PGPASSWORD": password ?? "",
        ]
        try await folder.run(
            folder.command(Self.binaries + "/psql", arguments, environment: environment), as: "psql")
        return (readFile(answer) ?? "").split(separator: "\n").map(String.init)
    }

    private static func initialise(_ folder: ServerFolder, _ bin: String, _ password: String?) async throws {
        guard !fileExists(folder("data")) else { return }
        // Made beside its place and moved there when complete: half a cluster never counts as one.
        let new = folder("data.new")
        try await folder.run(folder.command("/usr/bin/rm", ["-rf", "--", new]), as: "rm")
        var arguments = ["-D", new, "-U", user, "-E", "UTF8", "--no-locale"]
        if let password {
            try folder.write("password", password)
            arguments += ["-A", "scram-sha-256", "--pwfile", folder("password")]
        } else {
            arguments += ["-A", "trust", "--no-sync"]
        }
        try await folder.run(folder.command(bin + "/initdb", arguments), as: "initdb")
        removeFile(folder("password"))
        try moveFile(new, to: folder("data"))
    }

    /// PostgreSQL keeps a status in its lock file; the first line tells whether this one wrote it, or one
    /// that was killed before.
    private static func isReady(_ folder: ServerFolder, _ id: ProcessID) -> Bool {
        let lines = (readFile(folder("data/postmaster.pid")) ?? "").split(
            separator: "\n", omittingEmptySubsequences: false)
        return lines.count > 7 && ProcessID(lines[0]) == id && lines[7].hasPrefix("ready")
    }

    /// Debian keeps each major version in a folder of its own, outside `PATH`.
    private static var binaries: String {
        let versions = (9...30).reversed().lazy.map { "/usr/lib/postgresql/\($0)/bin" }
        return versions.first { fileExists($0 + "/postgres") } ?? "/usr/bin"
    }
}
