import FoundationEssentials
import LocalServers

/// What wrk saw of a server under load.
struct WrkResult: Sendable {
    let rate: Double
    /// As wrk prints it, such as `4.21ms`.
    let slowestPercent: String

    /// 64 connections for two seconds.
    static func of(_ url: String, headers: [String] = [], in folder: TemporaryFolder) async throws
        -> WrkResult
    {
        let output = folder.path + "/wrk"
        _ = try await ChildProcess.run(
            Command(
                "/usr/bin/wrk",
                ["-t2", "-c64", "-d2s", "--latency"] + headers.flatMap { ["-H", $0] } + [url],
                environment: [:], directory: "/", output: .file(output)))
        let text = try String(contentsOfFile: output, encoding: .utf8)
        try FileManager.default.removeItem(atPath: output)
        func value(_ mark: String) -> Substring? {
            text.split(separator: "\n").first { $0.split(separator: " ").first.map(String.init) == mark }?
                .split(separator: " ").last
        }
        guard !text.contains("Non-2xx"), !text.contains("Socket errors"),
            let rate = value("Requests/sec:").flatMap({ Double($0) })
        else { throw BenchmarkBroken(reason: text) }
        return WrkResult(rate: rate, slowestPercent: value("99%").map(String.init) ?? "unknown")
    }
}
