import Core
import Glibc
import Synchronization
import Testing

/// Holds threads of a scripted server until a test opens it.
final class Gate: Sendable {
    // Safe: a POSIX semaphore is made to be shared by threads; the pointer itself never changes.
    private nonisolated(unsafe) let pointer: UnsafeMutablePointer<sem_t> = .allocate(capacity: 1)

    init() { sem_init(pointer, 0, 0) }
    deinit {
        sem_destroy(pointer)
        pointer.deallocate()
    }

    func open() { sem_post(pointer) }

    /// At most so long, so that a failing test ends.
    func wait(milliseconds: Int = 10_000) {
        var end = timespec()
        clock_gettime(CLOCK_REALTIME, &end)
        end.tv_nsec += milliseconds % 1000 * 1_000_000
        end.tv_sec += milliseconds / 1000 + end.tv_nsec / 1_000_000_000
        end.tv_nsec %= 1_000_000_000
        _ = sem_timedwait(pointer, &end)
    }
}

/// Waits until a number stays what it is.
func standsStill(_ number: () -> Int) async throws {
    let time = SystemTime()
    var last = -1
    var unchanged = 0
    while unchanged < 10 {
        try await time.sleep(for: .milliseconds(10))
        let now = number()
        unchanged = now == last ? unchanged + 1 : 0
        last = now
    }
}

/// Returns only by being cancelled.
func forever() async throws {
    while true { try await SystemTime().sleep(for: .seconds(3600)) }
}

func residentMegabytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, 256, file) != nil else { return 0 }
    let fields = line.split(separator: 0x20)
    let pages =
        fields.count > 1
        ? Int(String(decoding: fields[1].map(UInt8.init(bitPattern:)), as: UTF8.self)) ?? 0 : 0
    return pages * 4096 >> 20
}

/// The names in a folder of `/proc/self`.
private func entries(of folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if !name.hasPrefix(".") { names.append(name) }
    }
    return names
}

/// How many sockets, epolls and eventfds this process has. Timers are the runtime's.
func openDescriptors() -> Int {
    entries(of: "/proc/self/fd").count { name in
        var target = [CChar](repeating: 0, count: 256)
        let length = readlink("/proc/self/fd/\(name)", &target, 255)
        guard length > 0 else { return false }
        let text = String(decoding: target[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
        return text.hasPrefix("socket:") || text.hasPrefix("anon_inode:[event")
    }
}

/// How many threads of clients there are.
func clientThreads() -> Int {
    entries(of: "/proc/self/task").count { name in
        guard let file = fopen("/proc/self/task/\(name)/comm", "r") else { return false }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 64)
        guard fgets(&line, 64, file) != nil else { return false }
        return String(decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            .hasPrefix("http-client")
    }
}
