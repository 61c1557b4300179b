import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A real server that belongs to this process: private folder, private port, loopback only, gone when we are.
public protocol LocalServer: Sendable {
    var process: ServerProcess { get }

    /// Where clients find it.
    var url: String { get }
}

extension LocalServer {
    /// Starts the server and returns once it answers. Its data, if there is any, is still there.
    public func start() async throws { try await process.start() }

    /// The same, as part of an expression.
    public func started() async throws -> Self {
        try await start()
        return self
    }

    /// Ends the server in order; returns once it is gone.
    public func stop() async throws { try await unlessCancelled { try await process.stop() } }

    /// Ends the server as a power cut would (SIGKILL, its children too); returns once all are gone.
    public func kill() async { try? await unlessCancelled { await process.kill() } }
}

/// Ending a server is what a cancelled task does last, so its waiting must not be cancelled with it.
private func unlessCancelled(_ work: @escaping @Sendable () async throws -> Void) async throws {
    try await Task { try await work() }.value
}

/// A server that did not start, or did not stop, and what it said last.
public struct ServerFailed: Error, CustomStringConvertible {
    public let server: String
    public let reason: String
    public let logTail: String
    public var description: String { "\(server) \(reason). The end of its log:\n\(logTail)" }
}

/// What one kind of server needs beyond what all share.
struct ServerRecipe: Sendable {
    let name: String
    let folder: ServerFolder
    let port: Int
    /// Makes configuration and first data; called before every start.
    let prepare: @Sendable () async throws -> Void
    let command: Command
    /// Asks the server; may block for a second.
    let answers: @Sendable (ProcessID) -> Bool
    var stop = Stop.signal(SIGTERM)

    /// How the server is asked to end, losing nothing that it has confirmed.
    enum Stop {
        case signal(Int32)
        /// A line on its standard input, which it reads once it answers; before that it is killed.
        case typed(String)
    }
}

/// The folder of one server: its log directly in it, its data beside that.
struct ServerFolder: Sendable {
    let path: String
    let account: Account?

    init(_ path: String, accountName: String? = nil) {
        self.path = absolute(path)
        account = accountName.flatMap(Account.forServer)
    }

    var log: String { path + "/server.log" }
    func callAsFunction(_ name: String) -> String { "\(path)/\(name)" }

    func make() throws { try makeFolder(path, for: account) }

    func write(_ name: String, _ text: String) throws { try writeFile(self(name), text, for: account) }

    /// A command of this server: as its account, in its folder, its output in the log.
    func command(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:],
        hasInput: Bool = false, endSignal: Command.EndSignal = .kill
    ) -> Command {
        let ground = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": path, "LANG": "C.UTF-8"]
        return Command(
            executable, arguments, environment: ground.merging(environment) { $1 }, directory: path,
            account: account, output: .file(log), hasInput: hasInput, endSignal: endSignal)
    }

    var logTail: String {
        let lines = (readFile(log, last: 4096) ?? "(no log)").split(separator: "\n")
        return lines.suffix(15).joined(separator: "\n")
    }

    /// Runs a tool of the server's to its end; a failure is told with what it printed.
    func run(_ command: Command, as name: String) async throws {
        let status = try await ChildProcess.run(command)
        guard status == .exited(0) else {
            throw ServerFailed(server: name, reason: "ended with \(status.code)", logTail: logTail)
        }
    }
}

/// The life of one server: the same for all kinds.
public actor ServerProcess {
    private let recipe: ServerRecipe
    private let time: any TimeSource
    private var child: ChildProcess?
    private var hasAnswered = false
    /// Asking a server blocks, so it has a thread of its own.
    private let thread: ThreadExecutor

    public nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

    init(_ recipe: ServerRecipe, time: any TimeSource = SystemTime()) {
        self.recipe = recipe
        self.time = time
        thread = ThreadExecutor(name: recipe.name)
    }

    deinit { if let number = recipe.command.endSignal.number { child?.signal(number) } }

    public nonisolated var name: String { recipe.name }
    public nonisolated var logTail: String { recipe.folder.logTail }

    /// The server's process while it runs.
    public var id: ProcessID? { child.flatMap { $0.status == nil ? $0.id : nil } }

    /// Waits for the server to end, for those who want to know that it died; at once when it does not run.
    public func ended() async -> ExitStatus? { await child?.wait() }

    /// The limit only ends what would hang: on a machine with much else to do a start takes minutes.
    func start(within limit: Duration = .seconds(300)) async throws {
        guard id == nil else { return }
        try recipe.folder.make()
        // Otherwise whoever holds the port would answer in its place.
        guard Loopback.isFree(recipe.port) else { throw failed("cannot start: port \(recipe.port) is taken") }
        try await recipe.prepare()
        try Task.checkCancellation()
        let child = try await ChildProcess.spawn(recipe.command)
        self.child = child
        hasAnswered = false
        let start = time.uptime
        while !recipe.answers(child.id) {
            if let status = child.status { throw failed("ended with \(status.code) while starting") }
            guard time.uptime - start < limit else {
                await kill()
                throw failed("did not answer within \(limit)")
            }
            try await time.sleep(for: .milliseconds(10))
        }
        hasAnswered = true
    }

    func stop(within limit: Duration = .seconds(30)) async throws {
        guard let child, child.status == nil else { return }
        let family = ProcessTable.descendants(of: child.id)
        switch recipe.stop {
        case .signal(let number): child.signal(number)
        case .typed(let line) where hasAnswered: child.write(line + "\n")
        case .typed: return await kill()
        }
        let start = time.uptime
        while child.status == nil || family.contains(where: ProcessTable.isRunning) {
            guard time.uptime - start < limit else {
                await kill()
                throw failed("did not stop within \(limit) and was killed")
            }
            try await time.sleep(for: .milliseconds(10))
        }
    }

    func kill() async {
        guard let child, child.status == nil else { return }
        // Stopped first, so that it starts no further child between our look and the end.
        child.signal(SIGSTOP)
        let family = ProcessTable.descendants(of: child.id)
        child.signal(SIGKILL)
        for id in family { _ = Glibc.kill(id, SIGKILL) }
        _ = await child.wait()
        while family.contains(where: ProcessTable.isRunning) {
            try? await time.sleep(for: .milliseconds(5))
        }
    }

    /// Sends a line to a server that reads its standard input.
    func write(_ line: String) { child?.write(line + "\n") }

    private func failed(_ reason: String) -> ServerFailed {
        ServerFailed(server: recipe.name, reason: reason, logTail: recipe.folder.logTail)
    }
}
