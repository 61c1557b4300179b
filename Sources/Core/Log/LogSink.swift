import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Where log lines go.
public protocol LogSink: Sendable {
    func write(_ line: String)
}

struct DiscardingSink: LogSink {
    func write(_: String) {}
}

/// Keeps the lines, for tests that look.
public final class MemorySink: LogSink {
    private let kept = Mutex<[String]>([])
    public init() {}
    public func write(_ line: String) { kept.withLock { $0.append(line) } }
    public var lines: [String] { kept.withLock { $0 } }
}

/// Standard error, through a buffer and a thread of its own: a reader that stalls never stops a request.
///
/// Past 8 MiB of unwritten lines further ones are dropped and their number is said.
public final class StandardErrorSink: LogSink {
    public static let shared = StandardErrorSink()

    private struct State {
        var pending: [UInt8] = []
        var dropped = 0
        var isWriting = false
    }
    private let state = Mutex(State())
    private let thread = ThreadExecutor(name: "log")

    private init() {}

    public func write(_ line: String) {
        let mustWake = state.withLock { state in
            guard state.pending.count < 8 << 20 else {
                state.dropped += 1
                return false
            }
            state.pending.append(contentsOf: line.utf8)
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if mustWake { thread.perform { self.drain() } }
    }

    /// Returns once all is written; called before the process ends. It waits for the thread instead of writing
    /// itself: what the thread has just taken out of the buffer would be lost with the process. A reader that
    /// stalls keeps the process for a few seconds at most.
    public func flush() {
        for _ in 0..<5000 where state.withLock({ $0.isWriting }) { _ = poll(nil, 0, 1) }
    }

    private func drain() {
        while true {
            let chunk = state.withLock { state -> [UInt8] in
                if state.dropped > 0 {
                    let note =
                        "{\"level\":\"warning\",\"event\":\"log.dropped\",\"lines\":\(state.dropped)}\n"
                    state.pending.append(contentsOf: note.utf8)
                    state.dropped = 0
                }
                defer { state.pending = [] }
                state.isWriting = !state.pending.isEmpty
                return state.pending
            }
            if chunk.isEmpty { return }
            writeAll(chunk, to: 2)
        }
    }
}

func writeAll(_ bytes: [UInt8], to file: Int32) {
    var offset = 0
    while offset < bytes.count {
        let written = unsafe bytes.withUnsafeBytes { buffer in
            unsafe Glibc.write(file, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
        }
        if written < 0 && errno == EINTR { continue }
        guard written > 0 else { return }
        offset += written
    }
}
