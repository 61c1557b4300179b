import Core
import FoundationEssentials
import HTTP
import HTTPServer
import LocalServers

extension Benchmark {
    static let http = Benchmark(
        name: "http",
        summary: "answers a second on kept connections, beside nginx `return 200` of the same bytes"
    ) { report in
        let body = "Hello, world!"
        var router = Router()
        router.quick("GET", "/callback") { _ in .text(body, type: "text/plain") }
        router.on("GET", "/task") { _ in .text(body, type: "text/plain") }
        let server = HTTPServer(ServerSettings(port: 0, threads: 2), router)
        try server.bind()
        let running = Task.detached { try await server.run() }
        defer { running.cancel() }
        let folder = try await TemporaryFolder(named: "convoke-nginx")
        let peer = try Loopback.freePort()
        let nginx = try await startNginx(answering: body, on: peer, in: folder)
        defer { nginx.signal(15) }
        let port = server.port
        for (what, path, target) in [("in the callback", "/callback", 0.8), ("through a task", "/task", 0.5)]
        {
            try await report.ratio(
                "HTTP answers \(what)", unit: "requests/s", target: target,
                ours: { try await wrk("http://127.0.0.1:\(port)\(path)", in: folder) },
                limit: { try await wrk("http://127.0.0.1:\(peer)/", in: folder) }, limitName: "nginx")
        }
    }
}

struct BenchmarkBroken: Error { let reason: String }

/// Requests a second, as wrk counts them.
private func wrk(_ url: String, in folder: TemporaryFolder) async throws -> Double {
    let output = folder.path + "/wrk"
    _ = try await ChildProcess.run(
        Command(
            "/usr/bin/wrk", ["-t2", "-c64", "-d2s", url], environment: [:], directory: "/",
            output: .file(output)))
    let text = try String(contentsOfFile: output, encoding: .utf8)
    try FileManager.default.removeItem(atPath: output)
    guard !text.contains("Non-2xx"), !text.contains("Socket errors"),
        let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Requests/sec:") }),
        let rate = line.split(separator: " ").last.flatMap({ Double($0) })
    else { throw BenchmarkBroken(reason: text) }
    return rate
}

/// A private nginx with as many workers as our server has threads.
private func startNginx(answering body: String, on port: Int, in folder: TemporaryFolder) async throws
    -> ChildProcess
{
    let path = folder.path
    let configuration = """
        worker_processes 2; daemon off; pid \(path)/pid; error_log \(path)/errors;
        events { worker_connections 1024; }
        http {
            access_log off; server_tokens off; keepalive_requests 1000000000;
            client_body_temp_path \(path)/a; proxy_temp_path \(path)/b;
            fastcgi_temp_path \(path)/c; uwsgi_temp_path \(path)/d; scgi_temp_path \(path)/e;
            server {
                listen 127.0.0.1:\(port) backlog=1024;
                location / { default_type text/plain; return 200 "\(body)"; }
            }
        }
        """
    try configuration.write(toFile: path + "/conf", atomically: true, encoding: .utf8)
    return try await ChildProcess.spawn(
        Command(
            "/usr/sbin/nginx", ["-e", path + "/errors", "-c", path + "/conf"],
            environment: ["PATH": "/usr/sbin:/usr/bin:/bin"], directory: "/", output: .file(path + "/log")))
}
