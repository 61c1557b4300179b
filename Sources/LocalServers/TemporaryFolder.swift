import Core

#if canImport(Glibc)
    import Glibc
#endif

/// A folder that disappears with this process, even when it is killed: a shell waits at the other end of a
/// pipe and removes the folder once the kernel has closed our end.
public final class TemporaryFolder: Sendable {
    public let path: String
    private let remover: ChildProcess

    public init(named name: String = "convoke") async throws {
        let root = Environment.process.string("TMPDIR", default: "/tmp")
        path = "\(root)/\(name)-\(getpid())-\(SystemRandom().next() % 1_000_000)"
        // Servers run as accounts of their own and have to get in.
        try makeFolder(path)
        // A server that is being ended may still write: hence the few tries.
        let script = """
            trap '' HUP INT TERM; cat >/dev/null
            for try in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0" 2>/dev/null && exit; sleep 0.3; done
            """
        remover = try await ChildProcess.spawn(
            Command(
                "/bin/sh", ["-c", script, path], environment: ["PATH": "/usr/bin:/bin"], directory: "/",
                output: .file("/dev/null"), hasInput: true, endSignal: .none))
    }

    deinit { remover.closeInput() }
}
