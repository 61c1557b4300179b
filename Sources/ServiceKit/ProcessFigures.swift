import Core

#if canImport(Glibc)
    import Glibc
#endif

/// The figures of the process itself, under the names Prometheus' own clients use.
struct ProcessFigures: Sendable {
    private let memory: Gauge
    private let files: Gauge
    private let threads: Gauge

    init(_ metrics: Metrics, started: Timestamp) {
        memory = metrics.gauge("process_resident_memory_bytes", "Resident memory")
        files = metrics.gauge("process_open_fds", "Open file descriptors")
        threads = metrics.gauge("process_threads", "Threads")
        metrics.gauge("process_start_time_seconds", "Start of the process since 1970").set(started.seconds)
    }

    /// Reads them from `/proc`; called when somebody looks.
    func update() {
        let status =
            (try? FileSystem.read("/proc/self/status")).map { String(decoding: $0, as: UTF8.self) } ?? ""
        memory.set((number(in: status, after: "VmRSS:") ?? 0) * 1024)
        threads.set(number(in: status, after: "Threads:") ?? 0)
        // Without the descriptor that this very reading needs.
        files.set(max(0, ((try? FileSystem.entries(of: "/proc/self/fd")) ?? []).count - 1))
    }
}

private func number(in text: String, after name: String) -> Int? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else { return nil }
    return Int(line.dropFirst(name.count).filter { $0.isASCII && $0.isNumber })
}
