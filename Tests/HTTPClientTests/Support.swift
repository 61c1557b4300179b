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

    struct StayedShut: Error {}

    /// Throws after a minute, so that a failing test ends, and its script does not go on as if it were open.
    func wait() throws {
        var end = timespec()
        clock_gettime(CLOCK_REALTIME, &end)
        end.tv_sec += 60
        while sem_timedwait(pointer, &end) != 0 {
            guard errno == EINTR else { throw StayedShut() }
        }
    }
}

/// Takes the thread of a script out of the way for so long.
func pause(_ duration: Duration) {
    usleep(UInt32(duration.milliseconds * 1000))  // rule: tests-do-not-sleep
}

/// Asks for the same with longer and longer limits until it holds.
///
/// A limit that is to be seen at work has to end one thing and not another, such as the wait for an answer,
/// but not the connecting before it. A busy machine may be too slow for any limit; a wrong client fails them
/// all.
func holdsWithSomeLimit(_ what: String, _ holds: (Duration) async throws -> Bool) async throws {
    for milliseconds in [250, 1000, 4000, 16_000] as [Int64] {
        if try await holds(.milliseconds(milliseconds)) { return }
    }
    Issue.record("not with any limit: \(what)")
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

/// The numbers in a file of `/proc`, which is one line.
private func numbers(in path: String) -> [Int] {
    guard let file = fopen(path, "r") else { return [] }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard fgets(&line, 256, file) != nil else { return [] }
    return line.prefix { $0 != 0 }.split { $0 == 0x20 || $0 == 0x09 || $0 == 0x0A }.compactMap {
        Int(String(decoding: $0.map(UInt8.init(bitPattern:)), as: UTF8.self))
    }
}

func residentMegabytes() -> Int {
    let pages = numbers(in: "/proc/self/statm")
    return pages.count > 1 ? pages[1] * 4096 >> 20 : 0
}

/// How many bytes can be on their way through a connection that nobody reads from: what this system lets
/// the two sockets grow to, and a megabyte for what a client itself holds.
func mostUnread() -> Int {
    let limits = ["tcp_wmem", "tcp_rmem"].map { numbers(in: "/proc/sys/net/ipv4/\($0)").last ?? 8 << 20 }
    return limits.reduce(1 << 20, +)
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
