import CSystem
import Core
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// How a process ended.
public enum ExitStatus: Sendable, Equatable {
    case exited(Int32)
    case signalled(Int32)

    /// What a shell would say: the code, or 128 and the signal's number.
    public var code: Int32 {
        switch self {
        case .exited(let code): code
        case .signalled(let number): 128 + number
        }
    }
}

/// A program could not be started at all.
public struct SpawnError: Error, CustomStringConvertible {
    public let executable: String
    public let reason: String
    public var description: String { "\(executable) cannot be started: \(reason)" }
}

/// What to start, and how.
public struct Command: Sendable {
    public enum Output: Sendable {
        /// Ours: for processes whose log belongs into our own.
        case inherited
        /// Appended to a file.
        case file(String)
    }

    /// By name, as `setpriv` wants them.
    public enum EndSignal: String, Sendable {
        case kill = "KILL"
        case terminate = "TERM"
        case quit = "QUIT"
        /// It outlives us: only for what ends by itself soon after.
        case none = "clear"

        var number: Int32? {
            switch self {
            case .kill: SIGKILL
            case .terminate: SIGTERM
            case .quit: SIGQUIT
            case .none: nil
            }
        }
    }

    public var executable: String
    public var arguments: [String]
    /// All of the child's environment: nothing of ours gets there by itself.
    public var environment: [String: String]
    public var directory: String?
    /// The account to run as; it matters only to root, as nobody else can change.
    public var account: Account?
    public var output: Output
    /// Whether `ChildProcess.write` reaches the program's standard input.
    public var hasInput: Bool
    /// What the kernel sends the child when we die, however we die.
    public var endSignal: EndSignal

    public init(
        _ executable: String, _ arguments: [String] = [], environment: [String: String] = [:],
        directory: String? = nil, account: Account? = nil, output: Output = .inherited,
        hasInput: Bool = false,
        endSignal: EndSignal = .kill
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.account = account
        self.output = output
        self.hasInput = hasInput
        self.endSignal = endSignal
    }
}

/// A process of ours that cannot outlive us. It is in a process group of its own, so that Ctrl-C in a
/// terminal reaches us alone and we end it in order.
public final class ChildProcess: Sendable {
    public let id: ProcessID

    private struct State {
        var status: ExitStatus?
        var waiters: [CheckedContinuation<ExitStatus, Never>] = []
    }
    private let state = Mutex(State())
    /// Our end of the pipe to its standard input.
    private let input: Mutex<Int32?>

    /// The kernel's parent-death signal follows the *thread* that started the child, so all are started by
    /// one that lives as long as the process.
    private static let spawner = ThreadExecutor(name: "spawn")

    private init(id: ProcessID, input: Int32?) {
        self.id = id
        self.input = Mutex(input)
    }

    public static func spawn(_ command: Command) async throws -> ChildProcess {
        let (id, input) = try await withCheckedThrowingContinuation { waiter in
            spawner.perform { waiter.resume(with: Result { try spawnHere(command) }) }
        }
        let child = ChildProcess(id: id, input: input)
        startThread(name: "wait") { child.reap() }
        return child
    }

    /// Runs a short program to its end.
    public static func run(_ command: Command) async throws -> ExitStatus {
        try await spawn(command).wait()
    }

    public var status: ExitStatus? { state.withLock { $0.status } }

    /// Sends a signal, unless the process has ended: its number may be another's by now.
    public func signal(_ number: Int32) {
        state.withLock { state in
            if state.status == nil { _ = Glibc.kill(id, number) }
        }
    }

    /// Returns when the process has ended; at once when it already had.
    public func wait() async -> ExitStatus {
        await withCheckedContinuation { waiter in
            let status = state.withLock { state in
                if state.status == nil { state.waiters.append(waiter) }
                return state.status
            }
            if let status { waiter.resume(returning: status) }
        }
    }

    /// Sends `text` to the program's standard input.
    public func write(_ text: String) {
        input.withLock { input in
            guard let input else { return }
            var rest = Array(text.utf8)[...]
            while !rest.isEmpty {
                let written = rest.withUnsafeBytes { Glibc.write(input, $0.baseAddress, $0.count) }
                if written < 0 && errno == EINTR { continue }
                guard written > 0 else { return }
                rest = rest.dropFirst(written)
            }
        }
    }

    /// Ends the program's standard input.
    public func closeInput() {
        input.withLock { input in
            if let input { close(input) }
            input = nil
        }
    }

    /// Waits, on a thread of its own, without collecting first: between the process's end and its collection
    /// the number still belongs to it, so `signal` can never hit a stranger.
    private func reap() {
        var info = siginfo_t()
        while waitid(P_PID, id_t(id), &info, WEXITED | WNOWAIT) != 0 && errno == EINTR {}
        let (status, waiters) = state.withLock { state in
            var raw: Int32 = 0
            while waitpid(id, &raw, 0) < 0 && errno == EINTR {}
            let status: ExitStatus = raw & 0x7f == 0 ? .exited((raw >> 8) & 0xff) : .signalled(raw & 0x7f)
            state.status = status
            defer { state.waiters = [] }
            return (status, state.waiters)
        }
        closeInput()
        for waiter in waiters { waiter.resume(returning: status) }
    }
}

extension ChildProcess {
    private static func spawnHere(_ command: Command) throws -> (ProcessID, input: Int32?) {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }

        var pipe: (read: Int32, write: Int32)?
        if command.hasInput {
            var ends: [Int32] = [0, 0]
            guard Glibc.pipe(&ends) == 0 else { throw failure(of: command, errno) }
            pipe = (ends[0], ends[1])
            // Not inherited by whatever else this process starts by other means.
            _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
            posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        defer { if let pipe { close(pipe.read) } }
        if case .file(let path) = command.output {
            posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0o640)
            posix_spawn_file_actions_adddup2(&actions, 1, 2)
        }
        if let directory = command.directory { convoke_spawn_in_folder(&actions, directory) }
        convoke_spawn_without_files_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Our own process blocks and ignores signals, which a child would inherit and never hear them.
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))

        let words = command.wrapped
        var id: ProcessID = 0
        let code = withCStrings(words) { arguments in
            withCStrings(command.environment.map { "\($0)=\($1)" }) { environment in
                posix_spawn(&id, words[0], &actions, &attributes, arguments, environment)
            }
        }
        guard code == 0 else {
            if let pipe { close(pipe.write) }
            throw failure(of: command, code)
        }
        return (id, pipe?.write)
    }

    private static func failure(of command: Command, _ code: Int32) -> SpawnError {
        SpawnError(executable: command.executable, reason: systemMessage(code))
    }
}

extension Command {
    /// The command behind `setpriv`, which changes the account and asks the kernel for the end signal, in
    /// this order: changing the account would clear the signal.
    fileprivate var wrapped: [String] {
        var words = ["/usr/bin/setpriv"]
        if let account, geteuid() == 0 {
            words += ["--reuid", String(account.user), "--regid", String(account.group), "--clear-groups"]
        }
        words += ["--pdeathsig", endSignal.rawValue, "--", executable]
        return words + arguments
    }
}

func systemMessage(_ code: Int32) -> String { String(cString: strerror(code)) }

/// Lends `strings` as the null-terminated array C wants.
private func withCStrings<Result>(
    _ strings: [String], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
    let copies = strings.map { strdup($0) }
    defer { for copy in copies { free(copy) } }
    return body(copies + [nil])
}
