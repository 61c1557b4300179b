import Core
import Foundation
import TestServers
import Testing

/// One of the executables that were built beside the tests, as a process of its own.
struct RunningProgram: Sendable {
    let process: ChildProcess
    /// What it prints on standard output and standard error.
    private let output: String

    static let folder: String = {
        let path = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        return URL(fileURLWithPath: path).deletingLastPathComponent().path
    }()

    static func start(
        _ name: String, _ arguments: [String] = [], settings: [String: String] = [:]
    ) async throws -> RunningProgram {
        let output = try await TestServers.directory() + "/output"
        var environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"]
        environment.merge(settings) { $1 }
        let command = Command(
            "\(folder)/\(name)", arguments, environment: environment, output: .file(output))
        return RunningProgram(process: try await ChildProcess.spawn(command), output: output)
    }

    var printed: String { (try? String(contentsOfFile: output, encoding: .utf8)) ?? "" }

    /// The events of its log with a field, such as all mistakes of `settings.wrong`.
    func logged(_ event: String, _ field: String) -> [String] {
        printed.split(separator: "\n").compactMap { line in
            guard let entry = try? JSONValue(parsing: String(line)), entry["event"]?.stringValue == event
            else { return nil }
            return entry[field]?.stringValue
        }
    }

    /// Waits until the program has printed `text`; one that ends before has failed.
    func waitFor(_ text: String) async throws {
        try await waitUntil("\(text) is printed") {
            printed.contains(text) || process.status != nil
        }
        try #require(printed.contains(text), "\(printed)")
    }

    /// Asks it to end, as an init system does, and tells how it did.
    func end() async -> LocalServers.ExitStatus {
        process.signal(SIGTERM)
        return await process.wait()
    }
}

/// Polls until something is so. The limit is no measurement: it only ends a test that would hang.
func waitUntil(_ what: String, _ isSo: @Sendable () async throws -> Bool) async throws {
    let time = SystemTime()
    let start = time.uptime
    while try await !isSo() {
        try #require(time.uptime - start < .seconds(600), "\(what) did not come true")
        try await time.sleep(for: .milliseconds(20))
    }
}

/// The ports of one platform: a base at which nobody listens on any of them.
struct Ports: Sendable {
    static let offsets = [
        "gateway": 0, "integration-service": 1, "invite-service": 2, "parsing-service": 3,
        "account-manager": 4,
        "user-service": 5, "report-service": 6, "telegram-sandbox": 90,
    ]
    /// The gateway's own port is everybody's, so its metrics are read elsewhere.
    static let gatewayMetrics = 9

    let base: Int

    /// Below the ports that `Loopback.freePort` hands out. In every 200 of them nine platforms have room: the
    /// first 90 are for bases, the next for what stands 90 above them.
    init() throws {
        let random = SystemRandom()
        for _ in 0..<1000 {
            let base = 10_000 + random.int(in: 0...24) * 200 + random.int(in: 0...8) * 10
            guard Self.reserve(base) else { continue }
            let all = Array(Self.offsets.values) + [Self.gatewayMetrics]
            if all.allSatisfy({ Loopback.isFree(base + $0) }) {
                self.base = base
                return
            }
        }
        throw NoFreePort()
    }

    /// Between choosing ports and using them lie seconds, and other tests choose too, in this process and in
    /// others. Whoever holds the base's number on the next loopback address has it, as long as it lives.
    private static func reserve(_ base: Int) -> Bool {
        let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(base).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0002).bigEndian
        let failure = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if failure != 0 { close(file) }
        return failure == 0
    }

    subscript(service: String) -> Int { base + (Self.offsets[service] ?? 0) }

    func metrics(of service: String) -> Int {
        service == "gateway" ? base + Self.gatewayMetrics : self[service]
    }

    var settings: [String: String] { ["CONVOKE_PORT_BASE": String(base)] }

    func waitUntilAllAnswer(_ program: RunningProgram) async throws {
        for service in Self.offsets.keys.sorted() {
            try await waitUntil("\(service) answers") {
                try #require(program.process.status == nil, "\(program.printed)")
                return Answer(self[service], "GET", "/health")?.status == 200
            }
        }
    }
}

/// What a server on this machine answered.
struct Answer {
    let status: Int
    let body: String

    init?(_ port: Int, _ method: String, _ path: String, json: String? = nil) {
        var head = "\(method) \(path) HTTP/1.0\r\nHost: 127.0.0.1\r\n"
        if let json { head += "Content-Type: application/json\r\nContent-Length: \(json.utf8.count)\r\n" }
        guard
            let text = Loopback.ask(port, head + "\r\n" + (json ?? ""), untilEnd: true, seconds: 60),
            let status = text.split(separator: " ").dropFirst().first.flatMap({ Int($0) }),
            let end = text.range(of: "\r\n\r\n")
        else { return nil }
        self.status = status
        body = String(text[end.upperBound...])
    }

    var json: JSONValue { (try? JSONValue(parsing: body)) ?? .null }
}

/// Has sent the head of a request and never sends its body.
struct HangingClient {
    private let socket: Int32

    init(_ port: Int) throws {
        socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(connected == 0)
        let head = """
            POST /auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
            Content-Length: 100\r\nExpect: 100-continue\r\n\r\n
            """
        try #require(send(socket, head, head.utf8.count, Int32(MSG_NOSIGNAL)) == head.utf8.count)
        // Once the server asks for the body, the request is with its handler.
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = recv(socket, &buffer, buffer.count, 0)
        try #require(String(decoding: buffer[..<max(count, 0)], as: UTF8.self).hasPrefix("HTTP/1.1 100"))
    }

    func hangUp() { close(socket) }
}
