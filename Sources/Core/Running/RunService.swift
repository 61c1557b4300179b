import CSystem

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
    signals.handle { count, number in
        guard count == 1 else { endProcess(128 + number) }
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

/// Turns signals into work on a thread of its own, where any code may run, unlike in a signal handler.
///
/// Not by blocking them for all threads and `sigwait`: threads of Swift's own may run before `main` does, and
/// one that does not block a signal dies of it, and the process with it.
private final class Signals: Sendable {
    private let reading: Int32

    init(_ numbers: [Int32]) {
        var ends: [Int32] = [-1, -1]
        let failure = unsafe pipe(&ends)
        precondition(failure == 0, "the system refuses a pipe")
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        reading = ends[0]
        unsafe convoke_signals_to_pipe(ends[1], numbers, Int32(numbers.count))
    }

    func handle(_ action: @escaping @Sendable (_ count: Int, _ number: Int32) -> Void) {
        let reading = reading
        startThread(name: "signals") {
            var count = 0
            while true {
                var number: UInt8 = 0
                guard unsafe read(reading, &number, 1) == 1 else { continue }
                count += 1
                action(count, Int32(number))
            }
        }
    }
}
