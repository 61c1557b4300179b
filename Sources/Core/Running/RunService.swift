import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// How a process ends, after `sysexits.h`.
public enum ExitCode {
    public static let ok: Int32 = 0
    public static let failure: Int32 = 1
    public static let usage: Int32 = 64
    public static let unavailable: Int32 = 69
    public static let software: Int32 = 70
    public static let configuration: Int32 = 78
}

/// The life of a process: builds its services, runs them until SIGTERM or SIGINT, lets them finish within
/// `grace`, and exits. A second signal, or the end of the grace period, ends it at once.
///
/// Settings errors go to the log and exit with 78, other failures with 70.
public func runService(
    _ name: String, grace: Duration = .seconds(20),
    _ build: @escaping @Sendable (Log) async throws -> [any Service]
) async -> Never {
    let log = Log(service: name)
    let signals = Signals([SIGTERM, SIGINT])
    _ = signal(SIGPIPE, SIG_IGN)
    let work = Task.detached { () -> Int32 in
        do {
            let services = try await build(log)
            try await runAll(services, log: log)
            return ExitCode.ok
        } catch let error as ConfigurationError {
            for mistake in error.mistakes { log.error("settings.wrong", ["mistake": .text(mistake)]) }
            return ExitCode.configuration
        } catch is CancellationError {
            return ExitCode.ok
        } catch {
            log.error("process.failed", ["error": .error(error)])
            return ExitCode.software
        }
    }
    signals.handle { count in
        guard count == 1 else { endProcess(128 + SIGTERM) }
        log.info("process.stopping")
        work.cancel()
        startThread(name: "grace") {
            // The cooperative pool may be what hangs, so this waits on a thread of its own.
            _ = poll(nil, 0, Int32(clamping: grace.milliseconds))
            log.error("process.grace-exceeded")
            endProcess(ExitCode.software)
        }
    }
    let code = await work.value
    endProcess(code)
}

/// Ends the process without running exit handlers of libraries whose threads are still at work.
public func endProcess(_ code: Int32) -> Never {
    StandardErrorSink.shared.flush()
    _exit(code)
}

/// Waits for signals on a thread of its own, where any code may run, unlike in a signal handler.
private final class Signals: Sendable {
    private let numbers: [Int32]

    /// Blocks the signals for this thread and all that come from it: make it before any other thread.
    init(_ numbers: [Int32]) {
        self.numbers = numbers
        var set = Self.set(of: numbers)
        unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    private static func set(of numbers: [Int32]) -> sigset_t {
        var set = sigset_t()
        unsafe sigemptyset(&set)
        for number in numbers { unsafe sigaddset(&set, number) }
        return set
    }

    func handle(_ action: @escaping @Sendable (Int) -> Void) {
        let numbers = numbers
        startThread(name: "signals") {
            var set = Self.set(of: numbers)
            var count = 0
            while true {
                var number: Int32 = 0
                guard unsafe sigwait(&set, &number) == 0 else { continue }
                count += 1
                action(count)
            }
        }
    }
}
