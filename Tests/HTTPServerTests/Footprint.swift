import Core
import Glibc
import Testing

/// What this process holds, read from the system.
struct Footprint {
    /// Descriptors that are sockets.
    var sockets = 0
    /// Threads of the server and of the clients in these tests.
    var threads = 0
    var memory = 0

    static var now: Footprint {
        var result = Footprint()
        for name in entries("/proc/self/fd") {
            var target = [CChar](repeating: 0, count: 64)
            let count = readlink("/proc/self/fd/\(name)", &target, target.count)
            let bytes = target.prefix(max(count, 0)).map { UInt8(bitPattern: $0) }
            if String(decoding: bytes, as: UTF8.self).hasPrefix("socket:") { result.sockets += 1 }
        }
        for name in entries("/proc/self/task") {
            let thread = read("/proc/self/task/\(name)/comm")
            if ["http-", "raw-client"].contains(where: thread.hasPrefix) { result.threads += 1 }
        }
        let pages = read("/proc/self/statm").split(separator: " ").dropFirst().first.flatMap { Int($0) }
        result.memory = (pages ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
        return result
    }

    private static func entries(_ path: String) -> [String] {
        guard let folder = opendir(path) else { return [] }
        defer { closedir(folder) }
        var result: [String] = []
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if !name.hasPrefix(".") { result.append(name) }
        }
        return result
    }

    private static func read(_ path: String) -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 256)
        return String(decoding: bytes.prefix(fread(&bytes, 1, bytes.count, file)), as: UTF8.self)
    }
}

/// Many connections held by another process, so that this one's descriptors are the server's alone.
///
/// A third of them say nothing, a third stop within a head, and a third have been answered once.
final class Crowd {
    private let pipe: UnsafeMutablePointer<FILE>?

    init(_ count: Int, port: Int) {
        let script = """
            ulimit -n $(ulimit -Hn)
            for ((i = 0; i < \(count); i++)); do
                exec {c}<>/dev/tcp/127.0.0.1/\(port) || exit 1
                case $((i % 3)) in
                1) printf 'GET /quick HTTP/1.1\\r\\nHost: h\\r\\n' >&$c ;;
                2) printf 'GET /quick HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n' >&$c ;;
                esac
            done
            read
            """
        pipe = popen("exec bash -c '\(script.replacing("'", with: "'\\''"))'", "w")
    }

    /// Goes away, all connections at once.
    func leave() { if let pipe { pclose(pipe) } }

    /// As many as `count`, or as this system lets one process have.
    static func size(_ count: Int) -> Int {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return min(count, Int(clamping: limit.rlim_max) - 500)
    }
}
