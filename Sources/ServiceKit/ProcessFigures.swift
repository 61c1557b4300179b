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
        let status = smallFile("/proc/self/status")
        memory.set((number(in: status, after: "VmRSS:") ?? 0) * 1024)
        threads.set(number(in: status, after: "Threads:") ?? 0)
        files.set(countEntries("/proc/self/fd"))
    }
}

private func number(in text: String, after name: String) -> Int? {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else { return nil }
    return Int(line.dropFirst(name.count).filter { $0.isASCII && $0.isNumber })
}

private func smallFile(_ path: String) -> String {
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return "" }
    defer { close(file) }
    var buffer = [UInt8](repeating: 0, count: 8192)
    let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
    return count > 0 ? String(decoding: buffer[..<count], as: UTF8.self) : ""
}

private func countEntries(_ path: String) -> Int {
    guard let folder = unsafe opendir(path) else { return 0 }
    defer { unsafe closedir(folder) }
    var count = 0
    while unsafe readdir(folder) != nil { count += 1 }
    // Itself, its parent, and the descriptor this very reading needed.
    return max(0, count - 3)
}
